"""A bundle with a grammar: what may follow, what a text means, decoding held to it, its results."""

import copy
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from firmware_sim import bundle
from firmware_sim.bundle import BundleError
from firmware_sim.grammar import automaton as grammar
from firmware_sim.grammar import source as training_grammar
from firmware_sim.grammar.automaton import Command, Grammar, GrammarError
from tests.conftest import REPOSITORY, add_grammar
from tf_speech_transformer.text.tokenizer import CharacterTokenizer

START, END, BLANK, MEDIUM, ROAST, LATTE, OFF, PAUSE = range(8)
SPECIAL = (START, END, BLANK)
# "medium latte", "medium roast latte", "latte", "off"; medium is a size, or of a roast.
COFFEE: dict[str, Any] = {
    "version": 1,
    "name": "coffee",
    "intents": ["order", "stop"],
    "slots": ["size", "roast", "drink"],
    "states": 6,
    "start": 0,
    "arcs": [
        [0, MEDIUM, 1, 0],
        [0, MEDIUM, 2, 1],
        [0, LATTE, 3, 2],
        [0, OFF, 4, -1],
        [1, LATTE, 3, 2],
        [2, ROAST, 1, 1],
    ],
    "finals": [[3, 0], [4, 1]],
    "between": [],
    "reject_below": 0.5,
}


@pytest.fixture(scope="module")
def loaded(held_bundle: pathlib.Path) -> Grammar:
    found = bundle.load(held_bundle).grammar
    assert found is not None
    return found


def follow(loaded: Grammar, text: str) -> grammar.States:
    states = loaded.first
    for token in CharacterTokenizer().encode(text):
        assert states and token in loaded.allowed(states), text
        states = loaded.follow(states, token)
    return states


def test_what_may_follow(loaded: Grammar) -> None:
    tokens = CharacterTokenizer().tokens()

    def letters(text: str) -> str:
        return "".join(sorted(tokens[i] for i in loaded.allowed(follow(loaded, text))))

    assert letters("") == "efnostz"
    assert letters("t") == "hw"
    assert letters("five six") == "<space>"
    assert letters("one two nine") == "<space>"  # of a code, or to the next command
    assert loaded.may_end(follow(loaded, "one two nine"))
    assert not loaded.may_end(follow(loaded, "five six"))
    assert loaded.follow(follow(loaded, "five"), CharacterTokenizer().encode("x")[0]) == frozenset()
    assert loaded.may_end(follow(loaded, "five six seven one two eight nine"))


def values(loaded: Grammar, text: str) -> list[tuple[str, dict[str, str]]]:
    ids = CharacterTokenizer().encode(text)
    decode = CharacterTokenizer().decode
    return [
        (x.intent, {name: decode([ids[i] for i in places]) for name, places in x.slots.items()})
        for x in loaded.parse(ids)
    ]


def test_what_a_text_means(loaded: Grammar) -> None:
    call = ("call", {"first": "five", "second": "six", "third": "seven"})
    code = ("code", {"pair": "two one", "last": "eight", "check": "nine"})
    assert values(loaded, "five six seven") == [call]
    assert values(loaded, "two one eight nine") == [code]
    assert values(loaded, "five six seven two one eight nine five six seven") == [call, code, call]
    for text in ("five six", "two one eight nine five", "six one eight nine"):
        assert values(loaded, text) == []


def test_commands_know_their_tokens(loaded: Grammar) -> None:
    text = "five six seven two one eight nine"
    first, second = loaded.parse(CharacterTokenizer().encode(text))
    assert first == Command(
        "call",
        0,
        len("five six seven"),
        {
            "first": tuple(range(4)),
            "second": tuple(range(4, 8)),  # with the space before
            "third": tuple(range(8, 14)),
        },
    )
    assert text[second.first : second.last] == "two one eight nine"


def _load(**changes: Any) -> Grammar:
    return grammar.load(_json({**COFFEE, **changes}), tokens=8, special=SPECIAL)


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_a_token_of_two_meanings_leads_on_in_both() -> None:
    coffee = _load()
    assert coffee.allowed(coffee.first) == (MEDIUM, LATTE, OFF)
    states = coffee.follow(coffee.first, MEDIUM)
    assert coffee.allowed(states) == (ROAST, LATTE)
    assert not coffee.may_end(states)
    assert coffee.may_end(coffee.follow(states, LATTE))
    assert not coffee.follow(coffee.first, ROAST)


def test_what_follows_says_which_slot_a_token_belongs_to() -> None:
    coffee = _load()
    assert coffee.parse([MEDIUM, LATTE]) == [Command("order", 0, 2, {"size": (0,), "drink": (1,)})]
    roast = {"roast": (0, 1), "drink": (2,)}
    assert coffee.parse([MEDIUM, ROAST, LATTE]) == [Command("order", 0, 3, roast)]


@pytest.mark.parametrize("text", [[], [MEDIUM], [LATTE, ROAST], [BLANK], [LATTE, PAUSE, LATTE]])
def test_another_text_is_no_command(text: list[int]) -> None:
    assert _load().parse(text) == []


def test_several_commands_in_one_text() -> None:
    coffee = _load()
    first, second = coffee.parse([LATTE, OFF])
    assert (first.intent, first.first, first.last) == ("order", 0, 1)
    assert (second.intent, second.first, second.last) == ("stop", 1, 2)
    assert len(coffee.parse([OFF, OFF, MEDIUM, LATTE])) == 3


