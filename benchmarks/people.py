"""Test sets of real people, as files with a manifest, from recordings kept elsewhere.

    python -m benchmarks.people --spoken_digits=DIR_OR_TAR --out=DIR [--count=100]

joins isolated digits of the Free Spoken Digit Dataset into strings of 3 to 6: clips of one speaker,
in their own 8 kHz, with 50 to 200 ms of digital silence between them.
"""

import collections
import csv
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from absl import app, flags
from tqdm import tqdm

from benchmarks import report

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = (3, 6)  # fewest and most in a string
GAP = (0.05, 0.2)  # seconds
SEED = 2002


def open_corpus(path: Path) -> tuple[list[dict[str, str]], Callable[[str], bytes]]:
    """Rows of the `transcripts.tsv` in a directory or a tar, and what reads its audio files.

    Raises:
      ValueError: if there is no such file or no transcripts in it.
    """
    if path.is_dir():
        names = {str(p.relative_to(path)): p for p in path.rglob("*") if p.is_file()}

        def read(name: str) -> bytes:
            return names[name].read_bytes()

        transcripts = [name for name in names if Path(name).name == "transcripts.tsv"]
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path, "r:") as archive:
            members = {m.name.removeprefix("./"): m for m in archive.getmembers() if m.isfile()}

        def read(name: str) -> bytes:
            with path.open("rb") as stream:  # a plain tar: the bytes lie there as they are
                stream.seek(members[name].offset_data)
                return stream.read(members[name].size)

        transcripts = [name for name in members if Path(name).name == "transcripts.tsv"]
    else:
        raise ValueError(f"{path} is neither a directory nor a tar: name the unpacked corpus.")
    if not transcripts:
        raise ValueError(f"{path} holds no transcripts.tsv: name the unpacked corpus or its tar.")
    root = Path(transcripts[0]).parent
    text = read(transcripts[0]).decode()
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows, lambda name: read(str(root / name))


def any_string(rng: np.random.Generator) -> list[str]:
    """Words drawn at random."""
    return [WORDS[i] for i in rng.integers(0, 10, rng.integers(DIGITS[0], DIGITS[1] + 1))]


def write_joined(
    source: Path,
    directory: Path,
    count: int,
    seed: int = SEED,
    draw: Callable[[np.random.Generator], list[str]] = any_string,
) -> Path:
    """Joins `count` strings of each speaker of `source`; returns the manifest.

    Existing files stay.  A string depends only on the seed, the speaker and its number.

    Args:
      draw: the words of a string.
    """
    manifest = directory / "manifest.tsv"
    if manifest.exists():
        return manifest
    rows, read = open_corpus(source)
    clips: dict[str, dict[str, list[str]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for row in rows:
        clips[row["speaker"]][row["text"].lower()].append(row["audio"])
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    lines = []
    for voice, speaker in enumerate(tqdm(sorted(clips), "joining", unit="speaker", disable=None)):
        cache: dict[str, tuple[np.ndarray, int]] = {}
        for number in range(count):
            rng = np.random.default_rng([seed, voice, number])
            words = draw(rng)
            pieces: list[np.ndarray] = []
            for word in words:
                own = clips[speaker][word]
                name = own[rng.integers(len(own))]
                if name not in cache:
                    cache[name] = soundfile.read(io.BytesIO(read(name)), dtype="int16")
                samples, rate = cache[name]
                if pieces:
                    pieces.append(np.zeros(int(rng.uniform(*GAP) * rate), np.int16))
                pieces.append(samples)
            file = f"audio/{speaker}_{number:03d}.wav"
            soundfile.write(directory / file, np.concatenate(pieces), rate)
            lines.append((file, " ".join(words), speaker))
    return _write_manifest(manifest, lines)


def write_children(source: Path, directory: Path) -> Path:
    """Copies the utterances of speechocean762 that hold only digits; returns the manifest."""
    manifest = directory / "manifest.tsv"
    if manifest.exists():
        return manifest
    rows, read = open_corpus(source)
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        words = row["text"].lower().split()
        if words and all(word in WORDS for word in words):
            file = f"audio/{Path(row['audio']).name}"
            (directory / file).write_bytes(read(row["audio"]))
            lines.append((file, " ".join(words), row["speaker"]))
    if not lines:
        raise ValueError(f"{source} holds no utterance of only digits: name speechocean762_test.")
    return _write_manifest(manifest, lines)


def _write_manifest(manifest: Path, lines: Sequence[tuple[str, str, str]]) -> Path:
    text = "".join("\t".join(line) + "\n" for line in (("audio", "text", "speaker"), *lines))
    temporary = manifest.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(manifest)
    return manifest


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    try:
        print(
            write_joined(
                Path(arguments.spoken_digits), Path(arguments.out), arguments.count, arguments.seed
            )
        )
    except (OSError, ValueError, tarfile.TarError) as error:
        return report.fail(error)
    return 0


def run() -> None:
    flags.DEFINE_string("spoken_digits", None, "Directory or tar of the clips.", required=True)
    flags.DEFINE_string("out", None, "Directory of the test set.", required=True)
    flags.DEFINE_integer("count", 100, "Strings of each speaker.", lower_bound=1)
    flags.DEFINE_integer("seed", SEED, "Another seed draws other strings.")
    app.run(main)


if __name__ == "__main__":
    run()
