"""The float step of training: the same function with fewer and faster operations."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_speech_transformer.model import quantization
from tf_speech_transformer.model.layers import LayerNorm


def test_layer_norm_in_training_is_that_of_its_layers_gradient_included() -> None:
    layer = LayerNorm(quantization.in_float, epsilon=0.05, name="norm")
    x = tf.constant(np.random.default_rng(1).standard_normal([2, 5, 24]).astype(np.float32))
    weights = tf.constant(np.random.default_rng(2).standard_normal([2, 5, 24]).astype(np.float32))
    results = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y * weights)
        results.append((y.numpy(), tape.gradient(loss, x).numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=2e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_products_in_bfloat16_are_near_those_in_float32_gradient_included(bias: bool) -> None:
    rng = np.random.default_rng(1)
    x = tf.constant(rng.standard_normal([2, 5, 24]).astype(np.float32))
    layers = [
        make(keras.layers.Dense(16, activation="relu", use_bias=bias))
        for make in (quantization.in_float, quantization.in_bfloat16)
    ]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y)
        found = tape.gradient(loss, [x, layer.kernel])
        results.append([y, *found])
    for one, other in zip(*results, strict=True):
        # bfloat16 has 8 bits of mantissa; a unit near 0 may be on either side of the ReLU.
        difference = np.abs(one.numpy() - other.numpy())
        assert np.median(difference) < 0.02 * np.abs(one.numpy()).max()
