"""The Speech-Transformer of Bie et al. (arXiv 1911.03604), built from layers of one operation each.

A layer here is one arithmetic operation, so that one 8-bit quantizer can stand behind each of
them: `make` (see `quantization.py`) returns the layer as it is for the float model, or wrapped for
the quantization-aware one.  B: batch, T: feature frames, S = T / 4: memory frames, U: tokens,
H: heads, D: d_model, V: vocabulary, N: longest text on the device.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model import integer, quantization, rotation
from tf_speech_transformer.model.quantization import LayerFactory
from tf_speech_transformer.text.phones import PHONE_COUNT

TIME_REDUCTION = 4  # feature frames for one memory frame
MOST_POSITIONS = 2048  # memory frames or tokens, where the model has sinusoids
FLOAT_MASK_VALUE = -1e4  # what a masked score gets in the float model


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Everything that fixes the shape of the model; defaults are the paper's proposed model."""

    vocabulary: int
    feature_channels: int = 80
    conv_channels: tuple[int, int] = (64, 128)  # of the first and the second VGG block
    strided: bool = False  # the first convolution of a block strides by 2 instead of a max-pooling
    d_model: int = 512
    heads: int = 8
    d_ff: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_positions: bool = False  # sinusoidal, added to the front-end's output
    decoder_positions: bool = False  # the same, added to the embeddings
    # Channels of causal convolutions over the embeddings, one after the other, as Mohamed et al.
    # (arXiv 1904.11660) have them, and the size of these embeddings.
    decoder_convolutions: tuple[int, ...] = ()
    d_embedding: int = 512
    ctc: bool = True  # a CTC head on the encoder, which the paper has not
    phones: bool = False  # a second one, over `text.phones`
    # Added to the variance in the front-end's LayerNorms: large enough, silence stays small, and
    # 8 bits' noise in it with it.
    front_end_epsilon: float = 0.05
    rotated: bool = False  # the residual streams are, see `rotation`
    dropout: float = 0.15
    dropout_seed: int = 0

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads

    @property
    def window_channels(self) -> tuple[int, ...]:
        """Of the rows that each convolution of the decoder reads."""
        if not self.decoder_convolutions:
            return ()
        return (self.d_embedding, *self.decoder_convolutions[:-1])


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

    A variance rounded to 8 bits may be 0, for which a device returns the largest value it has.  In
    training it counts as one step, a 255th of the largest: the range of the output stays useful.
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
    """Dropout on a generator that a checkpoint saves: a resumed run drops what it would have."""

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
    """Clips attention scores to what their 8 bits will cover.

    Left alone, scores grow to 40 and beyond while the softmax needs no more than a difference of
    12.  A gradient passes wherever it leads back, so that none is stuck beyond the limit.
    """
    limit = quantization.SCORE_LIMIT

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        outward = ((scores > limit) & (upstream < 0)) | ((scores < -limit) & (upstream > 0))
        return tf.where(outward, 0.0, upstream)

    return tf.clip_by_value(scores, -limit, limit), gradient


