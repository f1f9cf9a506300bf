"""Grammars whose names are put in late, beside the same ones compiled whole."""

import pathlib

import numpy as np
import numpy.typing as npt
import pytest

from firmware_sim.grammar import automaton, network
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.home import Name
from firmware_sim.grammar.network import Network, OpenGrammar
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.grammar.source import Grammar
from firmware_sim.grammar.templates import BUILT_IN, Templates
from firmware_sim.search.first_pass import PhoneSearch

BLANK = 39
HOME = {
    "name": [Name("Desk Lamp", domain="light"), Name("telly", "TV"), Name("Lamp"), Name("3D lamp")],
    "area": [Name("Kitchen"), Name("Desk")],
    "floor": [Name("1st floor")],
}


@pytest.fixture(scope="module")
def pronunciations() -> Pronunciations:
    return Pronunciations.load()


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates.read(pathlib.Path(BUILT_IN))


@pytest.fixture(scope="module")
def at_home(templates: Templates) -> Grammar:
    return templates.grammar(HOME)


@pytest.fixture(scope="module")
def opened(at_home: Grammar, pronunciations: Pronunciations) -> OpenGrammar:
    return OpenGrammar(at_home, pronunciations.of)


def filled(opened: OpenGrammar, grammar: Grammar) -> PhoneSearch:
    return PhoneSearch(opened.filled(grammar.names), BLANK)


def emission(words: str, pronunciations: Pronunciations, seed: int) -> npt.NDArray[np.float32]:
    """Log probabilities [frames, phones and blank] of an encoder that is not quite sure."""
    phones = [x for word in words.split() for x in pronunciations.of(word)[0]]
    path = [x for phone in phones for x in (phone, BLANK)]
    logits = np.random.default_rng(seed).normal(size=(len(path), BLANK + 1))
    logits[np.arange(len(path)), path] += 3.5
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def test_names_put_in_late_are_heard_as_those_compiled_at_once(
    at_home: Grammar, opened: OpenGrammar, pronunciations: Pronunciations
) -> None:
    content = at_home.compile_phones(pronunciations.of)
    whole = PhoneSearch(automaton.build(content, BLANK, ()), BLANK)
    late = filled(opened, at_home)
    for seed, words in enumerate(
        [
            "turn on the desk lamp",
            "turn off the lamp",
            "is the telly on",
            "turn on the lights in the kitchen",
            "turn off the first floor lights",
            "what time is it",
            "set the three D lamp brightness to twenty percent",
        ]
    ):
        heard = emission(words, pronunciations, seed)
        one, other = whole.find(heard), late.find(heard)
        assert one is not None and other is not None
        assert (one.text, one.phones) == (other.text, other.phones)
        assert one.score == pytest.approx(other.score)
        assert [x.slots for x in one.readings] == [x.slots for x in other.readings]
        assert [x.confidence for x in one.readings] == [x.confidence for x in other.readings]


def test_a_new_name_needs_no_compiled_sentences(
    templates: Templates, opened: OpenGrammar, pronunciations: Pronunciations
) -> None:
    grammar = templates.grammar({**HOME, "name": [*HOME["name"], Name("Toaster")]})
    assert opened.fits(grammar)
    heard = emission("turn on the toaster", pronunciations, 1)
    found = filled(opened, grammar).find(heard)
    assert found is not None and found.text == "turn on the toaster"
    assert found.readings[0].slots == {"name": "Toaster"}
    without = filled(opened, templates.grammar(HOME)).find(heard)
    assert without is None or without.text != found.text


def test_other_sentences_are_compiled_anew(templates: Templates, opened: OpenGrammar) -> None:
    """Without floors there are no sentences about them."""
    assert not opened.fits(templates.grammar({**HOME, "floor": []}))


def test_too_many_names_are_refused(
    at_home: Grammar, opened: OpenGrammar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "MOST_ARCS", 100)
    with pytest.raises(GrammarError, match="expose fewer devices"):
        filled(opened, at_home)


def test_after_the_end_of_a_sentence_another_may_begin(pronunciations: Pronunciations) -> None:
    grammar = Templates(
        {"intents": {"Do": {"data": [{"sentences": ["stop", "go on"]}]}}}, "test"
    ).grammar()
    built = automaton.build(grammar.compile_phones(pronunciations.of), BLANK, ())
    arcs = Network.of(built)
    (final,) = (state for state in built.finals if not built.arcs[state])
    assert list(arcs.after[arcs.after_first[0] : arcs.after_first[1]]) == list(
        arcs.after[arcs.after_first[final] : arcs.after_first[final + 1]]
    )
