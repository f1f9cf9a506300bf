import itertools
import pathlib

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, decoder, recognizer, runtime
from firmware_sim.decoder import Decoder, Decoding, DecodingOptions


@pytest.fixture(scope="module")
def loaded(digits_bundle: pathlib.Path) -> bundle.Bundle:
    return bundle.load(digits_bundle)


@pytest.fixture(scope="module")
def encoded(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> tuple[runtime.Tensors, int]:
    features = recognizer.compute_features(loaded, speech)
    outputs = runtime.load("litert", loaded.encoder).invoke(
        recognizer.encoder_inputs(loaded, features)
    )
    return outputs, len(features)


def _decode(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int], **options: float | str
) -> decoder.Hypothesis:
    step = runtime.load("litert", loaded.decoder_step)
    return Decoder(loaded, step, DecodingOptions(**options)).decode(*encoded)  # type: ignore[arg-type]


def test_a_beam_of_one_is_greedy(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    greedy = _decode(loaded, encoded)
    beam = _decode(loaded, encoded, decoding="beam", beam=1)
    assert beam.tokens == greedy.tokens
    assert beam.score == pytest.approx(greedy.score)


def test_a_wider_beam_finds_no_worse_text(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    greedy = _decode(loaded, encoded)
    beam = _decode(loaded, encoded, decoding="beam", beam=4)
    assert not greedy.ended or beam.score >= greedy.score - 1e-4


def test_caches_of_hypotheses_are_their_own(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    """The score that the beam gives its best text is the text's own, decoded alone."""
    best = _decode(loaded, encoded, decoding="beam", beam=3)
    step = runtime.load("litert", loaded.decoder_step)
    alone = Decoder(loaded, step, DecodingOptions())
    state = alone.start(*encoded)
    score = 0.0
    logits = loaded.decoder_step.output("logits")
    for position, token in enumerate([*best.tokens, loaded.tokenizer.end]):
        if position == loaded.limits.tokens:
            break
        outputs = step.invoke(state.inputs)
        score += float(decoder.log_softmax(logits.dequantize(outputs["logits"][0]))[token])
        alone.advance(state, outputs, position, token)
    assert best.score == pytest.approx(score, abs=1e-4)


def test_a_step_opens_its_slot_of_the_caches(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    step = runtime.load("litert", loaded.decoder_step)
    alone = Decoder(loaded, step, DecodingOptions())
    state = alone.start(*encoded)
    mask, cache = (loaded.decoder_step.input(name) for name in ("self_mask", "cache_0"))
    limit = loaded.limits.tokens
    assert (cache.dequantize(state.inputs["cache_0"]) == 0).all()
    for position in range(3):
        real = mask.dequantize(state.inputs["self_mask"][0])
        assert np.flatnonzero(real == 0).tolist() == [*range(position), limit]
        outputs = step.invoke(state.inputs)
        alone.advance(state, outputs, position, token=2)
        stored = state.inputs["cache_0"][0, position]
        np.testing.assert_array_equal(stored, outputs["row_0"][0, 0])
    token = loaded.decoder_step.input("token").dequantize(state.inputs["token"])
    assert np.flatnonzero(token == 1).tolist() == [2]
    assert token.sum() == 1


def test_blank_and_start_are_never_decoded(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    for decoding in Decoding:
        tokens = set(_decode(loaded, encoded, decoding=decoding, beam=2).tokens)
        assert not tokens & {loaded.tokenizer.blank, loaded.tokenizer.start, loaded.tokenizer.end}


def test_ctc_runs_no_decoder_step(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    assert _decode(loaded, encoded, decoding="ctc").step_seconds == ()


def test_ctc_weight_enters_the_score(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    attention = _decode(loaded, encoded)
    mixed = _decode(loaded, encoded, ctc_weight=0.5)
    spec = loaded.encoder.output("ctc_logits")
    frames = loaded.limits.memory_positions(encoded[1])
    ctc = decoder.log_softmax(spec.dequantize(encoded[0]["ctc_logits"][0, :frames]))
    expected = decoder.ctc_score(ctc, attention.tokens, loaded.tokenizer.blank)
    assert mixed.score == pytest.approx(0.5 * attention.score + 0.5 * expected)


@pytest.mark.parametrize("tokens", [(), (0,), (0, 1), (1, 1), (0, 0, 1)])
def test_ctc_score_sums_over_all_alignments(tokens: tuple[int, ...]) -> None:
    blank, frames = 2, 4
    logits = np.random.default_rng(3).normal(size=(frames, 3)).astype(np.float32)
    log_probabilities = decoder.log_softmax(logits)
    total = -np.inf
    for path in itertools.product(range(3), repeat=frames):
        merged = tuple(t for t, _ in itertools.groupby(path) if t != blank)
        if merged == tokens:
            total = np.logaddexp(total, log_probabilities[range(frames), path].sum())
    assert decoder.ctc_score(log_probabilities, tokens, blank) == pytest.approx(total, rel=1e-5)


def test_a_text_longer_than_the_audio_is_impossible() -> None:
    log_probabilities = np.log(np.full((2, 3), 1 / 3, np.float32))
    assert decoder.ctc_score(log_probabilities, (0, 0), 2) == -np.inf
    assert decoder.ctc_score(log_probabilities[:0], (0,), 2) == -np.inf


def test_ctc_greedy_merges_repeats_and_drops_blanks() -> None:
    path = [2, 0, 0, 2, 0, 1, 1, 2]
    log_probabilities = np.log(np.eye(3, dtype=np.float32)[path] * 0.7 + 0.1)
    tokens, score = decoder.ctc_greedy(log_probabilities, blank=2)
    assert tokens == (0, 0, 1)
    assert score == pytest.approx(8 * np.log(0.8), rel=1e-5)
    assert decoder.ctc_greedy(log_probabilities[:0], blank=2) == ((), 0.0)


@pytest.mark.parametrize(
    "options", [{"beam": 0}, {"length_penalty": -1.0}, {"ctc_weight": 1.5}, {"decoding": "best"}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|not a valid"):
        DecodingOptions(**options)  # type: ignore[arg-type]
