"""Log-mel features in integers: the audio microfrontend without noise reduction and gain control.

The package `pymicro-features` has one set of parameters compiled in.  Bie et al. use another (80
channels of 25 ms windows, nothing adaptive).  This module has the arithmetic of TensorFlow's C
library, in 16, 32 and 64 bits, for all frames at once: window, kissfft's fixed-point transform,
triangular filters, square root, logarithm.  Its tables have the precision of TensorFlow's op, so
that both compute the same bytes; a test compares them.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_WINDOW_BITS = 12
_FILTER_BITS = 12
_LOG_SEGMENTS = 128
_ONE = 1 << 16  # of the logarithm's fixed point
_LN2 = 45426  # ln 2 of it
# Of log2(1 + x) - x at the ends of the segments.
_LOG_TABLE: Ints = np.rint(
    _ONE * (np.log2(1 + np.arange(_LOG_SEGMENTS + 1) / 128) - np.arange(_LOG_SEGMENTS + 1) / 128)
).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Parameters of the features; Hz and samples."""

    sample_rate: int = 16_000
    window: int = 400
    step: int = 160
    channels: int = 80
    lowest: float = 125.0
    highest: float = 7500.0
    scale_shift: int = 5  # the logarithm is a multiple of 2^-scale_shift

    def stream(self) -> "LogMelStream":
        """For one utterance."""
        return LogMelStream(self)

    def features(self, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
        """int16 [samples] -> uint16 [frames, channels]; frames do not depend on each other.

        Raises:
          ValueError: the audio is not int16 [samples].
        """
        if audio.dtype != np.int16 or audio.ndim != 1:
            raise ValueError(f"audio must be int16 [samples], not {audio.dtype} {audio.shape}")
        if len(audio) < self.window:
            return np.zeros((0, self.channels), np.uint16)
        frames = np.lib.stride_tricks.sliding_window_view(audio, self.window)[:: self.step]
        windowed = (frames.astype(np.int64) * self._hann) >> _WINDOW_BITS
        # Each frame is shifted up as far as it goes, for the transform's resolution; int16 has no
        # absolute value of the lowest one.
        shift = 15 - _bits(_int16(np.abs(windowed)).max(axis=1))
        size = 1 << (self.window - 1).bit_length()
        padded = np.zeros((len(frames), size), np.int64)
        padded[:, : self.window] = _int16(windowed << shift[:, None])
        real, imaginary = _real_transform(padded)
        energy = real * real + imaginary * imaginary
        magnitude = _root(energy @ self._filters) >> shift[:, None]
        # The filters' scale and that of the transform, as powers of two.
        correction = size.bit_length() - 1 - _FILTER_BITS // 2
        logarithm = _logarithm(magnitude << correction, self.scale_shift)
        return np.minimum(logarithm, 0xFFFF).astype(np.uint16)

    @functools.cached_property
    def _hann(self) -> Ints:
        angle = float(np.float32(2 * np.pi / self.window)) * (np.arange(self.window) + 0.5)
        hann = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)
        return np.floor(hann * np.float32(1 << _WINDOW_BITS) + 0.5).astype(np.int64)

    @functools.cached_property
    def _filters(self) -> Ints:
        """[bins, channels]: each bin's share in the filters that it lies between."""
        bins = (1 << (self.window - 1).bit_length()) // 2 + 1
        width = np.float32(0.5 * self.sample_rate / (bins - 1))  # Hz
        low, high = _mel(np.float32(self.lowest)), _mel(np.float32(self.highest))
        spacing = np.float32((high - low) / np.float32(self.channels + 1))
        ends = low + spacing * np.arange(1, self.channels + 2, dtype=np.float32)
        filters = np.zeros((bins, self.channels), np.int64)
        start = int(1.5 + self.lowest / width)  # never the constant part
        for index in range(start, bins):
            place = _mel(np.float32(np.float32(index) * width))
            end = int(np.searchsorted(ends, place))  # the first that is not below
            if place == ends[min(end, self.channels)]:
                end += 1
            if end > self.channels:
                break
            before = low if end == 0 else ends[end - 1]
            share = np.float32((ends[end] - place) / (ends[end] - before))
            if end > 0:  # falling here, rising in the next filter
                filters[index, end - 1] = _filter_weight(share)
            if end < self.channels:
                filters[index, end] = _filter_weight(1.0 - share)
        return filters


