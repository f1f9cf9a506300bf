"""Simulates the model in 8 bits with the wrapper of TensorFlow Model Optimization (TFMOT).

Every arithmetic operation of the model is a small Keras layer. `in_eight_bits` wraps each of them,
so that no intermediate value of softmax, LayerNorm or attention stays in float. Quantization is
uniform and affine (Bie et al., section 4). The range of weights is their minimum and maximum. The
range of activations is an exponential moving average of theirs.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from firmware_sim.runtimes import fixed_point
from firmware_sim.runtimes.fixed_point import Grid
from tf_speech_transformer.corpora import features
from tf_speech_transformer.model import integer
from tf_speech_transformer.model.integer import Quantized, Weights

RANGE_DECAY = 0.9  # of the moving average, Bie et al.
SCORE_LIMIT = 6.0  # of attention scores, in float too: 8 bits are fine enough, and e^-12 is nothing
MASK_VALUE = -255 / 16  # added to a masked score: the sum leaves its range


def rounded(scale: tf.Tensor) -> tf.Tensor:
    """Rounds a scale to 12 significant bits, so that a product of two is exact in float32.

    The converter rounds scales in the same way (`tflite_convert.flatbuffer.round_scales`). So the
    trained model computes what the device will.
    """
    bits = tf.bitcast(scale, tf.int32)
    return tf.bitcast((bits + 0x800) & ~0xFFF, tf.float32)


def range_variables(
    layer: keras.layers.Layer, name: str, shape: tuple[int, ...]
) -> dict[str, tf.Variable]:
    """Makes the layer's variables `min` and `max` of a range; they are 0.0 until training."""
    return {
        key: layer.add_weight(
            f"{name}_{key}",
            shape=shape,
            initializer="zeros",
            trainable=False,
            dtype=tf.float32,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # all replicas have the same
        )
        for key in ("min", "max")
    }


def largest_of_replicas(values: tf.Tensor) -> tf.Tensor:
    """The elementwise maximum over all replicas, each of which has a part of the batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    # A sum of rows, of which each replica fills its own: gathering takes many times the operations.
    count = context.num_replicas_in_sync
    own = tf.one_hot(context.replica_id_in_sync_group, count, True, False, dtype=tf.bool)
    rows = tf.where(own[:, None], values, 0.0)
    return tf.reduce_max(context.all_reduce(tf.distribute.ReduceOp.SUM, rows), 0)


class MovingAverageRange(tfmot.quantization.keras.quantizers.Quantizer):
    """Fake-quantizes an activation by a moving average of its minimum and maximum.

    `symmetric` sets the zero point to 0. Keys and values need it, because FULLY_CONNECTED reads
    them as weights.
    """

    def __init__(self, symmetric: bool = False):
        self.symmetric = symmetric

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, Any]:
        return range_variables(layer, name, ())

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any
    ) -> tf.Tensor:
        low, high = weights["min"], weights["max"]
        if training:
            if self.symmetric:
                batch_high = tf.reduce_max(tf.abs(inputs))
                batch_low = -batch_high * (128 / 127)
            else:
                batch_high = tf.maximum(tf.reduce_max(inputs), 1e-3)
                batch_low = tf.minimum(tf.reduce_min(inputs), 0.0)
            ends = largest_of_replicas(tf.stack([-batch_low, batch_high]))
            batch_low, batch_high = -ends[0], ends[1]
            unset = tf.equal(high, 0.0)
            low = low.assign(
                tf.where(unset, batch_low, RANGE_DECAY * low + (1 - RANGE_DECAY) * batch_low)
            )
            high = high.assign(
                tf.where(unset, batch_high, RANGE_DECAY * high + (1 - RANGE_DECAY) * batch_high)
            )
        scale, zero_point = self.parameters(low, high)
        lowest = -zero_point * scale
        return tf.quantization.fake_quant_with_min_max_vars(
            inputs, lowest, lowest + 255 * scale, num_bits=8
        )

    def parameters(self, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | float]:
        """Scale and unsigned zero point of a range."""
        scale = rounded((high - low) / 255)
        zero_point = 128.0 if self.symmetric else tf.round(tf.math.divide_no_nan(-low, scale))
        return scale, zero_point

    def grid(self, weights: dict[str, Any]) -> Grid:
        """The grid of the int8 tensor."""
        scale, zero_point = self.parameters(weights["min"], weights["max"])
        if not scale:
            raise ValueError("a range was never estimated: train the model's 8 bits first")
        return Grid(float(scale), int(zero_point) - 128)

    def get_config(self) -> dict[str, Any]:
        return {"symmetric": self.symmetric}


class WeightRange(tfmot.quantization.keras.quantizers.Quantizer):
    """Fake-quantizes a weight to -127 to 127 by its largest absolute value.

    `per_channel`: each channel of the last axis has a range of its own.
    """

    def __init__(self, per_channel: bool = False):
        self.per_channel = per_channel

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, Any]:
        return range_variables(layer, name, (tensor_shape[-1],) if self.per_channel else ())

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any
    ) -> tf.Tensor:
        low, high = weights["min"], weights["max"]
        if training:
            axes = list(range(inputs.shape.rank - 1)) if self.per_channel else None
            limit = 127 * rounded(tf.reduce_max(tf.abs(inputs), axes) / 127)
            low, high = low.assign(-limit), high.assign(limit)
        if self.per_channel:
            return tf.quantization.fake_quant_with_min_max_vars_per_channel(
                inputs, low, high, num_bits=8, narrow_range=True
            )
        return tf.quantization.fake_quant_with_min_max_vars(
            inputs, low, high, num_bits=8, narrow_range=True
        )

    def quantized(self, weight: tf.Tensor, weights: dict[str, Any]) -> Weights:
        """The int8 tensor that a device stores for the weight."""
        scales = weights["max"] / 127
        stored = tf.round(self(weight, False, weights) / scales)
        return Weights(tf.cast(stored, tf.int8), tuple(np.ravel(scales).tolist()))

    def get_config(self) -> dict[str, Any]:
        return {"per_channel": self.per_channel}


class FixedRange(tfmot.quantization.keras.quantizers.Quantizer):
    """Fake-quantizes with a constant range: softmax, features, masks."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, Any]:
        return {}

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any
    ) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high, num_bits=8)

    def grid(self, weights: dict[str, Any]) -> Grid:
        """The grid of the int8 tensor."""
        scale = (self.high - self.low) / 255
        return Grid(scale, round(-self.low / scale) - 128)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


