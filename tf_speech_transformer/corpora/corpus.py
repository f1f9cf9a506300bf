"""Speech with transcripts: manifests and LibriSpeech.

A manifest is a tab-separated file with a header line and the columns `audio`, `text` and, if
known, `speaker`; audio paths are relative to it.
"""

import csv
import dataclasses
import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tf_speech_transformer.corpora import audio

MOST_BAD = 0.02  # share of a corpus that may be unusable ...
FEW_BAD = 3  # ... and how many files always may, if most are good
UNKNOWN = "unknown"  # the speaker of what names none
SHOWN = 10  # bad lines of a message
LARGEST_TRANSCRIPT = 16 << 20  # bytes of a file of them
# What word processors write for an apostrophe.
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4`"), "'")
DEV_SHARE = 8  # one in so many voices of a manifest is held out


class CorpusError(ValueError):
    """A corpus that cannot be used; the message names file and line."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording with its transcript: an audio file, or a part of an archive."""

    source: Path
    text: str
    speaker: str | None = None
    offset: int | None = None  # of the audio file within `source`, bytes; None: all of it
    size: int = 0  # bytes of that part
    name: str = ""  # of the audio file, in messages
    # Where its transcript is written, for messages; no part of what names a cache.
    place: str = dataclasses.field(default="", repr=False, compare=False)

    def audio(self) -> np.ndarray:
        """int16 [samples] at 16 kHz; raises audio.AudioError."""
        if self.offset is None:
            return audio.load(self.source)
        with self.source.open("rb") as file:
            file.seek(self.offset)
            return audio.decode(file.read(self.size), f"{self.source}: {self.name}")


def report(path: Path, bad: Sequence[str], good: int) -> None:
    """Prints what was left out; raises when that is too much, or when nothing is left."""
    bad = [_printable(line) for line in bad]
    if not good and not bad:
        raise CorpusError(f"{path} has no utterances: add a line for each recording")
    if len(bad) > max(MOST_BAD * (good + len(bad)), min(FEW_BAD, good)):
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise CorpusError(
            f"{path}: {len(bad)} of {good + len(bad)} utterances are unusable: "
            f"{'; '.join(bad[:SHOWN])}{more}"
        )
    for line in bad[:SHOWN]:
        print(f"{path}, {line}: left out")
    if len(bad) > SHOWN:
        print(f"{path}: {len(bad) - SHOWN} more left out")


def _printable(text: str) -> str:
    """A text in one line: file names may hold anything."""
    return "".join(x if x.isprintable() else "\N{REPLACEMENT CHARACTER}" for x in text)


def plain(text: str) -> str:
    """A transcript in lower case, with single spaces and the apostrophe of a typewriter."""
    return " ".join(text.lower().translate(_APOSTROPHES).split())


def check_texts(
    path: Path, utterances: Sequence[Utterance], encode: Callable[[str], object]
) -> list[Utterance]:
    """The utterances whose texts a tokenizer can spell; the others are left out and reported.

    More than `MOST_BAD` are a CorpusError, which names their lines.
    """
    good, bad = [], []
    for utterance in utterances:
        try:
            encode(utterance.text)
        except ValueError as error:
            bad.append(f"{utterance.place or utterance.name or utterance.source}: {error}")
        else:
            good.append(utterance)
    report(path, bad, len(good))
    return good


# ------------------------------------------------------------------------------------- manifests


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest; texts come in lower case.

    A few rows without file or text are left out and reported; more than `MOST_BAD` are an error,
    and so are a missing column and an empty manifest.
    """
    if not path.is_file():
        raise CorpusError(f"{path} does not exist: name a tab-separated manifest")
    utterances, bad = [], []
    for number, row in _rows(path):
        name, text = row["audio"] or "", plain(row["text"] or "")
        source = path.parent / name
        place = f"line {number}"
        if not name or not _is_file(source):
            bad.append(f"{place}: {name or 'nothing'!s:.200} is not a file")
        elif not text:
            bad.append(f"{place}: {name} has no text")
        else:
            utterances.append(Utterance(source, text, row.get("speaker") or None, place=place))
    report(path, bad, len(utterances))
    return utterances


def manifest_speakers(path: Path) -> list[str]:
    """The speaker of each line, without a look at the audio."""
    return [row.get("speaker") or UNKNOWN for _, row in _rows(path)]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Number and cells of each line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = {"audio", "text"} - set(reader.fieldnames or ())
            if missing:
                raise CorpusError(
                    f"{path}, line 1: no column {' and '.join(sorted(missing))}: the header must"
                    " name audio, text and perhaps speaker, separated by tabs"
                )
            for row in reader:
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not text in UTF-8: save it as such ({error})") from error
    except csv.Error as error:
        raise CorpusError(f"{path} is no tab-separated text: {error}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


# ----------------------------------------------------------------------------------- LibriSpeech


AUDIO_SUFFIXES = (".flac", ".wav")
_COMPRESSED = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\x00": "r:xz"}  # by first bytes
_ARCHIVE_ERRORS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)
_DEEPEST = 64  # directories in each other
_MOST_UNPACKED = 100  # times the size of an archive that is compressed; speech needs two


def read_librispeech(path: Path) -> list[Utterance]:
    """The utterances of a LibriSpeech tree, or of one of its tar files, compressed or not.

    A tar file is read where it lies; one that is compressed cannot be, and is unpacked beside
    itself, in a directory `NAME.unpacked`, on first use.  Files of macOS (`._*`) are left out.
    """
    if not path.exists():
        raise CorpusError(f"{path} does not exist: name a LibriSpeech directory or tar file")
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(6)
        mode = next((mode for first, mode in _COMPRESSED.items() if head.startswith(first)), None)
        if mode is not None:
            path = _unpack(path, mode)
    elif not path.is_dir():
        raise CorpusError(f"{path} is not a file: name a LibriSpeech directory or tar file")
    archive = None if path.is_dir() else path
    transcripts, audio_files = _index_tree(path) if archive is None else _index_tar(path)
    if not transcripts:
        raise CorpusError(f"{path} holds no *.trans.txt: it is not a LibriSpeech corpus")
    utterances, bad, unused = [], [], set(audio_files)
    for transcript, lines in transcripts.items():
        directory = str(Path(transcript).parent)
        # Not `splitlines`: a separator within a text would cut it.
        for number, line in enumerate(re.split("\r\n|\n|\r", lines), 1):
            if not line.strip():
                continue
            utterance_id, _, words = " ".join(line.split()).partition(" ")
            name = next(
                (
                    x
                    for y in AUDIO_SUFFIXES
                    if (x := f"{directory}/{utterance_id}{y}") in audio_files
                ),
                "",
            )
            unused.discard(name)
            text, speaker = plain(words), utterance_id.split("-")[0]
            place = f"{Path(transcript).name}, line {number}"
            if not text:
                bad.append(f"{place}: {utterance_id} has no text")
            elif not name:
                bad.append(f"{place}: {utterance_id}.flac is missing")
            elif archive is None:
                utterances.append(Utterance(Path(name), text, speaker, place=place))
            else:
                offset, size = audio_files[name]
                utterances.append(Utterance(archive, text, speaker, offset, size, name, place))
    bad += [f"{Path(name).name} has no transcript" for name in sorted(unused)]
    report(path, bad, len(utterances))
    return utterances


def _index_tree(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Transcripts and audio files by name; links to files are files, all else is left out."""
    transcripts: dict[str, str] = {}
    audio_files = {}
    for file in sorted(path.rglob("*")):
        if file.name.startswith("._") or not _is_file(file):
            continue
        if file.suffix in AUDIO_SUFFIXES:
            audio_files[str(file)] = (0, 0)
        elif file.name.endswith(".trans.txt"):
            try:
                if file.stat().st_size > LARGEST_TRANSCRIPT:
                    raise CorpusError(f"{file} has more than {LARGEST_TRANSCRIPT} bytes")
                transcripts[str(file)] = file.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise CorpusError(f"{file} is not text in UTF-8: save it as such") from error
    return transcripts, audio_files


def _index_tar(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Transcripts by name, and (offset, size) of audio files by name; links lead to files."""
    transcripts, members, links = {}, {}, {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = Path(member.name)
                if member.islnk() and name.suffix in AUDIO_SUFFIXES:
                    links[str(name)] = os.path.normpath(member.linkname)
                elif member.issym() and name.suffix in AUDIO_SUFFIXES:
                    links[str(name)] = os.path.normpath(name.parent / member.linkname)
                if name.name.startswith("._") or not member.isfile():
                    continue
                if name.name.endswith(".trans.txt") and member.size <= LARGEST_TRANSCRIPT:
                    file = archive.extractfile(member)
                    assert file is not None
                    transcripts[str(name)] = file.read().decode("utf-8-sig")
                elif name.suffix in AUDIO_SUFFIXES:
                    members[str(name)] = (member.offset_data, member.size)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: a transcript is not text in UTF-8: save it as such") from error
    except _ARCHIVE_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path} is no whole tar file: fetch it again ({reason:.200})") from error
    members.update({name: members[x] for name, x in links.items() if x in members})
    return dict(sorted(transcripts.items())), members


def _unpack(path: Path, mode: Any) -> Path:
    directory = path.with_name(path.name + ".unpacked")
    if directory.is_dir():
        return directory
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}")
    try:
        temporary.mkdir()
    except OSError as error:
        raise CorpusError(
            f"{path} is compressed and cannot be unpacked beside itself ({error.strerror}): unpack"
            " it elsewhere, and name that directory"
        ) from error
    try:
        with tarfile.open(path, mode) as archive:
            archive.extractall(temporary, filter=_Filter(path))
            assert archive.fileobj is not None
            while archive.fileobj.read(1 << 20):  # its checksum comes last
                pass
        temporary.replace(directory)
    except _ARCHIVE_ERRORS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CorpusError(
                f"{path} cannot be unpacked beside itself ({error.strerror}): free some space"
            ) from error
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path} is no whole tar file: fetch it again ({reason:.200})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


class _Filter:
    """What may be unpacked: files below the directory, no more than an archive of speech has."""

    def __init__(self, path: Path):
        self.left = _MOST_UNPACKED * path.stat().st_size

    def __call__(self, member: tarfile.TarInfo, directory: str) -> tarfile.TarInfo | None:
        self.left -= member.size
        if self.left < 0:
            raise tarfile.TarError("it unpacks to far more than speech does")
        if member.name.count("/") > _DEEPEST:
            raise tarfile.TarError("its directories lie too deep in each other")
        return tarfile.data_filter(member, directory)


# ------------------------------------------------------------------------------------ recordings


class Recordings:
    """The decoded audio of a corpus in one file, which processes share; made once.

    Args:
        directory: what `decode_all` returned.
    """

    def __init__(self, directory: Path):
        index = json.loads((directory / "index.json").read_text())
        self.texts: list[str] = index["texts"]
        self.speakers: list[str] = index["speakers"]
        self._ends = np.cumsum([0, *index["lengths"]])
        self._samples = np.memmap(directory / "samples.s16", np.int16, "r")

    def __len__(self) -> int:
        return len(self.texts)

    def audio(self, i: int) -> np.ndarray:
        """float32 [samples] at 16 kHz."""
        samples = self._samples[self._ends[i] : self._ends[i + 1]]
        return samples.astype(np.float32) / 32768


def decode_all(path: Path, utterances: list[Utterance], directory: Path) -> Path:
    """Decodes a corpus, 115 MB an hour, and returns the directory for `Recordings`.

    Files that hold no audio are left out and reported; more than `MOST_BAD` are a CorpusError.

    Args:
        path: of the corpus, for messages.
        directory: where the new one lies; its name changes with the utterances.
    """
    key = hashlib.sha256(repr(utterances).encode()).hexdigest()
    target = directory / f"recordings-{key[:16]}"
    if target.is_dir():
        return target
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    good, lengths, bad = [], [], []
    try:
        temporary.mkdir(parents=True)
        with (temporary / "samples.s16").open("wb") as file:
            for utterance in tqdm(
                utterances, f"decoding {path.parent.name}", unit="file", disable=None
            ):
                try:
                    samples = utterance.audio()
                except audio.AudioError as error:
                    bad.append(str(error))
                    continue
                file.write(samples.tobytes())
                lengths.append(len(samples))
                good.append(utterance)
        report(path, bad, len(good))
        index = {
            "lengths": lengths,
            "texts": [utterance.text for utterance in good],
            "speakers": [utterance.speaker or UNKNOWN for utterance in good],
        }
        (temporary / "index.json").write_text(json.dumps(index))
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def part_of(speakers: Iterable[str], part: str) -> list[str]:
    """The speakers of a part, "all", "train" or "dev", sorted.

    One in `DEV_SHARE` voices is held out, by a hash of its name; fewer voices are all in "train".
    A blend (`a*0.3+b*0.7`) is in "dev" if all its voices are held out, in "train" if none is, and
    otherwise in neither.

    Raises CorpusError for another part, and for one without speakers.
    """
    if part not in ("all", "train", "dev"):
        raise CorpusError(f"no part {part!r} of a corpus: there are all, train and dev")
    voices = {
        speaker: {voice.partition("*")[0] for voice in speaker.split("+")} for speaker in speakers
    }
    names = set[str]().union(*voices.values())
    held_out = {name for name in names if zlib.crc32(name.encode()) % DEV_SHARE == 0}
    if len(names) < DEV_SHARE:
        held_out = set()
    chosen = [
        speaker
        for speaker, heard in sorted(voices.items())
        if part == "all"
        or (part == "train" and not heard & held_out)
        or (part == "dev" and heard <= held_out)
    ]
    if not chosen:
        raise CorpusError(f"no speakers are in the part {part!r}: use all, or more speakers")
    return chosen
