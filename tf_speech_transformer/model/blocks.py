"""Blocks of the model: VGG, causal convolution, attention, feed-forward, Transformer layer."""

import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model import quantization
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.layers import (
    Dropout,
    Elementwise,
    HeadLinear,
    LayerNorm,
    Product,
    RowProduct,
    bounded,
    reshape,
    shape_of,
)
from tf_speech_transformer.model.quantization import LayerFactory


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
        """What `attend_absorbed` computes, with keys and values: a quarter of the products.

        The float model is trained by it. HeadLinear's matrix is that of the keys and of the values.
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