PROBABILITIES = FixedRange(0.0, 255 / 256)  # TFLite's softmax: scale 1/256, zero point -128
FEATURES = FixedRange(0.0, 255 * features.SCALE)
MASK = FixedRange(MASK_VALUE, 0.0)
ONE_HOT = FixedRange(-128.0, 127.0)  # scale 1: a product with it is exact
SCORES = FixedRange(-SCORE_LIMIT, SCORE_LIMIT * 127 / 128)
MASKED_SCORES = FixedRange(-179 * 20 / 256, 76 * 20 / 256)  # -14 to 6: masked scores end at -14


def positions(rotated: bool) -> FixedRange:
    """The range of sinusoidal positions; rotation can make them larger."""
    limit = 4.0 if rotated else 1.0
    return FixedRange(-limit, limit * 127 / 128)


class EightBit(tfmot.quantization.keras.QuantizeConfig):
    """Quantizes the output of a layer, and its weights with the names of `weights`.

    `per_channel` gives each output channel of a convolution its own scale, as TFLite specifies.
    Linear layers have one scale, as in the paper.
    """

    def __init__(
        self,
        weights: tuple[str, ...] = (),
        output: tfmot.quantization.keras.quantizers.Quantizer | None = None,
        per_channel: bool = False,
    ):
        self.weights, self.output, self.per_channel = weights, output, per_channel

    def get_weights_and_quantizers(self, layer: keras.layers.Layer) -> list[tuple[Any, Any]]:
        return [(getattr(layer, name), WeightRange(self.per_channel)) for name in self.weights]

    def set_quantize_weights(self, layer: keras.layers.Layer, quantize_weights: list[Any]) -> None:
        for name, weight in zip(self.weights, quantize_weights, strict=True):
            setattr(layer, name, weight)

    def get_activations_and_quantizers(self, layer: keras.layers.Layer) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: keras.layers.Layer, activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: keras.layers.Layer) -> list[Any]:
        return [self.output] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {"weights": self.weights, "output": self.output, "per_channel": self.per_channel}


class EightBitLayer(tfmot.quantization.keras.QuantizeWrapperV2):
    """A layer with its quantizers. It simulates 8 bits; within `exact()` it uses integers."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.exactly(inputs) if _exact else super().call(inputs, training=training)

    @tf.autograph.experimental.do_not_convert
    def exactly(self, inputs: Any) -> Quantized:
        """The layer's output, computed as a device does."""
        with tf.init_scope():  # ranges and weights are constants
            named = zip(self.quantize_config.weights, self._weight_vars, strict=True)
            weights = {
                name: quantizer.quantized(weight, variables)
                for name, (weight, quantizer, variables) in named
            }
        return integer.evaluate(self.layer, inputs, weights, self.grid())

    @tf.autograph.experimental.do_not_convert
    def grid(self) -> Grid:
        """Grid of the layer's int8 output; a layer without an output quantizer has its weights'."""
        with tf.init_scope():
            for quantizer in self._output_quantizers:
                return quantizer.grid(self._output_quantizer_vars)
            (_, _, variables), *_ = self._weight_vars
            return Grid(float(variables["max"]) / 127, 0)


