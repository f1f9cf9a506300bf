"""Strings of spoken digits: whole ones from a synthesiser, or joined from short recordings.

Whole recordings of other corpora take the same way to the microphone (`record`).

    python -m tf_speech_transformer.corpora.sources --out=DIR [--count=1000]

writes a test set of voices that training never hears: FLAC files and `manifest.tsv`.
"""

import collections
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr
from absl import app, flags
from tqdm import tqdm

from tf_speech_transformer import voices
from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.corpora.augment import Augmentation, Channel, silence
from tf_speech_transformer.corpora.features import SAMPLE_RATE

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST_DIGITS = 7


@dataclasses.dataclass(frozen=True)
class Spoken:
    """Pieces of one speaker's speech, float32 at 16 kHz, to be said one after the other."""

    pieces: list[np.ndarray]
    text: str
    speaker: str
    pause: tuple[float, float] | None = None  # seconds between pieces; None: between words


class Source(Protocol):
    texts: list[str]  # examples of what is said, to check a vocabulary against

    def draw(self, rng: np.random.Generator) -> Spoken:
        """Speech that depends on the generator's state alone."""
        ...


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


class Rarity:
    """How seldom the words of a text stand side by side among other texts.

    Of sentences drawn evenly some neighbours are hardly ever heard, and a decoder that has learnt
    them by heart writes the neighbours that it knows: examples drawn by their rarity are the
    remedy.
    """

    def __init__(self, texts: list[str]):
        self.counts = collections.Counter(pair for text in texts for pair in self._pairs(text))

    @staticmethod
    def _pairs(text: str) -> set[tuple[str, str]]:
        words = ["", *text.split(), ""]
        return set(itertools.pairwise(words))

    def of(self, text: str) -> float:
        """1 / how many of the texts have its rarest pair of words; beginning and end count."""
        return max(1 / max(1, self.counts[pair]) for pair in self._pairs(text))


class Recorded:
    """Whole recordings with their transcripts; `balanced`: drawn by the rarity of these."""

    def __init__(self, recordings: corpus.Recordings, part: str = "all", balanced: bool = False):
        self.recordings, self.texts = recordings, recordings.texts
        chosen = set(corpus.part_of(recordings.speakers, part))
        self.chosen = [i for i, x in enumerate(recordings.speakers) if x in chosen]
        self.weights = None
        if balanced:
            rarity = Rarity([self.texts[i] for i in self.chosen])
            weights = np.array([rarity.of(self.texts[i]) for i in self.chosen])
            self.weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Spoken:
        if self.weights is None:
            i = self.chosen[rng.integers(len(self.chosen))]
        else:
            i = self.chosen[rng.choice(len(self.chosen), p=self.weights)]
        audio = trim(self.recordings.audio(i), margin=0.1)
        return Spoken([audio], self.texts[i], self.recordings.speakers[i])


class Nothing:
    """Nobody speaks: what augmentation puts there is all there is, and the text is empty."""

    seconds = (0.5, 8.0)

    def __init__(self) -> None:
        self.texts: list[str] = []

    def draw(self, rng: np.random.Generator) -> Spoken:
        return Spoken([silence(rng.uniform(*self.seconds))], "", "nobody")


class Pairs:
    """Another source, of which a share are two examples in a row, with a pause between."""

    def __init__(self, source: Source, share: float, pause: tuple[float, float] = (0.3, 1.5)):
        self.source, self.share, self.pause = source, share, pause
        self.texts = source.texts

    def draw(self, rng: np.random.Generator) -> Spoken:
        spoken = self.source.draw(rng)
        if rng.random() >= self.share:
            return spoken
        more = self.source.draw(rng)
        return Spoken(
            spoken.pieces + more.pieces, f"{spoken.text} {more.text}", spoken.speaker, self.pause
        )


