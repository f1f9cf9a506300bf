"""Every operation of the quantization-aware model is on 8 bits, with the ranges that TFLite has."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from firmware_sim.runtimes import fixed_point
from tests.tf_speech_transformer.model.test_transformer import TINY
from tf_speech_transformer.model import quantization
from tf_speech_transformer.model.layers import Dropout, HeadLinear, bounded
from tf_speech_transformer.model.transformer import SpeechTransformer, build
from tf_speech_transformer.training import weights
from tf_speech_transformer.training.weights import copy_weights
from tflite_convert.layers import walk

Wrapper = tfmot.quantization.keras.QuantizeWrapperV2


@pytest.fixture(scope="module")
def in_float() -> SpeechTransformer:
    return build(TINY, quantized=False)


@pytest.fixture(scope="module")
def in_eight_bits() -> SpeechTransformer:
    return build(TINY, quantized=True)


def test_every_arithmetic_layer_has_its_quantizers(in_eight_bits: SpeechTransformer) -> None:
    layers = dict(walk(in_eight_bits))
    bare = {path for path, layer in layers.items() if not isinstance(layer, Wrapper)}
    assert all(isinstance(layers[path], Dropout) for path in bare), bare
    wrapped = {path: layer for path, layer in layers.items() if path not in bare}
    assert len(wrapped) > 50
    unranged = {p for p, x in wrapped.items() if not x.quantize_config.get_output_quantizers(x)}
    assert unranged == {"embedding"}  # it only picks rows: the scale of its weights
    keras = tf.keras.layers
    for path, layer in wrapped.items():
        if isinstance(layer.layer, (keras.Dense, keras.Conv2D, keras.Embedding, HeadLinear)):
            assert len(layer._weight_vars) == 1, path


def test_pooling_moves_values_and_has_no_quantizer() -> None:
    model = build(dataclasses.replace(TINY, strided=False), quantized=True)
    bare = {type(x).__name__ for _, x in walk(model) if not isinstance(x, Wrapper)}
    assert bare == {"Dropout", "MaxPooling2D"}


def test_what_stands_in_the_place_of_weights_is_symmetric(
    in_eight_bits: SpeechTransformer,
) -> None:
    attentions = [block.attention for block in in_eight_bits.encoder]
    layers = [layer for x in attentions for layer in (x.key, x.value)]
    layers += [block.attention_norm.normalise for block in in_eight_bits.decoder]
    layers.append(in_eight_bits.encoder_norm.normalise)
    for layer in layers:
        (quantizer,) = layer.quantize_config.get_output_quantizers(layer)
        assert quantizer.symmetric


@pytest.mark.parametrize(
    ("quantizer", "scale", "low"),
    [
        (quantization.PROBABILITIES, 1 / 256, 0.0),
        (quantization.FEATURES, 1 / 32, 0.0),
        (quantization.positions(rotated=False), 1 / 128, -1.0),
        (quantization.MASK, 1 / 16, quantization.MASK_VALUE),
        (quantization.SCORES, 3 / 64, -quantization.SCORE_LIMIT),
        (quantization.MASKED_SCORES, 5 / 64, -179 * 5 / 64),
    ],
    ids=["probabilities", "features", "positions", "mask", "scores", "masked scores"],
)
def test_fixed_ranges_have_their_scale_and_end_points(
    quantizer: quantization.FixedRange, scale: float, low: float
) -> None:
    grid = low + scale * np.arange(256, dtype=np.float32)
    halfway = tf.constant(grid + 0.4 * scale)
    np.testing.assert_allclose(quantizer(halfway, False, {}), grid, atol=scale / 100)
    ends = quantizer(tf.constant([low - 5, grid[-1] + 5]), False, {})
    np.testing.assert_allclose(ends, [low, grid[-1]], atol=scale / 100)


def test_a_masked_score_lies_below_all_others() -> None:
    highest = quantization.SCORES(tf.constant(100.0), False, {})
    masked = quantization.MASKED_SCORES(highest + quantization.MASK_VALUE, False, {})
    lowest = quantization.SCORES(tf.constant(-100.0), False, {})
    assert float(masked) <= float(lowest) - 3.9


def test_bounded_scores_pass_gradients_that_lead_back() -> None:
    limit = quantization.SCORE_LIMIT
    scores = tf.constant([-2 * limit, -2 * limit, 0.5, 2 * limit, 2 * limit])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        out = bounded(scores)
        loss = tf.reduce_sum(out * tf.constant([1.0, -1.0, 1.0, 1.0, -1.0]))
    np.testing.assert_array_equal(out, [-limit, -limit, 0.5, limit, limit])
    np.testing.assert_array_equal(tape.gradient(loss, scores), [0, -1, 1, 1, 0])


def test_a_layer_in_float_is_left_as_it_is() -> None:
    layer = tf.keras.layers.Dense(3)
    assert quantization.in_float(layer, weights=("kernel",)) is layer
    x = tf.constant([0.123456])
    assert quantization.output_quantized(layer, x) is x


def test_every_weight_of_a_deep_float_model_arrives() -> None:
    deep = dataclasses.replace(TINY, encoder_layers=2, decoder_layers=2)
    source, target = build(deep, quantized=False), build(deep, quantized=True)
    copy_weights(source, target)
    plain, wrapped = dict(walk(source)), dict(walk(target))
    compared = 0
    for path, layer in wrapped.items():
        if not isinstance(layer, Wrapper):
            continue
        names, weights = layer.quantize_config.weights, layer._weight_vars
        for name, (arrived, _, _) in zip(names, weights, strict=True):
            expected = getattr(plain[path], name).numpy()
            np.testing.assert_array_equal(arrived.numpy(), expected, err_msg=f"{path}.{name}")
            compared += 1
    assert compared > 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_layers": 2}, "no place for"),
        ({"d_ff": 24}, "other shapes of"),
        ({"vocabulary": 12}, "other shapes of"),
    ],
    ids=["deeper", "wider", "more tokens"],
)
def test_weights_of_other_dimensions_are_refused_and_nothing_changes(
    change: dict[str, Any], message: str, in_eight_bits: SpeechTransformer
) -> None:
    before = [v.numpy() for v in in_eight_bits.variables]
    other = build(dataclasses.replace(TINY, **change), quantized=False)
    with pytest.raises(ValueError, match=f"{message} .*differ in their dimensions"):
        copy_weights(other, in_eight_bits)
    for variable, value in zip(in_eight_bits.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=weights.path(variable))


def test_weights_of_a_shallower_model_are_refused(in_float: SpeechTransformer) -> None:
    deeper = build(dataclasses.replace(TINY, decoder_layers=2), quantized=True)
    with pytest.raises(ValueError, match=r"no values for .*decoder_1"):
        copy_weights(in_float, deeper)


def test_products_are_settled_to_what_all_runtimes_compute_alike() -> None:
    norm = build(TINY, quantized=True).decoder_norm
    # Scales and zero points of a trained model, of which 10 of 65,536 products were ties.
    found = {
        norm.centre: ("0x1.02cp-2", -19),
        norm.square: ("0x1.0p-2", -128),
        norm.reciprocal: ("0x1.a7cp-10", -128),
        norm.normalise: ("0x1.5ep-5", -28),
    }
    for layer, (scale, zero_point) in found.items():
        step, variables = float.fromhex(scale), layer._output_quantizer_vars
        variables["min"].assign((-128 - zero_point) * step)
        variables["max"].assign((127 - zero_point) * step)

    def grids() -> list[fixed_point.Grid]:
        return [layer.grid() for layer in (norm.centre, norm.reciprocal, norm.normalise)]

    before = grids()
    assert not fixed_point.is_portable(*before)
    norm.settle()
    assert fixed_point.is_portable(*grids())
    assert grids()[:2] == before[:2]
    assert 1 < grids()[2].scale / before[2].scale < 1.01
