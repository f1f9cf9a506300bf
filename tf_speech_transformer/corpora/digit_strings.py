"""Strings of spoken digits: whole ones from a synthesiser, or joined from short recordings."""

import collections
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from tf_speech_transformer import voices
from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.corpora.features import SAMPLE_RATE
from tf_speech_transformer.corpora.recording import Spoken, record, trim
from tf_speech_transformer.voices.reading import MANIFEST

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST_DIGITS = 7
TEST_SEED = 2001  # of the test set that README's figures are measured on


def draw_words(rng: np.random.Generator, count: int | None = None) -> list[str]:
    """One to seven digit words; one string in eight has a run of the same digit."""
    count = int(rng.integers(1, MOST_DIGITS + 1)) if count is None else count
    words = [WORDS[i] for i in rng.integers(0, len(WORDS), count)]
    if count > 1 and rng.random() < 0.125:
        first = int(rng.integers(0, count - 1))
        words[first + 1] = words[first]
        if first + 2 < count and rng.random() < 0.5:
            words[first + 2] = words[first]
    return words


class Synthesised:
    """Whole strings spoken by a synthesiser, at many rates and pitches."""

    def __init__(self, engine: str, speakers: list[str]):
        self.engine, self.speakers = voices.engine(engine), speakers
        self.texts = list(WORDS)

    def draw(self, rng: np.random.Generator) -> Spoken:
        words = draw_words(rng)
        speaker = self.speakers[rng.integers(len(self.speakers))]
        audio = self.engine.synthesise(
            (", " if rng.random() < 0.3 else " ").join(words),
            speaker,
            rate=float(rng.uniform(0.75, 1.5)),
            pitch=float(rng.uniform(0.8, 1.25)),
        )
        audio = soxr.resample(audio, self.engine.sample_rate, SAMPLE_RATE)
        return Spoken([trim(audio)], " ".join(words), speaker)


class Joined:
    """Strings joined from recordings of one or a few digit words each, of one speaker at a time.

    A speaker is drawn as often as the square root of what there is of them.
    """

    def __init__(self, recordings: corpus.Recordings, part: str = "all"):
        self.recordings, self.texts = recordings, recordings.texts
        units: dict[str, list[int]] = collections.defaultdict(list)
        for i, speaker in enumerate(recordings.speakers):
            units[speaker].append(i)
        self.speakers = corpus.part_of(units, part)
        self.units = [units[speaker] for speaker in self.speakers]
        self.weights = np.array([len(x) for x in self.units], np.float64) ** 0.5
        self.weights /= self.weights.sum()

    def draw(self, rng: np.random.Generator) -> Spoken:
        speaker = rng.choice(len(self.speakers), p=self.weights)
        units = self.units[speaker]
        count = int(rng.integers(1, MOST_DIGITS + 1))
        unit = -1
        pieces: list[np.ndarray] = []
        words: list[str] = []
        while len(words) < count:
            again = bool(pieces) and rng.random() < 0.06  # the very same recording once more
            unit = unit if again else units[rng.integers(len(units))]
            more = self.texts[unit].split()
            if pieces and len(words) + len(more) > MOST_DIGITS:
                break
            pieces.append(trim(self.recordings.audio(unit)))
            words += more
        return Spoken(pieces, " ".join(words), self.speakers[speaker])


def write_test_set(directory: Path, count: int, seed: int) -> Path:
    """Makes `count` strings by voices of espeak-ng that training never hears, with a manifest.

    16 kHz FLAC without noise or room; returns the manifest. A manifest that exists is kept.
    """
    manifest = directory / MANIFEST
    if manifest.exists():
        return manifest
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    _, speakers = voices.speaker_split(voices.engine("espeak").speakers(), seed=0)
    source = Synthesised("espeak", speakers)
    lines = ["audio\ttext\tspeaker\n"]
    for number in tqdm(range(count), "test set", unit="utt", disable=None):
        rng = np.random.default_rng([seed, number])
        spoken = source.draw(rng)
        name = f"audio/{number:05d}.flac"
        soundfile.write(directory / name, record(spoken, None, rng), SAMPLE_RATE)
        lines.append(f"{name}\t{spoken.text}\t{spoken.speaker}\n")
    temporary = manifest.with_suffix(".tmp")
    temporary.write_text("".join(lines))
    temporary.replace(manifest)
    return manifest
