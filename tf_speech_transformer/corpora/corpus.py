"""Speech with transcripts: manifests and LibriSpeech.

A manifest is a tab-separated file with a header line and the columns `audio`, `text` and, if
known, `speaker`; audio paths are relative to it.
"""

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tf_speech_transformer.corpora import audio

MOST_BAD = 0.02  # share of a corpus that may be unusable ...
FEW_BAD = 3  # ... and how many files always may, if most are good
UNKNOWN = "unknown"  # the speaker of what names none
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

    def audio(self) -> np.ndarray:
        """int16 [samples] at 16 kHz; raises audio.AudioError."""
        if self.offset is None:
            return audio.load(self.source)
        with self.source.open("rb") as file:
            file.seek(self.offset)
            return audio.decode(file.read(self.size), f"{self.source}: {self.name}")


def report(path: Path, bad: Sequence[str], good: int) -> None:
    """Prints what was left out; raises when that is too much, or when nothing is left."""
    if not good and not bad:
        raise CorpusError(f"{path} has no utterances: add a line for each recording")
    if len(bad) > max(MOST_BAD * (good + len(bad)), min(FEW_BAD, good)):
        raise CorpusError(
            f"{path}: {len(bad)} of {good + len(bad)} utterances are unusable, first {bad[0]}"
        )
    for line in bad:
        print(f"{path}, {line}: left out")


# ------------------------------------------------------------------------------------- manifests


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest; texts come in lower case.

    A few rows without file or text are left out and reported; more than `MOST_BAD` are an error,
    and so are a missing column and an empty manifest.
    """
    if not path.is_file():
        raise CorpusError(f"{path} does not exist: name a tab-separated manifest")
    utterances, bad = [], []
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
                name, text = row["audio"] or "", " ".join((row["text"] or "").lower().split())
                source = path.parent / name
                if not name or not source.is_file():
                    bad.append(f"line {reader.line_num}: {name or 'nothing'} is not a file")
                elif not text:
                    bad.append(f"line {reader.line_num}: {name} has no text")
                else:
                    utterances.append(Utterance(source, text, row.get("speaker") or None))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not text in UTF-8: save it as such ({error})") from error
    report(path, bad, len(utterances))
    return utterances


# ----------------------------------------------------------------------------------- LibriSpeech


def read_librispeech(path: Path) -> list[Utterance]:
    """The utterances of a LibriSpeech tree, or of one of its tar files (.tar, .tar.gz).

    A tar file is read where it lies; one that is compressed cannot be, and is unpacked beside
    itself, in a directory `NAME.unpacked`, on first use.
    """
    if not path.exists():
        raise CorpusError(f"{path} does not exist: name a LibriSpeech directory or tar file")
    if path.is_file() and path.suffix in (".gz", ".tgz"):
        path = _unpack(path)
    if path.is_dir():
        transcripts = {
            str(file.parent): file.read_text(encoding="utf-8")
            for file in sorted(path.rglob("*.trans.txt"))
        }
        members = None
        audio_files = {str(file) for file in path.rglob("*.flac")}
    else:
        transcripts, members = _index_tar(path)
        audio_files = set(members)
    if not transcripts:
        raise CorpusError(f"{path} holds no *.trans.txt: it is not a LibriSpeech corpus")
    utterances, bad = [], []
    for directory, lines in transcripts.items():
        for line in lines.splitlines():
            utterance_id, _, words = line.strip().partition(" ")
            name = f"{directory}/{utterance_id}.flac"
            audio_files.discard(name)
            text, speaker = words.strip().lower(), utterance_id.split("-")[0]
            if not text:
                bad.append(f"{utterance_id or 'an empty line'} has no text")
            elif members is None and Path(name).is_file():
                utterances.append(Utterance(Path(name), text, speaker))
            elif members is not None and name in members:
                utterances.append(Utterance(path, text, speaker, *members[name], name))
            else:
                bad.append(f"{utterance_id}.flac is missing")
    bad += [f"{Path(name).name} has no transcript" for name in sorted(audio_files)]
    report(path, bad, len(utterances))
    return utterances


def _index_tar(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Transcripts by directory, and (offset, size) of audio files by name."""
    transcripts, members = {}, {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.name.endswith(".trans.txt"):
                    file = archive.extractfile(member)
                    assert file is not None
                    transcripts[str(Path(member.name).parent)] = file.read().decode()
                elif member.name.endswith(".flac"):
                    members[str(Path(member.name))] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorpusError(f"{path} is no whole tar file: fetch it again ({error})") from error
    return dict(sorted(transcripts.items())), members


def _unpack(path: Path) -> Path:
    directory = path.with_name(path.name + ".unpacked")
    if directory.is_dir():
        return directory
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}")
    try:
        with tarfile.open(path, "r:gz") as archive:
            archive.extractall(temporary, filter="data")
        temporary.replace(directory)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise CorpusError(f"{path} is no whole tar.gz file: fetch it again ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


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
