"""Which words of a grammar a model may take for one another."""

from pathlib import Path

import numpy as np
import pytest

from firmware_sim.grammar import confusion
from firmware_sim.grammar.confusion import ConfusionError, Confusions
from firmware_sim.grammar.phones import PHONES, ids
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.grammar.source import Grammar

PRONUNCIATIONS = Pronunciations.load()


def confusions(**heard: float) -> Confusions:
    """`AA_AO=0.5` nats of an AA that is heard as an AO; all others cost 8."""
    costs = np.full([len(PHONES), len(PHONES)], 8.0)
    np.fill_diagonal(costs, 0.0)
    for pair, nats in heard.items():
        said, other = ids(pair.split("_"))
        costs[said, other] = nats
    return Confusions(costs, np.full(len(PHONES), 8.0), np.full(len(PHONES), 8.0))


def phones(text: str) -> tuple[int, ...]:
    return tuple(ids(text.split()))


def pairs(tmp_path: Path, text: str, measured: Confusions | None) -> list[tuple[float, str, str]]:
    path = tmp_path / "grammar.yaml"
    path.write_text(text)
    grammar = Grammar.read(path)
    ways = grammar.pronounced(PRONUNCIATIONS.of)
    return confusion.confusable(grammar.word_automaton, ways, measured)


def test_a_cost_is_that_of_the_best_alignment() -> None:
    measured = confusions(AA_AO=0.5)
    assert measured.cost(phones("D AA G"), phones("D AO G")) == 0.5
    assert measured.cost(phones("D AA G"), phones("D AA")) == 8.0
    assert measured.cost(phones("D AA"), phones("D AA G")) == 8.0
    assert measured.cost(phones("D AO G"), phones("D AA G")) == 8.0
    assert measured.cost(phones(""), phones("D AA")) == 16.0
    assert measured.gap(phones("D AA G"), phones("D AA G")) == 0.0


def test_a_file_holds_the_costs() -> None:
    measured = confusions(AA_AO=0.53)
    again = Confusions.load(measured.dump())
    assert again.cost(phones("AA"), phones("AO")) == pytest.approx(0.53, abs=1 / 32)
    with pytest.raises(ConfusionError, match="12 bytes instead of 1599"):
        Confusions.load(bytes(12))


SLOT = "context: {expressions: {go: [$w to the end]}, slots: {w: [WORDS]}}"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sail, sale, boat", ["sail sale"]),
        ("dog, dug, cat", ["dog dug"]),  # AO is heard as AH
        ("cat, cats", []),
        ("four, for, fore", ["for fore", "for four", "fore four"]),
    ],
)
def test_values_of_a_slot_that_sound_alike_are_found(
    tmp_path: Path, words: str, found: list[str]
) -> None:
    text = SLOT.replace("WORDS", words)
    result = pairs(tmp_path, text, confusions(AO_AH=0.4))
    assert sorted(f"{one} {other}" for _, one, other in result) == found
    assert [nats for nats, *_ in result] == sorted(nats for nats, *_ in result)


def test_without_measurements_only_what_is_said_alike_is_found(tmp_path: Path) -> None:
    result = pairs(tmp_path, SLOT.replace("WORDS", "sail, sale, dog, dug"), None)
    assert result == [(0.0, "sail", "sale")]


def test_words_that_mean_the_same_may_sound_alike(tmp_path: Path) -> None:
    text = "context: {expressions: {go: ['[sail, sale] [on, in]']}}"
    assert pairs(tmp_path, text, confusions(AA_IH=0.1)) == []


def test_words_that_lead_elsewhere_may_not(tmp_path: Path) -> None:
    text = "context: {expressions: {go: [sail], stop: [sale now]}}"
    assert [x[1:] for x in pairs(tmp_path, text, None)] == [("sail", "sale")]


def test_thousands_of_names_are_compared(tmp_path: Path) -> None:
    starts, ends = "bdgklmnprst", ("bel", "dan", "fin", "gor", "kim", "lus", "mer", "nat", "rop")
    names = [f"{a}{vowel}{end}" for a in starts for vowel in "aeiou" for end in ends]
    result = pairs(tmp_path, SLOT.replace("WORDS", ", ".join(names)), confusions(P_B=0.5))
    found = {(one, other): nats for nats, one, other in result}
    assert found["bodan", "podan"] == 0.5
    assert ("bodan", "todan") not in found