class LogMelStream:
    """Features block by block; however the audio is cut, they are those of the whole."""

    def __init__(self, log_mel: LogMel) -> None:
        self._log_mel = log_mel
        self._rest = np.zeros(0, np.int16)  # from the start of the next frame on

    def process(self, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
        """int16 [samples] -> uint16 [frames, channels], the frames that these samples complete."""
        samples = np.concatenate([self._rest, audio])
        features = self._log_mel.features(samples)
        self._rest = samples[len(features) * self._log_mel.step :]
        return features


def _mel(frequency: np.float32) -> np.float32:
    return np.float32(1127.0 * np.log1p(float(frequency) / 700.0))


def _filter_weight(share: float | np.floating[Any]) -> int:
    return int(np.floor(share * (1 << _FILTER_BITS) + 0.5))


def _bits(x: Ints) -> Ints:
    """Number of bits of a number that is not negative."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def _int16(x: Ints) -> Ints:
    return x.astype(np.int16).astype(np.int64)


def _rounded(x: Ints) -> Ints:
    """A product of two Q15 numbers as one."""
    return _int16((x + (1 << 14)) >> 15)


def _divided(x: Ints, by: int) -> Ints:
    return _rounded(x * (32767 // by))


@functools.cache
def _turns(phases: tuple[float, ...]) -> tuple[Ints, Ints]:
    """Cosine and sine in Q15."""
    angles = np.array(phases)
    real, imaginary = (np.floor(0.5 + 32767 * f(angles)).astype(np.int64) for f in (np.cos, np.sin))
    return real, imaginary


def _turned(real: Ints, imaginary: Ints, turns: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    cosine, sine = turns
    return (
        _rounded(real * cosine - imaginary * sine),
        _rounded(real * sine + imaginary * cosine),
    )


def _transform(real: Ints, imaginary: Ints) -> tuple[Ints, Ints]:
    """kissfft's of [.., n] complex int16, n a power of two: divided by n on the way.

    Radix 4 as long as it goes, then 2.
    """
    size = real.shape[-1]
    if size == 1:
        return real, imaginary
    radix = 4 if size % 4 == 0 else 2
    length = size // radix
    parts = []
    for k in range(radix):
        part = _transform(real[..., k::radix], imaginary[..., k::radix])
        part = _divided(part[0], radix), _divided(part[1], radix)
        if k:
            turns = _turns(tuple(-2 * np.pi * k * i / size for i in range(length)))
            part = _turned(*part, turns)
        parts.append(part)
    if radix == 2:
        (r0, i0), (r1, i1) = parts
        outputs = [(r0 + r1, i0 + i1), (r0 - r1, i0 - i1)]
    else:
        (r0, i0), (r1, i1), (r2, i2), (r3, i3) = parts
        even, odd = (r0 + r2, i0 + i2), (r0 - r2, i0 - i2)
        total, difference = (r1 + r3, i1 + i3), (r1 - r3, i1 - i3)
        outputs = [
            (even[0] + total[0], even[1] + total[1]),
            (odd[0] + difference[1], odd[1] - difference[0]),
            (even[0] - total[0], even[1] - total[1]),
            (odd[0] - difference[1], odd[1] + difference[0]),
        ]
    return (
        _int16(np.concatenate([x for x, _ in outputs], -1)),
        _int16(np.concatenate([y for _, y in outputs], -1)),
    )


def _real_transform(x: Ints) -> tuple[Ints, Ints]:
    """Of real int16 [.., n] -> [.., n / 2 + 1]: pairs of samples as complex numbers, then apart."""
    half = x.shape[-1] // 2
    real, imaginary = _transform(x[..., ::2], x[..., 1::2])
    out_real = np.zeros((*x.shape[:-1], half + 1), np.int64)
    out_imaginary = np.zeros_like(out_real)
    constant = _divided(real[..., 0], 2), _divided(imaginary[..., 0], 2)
    out_real[..., 0] = _int16(constant[0] + constant[1])
    out_real[..., half] = _int16(constant[0] - constant[1])
    k = np.arange(1, half // 2 + 1)
    here = _divided(real[..., k], 2), _divided(imaginary[..., k], 2)
    there = _divided(real[..., half - k], 2), _divided(-imaginary[..., half - k], 2)
    total = _int16(here[0] + there[0]), _int16(here[1] + there[1])
    difference = _int16(here[0] - there[0]), _int16(here[1] - there[1])
    turns = _turns(tuple(-np.pi * (i / half + 0.5) for i in range(1, half // 2 + 1)))
    turned = _turned(*difference, turns)
    out_real[..., k] = (total[0] + turned[0]) >> 1
    out_imaginary[..., k] = (total[1] + turned[1]) >> 1
    out_real[..., half - k] = (total[0] - turned[0]) >> 1
    out_imaginary[..., half - k] = (turned[1] - total[1]) >> 1
    return out_real, out_imaginary


def _root(x: Ints) -> Ints:
    """The square root to the nearest integer; to 0xFFFF at most for 32 bits."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    up = x - root * root > root
    return root + (up & ~((x < 1 << 32) & (root == 0xFFFF)))


def _logarithm(x: Ints, scale_shift: int) -> Ints:
    """Natural logarithm of uint32 in units of 2^-scale_shift, 0 up to 1: straight lines between
    powers of two, and a table of what they lack."""
    x = np.maximum(x & 0xFFFFFFFF, 1)
    whole = _bits(x) - 1
    rest = x - (np.int64(1) << whole)
    fraction = np.where(
        whole < 16, rest << np.maximum(16 - whole, 0), rest >> np.maximum(whole - 16, 0)
    )
    segment = fraction * _LOG_SEGMENTS // _ONE
    low, high = _LOG_TABLE[segment], _LOG_TABLE[np.minimum(segment + 1, _LOG_SEGMENTS)]
    within = ((high - low) * (fraction - segment * (_ONE // _LOG_SEGMENTS))) >> 16
    base_two = (whole << 16) + fraction + low + within
    natural = (_LN2 * base_two + _ONE // 2) >> 16
    return ((natural << scale_shift) + _ONE // 2) >> 16