def test_commands_with_a_token_between_them() -> None:
    coffee = _load(between=[PAUSE])
    assert coffee.parse([LATTE, OFF]) == []
    assert coffee.allowed(coffee.follow(coffee.first, LATTE)) == (PAUSE,)
    first, second = coffee.parse([LATTE, PAUSE, OFF])
    assert (first.first, first.last, second.first, second.last) == (0, 1, 2, 3)
    assert not coffee.may_end(coffee.follow(coffee.follow(coffee.first, LATTE), PAUSE))


def test_of_two_meanings_the_one_of_no_slot_then_the_first_slot_is_taken() -> None:
    both = [*COFFEE["arcs"], [0, OFF, 5, 2], [0, OFF, 5, 1]]
    assert _load(arcs=both, finals=[*COFFEE["finals"], [5, 0]]).parse([OFF])[0].slots == {}
    slots = [arc for arc in both if arc != [0, OFF, 4, -1]]
    parsed = _load(arcs=slots, finals=[*COFFEE["finals"], [5, 0]]).parse([OFF])
    assert parsed[0].slots == {"roast": (0,)}


def test_a_text_that_may_go_on_is_one_command() -> None:
    longer = [*COFFEE["arcs"], [4, OFF, 5, -1]]
    parsed = _load(arcs=longer, finals=[*COFFEE["finals"], [5, 0]]).parse([OFF, OFF])
    assert [command.intent for command in parsed] == ["order"]


def test_commands_of_a_written_grammar_are_allowed_and_mean_what_they_mean() -> None:
    """A grammar compiled for characters: 100 sentences, alone and two in a row."""
    tokenizer, written = (
        CharacterTokenizer(),
        training_grammar.Grammar.read(REPOSITORY / "grammars/barista.yaml"),
    )
    tokens = tokenizer.tokens()
    loaded = grammar.load(_json(written.compile(tokenizer, 0.5)), len(tokens), special=())
    rng = np.random.default_rng(0)
    said = [written.sample(rng) for _ in range(100)]
    for texts in [*((x,) for x in said), *itertools.pairwise(said)]:
        ids = tokenizer.encode(" ".join(command.text for command in texts))
        states = loaded.first
        for token in ids:
            assert token in loaded.allowed(states)
            states = loaded.follow(states, token)
        assert loaded.may_end(states)
        parsed = loaded.parse(ids)
        assert [command.intent for command in parsed] == [command.intent for command in texts]
        for found, command in zip(parsed, texts, strict=True):
            assert tokenizer.decode(ids[found.first : found.last]) == command.text
            values = {k: tokenizer.decode([ids[i] for i in v]) for k, v in found.slots.items()}
            assert {k: v.strip() for k, v in values.items()} == command.slots


def test_a_bundle_without_a_grammar_has_none(digits_bundle: pathlib.Path) -> None:
    assert bundle.load(digits_bundle).grammar is None


def _arc(position: int, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["arcs"][1].__setitem__(position, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "version is 2, but the bundle's format has 1"),
        (lambda c: c.pop("arcs"), "arcs is missing"),
        (lambda c: c["arcs"].append([0, 3]), r"arcs holds \[0, 3\], not a list of 4 numbers"),
        (_arc(0, 6), r"a state of the arc .* is 6, not a whole number from 0 to 5"),
        (_arc(2, -1), "a state of the arc .* is -1"),
        (_arc(1, 99), "the token of the arc .* is 99"),
        (_arc(1, "a"), "the token of the arc .* is 'a'"),
        (_arc(1, 1), "the token of the arc .* is 1, which is no part of a text"),
        (_arc(3, 3), "the slot of the arc .* is 3"),
        (_arc(3, 0), "two arcs from state 0 have token 3 and slot 0"),
        (lambda c: c.update(finals=[]), "no command ends after state"),
        (lambda c: c["finals"].append([6, 0]), "the state of the final .* is 6"),
        (lambda c: c["finals"].append([5, 2]), "the intent of the final .* is 2"),
        (lambda c: c["finals"].append([4, 0]), "two intents end in state 4"),
        (lambda c: c["finals"].append([0, 0]), "a command may be empty"),
        (lambda c: c.update(finals=[[4, 1]]), "no command ends after state 3"),
        (lambda c: c["arcs"].append([3, 6, 0, -1]), "a circle leads through state 0"),
        (lambda c: c.update(start=True), "start is True"),
        (lambda c: c.update(states=0), "states is 0"),
        (lambda c: c.update(intents="order"), "intents is 'order', not a list of names"),
        (lambda c: c.update(slots=["size", "size", "x"]), "slots has a name twice"),
        (lambda c: c.update(between=[3, 4]), r"between is \[3, 4\]"),
        (lambda c: c.update(between=[1]), "between is 1, which is no part of a text"),
        (lambda c: c.update(reject_below=1.5), "reject_below is 1.5"),
        (lambda c: c.update(reject_below="no"), "reject_below is 'no'"),
        (lambda c: c.update(name=None), "name is None"),
    ],
)
def test_a_grammar_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    digits_bundle: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    content = copy.deepcopy(COFFEE)
    bundle.load(add_grammar(digits_bundle, tmp_path / "good", content))
    change(content)
    with pytest.raises(BundleError, match=f"grammar.json: {message}") as refusal:
        bundle.load(add_grammar(digits_bundle, tmp_path / "bad", content))
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "bad"))


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_grammar_is_refused(data: bytes) -> None:
    with pytest.raises(GrammarError, match=r"not valid JSON|version is None"):
        grammar.load(data, tokens=8, special=SPECIAL)


def test_a_grammar_that_was_changed_is_refused(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = add_grammar(digits_bundle, tmp_path / "digits", COFFEE)
    (path / "grammar.json").write_bytes((path / "grammar.json").read_bytes().replace(b"5", b"6"))
    with pytest.raises(BundleError, match=r"grammar\.json: its sha256 differs"):
        bundle.load(path)
