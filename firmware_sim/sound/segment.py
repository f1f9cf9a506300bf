"""Cuts audio that is longer than the encoder's window, where it hurts least: in pauses."""

from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_sim.sound.frontend import STEP_SAMPLES

SILENT_PEAK: Final = 8  # of 32768: below this no recording of speech can be
_GAP_FRAMES: Final = 100  # digital silence of 1 s and more is not worth an encoder run
_MARGIN_FRAMES: Final = 20  # of it, 200 ms stay on each side
_SHORTEST: Final = 0.4  # of the window: no cut earlier than this
_SMOOTHING_FRAMES: Final = 5
_PAUSE_DB: Final = 12.0  # above the quietest 5 %, a frame still counts as a pause
_SPEECH_DB: Final = 20.0  # below the loudest 5 %, soft speech ends: no pause is louder
_INAUDIBLE_DB: Final = 35.0  # below the loudest 5 %, all is a pause
_QUIETEST: Final = 0.05
_FLOOR: Final = 1.0  # mean square; keeps the logarithm finite


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
    if window < STEP_SAMPLES:
        raise ValueError(f"window is {window} samples, less than one step of {STEP_SAMPLES}.")
    if not len(audio) or int(np.abs(audio.astype(np.int32)).max()) <= SILENT_PEAK:
        return []
    if len(audio) <= window:
        return [(0, len(audio))]

    frames = _frames(audio)
    whole = _without_quiet_ends(frames, len(audio), window)
    if whole is not None:
        return [whole]
    pieces = []
    for start, end in _sounding(frames, len(audio)):
        pieces += _cut(frames, start, end, window)
    return pieces


def find_pause(power: npt.NDArray[np.uint32]) -> int:
    """Where to cut a window that is full of speech: in a pause of its last 60 %.

    Args:
      power: uint32 [steps], mean square of each 10 ms of it; at least 5.

    Returns:
      the first step of what follows.
    """
    level, pause = _pauses(power.astype(np.float64))
    earliest = max(1, int(_SHORTEST * len(power)))
    return _cut_frame(level, pause, earliest, len(power) - 1)


def _frames(audio: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """[samples] -> float64 [ceil(samples / 160), 160], zeros at the end."""
    count = -(-len(audio) // STEP_SAMPLES)
    padded = np.zeros(count * STEP_SAMPLES)
    padded[: len(audio)] = audio
    return padded.reshape(count, STEP_SAMPLES)


def _sounding(frames: npt.NDArray[np.float64], samples: int) -> list[tuple[int, int]]:
    """Stretches, in samples, between long digital silences."""
    silent = np.abs(frames).max(axis=1) <= SILENT_PEAK
    stretches = []
    start = 0
    for first, last in _runs(silent):
        if last - first < _GAP_FRAMES:
            continue
        end = 0 if first == 0 else first + _MARGIN_FRAMES
        if end > start:
            stretches.append((start * STEP_SAMPLES, end * STEP_SAMPLES))
        start = last - _MARGIN_FRAMES
        if last == len(frames):
            start = last
    if start < len(frames):
        stretches.append((start * STEP_SAMPLES, samples))
    return stretches


def _without_quiet_ends(
    frames: npt.NDArray[np.float64], samples: int, window: int
) -> tuple[int, int] | None:
    """A window, in samples, with all that is not quiet in its middle; None if that does not fit.

    In noise that is hardly softer than speech nothing is quiet.
    """
    silent = np.abs(frames).max(axis=1) <= SILENT_PEAK
    level, _ = _pauses(np.mean(np.square(frames), axis=1))
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
    frames: npt.NDArray[np.float64], start: int, end: int, window: int
) -> list[tuple[int, int]]:
    """Cuts audio[start:end] into pieces of at most `window` samples."""
    if end - start <= window:
        return [(start, end)]
    power = np.mean(np.square(frames[start // STEP_SAMPLES : -(-end // STEP_SAMPLES)]), axis=1)
    level, pause = _pauses(power)
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
    level: npt.NDArray[np.float64], pause: npt.NDArray[np.bool_], earliest: int, latest: int
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
