"""N-grams: probabilities, what pruning keeps, and what a device reads of them."""

import io

import numpy as np
import pytest

from firmware_sim.search import language as device
from tf_speech_transformer.text import ngrams
from tf_speech_transformer.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

TOKENIZER = CharacterTokenizer()
OWN = ["mark gives up boxing", "kate gives up coffee", "mark loves the sea", "two two five"] * 3
OTHER = ["the cat is out", "she gives him the book", "a book about boxing", "out of the sea"] * 2
HELD_OUT = ["mark gives up the sea", "kate loves boxing", "five two"]
ORDER = 4


def ids(texts: list[str], tokenizer: Tokenizer = TOKENIZER) -> list[list[int]]:
    return [tokenizer.encode(text) for text in texts]


@pytest.fixture(scope="module")
def model() -> ngrams.NGrams:
    models = [ngrams.absolute_discounting(ids(x), TOKENIZER, ORDER) for x in (OWN, OWN + OTHER)]
    weights, _ = ngrams.mixture(models, ngrams.longest(ids(HELD_OUT), TOKENIZER, ORDER))
    return ngrams.mix(models, weights)


def on_device(model: ngrams.NGrams) -> device.LanguageModel:
    file = io.BytesIO()
    np.savez_compressed(file, **ngrams.pack(model))  # type: ignore[arg-type]
    return device.load(file.getvalue(), TOKENIZER.size, TOKENIZER.start, 0.5, 1.2)


def row(model: ngrams.NGrams, text: list[int]) -> np.ndarray:
    """Probabilities of all tokens after a text."""
    context = [TOKENIZER.start, *text][-(model.order - 1) :]
    keys = np.zeros(TOKENIZER.size, np.int64)
    for token in context:
        keys = (keys + token) * TOKENIZER.size
    return model.probability(len(context), keys + np.arange(TOKENIZER.size))


@pytest.mark.parametrize("text", ["", "mark g", "mark gives up", "zzz"])
def test_probabilities_after_any_text_sum_to_one(model: ngrams.NGrams, text: str) -> None:
    for x in (model, ngrams.prune(model, 40)):
        assert row(x, TOKENIZER.encode(text) if text else []).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("entries", [10_000, 60])
def test_a_device_reads_what_was_made(model: ngrams.NGrams, entries: int) -> None:
    pruned = ngrams.prune(model, entries)
    read = on_device(pruned)
    assert read.order == ORDER
    for text in ("", "mark gives u", "kate loves the", "qqq"):
        tokens = TOKENIZER.encode(text) if text else []
        wanted = np.log(row(pruned, tokens))
        found = read.log_probabilities(tuple(tokens))
        likely = wanted > -12  # of a cost's 16 nats, some are back-offs
        assert likely.sum() > 3
        # A step is 1 / 16 nat, and each back-off adds half of one.
        np.testing.assert_allclose(found[likely], wanted[likely], atol=ORDER / 32 + 1e-6)


def test_pruning_keeps_what_says_most(model: ngrams.NGrams) -> None:
    seen = ngrams.longest(ids(OWN + OTHER), TOKENIZER, ORDER)
    nats = []
    for entries in (10_000, 100, 10):
        pruned = ngrams.prune(model, entries)
        assert sum(len(keys) for keys in pruned.keys[1:]) <= entries
        for level in range(1, ORDER):  # every n-gram hangs on a shorter one, or on the start
            parents = pruned.keys[level] // TOKENIZER.size
            known = np.isin(parents, pruned.keys[level - 1])
            assert (known | (parents == TOKENIZER.start)).all()
        nats.append(ngrams.mixture([pruned], seen)[1])
    assert nats == sorted(nats)
    assert nats[-1] < np.log(TOKENIZER.size)


def test_the_better_of_two_models_gets_the_greater_weight() -> None:
    models = [ngrams.absolute_discounting(ids(x), TOKENIZER, ORDER) for x in (OWN, OTHER)]
    weights, nats = ngrams.mixture(models, ngrams.longest(ids(HELD_OUT), TOKENIZER, ORDER))
    assert weights[0] > weights[1]
    assert weights.sum() == pytest.approx(1)
    each = [ngrams.mixture([x], ngrams.longest(ids(HELD_OUT), TOKENIZER, ORDER)) for x in models]
    assert nats < min(x for _, x in each)


def test_a_vocabulary_of_pieces_works_too() -> None:
    pieces = SentencePieceTokenizer.train(OWN + OTHER, pieces=60)
    model = ngrams.absolute_discounting(ids(OWN, pieces), pieces, 3)
    _, nats = ngrams.mixture([model], ngrams.longest(ids(OWN, pieces), pieces, 3))
    assert nats < 0.75 * np.log(pieces.size)
