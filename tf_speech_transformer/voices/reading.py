"""A corpus of what voices read: 16 kHz mono FLAC files and `manifest.tsv`.

The manifest has the columns `audio`, `text` and `speaker`; audio paths are relative to it. A file's
name is a hash of what is said, how and by whom, so the same readings go on where a killed run
stopped, and other readings into the same directory add to it.
"""

import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from tf_speech_transformer.voices import Synthesiser, engine

SAMPLE_RATE = 16_000  # Hz, of the files
EDGE_SECONDS = 0.03  # silence left before and after the speech
SILENCE = 0.01  # of the loudest 5 ms: quieter is silence
MANIFEST = "manifest.tsv"
COLUMNS = ("audio", "text", "speaker")


@dataclasses.dataclass(frozen=True)
class Reading:
    """One text, read once."""

    engine: str
    speaker: str
    text: str
    rate: float = 1.0
    pitch: float = 1.0
    transcript: str = ""  # of the manifest; the text, if empty

    @property
    def row(self) -> tuple[str, str, str]:
        """Of the manifest."""
        return self.audio, self.transcript or self.text, self.speaker

    @property
    def audio(self) -> str:
        """Path of its file below the output directory: a hash of all that can be heard."""
        heard = repr((self.engine, self.speaker, self.text, self.rate, self.pitch))
        digest = hashlib.sha256(heard.encode()).hexdigest()
        return f"audio/{digest[:2]}/{digest[:20]}.flac"


def plan(
    engine: str,
    texts: Sequence[str],
    speakers: Sequence[str],
    takes: int = 1,
    rates: tuple[float, float] = (1.0, 1.0),
    pitches: tuple[float, float] = (1.0, 1.0),
    seed: int = 1,
) -> list[Reading]:
    """Who reads what, how: the same for the same arguments.

    Speakers take turns in random order, so that any beginning of the plan is spread over them.

    Args:
        rates: slowest and fastest; drawn evenly on a logarithmic scale, as are pitches.

    Raises:
        ValueError: there are no texts or no speakers.
    """
    if not texts or not speakers:
        raise ValueError(f"{len(texts)} texts and {len(speakers)} speakers: need both")
    chance = random.Random(seed)

    def draw(limits: tuple[float, float]) -> float:
        low, high = limits
        return round(low * (high / low) ** chance.random(), 3)

    turns: list[str] = []
    readings = []
    for _ in range(takes):
        for text in texts:
            if not turns:
                turns = chance.sample(list(speakers), len(speakers))
            readings.append(Reading(engine, turns.pop(), text, draw(rates), draw(pitches)))
    return list(dict.fromkeys(readings))


def trim_silence(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cuts leading and trailing silence down to `EDGE_SECONDS`.

    Args:
        audio: float32 [samples].

    Returns:
        float32, a view of a part of `audio`.

    Raises:
        ValueError: there is only silence.
    """
    hop = sample_rate // 200
    frames = len(audio) // hop
    energy = np.square(audio[: frames * hop].reshape(frames, hop)).mean(axis=1)
    loudest = float(energy.max(initial=0.0))
    if loudest < 1e-8:
        raise ValueError(f"nothing is heard in {len(audio) / sample_rate:.2f} s of audio")
    audible = np.flatnonzero(energy > SILENCE**2 * loudest)
    edge = round(EDGE_SECONDS * sample_rate)
    return audio[max(0, audible[0] * hop - edge) : (audible[-1] + 1) * hop + edge]


def write(reading: Reading, synthesiser: Synthesiser, out: Path) -> None:
    """Speaks a reading into its file, 16-bit FLAC at `SAMPLE_RATE`."""
    audio = synthesiser.synthesise(reading.text, reading.speaker, reading.rate, reading.pitch)
    audio = trim_silence(audio, synthesiser.sample_rate)
    write_audio(out / reading.audio, soxr.resample(audio, synthesiser.sample_rate, SAMPLE_RATE))


def write_audio(path: Path, audio: np.ndarray) -> None:
    """Writes float32 [samples] at `SAMPLE_RATE` as 16-bit FLAC, whole or not at all."""
    audio = audio / max(1.0, float(np.abs(audio).max()))  # resampling overshoots full scale
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    samples = np.round(audio * 32767).astype(np.int16)
    soundfile.write(partial, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    partial.replace(path)


def read_manifest(path: Path) -> list[tuple[str, ...]]:
    """Rows (audio, text, speaker) of a manifest; empty if there is no file.

    Raises:
        ValueError: it is not a manifest that this module wrote.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path} does not begin with {' '.join(COLUMNS)}: choose another --out")
    return [tuple(row) for row in rows]


def write_manifest(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    lines = ["\t".join(row) + "\n" for row in (COLUMNS, *rows)]
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)


def make_engine(name: str, kokoro_voices: str | None, english_only: bool = True) -> Synthesiser:
    """The engine that flags name; `kokoro_voices` and `english_only` are Kokoro's."""
    if name == "kokoro":
        return engine(name, directory=kokoro_voices, english_only=english_only)
    return engine(name)


_engine_of_process = functools.cache(make_engine)


def _work(name: str, kokoro_voices: str | None, out: Path, reading: Reading) -> Reading:
    """In a worker process: the engine is made on the first reading, and kept."""
    write(reading, _engine_of_process(name, kokoro_voices), out)
    return reading


def _spoken(
    readings: list[Reading],
    synthesiser: Synthesiser,
    out: Path,
    processes: int,
    kokoro_voices: str | None,
) -> Iterator[Reading]:
    """Makes the files, and yields each reading when its file is there."""
    if processes == 1:
        for reading in readings:
            write(reading, synthesiser, out)
            yield reading
        return
    work = functools.partial(_work, synthesiser.name, kokoro_voices, out)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, spawn) as pool:
        waiting = [pool.submit(work, reading) for reading in readings]
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def synthesise_corpus(
    readings: Sequence[Reading],
    synthesiser: Synthesiser,
    out: Path,
    processes: int = 1,
    save_seconds: float = 20.0,
    kokoro_voices: str | None = None,
) -> int:
    """Makes the readings that are not in `out` yet, and its manifest.

    Args:
        readings: all by the engine of `synthesiser`.
        save_seconds: how often the manifest is written while the work goes on.
        kokoro_voices: for the engines of further processes.

    Returns:
        How many readings were made.
    """
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / MANIFEST
    rows = {row[0]: row for row in read_manifest(manifest)}
    missing = []
    for reading in readings:
        if (out / reading.audio).is_file():
            rows[reading.audio] = reading.row
        else:
            missing.append(reading)
    saved = time.monotonic()
    made = 0
    try:
        spoken = _spoken(missing, synthesiser, out, processes, kokoro_voices)
        for reading in tqdm(spoken, "synthesising", len(missing), unit="file", disable=None):
            rows[reading.audio] = reading.row
            made += 1
            if time.monotonic() - saved > save_seconds:
                write_manifest(manifest, rows.values())
                saved = time.monotonic()
    finally:
        write_manifest(manifest, rows.values())
    return made
