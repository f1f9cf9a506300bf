"""The arithmetic of TensorFlow Lite's int8 reference kernels, on whole batches.

Fake quantization rounds real numbers. A device rounds integers, some of them twice. So one value in
ten thousand differs by a step, and each layer multiplies the number of differences by four. These
functions compute the bytes of LiteRT's reference kernels, which TensorFlow Lite Micro computes too.
Each names the operator that it models (tensorflow/lite/kernels; fixed point by gemmlowp).

A function takes `Quantized` tensors and the `Grid` of its output. Products accumulate in int32.
Operators of one or two values are tables of all their 256 or 65,536 results.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from firmware_sim.runtimes import fixed_point
from firmware_sim.runtimes.fixed_point import ONE, Grid

LOWEST, HIGHEST = -128, 127  # of int8


@dataclasses.dataclass(frozen=True)
class Weights:
    """Constant int8 weights with zero point 0."""

    stored: tf.Tensor
    scales: tuple[float, ...]  # one for the tensor, or one for each output channel

    @property
    def centred(self) -> tf.Tensor:
        """The weights as int32."""
        return tf.cast(self.stored, tf.int32)


class Quantized(tf.experimental.ExtensionType):
    """An int8 tensor with its grid.

    TensorFlow converts it to its real values where an operation needs a tensor. The operations
    registered below move its bytes and keep its grid.
    """

    stored: tf.Tensor
    scale: float
    zero_point: int

    def __init__(self, stored: tf.Tensor, scale: float, zero_point: int):
        self.stored, self.scale, self.zero_point = stored, scale, zero_point

    @property
    def shape(self) -> tf.TensorShape:
        return self.stored.shape

    @property
    def centred(self) -> tf.Tensor:
        """q - zero_point, int32."""
        return tf.cast(self.stored, tf.int32) - self.zero_point

    @property
    def grid(self) -> Grid:
        return Grid(self.scale, self.zero_point)

    @property
    def scales(self) -> tuple[float]:
        """The scale in the form of `Weights.scales`."""
        return (self.scale,)

    def __getitem__(self, key: Any) -> "Quantized":
        return Quantized(self.stored[key], *self.grid)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        # Exact: the scale has 12 bits (quantization.rounded), the integer 9, and float32 holds 24.
        return tf.cast(self.centred, tf.float32) * self.scale


@tf.experimental.dispatch_for_api(tf.reshape, {"tensor": Quantized})
def _reshape(tensor, shape, name=None):
    return Quantized(tf.reshape(tensor.stored, shape, name), *tensor.grid)


@tf.experimental.dispatch_for_api(tf.transpose, {"a": Quantized})
def _transpose(a, perm=None, conjugate=False, name="transpose"):
    return Quantized(tf.transpose(a.stored, perm, conjugate, name), *a.grid)


@tf.experimental.dispatch_for_api(tf.concat, {"values": list[Quantized]})
def _concat(values, axis, name="concat"):
    if any(value.grid != values[0].grid for value in values):
        raise ValueError("CONCATENATION needs all its inputs on one grid")
    return Quantized(tf.concat([value.stored for value in values], axis, name), *values[0].grid)


# The function that the Keras layer calls.
@tf.experimental.dispatch_for_api(tf.compat.v1.nn.max_pool, {"value": Quantized})
def _max_pool(value, ksize, strides, padding, data_format="NHWC", name=None, input=None):
    stored = tf.cast(value.stored, tf.float32)
    pooled = tf.nn.max_pool(stored, ksize, strides, padding, data_format, name)
    return Quantized(tf.cast(pooled, tf.int8), *value.grid)


def quantize(x: tf.Tensor, grid: Grid) -> Quantized:
    """Rounds real values to the grid, as an application does with a device's inputs."""
    q = tf.round(x / grid.scale) + grid.zero_point
    return Quantized(tf.cast(tf.clip_by_value(q, LOWEST, HIGHEST), tf.int8), *grid)


# Fixed point, in int64: it does not overflow, and a kernel's int32 does not either.


def high_product(x: tf.Tensor, y: tf.Tensor | int) -> tf.Tensor:
    """x * y / 2^31, halves rounded up: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return tf.bitwise.right_shift(x * y + 2**30, tf.constant(31, tf.int64))


def halved(x: tf.Tensor, times: tf.Tensor | npt.NDArray[np.int64] | int) -> tf.Tensor:
    """x / 2^times, halves rounded away from zero: gemmlowp's RoundingDivideByPOT."""
    times = tf.convert_to_tensor(times, tf.int64)
    half = tf.bitwise.right_shift(tf.bitwise.left_shift(tf.ones_like(times), times), 1)
    below = tf.bitwise.right_shift(x, 63) * tf.minimum(half, 1)  # -1 if x is negative and times > 0
    return tf.bitwise.right_shift(x + half + below, times)