def normalised(x: tf.Tensor, epsilon: float) -> tf.Tensor:
    """What `LayerNorm` computes, with a gradient of few operations; means are products, which a
    CPU computes several times as fast."""

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

    There is no gain and bias: every LayerNorm here is followed by a linear layer, or, in the
    front-end, by a 1x1 depthwise convolution, which holds them.  `symmetric`: of the output's
    quantizer.
    """

    def __init__(
        self, make: LayerFactory, epsilon: float = 1e-2, symmetric: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        # Added, not subtracted: Arm's kernel of SUB rounds its scales (WORKSPACE.md).
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


class VggBlock(keras.layers.Layer):
    """Two 3x3 convolutions, each with LayerNorm and ReLU; halves time and frequency.

    [B, T, F, 1 or C'] -> [B, T/2, F/2, C].  fairseq's VGGBlock normalises each channel over the
    frequencies; here frequencies and channels are normalised together: one 8-bit 1/sqrt a frame
    instead of one for each of its channels, and no noise blown up in a silent channel.
    """

    def __init__(self, make: LayerFactory, channels: int, strided: bool, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = []
        self.norms = []
        self.affines = []
        for i in range(2):
            self.convolutions.append(
                make(
                    keras.layers.Conv2D(
                        channels,
                        3,
                        strides=2 if strided and i == 0 else 1,
                        padding="same",
                        use_bias=False,  # the LayerNorm would take it away again
                        name=f"convolution_{i}",
                    ),
                    weights=("kernel",),
                    per_channel=True,
                )
            )
            self.norms.append(LayerNorm(make, epsilon=epsilon, name=f"norm_{i}"))
            self.affines.append(
                make(
                    keras.layers.DepthwiseConv2D(
                        1, activation="relu", depthwise_initializer="ones", name=f"affine_{i}"
                    ),
                    weights=("depthwise_kernel",),
                )
            )
        self.pool = None if strided else keras.layers.MaxPooling2D(2, padding="same", name="pool")

    def call(self, x, training=False):
        for convolution, norm, affine in zip(
            self.convolutions, self.norms, self.affines, strict=True
        ):
            x = convolution(x, training=training)
            frequencies, channels = x.shape[2:]
            x = reshape(x, [None, None, frequencies * channels])
            x = reshape(norm(x, training=training), [None, None, frequencies, channels])
            x = affine(x, training=training)
        return self.pool(x) if self.pool else x


class CausalConvolution(keras.layers.Layer):
    """A convolution of width 3 over tokens, which sees none that is later; LayerNorm and ReLU.

    x [B, U, C] -> [B, U, C'].  A linear layer of three rows side by side, which a device computes
    for one token from the two rows before it.
    """

    WIDTH = 3

    def __init__(self, make: LayerFactory, channels: int, **kwargs):
        super().__init__(**kwargs)
        linear = keras.layers.Dense(channels, use_bias=False, name="linear")  # LayerNorm centres
        self.linear = make(linear, weights=("kernel",))
        self.norm = LayerNorm(make, epsilon=0.05, name="norm")
        affine = keras.layers.DepthwiseConv2D(
            1, activation="relu", depthwise_initializer="ones", name="affine"
        )
        self.affine = make(affine, weights=("depthwise_kernel",))

    def call(self, x, before, training=False):
        """before [B, 2, C]: the rows before the first of x; 0.0 where there are none."""
        length = shape_of(x)[1]
        rows = tf.concat([before, x], 1)
        side_by_side = tf.concat([rows[:, i : i + length] for i in range(self.WIDTH)], -1)
        x = self.norm(self.linear(side_by_side, training=training), training=training)
        channels = x.shape[-1]
        x = self.affine(reshape(x, [None, None, 1, channels]), training=training)
        return tf.reshape(x, [shape_of(x)[0], length, channels])


class Attention(keras.layers.Layer):
    """Multi-head attention of x to a memory: x [B, U, D], memory [B, S, D] -> [B, U, D].

    With `absorbed`, keys and values are never made: (q W_k^T) m^T is q (m W_k)^T, and (p m) W_v is
    p (m W_v).  So a decoder step reads the memory itself, in all heads and layers.  Key and value
    have no biases then: the one adds a constant to a row of scores, which softmax takes away, the
    other a constant to the output, which has a bias of its own.
    """

    def __init__(
        self, make: LayerFactory, dims: Dimensions, generator, absorbed: bool = False, **kwargs
    ):
        super().__init__(**kwargs)
        self.dims = dims
        self.absorbed = absorbed

        def linear(name: str, gain: float = 1.0, **quantization) -> keras.layers.Layer:
            initializer = keras.initializers.VarianceScaling(gain, "fan_avg", "uniform")
            layer = keras.layers.Dense(dims.d_model, kernel_initializer=initializer, name=name)
            return make(layer, weights=("kernel",), **quantization)

        # The factor 1/sqrt(d_head) of the scores is in the initial query weights: one product less.
        self.query = linear("query", gain=1 / dims.d_head)
        if absorbed:
            self.key = make(HeadLinear(dims, transposed=True, name="key"), weights=("kernel",))
            self.value = make(HeadLinear(dims, name="value"), weights=("kernel",))
            scores = RowProduct(transposed=True, name="scores")
            context = RowProduct(name="context")
        else:
            self.key = linear("key", symmetric=True)
            self.value = linear("value", symmetric=True)
            scores, context = Product(name="scores"), Product(name="context")
        self.scores = make(scores, output=quantization.SCORES)
        self.bounds = make is not quantization.in_eight_bits  # which saturate by themselves
        self.masked = make(Elementwise(tf.add, name="masked"), output=quantization.MASKED_SCORES)
        self.softmax = make(keras.layers.Softmax(name="softmax"), output=quantization.PROBABILITIES)
        self.context = make(context)
        self.output_linear = linear("output")
        self.dropout = Dropout(dims.dropout, generator)

    def call(self, x, memory, mask, training=False):
        """mask [B or 1, 1, U or 1, S]: what is added to the scores."""
        query = self.heads(self.query(x, training=training), [0, 2, 1, 3])
        attend = self.attend_absorbed if self.absorbed else self.attend
        if self.absorbed and self.bounds and training:
            attend = self.attend_unabsorbed
        context = tf.transpose(attend(query, memory, mask, training), [0, 2, 1, 3])
        context = reshape(context, [None, None, self.dims.d_model])
        return self.dropout(self.output_linear(context, training=training), training=training)

    def attend(self, query, memory, mask, training):
        """Context [B, H, U, D/H] of a query of that shape."""
        keys = self.heads(self.key(memory, training=training), [0, 2, 1, 3])
        probabilities = self.probabilities(query, keys, mask, training)  # [B, H, U, S]
        # [B, H, D/H, S]: values lie ready for a product with the probabilities.
        values = self.heads(self.value(memory, training=training), [0, 2, 3, 1])
        return self.context([probabilities, values], training=training)

    def attend_absorbed(self, query, memory, mask, training):
        """The same with all heads as rows of one product: an NPU would copy the memory for each."""
        query = self.key(query, training=training)
        batch, heads, length, size = shape_of(query)
        query = tf.reshape(query, [batch, heads * length, size])
        if mask.shape[2] != 1:  # not the same for all positions
            mask = tf.repeat(mask, heads, 1)
        mask_batch, mask_heads, mask_length, memory_length = shape_of(mask)
        mask = tf.reshape(mask, [mask_batch, mask_heads * mask_length, memory_length])
        probabilities = self.probabilities(query, memory, mask, training)  # [B, H * U, S]
        context = self.context([probabilities, memory], training=training)
        context = tf.reshape(context, [batch, heads, length, size])
        return self.value(context, training=training)

    def attend_unabsorbed(self, query, memory, mask, training):
        """What `attend_absorbed` computes, with keys and values: a quarter of the products, for the
        training of the float model.

        HeadLinear's matrix is that of the keys and of the values.
        """
        keys, values = (
            self.heads(tf.matmul(memory, linear.kernel), [0, 2, 1, 3])
            for linear in (self.key, self.value)
        )
        scores = bounded(tf.matmul(query, keys, transpose_b=True)) + mask
        return tf.matmul(tf.nn.softmax(scores), values)

    def probabilities(self, query, keys, mask, training):
        scores = self.scores([query, keys], training=training)
        scores = bounded(scores) if self.bounds else scores
        scores = self.masked([scores, mask], training=training)
        return self.softmax(scores, training=training)

    def heads(self, x, order):
        """[B, U, D] -> axes B, U, H, D/H in another order."""
        x = reshape(x, [None, None, self.dims.heads, self.dims.d_head])
        return tf.transpose(x, order)


class FeedForward(keras.layers.Layer):
    """Linear, ReLU, linear: [B, U, D] -> [B, U, D]."""

    def __init__(self, make: LayerFactory, dims: Dimensions, generator, **kwargs):
        super().__init__(**kwargs)
        self.inner = make(
            keras.layers.Dense(dims.d_ff, activation="relu", name="inner"), weights=("kernel",)
        )
        self.outer = make(keras.layers.Dense(dims.d_model, name="outer"), weights=("kernel",))
        self.dropout = Dropout(dims.dropout, generator)

    def call(self, x, training=False):
        x = self.dropout(self.inner(x, training=training), training=training)
        return self.dropout(self.outer(x, training=training), training=training)


class Block(keras.layers.Layer):
    """A pre-norm Transformer layer: of the encoder, or of the decoder, with cross-attention."""

    def __init__(self, make: LayerFactory, dims: Dimensions, generator, decoder: bool, **kwargs):
        super().__init__(**kwargs)
        self.attention_norm = LayerNorm(make, symmetric=decoder, name="attention_norm")
        self.attention = Attention(make, dims, generator, absorbed=decoder, name="attention")
        self.attention_sum = make(Elementwise(tf.add, name="attention_sum"))
        if decoder:
            self.cross_norm = LayerNorm(make, name="cross_norm")
            self.cross = Attention(make, dims, generator, absorbed=True, name="cross")
            self.cross_sum = make(Elementwise(tf.add, name="cross_sum"))
        self.feed_forward_norm = LayerNorm(make, name="feed_forward_norm")
        self.feed_forward = FeedForward(make, dims, generator, name="feed_forward")
        self.feed_forward_sum = make(Elementwise(tf.add, name="feed_forward_sum"))

    def add_nothing(self):
        """Makes a float layer pass on what it gets, until it is trained."""
        attentions = [self.attention, self.cross] if hasattr(self, "cross") else [self.attention]
        for linear in (*(x.output_linear for x in attentions), self.feed_forward.outer):
            for variable in linear.weights:
                variable.assign(tf.zeros_like(variable))

    def call(self, x, mask, memory=None, memory_mask=None, cache=None, training=False):
        """x [B, U, D] -> the same shape, and the rows [B, U, D] that self-attention reads of it.

        `memory` [B, S, D] is the encoder's; `cache` [B, N, D] are rows of earlier tokens, which
        stand before those of x.
        """
        rows = self.attention_norm(x, training=training)
        past = rows if cache is None else tf.concat([cache, rows], 1)
        attended = self.attention(rows, past, mask, training=training)
        x = self.attention_sum([x, attended], training=training)
        if memory is not None:
            normed = self.cross_norm(x, training=training)
            attended = self.cross(normed, memory, memory_mask, training=training)
            x = self.cross_sum([x, attended], training=training)
        normed = self.feed_forward_norm(x, training=training)
        fed = self.feed_forward(normed, training=training)
        return self.feed_forward_sum([x, fed], training=training), rows


def shape_of(x: tf.Tensor) -> list[int | tf.Tensor]:
    """Sizes of the axes, static where they can be: a device has no shape arithmetic."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def reshape(x: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    """Reshapes; None keeps an axis."""
    kept = shape_of(x)
    return tf.reshape(x, [kept[i] if size is None else size for i, size in enumerate(shape)])


def positions_of(dims: Dimensions, length: int) -> np.ndarray:
    """What the model adds to its streams, float32 [length, D]."""
    table = sinusoids(length, dims.d_model)
    return table @ rotation.matrix(dims.d_model) if dims.rotated else table


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Sinusoidal positional encoding, float32 [length, channels] (Vaswani et al., 3.5)."""
    rates = np.exp(-math.log(10000.0) * np.arange(channels // 2) / (channels // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class SpeechTransformer(keras.Model):
    """Encoder and decoder.

    `make` is `quantization.in_float` or `quantization.in_eight_bits`; the variables of the float
    model are, by name, a subset of those of the quantization-aware one.
    """

    def __init__(self, dims: Dimensions, make: LayerFactory, **kwargs):
        super().__init__(**kwargs)
        self.dims = dims
        self.quantized = make is quantization.in_eight_bits
        self.mask_value = quantization.MASK_VALUE if self.quantized else FLOAT_MASK_VALUE
        self.generator = generator = tf.random.Generator.from_seed(dims.dropout_seed)
        identity = keras.layers.Activation
        self.features = make(identity("linear", name="features"), output=quantization.FEATURES)
        self.mask = make(identity("linear", name="mask"), output=quantization.MASK)
        self.front_end = [
            VggBlock(make, channels, dims.strided, dims.front_end_epsilon, name=f"vgg_{i}")
            for i, channels in enumerate(dims.conv_channels)
        ]
        self.front_end_linear = make(
            keras.layers.Dense(dims.d_model, name="front_end_linear"), weights=("kernel",)
        )
        if dims.encoder_positions:
            self.positions = make(
                identity("linear", name="positions"), output=quantization.positions(dims.rotated)
            )
            self.positions_sum = make(Elementwise(tf.add, name="positions_sum"))
        self.dropout = Dropout(dims.dropout, generator)
        self.encoder = [
            Block(make, dims, generator, decoder=False, name=f"encoder_{i}")
            for i in range(dims.encoder_layers)
        ]
        self.encoder_linear = make(
            keras.layers.Dense(dims.d_model, name="encoder_linear"), weights=("kernel",)
        )
        self.encoder_norm = LayerNorm(make, symmetric=True, name="encoder_norm")
        self.ctc = None
        if dims.ctc:
            self.ctc = make(keras.layers.Dense(dims.vocabulary, name="ctc"), weights=("kernel",))
        self.phones = None
        if dims.phones:
            head = keras.layers.Dense(PHONE_COUNT, name="phones")
            self.phones = make(head, weights=("kernel",))
        self.embedding = make(
            Embedding(
                dims.vocabulary,
                dims.d_embedding if dims.decoder_convolutions else dims.d_model,
                embeddings_initializer=keras.initializers.RandomNormal(0, 0.5),
                name="embedding",
            ),
            weights=("embeddings",),
            same_scale=True,
        )
        if dims.decoder_convolutions:
            self.convolutions = [
                CausalConvolution(make, channels, name=f"convolution_{i}")
                for i, channels in enumerate(dims.decoder_convolutions)
            ]
            self.decoder_linear = make(
                keras.layers.Dense(dims.d_model, name="decoder_linear"), weights=("kernel",)
            )
        if dims.decoder_positions:
            self.decoder_positions = make(
                identity("linear", name="decoder_positions"),
                output=quantization.positions(dims.rotated),
            )
            self.decoder_positions_sum = make(Elementwise(tf.add, name="decoder_positions_sum"))
        self.decoder = [
            Block(make, dims, generator, decoder=True, name=f"decoder_{i}")
            for i in range(dims.decoder_layers)
        ]
        self.decoder_norm = LayerNorm(make, name="decoder_norm")
        self.logits = make(keras.layers.Dense(dims.vocabulary, name="logits"), weights=("kernel",))

    @property
    def trained_variables(self) -> list[tf.Variable]:
        """The variables that an optimizer may change: TFMOT's wrapper claims the constants too."""
        return [v for v in self.trainable_variables if "mean_kernel" not in v.name]

    def settle(self) -> None:
        """Adjusts the ranges of 8 bits, once estimated, to what every runtime computes alike."""
        for layer in self.submodules:
            if isinstance(layer, LayerNorm):
                layer.settle()

    def memory_mask(self, frames: tf.Tensor, memory_frames: int) -> tf.Tensor:
        """[B, 1, 1, S]: 0 where there is speech, `mask_value` beyond; `frames` int32 [B]."""
        length = (frames + TIME_REDUCTION - 1) // TIME_REDUCTION
        valid = tf.sequence_mask(length, memory_frames)[:, None, None, :]
        return tf.where(valid, 0.0, self.mask_value)

    def encode(self, features, memory_mask, training=False):
        """features [B, T, F], memory_mask [B, 1, 1, S] -> memory [B, S, D], CTC [B, S, V] or None
        without that head."""
        x = self.features(features, training=training)[..., None]
        for block in self.front_end:
            x = block(x, training=training)
        x = reshape(x, [None, None, x.shape[2] * x.shape[3]])
        x = self.front_end_linear(x, training=training)
        mask = self.mask(memory_mask, training=training)
        if self.dims.encoder_positions:
            table = tf.constant(positions_of(self.dims, MOST_POSITIONS))
            length = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
            positions = self.positions(table[None, :length], training=training)
            x = self.positions_sum([x, positions], training=training)
        x = self.dropout(x, training=training)
        for block in self.encoder:
            x, _ = block(x, mask, training=training)
        memory = self.encoder_norm(self.encoder_linear(x, training=training), training=training)
        return memory, self.ctc(memory, training=training) if self.ctc else None

    def decode(self, tokens, memory, memory_mask, lengths=None, training=False):
        """All positions at once: tokens int32 [B, U], beginning with <s> -> logits [B, U, V].

        Positions beyond `lengths` int32 [B], if given, repeat the last one within: what never
        occurs on a device must not widen the ranges of its quantizers.
        """
        everywhere = tf.range(tf.shape(tokens)[1])
        positions = everywhere[None]
        if lengths is not None:
            positions = tf.minimum(positions, lengths[:, None] - 1)  # [B, U]
            tokens = tf.gather(tokens, positions, batch_dims=1)
        table = None
        if self.dims.decoder_positions:
            table = tf.gather(positions_of(self.dims, MOST_POSITIONS), positions)
        x, _ = self.embed(self.embedding(tokens, training=training), table, training=training)
        if lengths is not None and self.dims.decoder_convolutions:
            x = tf.gather(x, positions, batch_dims=1)
        future = tf.cast(everywhere > positions[:, None, :, None], tf.float32)  # [B or 1, 1, U, U]
        mask = self.mask(future * self.mask_value, training=training)
        memory_mask = self.mask(memory_mask, training=training)
        x = self.dropout(x, training=training)
        for block in self.decoder:
            x, _ = block(x, mask, memory, memory_mask, training=training)
        return self.logits(self.decoder_norm(x, training=training), training=training)

    def embed(self, x, positions, windows=None, training=False):
        """Embeddings [B, U, E] -> what goes into the decoder's layers [B, U, D], and the rows that
        each of its convolutions reads, [B, U, C].

        positions [.., U, D] are sinusoids, if the model adds them; `windows` are the two rows
        [B, 2, C] before these of each convolution, 0.0 at the beginning of a text.
        """
        read = []
        if self.dims.decoder_convolutions:
            source = self.embedding
            for i, convolution in enumerate(self.convolutions):
                batch, _, channels = shape_of(x)
                before = tf.zeros([batch, CausalConvolution.WIDTH - 1, channels])
                before = quantization.output_quantized(source, windows[i] if windows else before)
                read.append(x)
                x = convolution(x, before, training=training)
                source = convolution.affine
            x = self.decoder_linear(x, training=training)
        if self.dims.decoder_positions:
            positions = self.decoder_positions(positions, training=training)
            x = self.decoder_positions_sum([x, positions], training=training)
        return x, read

    def decode_step(
        self, token, self_mask, memory_mask, caches, memory, windows=None, position=None
    ):
        """One token -> logits [B, V], a row [B, 1, D] for each layer's cache, and a row [B, 1, C]
        for the window of each convolution.

        token: one-hot float [B, 1, V]; self_mask [B, 1, 1, N + 1]; `caches`: each layer's rows of
        earlier tokens [B, N, D]; `memory` [B, S, D]; `windows`: the two rows [B, 2, C] before, of
        each convolution; `position`: one-hot float [B, 1, N], if the decoder has positions.  A
        device calls it with B = 1.
        """
        mask = self.mask(self_mask)
        memory_mask = self.mask(memory_mask)
        memory = quantization.output_quantized(self.encoder_norm.normalise, memory)
        x = quantization.pick(self.embedding, token)
        if self.dims.decoder_positions:
            table = tf.constant(positions_of(self.dims, position.shape[-1]))
            position = quantization.pick_position(
                position, table, self.quantized, self.dims.rotated
            )
        x, newest = self.embed(x, position, windows)
        rows = []
        for block, cache in zip(self.decoder, caches, strict=True):
            cache = quantization.output_quantized(block.attention_norm.normalise, cache)
            x, row = block(x, mask, memory, memory_mask, cache)
            rows.append(row)
        logits = self.logits(self.decoder_norm(x))
        return reshape(logits, [None, self.dims.vocabulary]), rows, newest

    def call(self, inputs, training=False):
        """inputs: features [B, T, F], frames [B], tokens [B, U] -> logits, CTC logits; where texts
        are padded, also how many tokens they have: token_lengths [B]."""
        features, frames, tokens = inputs["features"], inputs["frames"], inputs["tokens"]
        memory_frames = tf.shape(features)[1] // TIME_REDUCTION
        memory_mask = self.memory_mask(frames, memory_frames)
        memory, ctc = self.encode(features, memory_mask, training=training)
        if self.phones:
            self.phones(memory, training=training)
        lengths = inputs.get("token_lengths")
        return self.decode(tokens, memory, memory_mask, lengths, training=training), ctc
