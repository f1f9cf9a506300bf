"""The model computes what the paper describes, whole or a token at a time."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import TINY_MODEL
from tf_speech_transformer.model import quantization
from tf_speech_transformer.model.blocks import Attention
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.layers import ReciprocalSqrt
from tf_speech_transformer.model.transformer import SpeechTransformer, build
from tf_speech_transformer.training import runs
from tf_speech_transformer.training.weights import copy_weights

TINY = Dimensions(vocabulary=11, **TINY_MODEL)


def batch(count: int = 2, frames: int = 64, tokens: int = 5) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(3)
    return {
        "features": tf.constant(rng.uniform(0, 7, (count, frames, 40)).astype(np.float32)),
        "frames": tf.constant([frames] * count),
        "tokens": tf.constant(rng.integers(2, 10, (count, tokens)), tf.int32),
    }


BASELINE = dataclasses.replace(
    TINY, decoder_convolutions=(8, 12), d_embedding=6, decoder_positions=True
)


@pytest.fixture(
    scope="module",
    params=[(TINY, False), (TINY, True), (BASELINE, False), (BASELINE, True)],
    ids=["float", "quantized", "baseline", "quantized baseline"],
)
def model(request: pytest.FixtureRequest) -> SpeechTransformer:
    runs.set_seed(1)
    dims, quantized = request.param
    built = build(dims, quantized)
    built(batch(), training=True)  # gives the quantizers their ranges
    return built


def stepwise_logits(model: SpeechTransformer, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    """Logits of decode_step, token by token, with caches of 8 slots."""
    memory_frames, slots = inputs["features"].shape[1] // 4, 8
    memory_mask = model.memory_mask(inputs["frames"], memory_frames)
    memory, _ = model.encode(inputs["features"], memory_mask)
    count, length = inputs["tokens"].shape
    caches = [np.zeros((count, slots, TINY.d_model), np.float32) for _ in model.decoder]
    windows = [np.zeros((count, 2, x), np.float32) for x in model.dims.window_channels]
    logits = []
    for step in range(length):
        mask = np.full((count, 1, 1, slots + 1), model.mask_value, np.float32)
        mask[..., :step] = 0
        mask[..., -1] = 0
        token = inputs["tokens"][:, step : step + 1]
        past = [tf.constant(cache) for cache in caches]
        one_hot = tf.one_hot(token, TINY.vocabulary)
        out, rows, newest = model.decode_step(
            one_hot,
            tf.constant(mask),
            memory_mask,
            past,
            memory,
            [tf.constant(window) for window in windows],
            tf.one_hot([[step]], slots),
        )
        logits.append(out.numpy())
        for cache, row in zip(caches, rows, strict=True):
            cache[:, step] = row.numpy()[:, 0]
        windows = [
            np.concatenate([window[:, 1:], row.numpy()], 1)
            for window, row in zip(windows, newest, strict=True)
        ]
    return np.stack(logits, 1)


def test_decoder_step_equals_full_decoder(model: SpeechTransformer) -> None:
    inputs = batch()
    whole = model(inputs)[0].numpy()
    # In 8 bits a value on the edge between two steps may fall to either side.
    tolerance = 1e-4 if not model.quantized else 0.08 * np.ptp(whole)
    np.testing.assert_allclose(stepwise_logits(model, inputs), whole, atol=tolerance)


@pytest.mark.parametrize("length", [1, 5])
def test_absorbed_attention_equals_attention_with_keys_and_values(length: int) -> None:
    rng = np.random.default_rng(6)
    generator = tf.random.Generator.from_seed(0)
    plain, absorbed = (
        Attention(quantization.in_float, TINY, generator, absorbed=x) for x in (False, True)
    )
    x, memory = (tf.constant(rng.normal(size=(2, n, 16)), tf.float32) for n in (length, 7))
    mask = tf.constant(rng.choice([0.0, -20.0], (2, 1, length, 7)), tf.float32)
    for attention in (plain, absorbed):
        attention(x, memory, mask)  # makes the variables
    for name in ("query", "key", "value", "output_linear"):
        source = getattr(plain, name)
        source.kernel.assign(rng.normal(size=(16, 16)) / 4)
        getattr(absorbed, name).kernel.assign(source.kernel)
    for name in ("query", "output_linear"):
        getattr(plain, name).bias.assign(rng.normal(size=16))
        getattr(absorbed, name).bias.assign(getattr(plain, name).bias)
    expected = plain(x, memory, mask).numpy()
    assert np.ptp(expected) > 1
    for training in (False, True):  # two ways of computing the same
        actual = absorbed(x, memory, mask, training=training)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_later_tokens_do_not_change_earlier_logits(model: SpeechTransformer) -> None:
    inputs = batch()
    changed = inputs["tokens"].numpy()
    changed[:, -1] = 2 + (changed[:, -1] - 1) % 8
    before = model(inputs)[0].numpy()
    after = model({**inputs, "tokens": tf.constant(changed)})[0].numpy()
    np.testing.assert_allclose(after[:, :-1], before[:, :-1], atol=1e-5)
    assert np.abs(after[:, -1] - before[:, -1]).max() > 1e-3


def test_what_pads_a_text_changes_nothing(model: SpeechTransformer) -> None:
    inputs = {**batch(), "token_lengths": tf.constant([5, 3])}
    changed = inputs["tokens"].numpy()
    changed[1, 3:] = 2 + (changed[1, 3:] - 1) % 8
    before = model(inputs)[0].numpy()
    after = model({**inputs, "tokens": tf.constant(changed)})[0].numpy()
    np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_allclose(after[1, 3:], after[1, [2, 2]], atol=1e-5)
    whole = model(batch())[0].numpy()
    # In 8 bits a value on the edge between two steps may fall to either side.
    tolerance = 1e-5 if not model.quantized else 0.08 * np.ptp(whole)
    np.testing.assert_allclose(after[1, :3], whole[1, :3], atol=tolerance)


def test_a_variance_of_zero_does_not_widen_the_range_of_its_reciprocal_root() -> None:
    layer = ReciprocalSqrt()
    variance = tf.constant([0.0, 2.0, 255.0])
    np.testing.assert_allclose(layer(variance, training=True), [1, 2**-0.5, 255**-0.5], rtol=1e-5)
    assert np.isinf(layer(variance).numpy()[0])


def test_padding_does_not_change_the_logits() -> None:
    model = build(TINY, quantized=False)
    inputs = batch(frames=64)
    padded = tf.pad(inputs["features"], [[0, 0], [0, 64], [0, 0]])
    short = model(inputs)[0].numpy()
    long = model({**inputs, "features": padded})[0].numpy()
    np.testing.assert_allclose(long, short, atol=0.05 * np.ptp(short))


def test_other_utterances_of_the_batch_do_not_change_the_memory(model: SpeechTransformer) -> None:
    inputs = batch(count=3)
    mask = model.memory_mask(tf.constant([64, 40, 52]), 16)
    together, together_ctc = model.encode(inputs["features"], mask)
    alone, alone_ctc = model.encode(inputs["features"][1:2], mask[1:2])
    # In 8 bits a value on the edge between two steps may fall to either side.
    tolerance = 1e-4 if not model.quantized else 0.08
    for a, b in ((together, alone), (together_ctc, alone_ctc)):
        np.testing.assert_allclose(a[1:2], b, atol=tolerance * np.ptp(b.numpy()))


def test_masked_memory_is_not_attended_to() -> None:
    """Whatever stands beyond the speech in the memory, the decoder says the same."""
    model = build(TINY, quantized=False)
    inputs = batch(count=1)
    mask = model.memory_mask(tf.constant([40]), 16)
    memory, _ = model.encode(inputs["features"], mask)
    noise = tf.concat([memory[:, :10], 3.0 - memory[:, 10:]], 1)
    one, other = (model.decode(inputs["tokens"], x, mask) for x in (memory, noise))
    np.testing.assert_allclose(one, other, atol=1e-5)
    unmasked = model.decode(inputs["tokens"], noise, tf.zeros_like(mask))
    assert np.abs(unmasked - other).max() > 1e-3


def test_positions_cost_no_weights() -> None:
    counts = {
        sum(int(tf.size(v)) for v in build(dims, quantized=False).trained_variables)
        for dims in (TINY, Dimensions(**{**TINY.__dict__, "encoder_positions": False}))
    }
    assert len(counts) == 1


def test_positions_tell_the_order_of_distant_sounds() -> None:
    """Two sounds apart by more than the receptive field: exchanged, only positions can tell."""
    rng = np.random.default_rng(0)
    sounds = rng.uniform(0, 7, (2, 16, 40)).astype(np.float32)
    gap = np.zeros((48, 40), np.float32)
    one = np.concatenate([gap, sounds[0], gap, sounds[1], gap])[None]
    other = np.concatenate([gap, sounds[1], gap, sounds[0], gap])[None]
    difference = {}
    for positions in (False, True):
        runs.set_seed(1)
        model = build(
            Dimensions(**{**TINY.__dict__, "encoder_positions": positions}), quantized=False
        )
        inputs = {"frames": tf.constant([176]), "tokens": tf.constant([[0, 3]])}
        a, b = (model({**inputs, "features": tf.constant(x)})[0].numpy() for x in (one, other))
        difference[positions] = np.abs(a - b).max()
    assert difference[True] > 100 * difference[False]


def test_quantized_model_takes_over_all_float_weights() -> None:
    source, target = build(TINY, quantized=False), build(TINY, quantized=True)
    copy_weights(source, target)
    assert len(source.trained_variables) == len(target.trained_variables)
    for a, b in zip(
        sorted(source.trained_variables, key=lambda v: v.name.split("/", 1)[1]),
        sorted(target.trained_variables, key=lambda v: v.name.split("/", 1)[1]),
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_weights_of_a_deeper_model_are_refused() -> None:
    deeper = Dimensions(**{**TINY.__dict__, "encoder_layers": 2})
    with pytest.raises(ValueError, match="no place for"):
        copy_weights(build(deeper, quantized=False), build(TINY, quantized=True))


def test_symmetric_ranges_have_their_zero_point_at_zero() -> None:
    quantizer = quantization.MovingAverageRange(symmetric=True)
    layer = tf.keras.layers.Layer()
    variables = quantizer.build((), "output", layer)
    x = tf.constant([-3.0, 0.0, 5.0])
    quantizer(x, True, variables)
    scale = (float(variables["max"]) - float(variables["min"])) / 255
    assert float(variables["min"]) / scale == pytest.approx(-128, abs=1e-3)
    np.testing.assert_allclose(quantizer(x, False, variables)[1], 0.0, atol=1e-7)


def test_ranges_move_with_the_decay_of_the_paper() -> None:
    quantizer = quantization.MovingAverageRange()
    variables = quantizer.build((), "output", tf.keras.layers.Layer())
    quantizer(tf.constant([-1.0, 2.0]), True, variables)
    quantizer(tf.constant([-1.0, 4.0]), True, variables)
    assert float(variables["max"]) == pytest.approx(0.9 * 2 + 0.1 * 4)
    quantizer(tf.constant([-1.0, 9.0]), False, variables)
    assert float(variables["max"]) == pytest.approx(0.9 * 2 + 0.1 * 4)
