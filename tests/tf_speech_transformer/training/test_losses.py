"""Losses of a model that hears phones: what counts where, and when its decoder runs."""

from typing import Any

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from firmware_sim.grammar.phones import PHONES
from tests.conftest import TINY_MODEL
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tf_speech_transformer.training import losses, runs

TOKENIZER = CharacterTokenizer()
Batch = dict[str, tf.Tensor]


def preset(ctc_weight: float) -> ml_collections.ConfigDict:
    train = {"ctc_weight": ctc_weight, "phone_weight": 0.75, "label_smoothing": 0.1}
    return ml_collections.ConfigDict({"train": train})


@pytest.fixture(scope="module")
def model() -> SpeechTransformer:
    runs.set_seed(3)
    dims = Dimensions(vocabulary=TOKENIZER.size, **TINY_MODEL, phones=True)
    return transformer.build(dims, quantized=False)


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two words, and one that does not exist and so has no letters."""
    rng = np.random.default_rng(1)
    return {
        "features": tf.constant(rng.normal(size=(3, 64, 40)), tf.float32),
        "frames": tf.constant([64, 40, 52]),
        "tokens": tf.constant(rng.integers(4, 20, size=(3, 5)), tf.int32),
        "token_lengths": tf.constant([5, 3, 0]),
        "phones": tf.constant(rng.integers(0, len(PHONES), size=(3, 4)), tf.int32),
        "phone_lengths": tf.constant([4, 2, 3]),
    }


def rows(batch: Batch, first: int, last: int) -> Batch:
    return {name: values[first:last] for name, values in batch.items()}


def found(
    model: SpeechTransformer, batch: Batch, ctc_weight: float, **arguments: object
) -> dict[str, float]:
    result = losses.losses(
        preset(ctc_weight),
        model,
        TOKENIZER,
        batch,
        training=False,
        **arguments,  # type: ignore[arg-type]
    )
    return {name: float(value) for name, value in result.items()}


def test_the_loss_is_made_of_attention_letters_and_phones(
    model: SpeechTransformer, batch: Batch
) -> None:
    loss = found(model, batch, 0.4)
    heads = 0.75 * loss["phones"] + 0.25 * loss["ctc"]
    assert loss["loss"] == pytest.approx(0.6 * loss["attention"] + 0.4 * heads)


def moves(model: SpeechTransformer, changes: list[tf.Tensor | None]) -> dict[Any, float]:
    """The size of the gradient of each variable that has one."""
    pairs = zip(model.trained_variables, changes, strict=True)
    return {v.ref(): float(tf.reduce_sum(tf.abs(x))) for v, x in pairs if x is not None}


def test_a_decoder_that_waits_is_not_trained(model: SpeechTransformer, batch: Batch) -> None:
    changes, metrics = losses.gradients(preset(1.0), model, TOKENIZER, batch)
    assert set(metrics) == {"loss", "ctc", "phones"}
    moved = moves(model, changes)
    for layer in (model.phones, model.ctc, model.encoder[0]):
        assert any(moved.get(variable.ref()) for variable in layer.trainable_variables)
    for layer in (model.logits, model.decoder[0], model.embedding):
        assert not any(moved.get(variable.ref()) for variable in layer.trainable_variables)


def test_a_decoder_that_waits_has_ranges_in_8_bits(batch: Batch) -> None:
    runs.set_seed(5)
    dims = Dimensions(vocabulary=TOKENIZER.size, **TINY_MODEL, phones=True)
    quantized = transformer.build(dims, quantized=True)
    losses.losses(preset(1.0), quantized, TOKENIZER, batch, training=True)
    inside = [v for v in quantized.decoder[0].variables if v.name.endswith("output_max:0")]
    assert len(inside) > 5 and len({float(v) for v in inside}) > 5


def test_phones_are_learned_by_layers_between_in_float_training_only(
    model: SpeechTransformer, batch: Batch
) -> None:
    config = preset(1.0)
    config.train.update({"early_layers": (0,), "early_weight": 1.0, "phone_weight": 1.0})
    changes, metrics = losses.gradients(config, model, TOKENIZER, batch)
    assert float(metrics["loss"]) == pytest.approx(float(metrics["early"]))
    assert float(metrics["early"]) != pytest.approx(float(metrics["phones"]), rel=1e-3)
    moved = moves(model, changes)
    assert "ctc" not in metrics and not any(x.ref() in moved for x in model.ctc.weights)
    assert any(moved.get(x.ref()) for x in model.front_end_linear.trainable_variables)
    assert not any(moved.get(x.ref()) for x in model.encoder[0].trainable_variables)
    assert "early" not in losses.losses(config, model, TOKENIZER, batch, training=False)


def test_a_word_without_letters_counts_only_in_its_phones(
    model: SpeechTransformer, batch: Batch
) -> None:
    everyone, spelled = found(model, batch, 0.4), found(model, rows(batch, 0, 2), 0.4)
    for name in ("attention", "ctc", "accuracy"):
        assert everyone[name] == pytest.approx(spelled[name], rel=1e-5)
    assert everyone["phones"] != pytest.approx(spelled["phones"], rel=1e-3)


def test_parts_of_a_batch_add_up_to_it(model: SpeechTransformer, batch: Batch) -> None:
    whole, total = found(model, batch, 0.4), losses.counts(batch)
    parts = [found(model, rows(batch, i, i + 1), 0.4, total=total) for i in range(3)]
    for name, value in whole.items():
        assert sum(part[name] for part in parts) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("ctc_weight", [1.0, 0.4])
def test_a_model_is_its_own_best_pupil(
    model: SpeechTransformer, batch: Batch, ctc_weight: float
) -> None:
    runs.set_seed(4)
    other = transformer.build(model.dims, quantized=False)
    same = found(model, batch, ctc_weight, teacher=model)
    assert same["loss"] == pytest.approx(0, abs=1e-6)
    taught = found(other, batch, ctc_weight, teacher=model)
    assert taught["phones"] > 0.01 and taught["ctc"] > 0.01
