"""The first pass: grammars over phones, and the sentences that the search finds in CTC's output."""

import copy
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from firmware_sim.grammar import automaton
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.source import Grammar
from firmware_sim.search.first_pass import PhoneSearch
from tests.conftest import REPOSITORY

PHONES = ["AA", "AE", "AO", "EY", "IH", "K", "L", "M", "N", "S", "T", "UW", "Z"]
BLANK = len(PHONES)
# "to" and "two" are the same phones; "tomato" has two pronunciations.
WORDS = {
    "one": ["N AA N"],
    "two": ["T UW"],
    "to": ["T UW"],
    "tomato": ["T AA M EY T AA", "T AA M AA T AA"],
    "cats": ["K AE T S"],
    "sell": ["S EY L"],
    "in": ["IH N"],
    "minutes": ["M IH N IH T S"],
}
EXPRESSIONS = """
context:
  expressions:
    sell:
      - sell (to) $count:count $thing:thing
    wait:
      - in $count:count minutes
  slots:
    count: [one, two]
    thing: [cats, tomato]
"""


def ids(phones: str) -> list[int]:
    return [PHONES.index(phone) for phone in phones.split()]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("grammar") / "shop.yaml"
    path.write_text(EXPRESSIONS)
    return Grammar.read(path).compile_phones(lambda word: [ids(x) for x in WORDS[word]], 0.5)


def load(content: dict[str, Any]) -> automaton.Grammar:
    return automaton.load(json.dumps(content).encode(), 0, (), len(PHONES))


@pytest.fixture(scope="module")
def grammar(compiled: dict[str, Any]) -> automaton.Grammar:
    return load(compiled)


def heard(phones: str, certainty: float = 6.0) -> npt.NDArray[np.float32]:
    """Log probabilities of an encoder that heard these phones, two frames each and a blank."""
    path = [x for phone in ids(phones) for x in (phone, phone, BLANK)]
    logits = np.random.default_rng(0).normal(size=(len(path), len(PHONES) + 1))
    logits[np.arange(len(path)), path] += certainty
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def test_phones_mean_words_slots_and_intent(grammar: automaton.Grammar) -> None:
    found = PhoneSearch(grammar, BLANK).find(heard("S EY L T UW K AE T S"))
    assert found is not None
    (reading,) = found.readings
    assert reading.text == "sell two cats"  # not "sell to ... cats", which lacks a count
    assert (reading.intent, reading.slots) == ("sell", {"count": "two", "thing": "cats"})
    assert reading.confidence == pytest.approx(1.0)
    assert (reading.first, reading.last) == (0, 26)


def test_the_same_phones_are_the_word_that_the_grammar_allows(grammar: automaton.Grammar) -> None:
    found = PhoneSearch(grammar, BLANK).find(heard("S EY L T UW T UW K AE T S"))
    assert found is not None and found.text == "sell to two cats"


def test_every_pronunciation_is_known(grammar: automaton.Grammar) -> None:
    search = PhoneSearch(grammar, BLANK)
    for tomato in WORDS["tomato"]:
        found = search.find(heard(f"S EY L N AA N {tomato}"))
        assert found is not None and found.text == "sell one tomato"


def test_two_commands_in_a_row(grammar: automaton.Grammar) -> None:
    found = PhoneSearch(grammar, BLANK).find(
        heard("IH N N AA N M IH N IH T S S EY L T UW K AE T S")
    )
    assert found is not None
    assert [x.text for x in found.readings] == ["in one minutes", "sell two cats"]
    assert found.readings[0].last <= found.readings[1].first


def test_speech_that_is_no_command_has_little_confidence(grammar: automaton.Grammar) -> None:
    search = PhoneSearch(grammar, BLANK)
    found = search.find(heard("Z AO L IH K UW Z AE M"))
    assert found is None or max(x.confidence for x in found.readings) < 0.2
    slightly_off = search.find(heard("Z EY L T UW K AE T S"))
    assert slightly_off is not None and slightly_off.text == "sell two cats"
    assert 0.2 < slightly_off.readings[0].confidence < 0.9


def test_a_slot_that_could_be_another_value_is_less_certain(grammar: automaton.Grammar) -> None:
    emission = heard("IH N T UW M IH N IH T S")
    emission[6:12] = heard("T N", certainty=0.0)[:1]  # nobody can tell what was said here
    found = PhoneSearch(grammar, BLANK).find(emission)
    assert found is not None
    (reading,) = found.readings
    assert reading.slot_confidence["count"] < 0.9 * reading.confidence


def test_the_words_of_a_beginning_are_known_before_the_sentence_ends(
    grammar: automaton.Grammar,
) -> None:
    search = PhoneSearch(grammar, BLANK)
    beginning = heard("S EY L T UW K AE")
    squeezed = search.find(beginning)
    assert squeezed is not None and squeezed.text == "sell two cats"
    found = search.find(beginning, complete=False)
    assert found is not None and found.text == "sell two" and found.score > squeezed.score
    assert found.readings[0].intent == ""
    whole = search.find(heard("S EY L T UW K AE T S"), complete=False)
    assert whole is not None and (whole.text, whole.readings[0].intent) == ("sell two cats", "sell")


def test_too_little_speech_is_no_sentence(grammar: automaton.Grammar) -> None:
    assert PhoneSearch(grammar, BLANK).find(heard("S EY")) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["arcs"][0].pop(), "not a list of 5 numbers"),
        (lambda c: c["arcs"][0].__setitem__(4, 99), "the word of the arc"),
        (lambda c: c["arcs"][0].__setitem__(1, BLANK), "the token of the arc"),
        (lambda c: c.update(words=["one", "one"]), "words has a name twice"),
        (lambda c: c.update(version=1), "version is 1, but the bundle's format has 2"),
    ],
)
def test_a_grammar_that_does_not_fit_is_refused(
    compiled: dict[str, Any], change: Any, message: str
) -> None:
    content = copy.deepcopy(compiled)
    change(content)
    with pytest.raises(GrammarError, match=message):
        load(content)


@pytest.mark.parametrize("name", ["barista", "home", "calendar"])
def test_every_sentence_of_a_grammar_is_found(name: str) -> None:
    """Each letter is taken for a phone."""
    letters = "abcdefghijklmnopqrstuvwxyz'"
    source = Grammar.read(REPOSITORY / "grammars" / f"{name}.yaml")
    compiled = source.compile_phones(lambda word: [[letters.index(x) for x in word]], 0.5)
    loaded = automaton.load(json.dumps(compiled).encode(), 0, (), len(letters))
    search = PhoneSearch(loaded, len(letters))
    rng = np.random.default_rng(1)
    for _ in range(8):
        command = source.sample(rng)
        tokens = [letters.index(x) for x in command.text if x != " "]
        path = [x for token in tokens for x in (token, len(letters))]
        logits = rng.normal(size=(len(path), len(letters) + 1))
        logits[np.arange(len(path)), path] += 8
        emission = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        found = search.find(emission.astype(np.float32))
        assert found is not None
        assert found.text == command.text
        assert [x.intent for x in found.readings] == [command.intent]
        assert found.readings[0].slots == command.slots
