"""Fixed point as TensorFlow Lite's int8 kernels compute it, on int64 arrays.

The kernels' numbers are int32; names in brackets are those of gemmlowp and of tensorflow/lite.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

ONE: Final = 2**31 - 1  # 1.0 without integer bits, saturated

Integers = npt.NDArray[np.int64]


class Grid(NamedTuple):
    """Maps an int8 q to the real number scale * (q - zero_point)."""

    scale: float
    zero_point: int


class Multiplier(NamedTuple):
    """A positive real number: mantissa / 2^31 * 2^shift."""

    mantissa: int
    shift: int


def multiplier(real: float) -> Multiplier:
    """A real number as a kernel stores it (QuantizeMultiplier)."""
    fraction, shift = math.frexp(real)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        return Multiplier(2**30, shift + 1)
    if shift < -30:  # less than any sum needs
        return Multiplier(0, 0)
    return Multiplier(mantissa, shift)


def high_product(x: npt.ArrayLike, y: npt.ArrayLike) -> Integers:
    """x * y / 2^31, halves rounded up (SaturatingRoundingDoublingHighMul)."""
    return (np.asarray(x, np.int64) * np.asarray(y, np.int64) + 2**30) >> 31


def halved(x: npt.ArrayLike, times: int) -> Integers:
    """x / 2^times, halves rounded away from zero (RoundingDivideByPOT)."""
    x = np.asarray(x, np.int64)
    mask = (1 << times) - 1
    return (x >> times) + ((x & mask) > (mask >> 1) + (x < 0))


def multiplied(x: npt.ArrayLike, by: Multiplier) -> Integers:
    """x * by, rounded twice (MultiplyByQuantizedMultiplier)."""
    enlarged = np.asarray(x, np.int64) << max(by.shift, 0)
    return halved(high_product(enlarged, by.mantissa), max(-by.shift, 0))


def multipliers(left: float, right: float, output: float) -> tuple[float, float]:
    """The multipliers of MUL: LiteRT's, in single precision, and TFLite Micro's, in double."""
    scales = [np.float32(x) for x in (left, right, output)]
    return float(scales[0] * scales[1] / scales[2]), left * right / output


def is_portable(left: Grid, right: Grid, output: Grid) -> bool:
    """Whether MUL gives the same on LiteRT and TFLite Micro, for all 65,536 pairs of inputs."""
    values = [np.arange(-128, 128) - x.zero_point for x in (left, right)]
    products = np.multiply.outer(*values)
    one, other = (
        np.clip(multiplied(products, multiplier(x)) + output.zero_point, -128, 127)
        for x in multipliers(left.scale, right.scale, output.scale)
    )
    return np.array_equal(one, other)


def saturated(x: npt.ArrayLike) -> Integers:
    """Clips to the range of int32."""
    return np.clip(np.asarray(x, np.int64), -(2**31), 2**31 - 1)


def exponentials(scale: float) -> Integers:
    """e^(-scale * n) for n from 0 to 255: int64 [256], in units of 2^-31 (SOFTMAX).

    It follows exp_on_negative_values, with 5 integer bits.
    """
    by = multiplier(min(scale * 2**26, ONE))
    differences = -np.arange(256)
    a = multiplied(differences, by)
    # A Taylor series around -1/8 gives the part within a quarter.
    quarter = (a & (2**24 - 1)) - 2**24
    x = saturated(quarter << 5) + 2**28
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    series = halved(high_product(halved(fourth, 2) + cube, round(2**31 / 3)) + square, 1)
    eighth = round(2**31 * math.exp(-1 / 8))
    result = eighth + high_product(x + series, eighth)
    # Each bit of the number of quarters multiplies by e^-2^power.
    for power in range(-2, 5):
        there = ((quarter - a) & 2 ** (26 + power)) > 0
        factor = round(2**31 * math.exp(-(2.0**power)))
        result = np.where(there, high_product(result, factor), result)
    result = np.where(a == 0, ONE, result)
    farthest = math.floor(31 * 2**26 / 2.0**by.shift)  # the kernel takes anything farther as 0
    return np.where(differences >= -farthest, result, 0)


def reciprocal_roots(values: Integers) -> tuple[Integers, Integers]:
    """1 / sqrt of positive integers, as root / 2^31 * 2^(places - 20).

    It follows GetInvSqrtQuantizedMultiplierExp.

    Returns:
      roots and places, both in the shape of `values`.
    """
    highest_bits = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    pairs = (30 - highest_bits) // 2 - 1
    fraction = (values << 2 * pairs) // 2
    root = np.full(values.shape, 2**28, np.int64)
    for _ in range(5):  # Newton's iteration, with 3 integer bits
        cube = saturated(high_product(high_product(root, root), root) << 6)
        root = high_product(root, 3 * 2**27) - high_product(halved(fraction, 1), cube)
        root = saturated(root << 3)
    root = high_product(root, round(2**30.5))
    return np.where(values == 1, ONE, root), np.where(values == 1, 20, 9 + pairs)


def reciprocal_root_table(
    scale: float, zero_point: int, output_scale: float, output_zero_point: int
) -> npt.NDArray[np.int8]:
    """RSQRT of all int8 values from -128 on: int8 [256].  An input of 0 gives the largest value."""
    # The kernel takes the root of the scale in float32.
    real = 1 / float(np.sqrt(np.float32(scale)) * np.float32(output_scale))
    values = np.arange(-128, 128) - zero_point
    roots, places = reciprocal_roots(np.maximum(values, 1))
    results = multiplied(high_product(1 << places, roots), multiplier(real / 2**20))
    results = np.clip(results + output_zero_point, -128, 127)
    return np.where(values > 0, results, 127).astype(np.int8)
