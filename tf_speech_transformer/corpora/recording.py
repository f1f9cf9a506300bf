"""From speech to what a microphone records: pieces are trimmed, joined and augmented."""

import dataclasses

import numpy as np

from tf_speech_transformer.corpora.augment import NOWHERE, Augmentation, Channel, Places, silence
from tf_speech_transformer.corpora.features import SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class Spoken:
    """Pieces of one speaker's speech, float32 at 16 kHz, to be said one after the other."""

    pieces: list[np.ndarray]
    text: str
    speaker: str
    pause: tuple[float, float] | None = None  # seconds between pieces; None: between words
    # Names, a space between; None if not known.  A text is empty, though phones are said, where
    # words have no spelling.
    phones: str | None = None


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
    places: Places = NOWHERE,
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
    channel = Channel(augmentation, rng, babble, places)
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
