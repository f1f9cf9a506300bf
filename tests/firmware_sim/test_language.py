"""The language model of a bundle: what it says, what it does to a search, and what is refused."""

import dataclasses
import io
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle, recognizer
from firmware_sim.search import language
from firmware_sim.search.options import DecodingOptions
from tests.conftest import add_file, run_module, synthesise

START, END = 0, 1
LETTERS = {chr(ord("a") + i): 3 + i for i in range(26)}


def arrays() -> dict[str, NDArray[Any]]:
    """Of a vocabulary of 5: after a start mostly 2, after 2 mostly 3, after 2 3 always 4."""
    return {
        "cost_0": np.array([255, 32, 32, 32, 32], np.uint8),
        "backoff_0": np.array([16, 0, 8, 0, 0], np.int8),
        "children_0": np.array([1, 0, 1, 0, 0], np.uint8),
        "token_1": np.array([2, 3], np.uint8),
        "cost_1": np.array([2, 4], np.uint8),
        "backoff_1": np.array([0, 24], np.int8),
        "children_1": np.array([0, 1], np.uint8),
        "token_2": np.array([4], np.uint8),
        "cost_2": np.array([1], np.uint8),
    }


def pack(content: dict[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def test_costs_are_of_the_longest_ngram_known_and_else_of_shorter_ones() -> None:
    model = language.load(pack(arrays()), 5, START, 0.5, 1.0)
    assert (model.order, model.entries) == (3, 8)
    steps = {
        (): [271, 48, 2, 48, 48],  # after only the start: 16 more for what never follows it
        (2,): [263, 40, 40, 4, 40],  # nothing longer is known of start and 2
        (2, 3): [279, 56, 56, 56, 1],  # others: 24 more than after 3, of which nothing is known
        (4, 4): [255, 32, 32, 32, 32],
    }
    for tokens, costs in steps.items():
        np.testing.assert_allclose(-16 * model.log_probabilities(tokens), costs)


def change(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update({name: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: x.clear(), "no level"),
        (lambda x: x.pop("token_1"), "token_1 is missing"),
        (change("cost_0", np.zeros(4, np.uint8)), "level 0 has"),
        (change("children_0", np.array([1, 0, 2, 0, 0], np.uint8)), "level 1 has"),
        (change("token_1", np.array([2, 9], np.uint8)), "tokens that do not exist"),
        (change("cost_1", np.zeros(2, np.float32)), "values of type float32"),
        (change("children_0", np.array([2, 0, 0, 0, 0], np.int8)), "values of type int8"),
        (change("cost_2", np.zeros((1, 1), np.uint8)), "more than one dimension"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    damage: Callable[[dict[str, Any]], Any], message: str
) -> None:
    content = arrays()
    damage(content)
    with pytest.raises(language.LanguageError, match=message):
        language.load(pack(content), 5, START, 0.5, 1.0)


def test_tokens_out_of_order_are_refused() -> None:
    content = arrays()
    content["children_0"] = np.array([2, 0, 0, 0, 0], np.uint8)
    content["token_1"] = np.array([3, 3], np.uint8)
    with pytest.raises(language.LanguageError, match="out of order"):
        language.load(pack(content), 5, START, 0.5, 1.0)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn", pack(arrays())[:-40]])
def test_a_torn_file_is_refused(data: bytes) -> None:
    with pytest.raises(language.LanguageError, match=r"not a whole \.npz"):
        language.load(data, 5, START, 0.5, 1.0)


# ------------------------------------------------------------------------------------- in a bundle


def trigrams(word: str) -> dict[str, NDArray[Any]]:
    """Of the shipped bundle's tokens: after the start comes the word's first letter, and so on."""
    tokens = [START, *(LETTERS[x] for x in word), END]
    pairs = sorted(itertools.pairwise(tokens))
    assert len({a for a, _ in pairs}) == len(pairs), "each letter once"
    children = np.zeros(31, np.uint8)
    children[[a for a, _ in pairs]] = 1
    backoff = np.where(children, 48, 0).astype(np.int8)
    return {
        "cost_0": np.full(31, 56, np.uint8),
        "backoff_0": backoff,
        "children_0": children,
        "token_1": np.array([b for _, b in pairs], np.uint8),
        "cost_1": np.full(len(pairs), 1, np.uint8),
    }


@pytest.fixture
def with_language(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The shipped bundle with a language in which texts are "six"."""
    section = {"file": "language.npz", "weight": 1.0, "entropy": 0.1}
    return add_file(digits_bundle, tmp_path / "bundle", "language", section, pack(trigrams("six")))


def text(path: pathlib.Path, spoken: NDArray[np.int16], **options: Any) -> str:
    options = {"decoding": "beam", "ctc_weight": None, "beam": 12, **options}
    heard = recognizer.Recognizer(bundle.load(path), options=DecodingOptions(**options))
    return heard.transcribe(spoken).text


def test_the_language_has_a_say_in_a_beam(with_language: pathlib.Path) -> None:
    spoken = synthesise("five", "en-us+m3")
    assert text(with_language, spoken, language_weight=0.0) == "five"
    assert text(with_language, spoken, language_weight=30.0) == "six"
    assert text(with_language, spoken, decoding="greedy", language_weight=30.0) == "five"


def test_a_score_is_of_what_was_heard_alone(with_language: pathlib.Path) -> None:
    spoken = synthesise("six", "en-us+m3")
    options = DecodingOptions("beam", 12, ctc_weight=None)  # type: ignore[arg-type]
    loaded = bundle.load(with_language)
    without = dataclasses.replace(loaded, language=None)
    a, b = (recognizer.Recognizer(x, options=options).transcribe(spoken) for x in (loaded, without))
    assert a.text == b.text == "six"
    assert a.score == pytest.approx(b.score, abs=1e-6)


def test_a_weight_without_a_model_is_refused(digits_bundle: pathlib.Path) -> None:
    with pytest.raises(bundle.BundleError, match="has no language model"):
        text(digits_bundle, np.zeros(16000, np.int16), language_weight=0.5)


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="language_weight is -1"):
        DecodingOptions(language_weight=-1)


def test_transcribe_uses_it_unless_told_otherwise(
    with_language: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    soundfile.write(tmp_path / "five.wav", synthesise("five", "en-us+m3"), 16000)
    manifest = json.loads((with_language / "manifest.json").read_text())
    manifest["language"]["weight"] = 30.0
    (with_language / "manifest.json").write_text(json.dumps(manifest))
    found = {}
    for flags in ([], ["--language_weight=0"]):
        done = run_module(
            "firmware_sim.transcribe", f"--bundle={with_language}", *flags, tmp_path / "five.wav"
        )
        assert done.returncode == 0, done.stderr
        found[len(flags)] = done.stdout.split("\t")[-1].strip()
    assert found[0].endswith("six")
    assert found[1].endswith("five")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"weight": -1.0}, r"language\.weight is -1"),
        ({"entropy": "much"}, r"language\.entropy is 'much'"),
        ({"file": "tokens.txt"}, r"tokens\.txt: not a whole \.npz"),
    ],
)
def test_a_bundle_whose_language_does_not_fit_is_refused(
    with_language: pathlib.Path, section: dict[str, Any], message: str
) -> None:
    file = with_language / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["language"].update(section)
    file.write_text(json.dumps(manifest))
    with pytest.raises(bundle.BundleError, match=message) as refusal:
        bundle.load(with_language)
    assert "\n" not in str(refusal.value)