_exact = False


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Within this context quantized models compute what the int8 kernels do (`integer`).

    Every byte is that of the flatbuffers on LiteRT's reference kernels. It is for evaluation only:
    nothing has a gradient. A graph that is traced here keeps the weights and ranges of that moment.
    """
    global _exact
    before, _exact = _exact, True
    try:
        yield
    finally:
        _exact = before


def settle(product: EightBitLayer, left: EightBitLayer, right: EightBitLayer) -> None:
    """Widens the output range of a MUL, by 2^-11 at a time, until all runtimes agree.

    LiteRT and TFLite Micro divide its scales in different precisions (`fixed_point.multipliers`).
    Their results differ if a product lies on a tie.
    """
    variables = product._output_quantizer_vars
    while not fixed_point.is_portable(left.grid(), right.grid(), product.grid()):
        for end in variables.values():
            end.assign(end * (1 + 2**-11))


LayerFactory = Callable[..., keras.layers.Layer]


def in_float(layer: keras.layers.Layer, **quantization: Any) -> keras.layers.Layer:
    """Returns the layer unchanged: the factory of the float model."""
    return layer


def in_bfloat16(layer: keras.layers.Layer, **quantization: Any) -> keras.layers.Layer:
    """The factory of a float model whose linear layers multiply in bfloat16.

    CPUs with AMX do that several times as fast. Weights and sums stay float32.
    """
    if isinstance(layer, keras.layers.Dense):
        layer.call = functools.partial(_linear_in_bfloat16, layer)
    return layer


def _linear_in_bfloat16(layer: keras.layers.Dense, x: tf.Tensor) -> tf.Tensor:
    y = _product_in_bfloat16(x, layer.kernel)
    y = tf.ensure_shape(y, [*x.shape[:-1], layer.units])
    if layer.use_bias:
        y = tf.nn.bias_add(y, layer.bias)
    return y if layer.activation is None else layer.activation(y)


@tf.custom_gradient
def _product_in_bfloat16(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """[..., M] x [M, N] -> [..., N], float32."""
    rows, columns = kernel.shape
    leading = tf.shape(x)[:-1]
    left = tf.cast(tf.reshape(x, [-1, rows]), tf.bfloat16)
    right = tf.cast(kernel, tf.bfloat16)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        above = tf.cast(tf.reshape(upstream, [-1, columns]), tf.bfloat16)
        down = tf.cast(tf.matmul(above, right, transpose_b=True), tf.float32)
        weights = tf.cast(tf.matmul(left, above, transpose_a=True), tf.float32)
        return tf.reshape(down, tf.concat([leading, [rows]], 0)), weights

    y = tf.cast(tf.matmul(left, right), tf.float32)
    return tf.reshape(y, tf.concat([leading, [columns]], 0)), gradient


def in_eight_bits(
    layer: keras.layers.Layer,
    *,
    weights: tuple[str, ...] = (),
    output: tfmot.quantization.keras.quantizers.Quantizer | None = None,
    symmetric: bool = False,
    per_channel: bool = False,
    same_scale: bool = False,
) -> keras.layers.Layer:
    """Wraps the layer in its quantizers: the factory of the quantization-aware model.

    `same_scale`: the layer only picks values, so its output keeps the scale of its source.
    """
    if not same_scale:
        output = output or MovingAverageRange(symmetric)
    config = EightBit(weights, output, per_channel)
    return EightBitLayer(layer, config, name=layer.name)


def pick(layer: keras.layers.Layer, one_hot: tf.Tensor) -> tf.Tensor:
    """Picks the rows of the layer's weights that float `one_hot` [B, U, V] marks.

    The rows are on the weights' 8-bit grid already; quantizing them again tells the converter so.
    """
    if not isinstance(layer, EightBitLayer):
        return layer(one_hot)
    if _exact:
        return layer(tf.argmax(one_hot, -1, output_type=tf.int32))
    (_, quantizer, variables), *_ = layer._weight_vars
    return quantizer(layer(ONE_HOT(one_hot, False, {})), False, variables)


def pick_position(
    one_hot: tf.Tensor, table: tf.Tensor, quantized: bool, rotated: bool
) -> tf.Tensor:
    """Picks the rows of a constant table [N, D] that float `one_hot` [B, U, N] marks."""
    if quantized and not _exact:
        one_hot, table = ONE_HOT(one_hot, False, {}), positions(rotated)(table, False, {})
    return tf.matmul(one_hot, table)


def output_quantized(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """Puts `x` on the 8-bit grid of the layer's output; the float model returns it unchanged.

    It is for the decoder's caches, which hold rows that the layer wrote in earlier steps.
    """
    if not isinstance(layer, EightBitLayer) or isinstance(x, Quantized):
        return x
    if _exact:
        return integer.quantize(x, layer.grid())
    if layer._output_quantizers:
        return layer._output_quantizers[0](x, False, layer._output_quantizer_vars)
    (_, quantizer, variables), *_ = layer._weight_vars
    return quantizer(x, False, variables)
