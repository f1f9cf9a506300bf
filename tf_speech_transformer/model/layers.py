"""Layers of one arithmetic operation each, so that one 8-bit quantizer can stand behind each.

`make` (see `quantization.py`) returns a layer as it is for the float model, or wrapped for the
quantization-aware one. For shapes see `dimensions.py`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model import integer, quantization
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.quantization import LayerFactory


def shape_of(x: tf.Tensor) -> list[int | tf.Tensor]:
    """Sizes of the axes, static where they can be: a device has no shape arithmetic."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def reshape(x: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    """Reshapes; None keeps an axis."""
    kept = shape_of(x)
    return tf.reshape(x, [kept[i] if size is None else size for i, size in enumerate(shape)])


class Mean(keras.layers.Layer):
    """Mean over the last axis as a product with a constant vector: FULLY_CONNECTED on a device.

    [..., D] -> [..., 1].  `epsilon` is added to the mean; it sits in the bias, where it costs
    nothing and is kept in 32 bits.  `negative`: minus the mean.
    """

    def __init__(self, epsilon: float = 0.0, negative: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.negative = negative

    def build(self, input_shape):
        size = input_shape[-1]
        self.kernel = self.add_weight(
            "mean_kernel",
            shape=(size, 1),
            initializer=keras.initializers.Constant((-1 if self.negative else 1) / size),
            trainable=False,
        )

    def call(self, inputs):
        mean = tf.matmul(inputs, self.kernel)
        return tf.nn.bias_add(mean, [self.epsilon]) if self.epsilon else mean

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)


@integer.evaluate.register
def _mean(layer: Mean, x, weights, output):
    bias = [layer.epsilon] if layer.epsilon else None
    return integer.product(x, weights["kernel"], output, bias=bias)


class ReciprocalSqrt(keras.layers.Layer):
    """1 / sqrt(x).

    A variance rounded to 8 bits may be 0, for which a device returns its largest value. In training
    0 counts as one step, a 255th of the largest, so that the range of the output stays useful.
    """

    def call(self, inputs, training=False):
        if training:
            largest = quantization.largest_of_replicas(tf.reduce_max(inputs))
            step = tf.stop_gradient(largest) / 255
            inputs = tf.maximum(inputs, tf.maximum(step, 1e-6))
        return tf.math.rsqrt(inputs)


@integer.evaluate.register
def _reciprocal_sqrt(layer: ReciprocalSqrt, x, weights, output):
    return integer.reciprocal_sqrt(x, output)


class Dropout(keras.layers.Layer):
    """Dropout by a generator that a checkpoint saves: a resumed run drops the same values."""

    def __init__(self, rate: float, generator: tf.random.Generator, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.generator = generator

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        kept = self.generator.uniform(tf.shape(inputs)) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), 0.0)


class Elementwise(keras.layers.Layer):
    """A binary operation with broadcasting: Elementwise(tf.add)([x, y])."""

    def __init__(self, operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], **kwargs):
        super().__init__(**kwargs)
        self.operation = operation

    def call(self, inputs):
        return self.operation(*inputs)

    def compute_output_shape(self, input_shape):
        return tf.broadcast_static_shape(*map(tf.TensorShape, input_shape))


@integer.evaluate.register
def _elementwise(layer: Elementwise, inputs, weights, output):
    operators: dict[Any, Callable[..., integer.Quantized]] = {
        tf.add: integer.add,
        tf.multiply: integer.multiply,
    }
    return operators[layer.operation](*inputs, output)


class Product(keras.layers.Layer):
    """Product with the transpose of the second, for each head.

    [B, H, M, K] x [B, H, N, K] -> [B, H, M, N].  For a single utterance (the device's encoder)
    the heads are taken apart: each becomes a FULLY_CONNECTED with an activation in the place of
    weights, many times faster in 8 bits than BATCH_MATMUL.
    """

    def call(self, inputs):
        left, right = inputs
        if left.shape[0] != 1:
            return tf.matmul(left, right, transpose_b=True)
        heads = zip(
            tf.unstack(tf.reshape(left, left.shape[1:])),
            tf.unstack(tf.reshape(right, right.shape[1:])),
            strict=True,
        )
        return tf.stack([tf.matmul(a, b, transpose_b=True) for a, b in heads])[None]

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], input_shape[1][-2])


@integer.evaluate.register
def _product(layer: Product, inputs, weights, output):
    left, right = inputs
    return integer.product(left, right, output, transpose_b=True)


class Embedding(keras.layers.Embedding):
    """Rows of a table: int32 tokens [B, U], or float one-hot tokens [B, U, V] -> [B, U, D].

    The one-hot form is a FULLY_CONNECTED on a device: an Ethos-U55 has no GATHER.
    """

    def call(self, inputs):
        if inputs.dtype.is_integer:
            return super().call(inputs)
        return tf.matmul(inputs, self.embeddings)


class RowProduct(keras.layers.Layer):
    """Product of rows with a matrix: BATCH_MATMUL on a device.

    [B, M, K] x [B, K, N] -> [B, M, N]; with `transposed`, [B, N, K] is the second.
    """

    def __init__(self, transposed: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.transposed = transposed

    def call(self, inputs):
        rows, matrix = inputs
        if not self.transposed:
            # An operator of its own: BATCH_MATMUL's copy would never leave a device's arena.
            matrix = tf.transpose(matrix, [0, 2, 1])
        return tf.matmul(rows, matrix, transpose_b=True)


@integer.evaluate.register
def _row_product(layer: RowProduct, inputs, weights, output):
    rows, matrix = inputs
    return integer.product(rows, matrix, output, transpose_b=layer.transposed)


class HeadLinear(keras.layers.Layer):
    """A linear map for each head: its columns of one matrix [D, D], as keys and values have them.

    [B, H, U, D] -> [B, H, U, D/H]; with `transposed`, [B, H, U, D/H] -> [B, H, U, D].
    """

    def __init__(self, dims: Dimensions, transposed: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.dims = dims
        self.transposed = transposed

    def build(self, input_shape):
        self.kernel = self.add_weight(
            "kernel", shape=(self.dims.d_model, self.dims.d_model), initializer="glorot_uniform"
        )

    def call(self, inputs):
        return tf.matmul(inputs, self.matrices(self.kernel), transpose_b=True)

    def matrices(self, kernel):
        """Those of the heads; either way transposed, as kernels want their weights: no copy."""
        heads = tf.reshape(kernel, [self.dims.d_model, self.dims.heads, self.dims.d_head])
        return tf.transpose(heads, [1, 0, 2] if self.transposed else [1, 2, 0])

    def compute_output_shape(self, input_shape):
        size = self.dims.d_model if self.transposed else self.dims.d_head
        return (*input_shape[:-1], size)


@integer.evaluate.register
def _head_linear(layer: HeadLinear, x, weights, output):
    kernel = weights["kernel"]
    matrices = integer.Weights(layer.matrices(kernel.stored), kernel.scales)
    return integer.product(x, matrices, output, transpose_b=True)


@tf.custom_gradient
def bounded(scores: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Clips attention scores to the range that their 8 bits will cover.

    Unclipped scores grow to 40 and beyond, while the softmax needs a difference of 12 at most. A
    gradient that leads back into the range passes, so that no score is stuck beyond the limit.
    """
    limit = quantization.SCORE_LIMIT

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        outward = ((scores > limit) & (upstream < 0)) | ((scores < -limit) & (upstream > 0))
        return tf.where(outward, 0.0, upstream)

    return tf.clip_by_value(scores, -limit, limit), gradient


def normalised(x: tf.Tensor, epsilon: float) -> tf.Tensor:
    """What `LayerNorm` computes, with a gradient of few operations.

    Means are products, which a CPU computes several times as fast.
    """

    @tf.custom_gradient
    def function(x):
        size = x.shape[-1]
        average = tf.fill([size, 1], 1 / size)
        rows = tf.reshape(x, [-1, size])
        centred = rows - tf.matmul(rows, average)
        deviation = tf.math.rsqrt(tf.matmul(tf.square(centred), average) + epsilon)
        result = centred * deviation

        def gradient(upstream):
            upstream = tf.reshape(upstream, [-1, size])
            along = tf.matmul(upstream * result, average)
            down = (upstream - tf.matmul(upstream, average) - result * along) * deviation
            return tf.reshape(down, tf.shape(x))

        return tf.reshape(result, tf.shape(x)), gradient

    return tf.ensure_shape(function(x), x.shape)


class LayerNorm(keras.layers.Layer):
    """(x - mean) / sqrt(variance + epsilon), each step a quantizable layer.

    It has no gain and bias: the linear layer that follows holds them, or, in the front-end, a 1x1
    depthwise convolution. `symmetric`: of the output's quantizer.
    """

    def __init__(
        self, make: LayerFactory, epsilon: float = 1e-2, symmetric: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        # Added, not subtracted: Arm's kernel of SUB rounds its scales.
        self.mean = make(Mean(negative=True, name="mean"), weights=("kernel",))
        self.centre = make(Elementwise(tf.add, name="centre"))
        self.square = make(Elementwise(tf.multiply, name="square"))
        self.variance = make(Mean(epsilon, name="variance"), weights=("kernel",))
        self.reciprocal = make(ReciprocalSqrt(name="reciprocal"))
        self.normalise = make(Elementwise(tf.multiply, name="normalise"), symmetric=symmetric)
        self.epsilon = epsilon
        self.fused = make is not quantization.in_eight_bits

    def call(self, x, training=False):
        if self.fused and training:
            return normalised(x, self.epsilon)
        centred = self.centre([x, self.mean(x, training=training)], training=training)
        square = self.square([centred, centred], training=training)
        deviation = self.reciprocal(self.variance(square, training=training), training=training)
        return self.normalise([centred, deviation], training=training)

    def settle(self):
        """Makes the products of 8 bits the same on every runtime."""
        quantization.settle(self.square, self.centre, self.centre)
        quantization.settle(self.normalise, self.centre, self.reciprocal)
