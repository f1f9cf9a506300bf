"""Tables of the audio microfrontend: what its set-up in C computes, for devices that do not run it.

The set-up of pymicro-features computes in single precision, so this does too.  Names of functions
and numbers follow the microfrontend's sources.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from firmware_sim.sound.frontend import (
    CHANNELS,
    MICROFRONTEND_PARAMETERS,
    SAMPLE_RATE,
    STEP_SAMPLES,
    WINDOW_SAMPLES,
)

Int16s = npt.NDArray[np.int16]

FFT_SIZE: Final = 512  # the power of two that holds a window
_WINDOW_BITS: Final = 12
_FILTERBANK_BITS: Final = 12
_NOISE_REDUCTION_BITS: Final = 14
_SNR_BITS: Final = 12
_ALIGNMENT: Final = 2  # weights of a channel begin at a multiple of these bins
_CHANNEL_BLOCK: Final = 4  # and their number is a multiple of this
_GAIN_BITS: Final = 32  # of the signal that the table of gains covers
_FACTORS: Final = 32  # places that kissfft has for radices
# From bits of the FFT to those of the filterbank's square roots.
_CORRECTION_BITS: Final = FFT_SIZE.bit_length() - 1 - _FILTERBANK_BITS // 2

_f32 = np.float32


class Filterbank(NamedTuple):
    """Mel filters: channel i takes `widths[i]` bins from `frequency_starts[i]` on."""

    frequency_starts: Int16s  # [channels + 1]
    weight_starts: Int16s  # [channels + 1]
    widths: Int16s  # [channels + 1]
    weights: Int16s  # of a bin in its channel
    unweights: Int16s  # of the same bin in the channel before
    first_bin: int
    end_bin: int


def numbers() -> dict[str, int]:
    """The settings that are no tables."""
    p = MICROFRONTEND_PARAMETERS

    def share(name: str) -> int:
        return int(_f32(p[name]) * _f32(1 << _NOISE_REDUCTION_BITS))

    return {
        "window": WINDOW_SAMPLES,
        "step": STEP_SAMPLES,
        "fft": FFT_SIZE,
        "channels": CHANNELS,
        "smoothing_bits": int(p["smoothing_bits"]),
        "even_smoothing": share("even_smoothing"),
        "odd_smoothing": share("odd_smoothing"),
        "least_signal": share("min_signal_remaining"),
        "snr_shift": int(p["gain_bits"]) - _CORRECTION_BITS - _SNR_BITS,
        "log_shift": int(p["scale_shift"]),
    }


def window() -> Int16s:
    """Hann window, int16 [480]."""
    angle = _f32(math.pi) * _f32(2) / _f32(WINDOW_SAMPLES)
    cosines = [_f32(math.cos(float(angle * (_f32(i) + _f32(0.5))))) for i in range(WINDOW_SAMPLES)]
    values = [_f32(0.5) - _f32(0.5) * cosine for cosine in cosines]
    return np.array([_fixed(value, _WINDOW_BITS) for value in values], np.int16)


def filterbank() -> Filterbank:
    """The mel filters."""
    lowest = _mel(_f32(MICROFRONTEND_PARAMETERS["lower_band_limit"]))
    highest = _mel(_f32(MICROFRONTEND_PARAMETERS["upper_band_limit"]))
    spacing = (highest - lowest) / _f32(CHANNELS + 1)
    centers = [lowest + spacing * _f32(i + 1) for i in range(CHANNELS + 1)]
    bin_hz = _f32(0.5) * _f32(SAMPLE_RATE) / _f32(FFT_SIZE // 2)
    first_bin = int(_f32(1.5) + _f32(MICROFRONTEND_PARAMETERS["lower_band_limit"]) / bin_hz)
    starts = [first_bin]  # of each channel's own bins, and the end
    for center in centers:
        end = starts[-1]
        while _mel(_f32(end) * bin_hz) <= center:
            end += 1
        starts.append(end)
    widths = np.diff(starts)
    assert widths.min() > 0  # every channel has a bin; the microfrontend pads those that have none
    aligned = [start // _ALIGNMENT * _ALIGNMENT for start in starts[:-1]]
    padded = [
        -(-(end - start) // _CHANNEL_BLOCK) * _CHANNEL_BLOCK
        for start, end in zip(aligned, starts[1:], strict=True)
    ]
    weight_starts = np.concatenate([[0], np.cumsum(padded)])
    weights, unweights = np.zeros((2, weight_starts[-1]), np.int16)
    for channel, center in enumerate(centers):
        before = centers[channel - 1] if channel else lowest
        for frequency in range(starts[channel], starts[channel + 1]):
            weight = (center - _mel(_f32(frequency) * bin_hz)) / (center - before)
            place = weight_starts[channel] + frequency - aligned[channel]
            weights[place] = _fixed(weight, _FILTERBANK_BITS)
            unweights[place] = _fixed(_f32(1) - weight, _FILTERBANK_BITS)
    return Filterbank(
        np.array(aligned, np.int16),
        weight_starts[:-1].astype(np.int16),
        np.array(padded, np.int16),
        weights,
        unweights,
        first_bin,
        starts[-1],
    )


def gains() -> Int16s:
    """Gain by noise estimate, int16 [125]: parabolas over intervals of powers of two."""
    table = np.zeros(4 * _GAIN_BITS - 3, np.int16)
    table[0], table[1] = _gain(0), _gain(1)
    for bits in range(2, _GAIN_BITS + 1):
        x0 = 1 << (bits - 1)
        x2 = 2 * x0 - 1 if bits == _GAIN_BITS else 2 * x0
        y0, y1, y2 = _gain(x0), _gain(x0 + x0 // 2), _gain(x2)
        a1 = 4 * (y1 - y0) - (y2 - y0)
        table[4 * bits - 6 : 4 * bits - 3] = y0, a1, (y2 - y0) - a1
    return table


def fft() -> tuple[npt.NDArray[np.int32], Int16s, Int16s]:
    """kissfft's state for a real FFT.

    Returns:
      int32 [66]: size of the complex FFT, 0 for forward, and pairs of a radix and what is left;
      int16 [256, 2] and [128, 2]: twiddles of the complex FFT, and of the step to the real one.
    """
    size = FFT_SIZE // 2
    state = np.zeros(2 + 2 * _FACTORS, np.int32)
    state[0] = left = size
    for place in range(2, len(state), 2):
        if left == 1:
            break
        radix = 2 if left % 4 else 4
        left //= radix
        state[place : place + 2] = radix, left
    complex_phases = [-2 * math.pi * i / size for i in range(size)]
    real_phases = [-math.pi * ((i + 1) / size + 0.5) for i in range(size // 2)]
    return state, _twiddles(complex_phases), _twiddles(real_phases)


def _twiddles(phases: list[float]) -> Int16s:
    values = [(math.cos(phase), math.sin(phase)) for phase in phases]
    return np.floor(0.5 + 32767 * np.array(values)).astype(np.int16)


def _mel(frequency: np.float32) -> np.float32:
    # The C library's logarithm, as in the set-up: it does not always round to the nearest number.
    return _f32(1127) * np.log1p(frequency / _f32(700))


def _gain(x: int) -> int:
    p = MICROFRONTEND_PARAMETERS
    input_bits = int(p["smoothing_bits"]) - _CORRECTION_BITS
    level = _f32(x) / _f32(1 << input_bits) + _f32(p["pcan_offset"])
    power = _f32(math.pow(float(level), -float(_f32(p["pcan_strength"]))))
    gain = _f32(1 << int(p["gain_bits"])) * power
    return 32767 if gain > 32767 else int(gain + _f32(0.5))


def _fixed(value: np.float32, bits: int) -> int:
    return math.floor(value * _f32(1 << bits) + _f32(0.5))
