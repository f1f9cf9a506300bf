"""Rotated streams change nothing but what 8 bits cost."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_speech_transformer.model.test_transformer import BASELINE, TINY, batch
from tf_speech_transformer.model import rotation, transformer
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.training import runs, weights


def rotated(model: SpeechTransformer, quantized: bool = False) -> SpeechTransformer:
    turned = transformer.build(dataclasses.replace(model.dims, rotated=True), quantized)
    weights.copy_weights(model, turned)
    rotation.rotate(weights.by_path(turned), bool(model.dims.decoder_convolutions))
    return turned


@pytest.mark.parametrize("channels", [16, 128])
def test_the_rotation_keeps_lengths_and_means(channels: int) -> None:
    q = rotation.matrix(channels)
    np.testing.assert_allclose(q @ q.T, np.eye(channels), atol=1e-5)
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-5)
    assert np.abs(q).max() < 0.95  # no channel stays what it was
    assert np.array_equal(q, rotation.matrix(channels))


@pytest.mark.parametrize(
    "dims",
    [TINY, dataclasses.replace(TINY, encoder_positions=True, decoder_positions=True), BASELINE],
    ids=["proposed", "positions", "baseline"],
)
def test_a_rotated_model_computes_the_same(dims: Dimensions) -> None:
    runs.set_seed(2)
    model = transformer.build(dataclasses.replace(dims, dropout=0.0), quantized=False)
    for variable in model.trained_variables:
        if variable.name.endswith("bias:0"):  # zeros would hide a bias that is not rotated
            variable.assign(tf.random.stateless_normal(variable.shape, [1, len(variable.name)]))
    turned = rotated(model)
    before, after = model(batch()), turned(batch())
    np.testing.assert_allclose(after.logits, before.logits, atol=2e-4)
    np.testing.assert_allclose(after.ctc, before.ctc, atol=2e-4)
    kernel = "encoder_0/feed_forward/outer/kernel"
    assert not np.allclose(
        weights.by_path(model)[kernel], weights.by_path(turned)[kernel], atol=0.01
    )


def test_a_channel_that_outgrew_the_others_needs_less_of_the_range() -> None:
    runs.set_seed(2)
    dims = dataclasses.replace(TINY, dropout=0.0, d_model=128, encoder_positions=True)
    model = transformer.build(dims, quantized=False)
    bias = weights.by_path(model)["encoder_0/feed_forward/outer/bias"]
    bias.assign(tf.one_hot(5, 128, 30.0))

    def widest(in_eight_bits: SpeechTransformer) -> float:
        in_eight_bits(batch(4), training=True)
        ends = weights.by_path(in_eight_bits)
        stream = [k for k in ends if "encoder_0/feed_forward_sum/output" in k]
        assert len(stream) == 2
        return max(abs(float(ends[k])) for k in stream)

    plain = transformer.build(dims, quantized=True)
    weights.copy_weights(model, plain)
    assert widest(plain) > 28
    assert widest(rotated(model, quantized=True)) < 14
