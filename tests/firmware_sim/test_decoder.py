import dataclasses
import itertools
import pathlib

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, recognizer
from firmware_sim.runtimes import runtime
from firmware_sim.search import ctc
from firmware_sim.search.beam import Decoder, Hypothesis
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import add_grammar, digit_grammar


@pytest.fixture(scope="module")
def encoded(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> tuple[runtime.Tensors, int]:
    features = recognizer.compute_features(loaded, speech)
    outputs = runtime.load("litert", loaded.encoder).invoke(
        recognizer.encoder_inputs(loaded, features)
    )
    return outputs, len(features)


def _decode(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int], **options: float | str
) -> Hypothesis:
    """Greedy, and by attention only, unless `options` say otherwise."""
    step = runtime.load("litert", loaded.decoder_step)
    chosen = DecodingOptions(**{"decoding": "greedy", "ctc_weight": 0.0, **options})  # type: ignore[arg-type]
    return Decoder(loaded, step, chosen).decode(*encoded)


@pytest.fixture(scope="module")
def held(digits_bundle: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    """The same bundle for two commands: "one two four" and "nine nine"."""
    directory = tmp_path_factory.mktemp("held")
    expressions = """
code: ["one two four"]
stop: ["nine nine"]
"""
    content = digit_grammar(directory / "grammar.yaml", expressions, reject_below=0.0)
    return bundle.load(add_grammar(digits_bundle, directory / "digits", content))


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
        score += float(ctc.log_softmax(logits.dequantize(outputs["logits"][0]))[token])
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


def test_ctc_has_a_say_in_a_beam_unless_told_otherwise(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    score = {w: _decode(loaded, encoded, decoding="beam", ctc_weight=w).score for w in (None, 0.3)}
    assert score[None] == score[0.3]
    assert score[None] != _decode(loaded, encoded, decoding="beam", ctc_weight=0.0).score


def ctc_score(log_probabilities: NDArray[np.float32], tokens: tuple[int, ...], blank: int) -> float:
    """Of a whole text, token after token."""
    prefixes = ctc.CtcPrefixes(log_probabilities, blank)
    prefix = prefixes.empty()
    for token in tokens:
        prefix = prefixes.grow(prefix, np.array([token]))[token]
    return prefix.ended().score


def test_ctc_weight_enters_the_score(
    loaded: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    attention = _decode(loaded, encoded)
    mixed = _decode(loaded, encoded, ctc_weight=0.5)
    spec = loaded.encoder.output("ctc_logits")
    frames = loaded.limits.memory_positions(encoded[1])
    log_probabilities = ctc.log_softmax(spec.dequantize(encoded[0]["ctc_logits"][0, :frames]))
    expected = ctc_score(log_probabilities, attention.tokens, loaded.tokenizer.blank)
    assert mixed.tokens == attention.tokens
    assert mixed.score == pytest.approx(0.5 * attention.score + 0.5 * expected)


@pytest.mark.parametrize("options", [{}, {"decoding": "beam"}, {"decoding": "beam", "beam": 1}])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.1])
def test_a_held_text_is_a_command(
    held: bundle.Bundle,
    encoded: tuple[runtime.Tensors, int],
    options: dict[str, float | str],
    ctc_weight: float,
) -> None:
    found = _decode(held, encoded, ctc_weight=ctc_weight, **options)
    assert held.grammar is not None
    assert found.ended
    assert held.grammar.parse(found.tokens)


def test_the_nearest_command_is_found(
    held: bundle.Bundle, encoded: tuple[runtime.Tensors, int]
) -> None:
    """What is said is "one two three"."""
    found = _decode(held, encoded, decoding="beam", ctc_weight=0.1)
    assert held.tokenizer.text(found.tokens) == "one two four"
    for tokens, score in found.others:
        assert tokens != found.tokens
        assert score <= found.score


def test_commands_need_ctc(held: bundle.Bundle) -> None:
    outputs = tuple(spec for spec in held.encoder.outputs if spec.name != "ctc_logits")
    without = dataclasses.replace(held, encoder=dataclasses.replace(held.encoder, outputs=outputs))
    step = runtime.load("litert", held.decoder_step)
    with pytest.raises(bundle.BundleError, match=r"'ctc_logits', which .* commands need"):
        Decoder(without, step, DecodingOptions(Decoding.GREEDY, ctc_weight=0.0))
    Decoder(without, step, DecodingOptions(grammar=False))


@pytest.mark.parametrize("decoding", list(Decoding))
def test_without_the_grammar_decoding_is_as_of_a_bundle_without_one(
    loaded: bundle.Bundle,
    held: bundle.Bundle,
    encoded: tuple[runtime.Tensors, int],
    decoding: Decoding,
) -> None:
    free = _decode(held, encoded, decoding=decoding, grammar=False)
    other = _decode(loaded, encoded, decoding=decoding)
    assert (free.tokens, free.score) == (other.tokens, other.score)
    assert held.tokenizer.text(free.tokens) == "one two three"


@pytest.mark.parametrize("tokens", [(), (0,), (0, 1), (1, 1), (0, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_the_alignment_is_the_best_of_all(tokens: tuple[int, ...], frames: int) -> None:
    blank = 2
    logits = np.random.default_rng(frames).normal(size=(frames, 3)).astype(np.float32)
    log_probabilities = ctc.log_softmax(logits)
    paths = [
        path
        for path in itertools.product(range(3), repeat=frames)
        if ctc.merge_repeats(np.array(path), blank) == tokens
    ]
    spans = ctc.ctc_align(log_probabilities, tokens, blank)
    if not paths:
        assert spans is None
        return
    assert spans is not None
    assert spans.shape == (len(tokens), 2)
    found = np.full(frames, blank)
    for token, (first, last) in zip(tokens, spans, strict=True):
        assert first < last
        found[first:last] = token
    assert ctc.merge_repeats(found, blank) == tokens
    best = max(log_probabilities[range(frames), path].sum() for path in paths)
    assert log_probabilities[range(frames), found].sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("decoding", [{}, {"decoding": "beam", "ctc_weight": None}])
def test_scores_fall_where_a_text_was_not_said(
    held: bundle.Bundle, encoded: tuple[runtime.Tensors, int], decoding: dict[str, str | None]
) -> None:
    right = _decode(held, encoded, grammar=False, **decoding)
    wrong = _decode(held, encoded, **decoding)
    assert len(right.scores) == len(right.tokens) + 1
    assert right.scores[-1] == pytest.approx(right.score)
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(right.scores))
    said = len("one two ") - 1
    assert wrong.scores[said] == pytest.approx(right.scores[said], abs=0.1)
    assert wrong.scores[-1] < right.scores[-1] - 1


@pytest.mark.parametrize("tokens", [(), (0,), (0, 1), (1, 1), (0, 0, 1)])
def test_ctc_score_sums_over_all_alignments(tokens: tuple[int, ...]) -> None:
    blank, frames = 2, 4
    logits = np.random.default_rng(3).normal(size=(frames, 3)).astype(np.float32)
    log_probabilities = ctc.log_softmax(logits)
    total = -np.inf
    for path in itertools.product(range(3), repeat=frames):
        merged = tuple(t for t, _ in itertools.groupby(path) if t != blank)
        if merged == tokens:
            total = np.logaddexp(total, log_probabilities[range(frames), path].sum())
    assert ctc_score(log_probabilities, tokens, blank) == pytest.approx(total, rel=1e-5)


def test_a_text_longer_than_the_audio_is_very_unlikely() -> None:
    log_probabilities = np.log(np.full((2, 3), 1 / 3, np.float32))
    assert ctc_score(log_probabilities, (0, 0), 2) == -1e4


def test_ctc_greedy_merges_repeats_and_drops_blanks() -> None:
    path = [2, 0, 0, 2, 0, 1, 1, 2]
    log_probabilities = np.log(np.eye(3, dtype=np.float32)[path] * 0.7 + 0.1)
    tokens, score = ctc.ctc_greedy(log_probabilities, blank=2)
    assert tokens == (0, 0, 1)
    assert score == pytest.approx(8 * np.log(0.8), rel=1e-5)
    assert ctc.ctc_greedy(log_probabilities[:0], blank=2) == ((), 0.0)


@pytest.mark.parametrize(
    "options", [{"beam": 0}, {"length_penalty": -1.0}, {"ctc_weight": 1.5}, {"decoding": "best"}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|not a valid"):
        DecodingOptions(**options)  # type: ignore[arg-type]
