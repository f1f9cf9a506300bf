"""Cuts audio that is longer than the encoder's window, where it hurts least: in pauses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_sim.sound.frontend import SAMPLE_RATE, STEP_SAMPLES

SILENT_PEAK: Final = 8  # of 32768: below this no recording of speech can be
_GAP_FRAMES: Final = 100  # digital silence of 1 s and more is not worth an encoder run
_MARGIN_FRAMES: Final = 20  # of it, 200 ms stay on each side
_SHORTEST: Final = 0.4  # of the window: no cut earlier than this
_SMOOTHING_FRAMES: Final = 5
_PAUSE_DB: Final = 12.0  # above the quietest 5 %, a frame still counts as a pause
_SPEECH_DB: Final = 20.0  # below the loudest 5 %, soft speech ends: no pause is louder
_INAUDIBLE_DB: Final = 35.0  # below the loudest 5 %, all is a pause
_QUIETEST: Final = 0.05
_ONE_OF: Final = 20  # frames, is among the quietest
_PAUSE_256: Final = 4057  # 256 times 12 dB
_FLOOR: Final = 1.0  # mean square; keeps the logarithm finite
# Pauses are those of three minutes: longer audio is cut passage by passage, so that memory does not
# grow with it.
_PASSAGE: Final = 180 * SAMPLE_RATE
_FEWEST_WINDOWS: Final = 8  # of a passage
_NARROW_DB: Final = 16.0  # from pauses to speech: so little is an offset or a rumble
_MISSED: Final = 0.6  # share of pauses: an offset that drifts hides them
_MEASURED_FRAMES: Final = 6000  # at a time
# An offset, a drift and the curve of a rumble, within a frame: orthonormal float64 [160, 3].
_SLOW: Final = np.linalg.qr(np.vander(np.linspace(-1, 1, STEP_SAMPLES), 3))[0]


@dataclass(frozen=True)
class Passage:
    """Up to three minutes of audio with the pieces to recognise next."""

    first: int  # position of samples[0] in the audio
    samples: npt.NDArray[np.int16]  # valid until the next passage
    pieces: list[tuple[int, int]]  # (start, end), positions in the audio
    offset: int = 0  # of the samples, if it is so large that it hides pauses


def passages(blocks: Iterable[npt.NDArray[np.int16]], window: int) -> Iterator[Passage]:
    """Cuts audio of any length as `split` does; its memory does not grow.

    A passage begins a window before its first piece, and ends a window after its last one unless
    the audio ends there.  Audio of up to three minutes is one passage.

    Args:
      blocks: int16 [samples] each, 16 kHz; their sizes do not matter.
      window: most samples of a piece.
    """
    most = max(_PASSAGE, _FEWEST_WINDOWS * window)
    held = np.empty(most, np.int16)
    size = first = done = 0  # samples held; position of the first; how many of them are cut already
    for block in blocks:
        while len(block):
            if size == most:
                pieces, offset = _pieces(held[done:], window, goes_on=True)
                ready = [(a + done, b + done) for a, b in pieces if b + done <= most - window]
                yield Passage(first, held, [(first + a, first + b) for a, b in ready], offset)
                following = [a + done for a, b in pieces if b + done > most - window]
                done = following[0] if following else most - window
                kept = max(0, done - window)
                held[: most - kept] = held[kept:]
                size, first, done = most - kept, first + kept, done - kept
            taken = block[: most - size]
            held[size : size + len(taken)] = taken
            size += len(taken)
            block = block[len(taken) :]
    pieces, offset = _pieces(held[done:size], window)
    start = first + done
    yield Passage(first, held[:size], [(start + a, start + b) for a, b in pieces], offset)


def split(audio: npt.NDArray[np.int16], window: int) -> list[tuple[int, int]]:
    """Finds the pieces of an utterance to recognise one after the other.

    Audio that fits the window is one piece, whole.  Longer audio that fits without its quiet ends
    is one piece too, the window around the rest.  Other audio is cut in the middle of its longest
    pauses, or at its quietest point where there is none; nothing is left out of it but stretches of
    digital silence (peak <= 8) longer than 1 s.  The same audio always gives the same pieces.

    Args:
      audio: int16 [samples], 16 kHz.
      window: most samples of a piece.

    Returns:
      (start, end) of each piece in samples, in order; none if the audio is silent throughout.
    """
    return _pieces(audio, window)[0]


def _pieces(
    audio: npt.NDArray[np.int16], window: int, goes_on: bool = False
) -> tuple[list[tuple[int, int]], int]:
    """The pieces, and the offset if it hides pauses; `goes_on`: quiet ends are kept."""
    if window < STEP_SAMPLES:
        raise ValueError(f"window is {window} samples, less than one step of {STEP_SAMPLES}.")
    if not len(audio) or max(int(audio.max()), -int(audio.min())) <= SILENT_PEAK:
        return [], 0
    if len(audio) <= window:
        return [(0, len(audio))], 0

    frames = _Frames(audio)
    whole = None if goes_on else _without_quiet_ends(frames, len(audio), window)
    if whole is not None:
        return [whole], frames.offset
    pieces = []
    for start, end in _sounding(frames.silent, len(audio)):
        pieces += _cut(frames.power, start, end, window)
    return pieces, frames.offset


def find_pause(variances: npt.NDArray[np.uint32]) -> int:
    """Where to cut a window that is full of speech: in a pause of its last 60 %.

    In integers, because devices do the same.  A pause is less than 12 dB above the level that one
    step of 20 does not exceed.

    Args:
      variances: uint32 [steps], of each 10 ms of it; at least 5.

    Returns:
      the first step of what follows.
    """
    padded = np.pad(variances.astype(np.int64), _SMOOTHING_FRAMES // 2, mode="edge")
    level = np.convolve(padded, np.ones(_SMOOTHING_FRAMES, np.int64), mode="valid")
    level += _SMOOTHING_FRAMES  # silence is not infinitely quiet
    quietest = np.sort(level)[(len(level) - 1) // _ONE_OF]
    pause = (level << 8) < quietest * _PAUSE_256
    return _cut_frame(level, pause, max(1, 2 * len(level) // 5), len(level) - 1)


class _Frames:
    """Each 10 ms of audio, zeros at the end."""

    def __init__(self, audio: npt.NDArray[np.int16]) -> None:
        count = -(-len(audio) // STEP_SAMPLES)
        self.silent = np.empty(count, np.bool_)  # digitally
        means, whole, fast = np.empty((3, count))  # fast: without what is slower than speech
        for start in range(0, count, _MEASURED_FRAMES):
            part = audio[start * STEP_SAMPLES : (start + _MEASURED_FRAMES) * STEP_SAMPLES]
            frames = np.zeros(-(-len(part) // STEP_SAMPLES) * STEP_SAMPLES)
            frames[: len(part)] = part
            frames = frames.reshape(-1, STEP_SAMPLES)
            place = slice(start, start + len(frames))
            self.silent[place] = np.abs(frames).max(axis=1) <= SILENT_PEAK
            means[place] = frames.mean(axis=1)
            whole[place] = np.mean(np.square(frames), axis=1)
            slow = np.square(frames @ _SLOW).sum(axis=1) / STEP_SAMPLES
            fast[place] = np.maximum(whole[place] - slow, 0.0)
        offset = means.mean()
        centred = np.maximum(whole - 2 * offset * means + offset**2, 0.0)
        # Mean square; an offset, and only then all that is slow, is left out if it hides pauses.
        self.power = next(x for x in (whole, centred, fast) if not _hides_pauses(x, fast))
        self.offset = 0 if self.power is whole else round(offset)


def _hides_pauses(power: npt.NDArray[np.float64], fast: npt.NDArray[np.float64]) -> bool:
    """Whether something slow makes pauses nearly as loud as speech, or louder than other pauses."""
    (level, pause), (fast_level, fast_pause) = _pauses(power), _pauses(fast)
    span, fast_span = (
        float(np.subtract(*np.quantile(x, [1 - _QUIETEST, _QUIETEST]))) for x in (level, fast_level)
    )
    missed = np.count_nonzero(fast_pause & ~pause) > _MISSED * np.count_nonzero(fast_pause)
    return bool(missed or (span < _NARROW_DB and fast_span > span + _PAUSE_DB))


def _sounding(silent: npt.NDArray[np.bool_], samples: int) -> list[tuple[int, int]]:
    """Stretches, in samples, between long digital silences."""
    stretches = []
    start = 0
    for first, last in _runs(silent):
        if last - first < _GAP_FRAMES:
            continue
        end = 0 if first == 0 else first + _MARGIN_FRAMES
        if end > start:
            stretches.append((start * STEP_SAMPLES, end * STEP_SAMPLES))
        start = last - _MARGIN_FRAMES
        if last == len(silent):
            start = last
    if start < len(silent):
        stretches.append((start * STEP_SAMPLES, samples))
    return stretches


def _without_quiet_ends(frames: _Frames, samples: int, window: int) -> tuple[int, int] | None:
    """A window, in samples, with all that is not quiet in its middle; None if that does not fit.

    In noise that is hardly softer than speech nothing is quiet.
    """
    silent = frames.silent
    level, _ = _pauses(frames.power)
    quietest, loudest = np.quantile(level[~silent], [_QUIETEST, 1 - _QUIETEST])
    quiet = level < np.clip(quietest + _PAUSE_DB, loudest - _INAUDIBLE_DB, loudest - _SPEECH_DB)
    sounding = np.flatnonzero(~(quiet | silent))
    first, last = sounding[0] * STEP_SAMPLES, (sounding[-1] + 1) * STEP_SAMPLES
    spare = window - (last - first)
    if spare < 2 * _MARGIN_FRAMES * STEP_SAMPLES:
        return None
    start = int(np.clip(first - spare // 2, 0, samples - window))
    return start, start + window


def _cut(
    power: npt.NDArray[np.float64], start: int, end: int, window: int
) -> list[tuple[int, int]]:
    """Cuts audio[start:end] into pieces of at most `window` samples."""
    if end - start <= window:
        return [(start, end)]
    level, pause = _pauses(power[start // STEP_SAMPLES : -(-end // STEP_SAMPLES)])
    pieces = []
    origin = start
    while end - start > window:
        offset = (start - origin) // STEP_SAMPLES  # of the piece's first frame in `level`
        earliest = offset + max(1, int(_SHORTEST * window) // STEP_SAMPLES)
        latest = offset + window // STEP_SAMPLES
        cut = origin + _cut_frame(level, pause, earliest, latest) * STEP_SAMPLES
        pieces.append((start, cut))
        start = cut
    pieces.append((start, end))
    return pieces


def _pauses(
    power: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Mean squares [frames] -> smoothed level in dB, and whether that is a pause."""
    kernel = np.full(_SMOOTHING_FRAMES, 1.0 / _SMOOTHING_FRAMES)
    padded = np.pad(power, _SMOOTHING_FRAMES // 2, mode="edge")
    level = 10.0 * np.log10(np.convolve(padded, kernel, mode="valid") + _FLOOR)
    return level, level < np.quantile(level, _QUIETEST) + _PAUSE_DB


def _cut_frame(
    level: npt.NDArray[np.float64 | np.int64],
    pause: npt.NDArray[np.bool_],
    earliest: int,
    latest: int,
) -> int:
    """The frame in [earliest, latest] to cut at: middle of the longest pause, else quietest."""
    runs = _runs(pause[earliest : latest + 1])
    if runs:
        first, last = max(runs, key=lambda run: (run[1] - run[0], run[0]))
        return earliest + (first + last) // 2
    return earliest + int(np.argmin(level[earliest : latest + 1]))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[first, last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