def trim(audio: np.ndarray, margin: float = 0.02, depth: float = 40.0) -> np.ndarray:
    """Cuts silence off both ends, but for `margin` seconds: `depth` dB under the loudest 10 ms."""
    step = SAMPLE_RATE // 100
    blocks = audio[: len(audio) // step * step].reshape(-1, step)
    if not len(blocks):
        return audio
    power = np.mean(blocks**2, axis=1)
    loud = np.flatnonzero(power > 10 ** (-depth / 10) * power.max())
    if not len(loud):
        return audio
    keep = int(margin * SAMPLE_RATE)
    return audio[max(0, loud[0] * step - keep) : (loud[-1] + 1) * step + keep]


def draw_gaps(count: int, clips: bool, rng: np.random.Generator) -> np.ndarray:
    """Seconds between words, of one habit for a string; below zero they overlap."""
    habit = rng.choice(["pauses", "touching", "overlapping", "hesitant"], p=[0.4, 0.3, 0.1, 0.2])
    if clips and habit in ("touching", "overlapping"):
        habit = "pauses"
    low, high = {
        "pauses": (0.05, 0.2),
        "touching": (0.0, 0.05),
        "overlapping": (-0.04, 0.03),
        "hesitant": (0.0, 0.5),
    }[habit]
    return rng.uniform(low, high, count)


def join(pieces: list[np.ndarray], gaps: np.ndarray) -> np.ndarray:
    """Lays pieces one after the other with digital silence between; overlaps are added up.

    Args:
        gaps: seconds, one fewer than pieces.
    """
    starts, end = [0], len(pieces[0])
    for piece, gap in zip(pieces[1:], gaps, strict=True):
        starts.append(max(starts[-1], end + int(gap * SAMPLE_RATE)))
        end = max(end, starts[-1] + len(piece))
    out = np.zeros(end, np.float32)
    for start, piece in zip(starts, pieces, strict=True):
        out[start : start + len(piece)] += piece
    return out


def record(
    spoken: Spoken,
    augmentation: Augmentation | None,
    rng: np.random.Generator,
    babble: list[np.ndarray] | None = None,
) -> np.ndarray:
    """What a microphone hands over: int16 [samples] at 16 kHz.

    Joined strings come in two kinds: spoken in one go, through one channel; and put together from
    clips recorded one by one, each with its own noise, with digital silence between them.  Clips
    are often cut so closely that weak consonants go.
    Without an augmentation: pauses of 50 to 200 ms, and nothing else but a level.
    """
    if augmentation is None:
        audio = join(spoken.pieces, rng.uniform(0.05, 0.2, len(spoken.pieces) - 1))
        audio = np.concatenate([silence(0.25), audio, silence(0.3)])
        level = 10 ** (rng.uniform(-20, -1) / 20) / max(1e-4, float(np.abs(audio).max()))
        return np.rint(audio * level * 32767).astype(np.int16)
    channel = Channel(augmentation, rng, babble)
    pieces = [channel.change_speed(piece) for piece in spoken.pieces]
    clips = rng.random() < augmentation.clips
    if len(pieces) > 1:
        pieces = [piece * np.float32(10 ** (rng.normal(0, 2.5) / 20)) for piece in pieces]
    if clips and rng.random() < augmentation.close_cut:
        depths = rng.uniform(*augmentation.cut_db) + rng.uniform(-3, 3, len(pieces))
        pieces = [trim(piece, 0.0, depth) for piece, depth in zip(pieces, depths, strict=True)]
    if clips:
        pieces = [channel.transmit(piece) for piece in pieces]
    if spoken.pause is None:
        gaps = draw_gaps(len(pieces) - 1, clips, rng)
    else:
        gaps = rng.uniform(*spoken.pause, len(pieces) - 1)
    audio = join(pieces, gaps)
    before, after = rng.uniform(*augmentation.silence, 2) * (rng.random(2) < 0.7)
    waiting = 0
    if augmentation.waiting and rng.random() < augmentation.waiting:
        before, after = rng.uniform(*augmentation.waiting_seconds, 2)
        waiting = len(silence(before)) + len(silence(after))
    audio = np.concatenate([silence(before), audio, silence(after)])
    return channel.record(audio if clips else channel.transmit(audio, waiting))


def write_test_set(directory: Path, count: int, seed: int) -> Path:
    """Makes `count` strings of voices that training never heard, as files with a manifest.

    16 kHz FLAC without noise or room; returns the manifest.  What is there already stays.
    """
    manifest = directory / "manifest.tsv"
    if manifest.exists():
        return manifest
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    _, speakers = voices.speaker_split(voices.engine("espeak").speakers(), seed=0)
    source = Synthesised("espeak", speakers)
    lines = ["audio\ttext\tspeaker\n"]
    for number in tqdm(range(count), "test set", unit="utt"):
        rng = np.random.default_rng([seed, number])
        spoken = source.draw(rng)
        name = f"audio/{number:05d}.flac"
        soundfile.write(directory / name, record(spoken, None, rng), SAMPLE_RATE)
        lines.append(f"{name}\t{spoken.text}\t{spoken.speaker}\n")
    temporary = manifest.with_suffix(".tmp")
    temporary.write_text("".join(lines))
    temporary.replace(manifest)
    return manifest


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        print(write_test_set(Path(flags.FLAGS.out), flags.FLAGS.count, flags.FLAGS.seed))
    except (ValueError, OSError) as error:
        sys.exit(f"digits: {error}")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("out", None, "Directory of the test set.")
    flags.DEFINE_integer("count", 1000, "Strings in it.", lower_bound=1)
    flags.DEFINE_integer("seed", 2001, "Another seed draws other strings.")
    flags.mark_flag_as_required("out")
    app.run(main)


if __name__ == "__main__":
    run()