def saturated(x: tf.Tensor) -> tf.Tensor:
    """Clips to the range of int32."""
    return tf.clip_by_value(x, -(2**31), 2**31 - 1)


def mantissas(
    multiplier: npt.ArrayLike,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A positive real number as mantissa / 2^31 * 2^shift: TFLite's QuantizeMultiplier."""
    mantissa, shift = np.frexp(np.asarray(multiplier, np.float64))
    mantissa = np.floor(mantissa * 2**31 + 0.5).astype(np.int64)
    full = mantissa == 2**31
    return np.where(full, 2**30, mantissa), np.where(full, shift + 1, shift).astype(np.int64)


def multiplied(x: tf.Tensor, multiplier: npt.ArrayLike) -> tf.Tensor:
    """x * multiplier, rounded twice: TFLite's MultiplyByQuantizedMultiplier."""
    mantissa, shift = mantissas(multiplier)
    enlarged = x * (1 << np.maximum(shift, 0))
    return halved(high_product(enlarged, mantissa), np.maximum(-shift, 0))


def clipped(x: tf.Tensor, grid: Grid, relu: bool = False) -> Quantized:
    """Adds the zero point and saturates to int8; with `relu` at the real 0.0 too."""
    lowest = max(LOWEST, grid.zero_point) if relu else LOWEST
    x = tf.clip_by_value(x + grid.zero_point, lowest, HIGHEST)
    return Quantized(tf.cast(x, tf.int8), *grid)


def tabulated(kernel: Callable[..., Quantized], *inputs: Quantized) -> Quantized:
    """Applies a kernel of one input, or of two that broadcast, by a table of its results.

    `kernel` takes all 256 values q - zero_point of each input: int64 [256]. The first of two inputs
    has shape [256, 1].
    """
    with tf.init_scope():  # once, outside of any graph that is being built
        values = [tf.range(LOWEST, HIGHEST + 1, dtype=tf.int64) - x.zero_point for x in inputs]
        if len(values) == 2:
            values[0] = values[0][:, None]
        results = kernel(*values)
        table = tf.reshape(results.stored, [-1])
    places = [tf.cast(x.stored, tf.int32) - LOWEST for x in inputs]
    place = functools.reduce(lambda high, low: 256 * high + low, places)
    return Quantized(tf.gather(table, place), *results.grid)


# Operators.


def product_scale(left: Quantized, right: Quantized | Weights) -> npt.NDArray[np.float64]:
    """Scale of a sum of products, float64 [1] or [channels]; kernels multiply it in float32."""
    return (np.float32(left.scale) * np.asarray(right.scales, np.float32)).astype(np.float64)


def requantized(
    accumulated: tf.Tensor,
    left: Quantized,
    right: Quantized | Weights,
    output: Grid,
    bias: Any = None,
    relu: bool = False,
) -> Quantized:
    """Adds a real bias [channels] to int32 sums of products; moves them to the output's grid."""
    scale = product_scale(left, right)
    accumulated = tf.cast(accumulated, tf.int64)
    if bias is not None:
        with tf.init_scope():
            units = np.asarray(bias, np.float64) / scale
        # The converter rounds halves of a bias away from zero.
        accumulated += (np.sign(units) * np.floor(np.abs(units) + 0.5)).astype(np.int64)
    return clipped(multiplied(accumulated, scale / output.scale), output, relu)


def product(
    left: Quantized,
    right: Quantized | Weights,
    output: Grid,
    *,
    transpose_b: bool = False,
    bias: Any = None,
    relu: bool = False,
) -> Quantized:
    """FULLY_CONNECTED and BATCH_MATMUL; the right side is weights or activations.

    Args:
        left: [..., M, K].
        right: [..., K, N], or [..., N, K] with `transpose_b`.
        bias: real [N].

    Returns:
        [..., M, N].
    """
    if right.stored.shape.rank == 2:  # one product for the whole batch
        axes = [[left.shape.rank - 1], [int(transpose_b)]]
        accumulated = tf.tensordot(left.centred, right.centred, axes)
    else:
        accumulated = tf.matmul(left.centred, right.centred, transpose_b=transpose_b)
    return requantized(accumulated, left, right, output, bias, relu)


def add(left: Quantized, right: Quantized, output: Grid) -> Quantized:
    """ADD: moves both inputs to one scale with 20 more bits, then the sum to the output's."""
    larger = 2 * max(left.scale, right.scale)

    def kernel(x: tf.Tensor, y: tf.Tensor) -> Quantized:
        x = multiplied(x * 2**20, left.scale / larger)
        y = multiplied(y * 2**20, right.scale / larger)
        return clipped(multiplied(x + y, larger / (2**20 * output.scale)), output)

    return tabulated(kernel, left, right)


def multiply(left: Quantized, right: Quantized, output: Grid) -> Quantized:
    """MUL."""
    multiplier, _ = fixed_point.multipliers(left.scale, right.scale, output.scale)
    return tabulated(lambda x, y: clipped(multiplied(x * y, multiplier), output), left, right)


def reciprocal_sqrt(x: Quantized, output: Grid) -> Quantized:
    """RSQRT. An input of 0 gives the largest output."""
    with tf.init_scope():
        table = tf.constant(fixed_point.reciprocal_root_table(*x.grid, *output))
    return Quantized(tf.gather(table, tf.cast(x.stored, tf.int32) - LOWEST), *output)


def softmax(x: Quantized, output: Grid) -> Quantized:
    """SOFTMAX over the last axis, in fixed point; `output` has scale 1/256, zero point -128."""
    q = x.centred
    below = tf.reduce_max(q, -1, keepdims=True) - q
    with tf.init_scope():
        table = tf.constant(fixed_point.exponentials(x.scale))
    exponential = tf.gather(table, below)
    total = tf.reduce_sum(halved(exponential, 12), -1, keepdims=True)  # 12 integer bits
    bits = log2(total)
    normalised = tf.bitwise.left_shift(total, 31 - bits) - 2**31
    share = high_product(reciprocal(normalised), exponential)
    return clipped(halved(share, bits + 4), output)


def reciprocal(a: tf.Tensor) -> tf.Tensor:
    """1 / (1 + a) for a from 0 to 1, in units of 2^-31: one_over_one_plus_x_for_x_in_0_1."""
    half = (a + ONE + 1) // 2
    x = round(2**29 * 48 / 17) + high_product(half, round(-(2**29) * 32 / 17))  # 2 integer bits
    for _ in range(3):
        x += saturated(high_product(x, 2**29 - high_product(half, x)) * 2**2)
    return saturated(x * 2)


def log2(x: tf.Tensor) -> tf.Tensor:
    """The position of the highest bit of positive integers: int64."""
    exponent = tf.bitcast(tf.cast(x, tf.float64), tf.int64)
    return tf.bitwise.right_shift(exponent, tf.constant(52, tf.int64)) - 1023


# Layers.


@functools.singledispatch
def evaluate(
    layer: keras.layers.Layer, inputs: Any, weights: dict[str, Weights], output: Grid
) -> Quantized:
    """Computes a layer's output as the device's operator does.

    Every class of layer that `quantization.in_eight_bits` wraps needs a registered function.

    Args:
        inputs: `Quantized`, or a list of them; some layers take real values or int32.
        weights: by the name of the layer's attribute.
        output: grid of the layer's output quantizer; None for a layer without one.

    Raises:
        TypeError: the class of the layer has no registered function.
    """
    raise TypeError(
        f"{type(layer).__name__} has no integer arithmetic: register it with integer.evaluate"
    )


@evaluate.register
def _activation(layer: keras.layers.Activation, x, weights, output):
    return quantize(x, output)  # a linear activation is an input of the model


@evaluate.register
def _dense(layer: keras.layers.Dense, x, weights, output):
    return product(x, weights["kernel"], output, bias=layer.bias, relu=has_relu(layer))


@evaluate.register
def _convolution(layer: keras.layers.Conv2D, x, weights, output):
    """CONV_2D."""
    kernel, padding = weights["kernel"], layer.padding.upper()
    accumulated = tf.nn.conv2d(
        x.centred, kernel.centred, layer.strides, padding, dilations=layer.dilation_rate
    )
    return requantized(accumulated, x, kernel, output, layer.bias, has_relu(layer))


@evaluate.register
def _depthwise_convolution(layer: keras.layers.DepthwiseConv2D, x, weights, output):
    """DEPTHWISE_CONV_2D with one scale for all channels."""
    kernel, padding = weights["depthwise_kernel"], layer.padding.upper()
    # TensorFlow has no integer kernel for it, but float64 holds every sum exactly.
    factors = (tf.cast(factor.centred, tf.float64) for factor in (x, kernel))
    strides = [1, *layer.strides, 1]
    accumulated = tf.nn.depthwise_conv2d(*factors, strides, padding, dilations=layer.dilation_rate)
    accumulated = tf.cast(accumulated, tf.int32)
    return requantized(accumulated, x, kernel, output, layer.bias, has_relu(layer))


@evaluate.register
def _softmax(layer: keras.layers.Softmax, x, weights, output):
    return softmax(x, output)


@evaluate.register
def _embedding(layer: keras.layers.Embedding, tokens, weights, output):
    """GATHER: the rows keep the table's scale."""
    (scale,) = weights["embeddings"].scales
    return Quantized(tf.gather(weights["embeddings"].stored, tokens), scale, 0)


def has_relu(layer: keras.layers.Layer) -> bool:
    """Whether a layer's fused activation is ReLU, the only one that layers have."""
    return layer.activation is keras.activations.relu
