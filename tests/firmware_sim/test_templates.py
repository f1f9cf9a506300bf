"""Home Assistant's templates: what they allow, and what Home Assistant makes of it."""

import itertools
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from firmware_sim.grammar import automaton, home, spoken, templates
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.home import Name
from firmware_sim.grammar.phrase import Choice, Phrase, Slot, Word
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.grammar.source import Grammar
from firmware_sim.grammar.templates import Templates
from firmware_sim.search.first_pass import PhoneSearch
from tests.conftest import REPOSITORY, run_module

HOME = {
    "name": [
        Name("Desk Lamp", domain="light"),
        Name("TV", domain="media_player"),
        Name("telly", "TV", "media_player"),
        Name("PM2.5 Sensor", domain="sensor"),
        Name("3D printer", domain="switch"),
        Name("Front Door", domain="lock"),
    ],
    "area": [Name("Kitchen"), Name("Bob's Room")],
    "floor": [Name("1st floor")],
}


def of(sentences: str | list[str], **parts: Any) -> Templates:
    sentences = [sentences] if isinstance(sentences, str) else sentences
    return Templates({"intents": {"Do": {"data": [{"sentences": sentences}]}}, **parts}, "test")


def texts(phrase: Phrase, slots: dict[str, list[Phrase]]) -> set[str]:
    """All sentences of a phrase, as they are said."""
    ways = [
        {item.spoken}
        if isinstance(item, Word)
        else set().union(
            *(
                texts(x, slots)
                for x in (item.phrases if isinstance(item, Choice) else slots[item.slot])
            )
        )
        for item in phrase
    ]
    return {" ".join(filter(None, way)) for way in itertools.product(*ways)}


def said(template: str, **parts: Any) -> set[str]:
    grammar = of(template, **parts).grammar(HOME)
    return set().union(*(texts(x, grammar.slots) for x in grammar.expressions["Do"]))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "turn (on|off) [the] light",
            "turn on light,turn on the light,turn off light,turn off the light",
        ),
        ("light[s] on", "light on,lights on"),
        ("day[ ]light", "day light,daylight"),
        ("auto[matic] mode", "auto mode,automatic mode"),
        ("[[all] the] lights", "lights,the lights,all the lights"),
        ("set[ now] it", "set it,set now it"),
        ("(a;b;c)", "a b c,a c b,b a c,b c a,c a b,c b a"),
        ("(2|3)( |-)hour[s]", "two hour,two hours,three hour,three hours"),
        ("5%", "five percent"),
        ("go [named {wild}] home", "go home"),
        ("turn on {area}", "turn on kitchen,turn on bob's room"),
        ("[please ]stop[, thanks]", "stop,please stop,stop thanks,please stop thanks"),
    ],
)
def test_a_template_allows_just_its_sentences(template: str, expected: str) -> None:
    assert said(template, lists={"wild": {"wildcard": True}}) == set(expected.split(","))


def test_rules_and_lists() -> None:
    lists = {
        "state": {"values": [{"in": "(closed|shut)", "out": "off"}, {"in": "open", "out": "on"}]},
        "level": {"range": {"from": 10, "to": 30, "step": 10}},
        "degrees": {"range": {"from": 20, "to": 21, "fractions": "halves"}},
        "down": {"range": {"from": 5, "to": 5, "multiplier": -1}},
    }
    grammar = of(
        ["<is> it {state:s}", "to {level}[ percent]", "to {degrees} degrees", "down {down:by}"],
        lists=lists,
        expansion_rules={"is": "(is|was)"},
    ).grammar()
    for text, slots in [
        ("was it shut", {"s": "off"}),
        ("is it open", {"s": "on"}),
        ("to 30 percent", {"level": "30"}),
        ("to 20.5 degrees", {"degrees": "20.5"}),
        ("down 5", {"by": "-5"}),
    ]:
        command = grammar.parse(text)
        assert command is not None and command.slots == slots
    assert grammar.parse("to 25") is None
    assert {"twenty point five", "twenty and a half"} <= {
        word.spoken for phrase in grammar.slots[degrees_key(grammar)] for word in words(phrase)
    }


def degrees_key(grammar: Grammar) -> str:
    return next(key for key in grammar.slots if key.startswith("degrees"))


def words(phrase: Phrase) -> list[Word]:
    found: list[Word] = []
    for item in phrase:
        assert not isinstance(item, Slot)
        nested = [x for y in item.phrases for x in words(y)] if isinstance(item, Choice) else [item]
        found += nested
    return found


@pytest.mark.parametrize(
    ("token", "ways"),
    [
        ("75", "seventy five"),
        ("101", "one hundred one,one hundred and one,one oh one,a hundred one,a hundred and one"),
        ("2700", "two thousand seven hundred,twenty seven hundred"),
        ("007", "zero zero seven"),
        ("1st", "first"),
        ("1/2", "half,one half"),
        ("PM2.5", "PM two point five"),
        ("TV", "TV"),
        ("3D", "three D"),
        ("Wi-Fi", "wi-fi"),
        ("LivingRoom", "living room"),
        ("A/C", "A C"),
        ("21\u00b0", "twenty one degrees"),
        ("&", "and"),
        ("Bob's", "bob's"),
    ],
)
def test_how_people_say_what_is_written(token: str, ways: str) -> None:
    found = spoken.forms(token)
    assert found[: len(ways.split(","))] == ways.split(",")


def test_names_are_as_home_assistant_writes_them() -> None:
    grammar = of("turn on [the] {name}").grammar(HOME)
    for text, name in [
        ("turn on the desk lamp", "Desk Lamp"),
        ("turn on telly", "TV"),
        ("turn on the pm2.5 sensor", "PM2.5 Sensor"),
        ("turn on the 3d printer", "3D printer"),
    ]:
        command = grammar.parse(text)
        assert command is not None and command.slots == {"name": name}


def test_a_sentence_takes_only_names_of_its_domain() -> None:
    data = {"sentences": ["lock [the] {name}"], "requires_context": {"domain": ["lock"]}}
    grammar = Templates({"intents": {"Lock": {"data": [data]}}}, "test").grammar(HOME)
    assert grammar.parse("lock the front door") is not None
    assert grammar.parse("lock the desk lamp") is None


def test_what_is_left_out_and_what_collides_is_said() -> None:
    content = {
        "intents": {
            "Add": {"data": [{"sentences": ["add {item} to my list"]}]},
            "One": {"data": [{"sentences": ["go (home|away)"]}]},
            "Other": {"data": [{"sentences": ["go away"]}]},
        },
        "lists": {"item": {"wildcard": True}},
    }
    grammar = Templates(content, "test").grammar()
    assert grammar.left_out == ["Add: add {item} to my list"]
    command = grammar.parse("go away")
    assert command is not None and command.intent == "One"
    assert grammar.collisions == ["'go away' is both One and Other"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intents: {Do: {data: [{sentences: ['a {nowhere}']}]}}", "there is no list {nowhere}"),
        ("intents: {Do: {data: [{sentences: ['a <nothing>']}]}}", "there is no rule <nothing>"),
        ("intents: {Do: {data: [{sentences: ['a (b']}]}}", "not Home Assistant's sentences"),
        ("intents: {Do: {data: 5}}", "not Home Assistant's sentences"),
        ("intents: {Do: {data: [{sentences: ['[a]']}]}}", "may be silence"),
        ("intents: {Do: {data: [{sentences: ['on {name}']}]}}", "need names that are not there"),
        (
            "intents: {Do: {data: [{sentences: ['a <r>']}]}}\nexpansion_rules: {r: 'b <r>'}",
            "<r> contains itself",
        ),
        (
            "intents: {Do: {data: [{sentences: ['" + "(a|b|c|d)" * 9 + "']}]}}",
            "too many alternatives without a space",
        ),
        ("intents: [", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(GrammarError) as raised:
        templates.read(path)
    assert message in str(raised.value) and str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_files_of_a_directory_belong_together(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text("intents: {A: {data: [{sentences: ['<go> home']}]}}")
    (tmp_path / "b.yaml").write_text(
        "intents: {A: {data: [{sentences: ['stop']}]}}\nexpansion_rules: {go: '(go|walk)'}"
    )
    grammar = templates.read(tmp_path)
    assert grammar.parse("walk home") is not None and grammar.parse("stop") is not None


def test_names_of_a_home(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "home.yaml"
    path.write_text(
        "names: [Desk lamp, {name: TV, domain: media_player, aliases: [telly]}]\nareas: [Kitchen]\n"
    )
    assert home.read(path) == {
        "name": [
            Name("Desk lamp"),
            Name("TV", "TV", "media_player"),
            Name("telly", "TV", "media_player"),
        ],
        "area": [Name("Kitchen")],
    }
    for text, message in [
        ("names: [{name: On}, on]", "is no name"),
        ("rooms: [a]", "names, areas, floors"),
        ("names: a", "must be a list"),
        ("names: [{nam: a}]", "keys are name, domain and aliases"),
    ]:
        path.write_text(text)
        with pytest.raises(GrammarError, match=message):
            home.read(path)


@pytest.fixture(scope="module")
def at_home() -> Grammar:
    return Templates.read(pathlib.Path(templates.BUILT_IN)).grammar(HOME)


@pytest.fixture(scope="module")
def understand() -> Any:
    """Home Assistant's own reading of a text: intent and slots, or None."""
    from hassil import Intents, recognize_best
    from hassil.intents import TextSlotList
    from home_assistant_intents import get_intents

    intents = Intents.from_dict(get_intents("en"))  # type: ignore[arg-type]
    lists = {
        key: TextSlotList.from_tuples(
            [(x.text, x.value or x.text, {"domain": x.domain} if x.domain else {}) for x in names]
        )
        for key, names in HOME.items()
    }

    def read(text: str) -> tuple[str, dict[str, str]] | None:
        found = recognize_best(
            text,
            intents,
            slot_lists=lists,  # type: ignore[arg-type]
            intent_context={"area": "Kitchen"},
            language="en",
        )
        if found is None:
            return None
        return found.intent.name, {k: f"{v.value}" for k, v in found.entities.items()}

    return read


def test_home_assistant_understands_sentences_as_we_do(at_home: Grammar, understand: Any) -> None:
    rng = np.random.default_rng(3)
    refused = []
    for _ in range(150):
        command = at_home.sample(rng)
        theirs = understand(command.text)
        if theirs is None or theirs[0] != command.intent:
            refused.append((command, theirs))
            continue
        for slot, value in command.slots.items():
            number = value.lstrip("-").replace(".", "").isdigit()
            same = float(theirs[1][slot]) == float(value) if number else theirs[1][slot] == value
            assert same, (command, theirs)
    assert not refused


def test_phones_lead_to_the_value_as_it_is_written(at_home: Grammar) -> None:
    pronunciations = Pronunciations.load()
    compiled = at_home.compile_phones(pronunciations.of)
    loaded = automaton.load(json.dumps(compiled).encode(), 0, (), 39)
    search = PhoneSearch(loaded, 39)
    for text, reading, slots, how in [
        (
            "set the desk lamp brightness to seventy five percent",
            "set the desk lamp brightness to 75 percent",
            {"name": "Desk Lamp", "brightness": "75"},
            {"name": "desk lamp", "brightness": "seventy five"},
        ),
        (
            "tell me the PM two point five sensor",
            "tell me the pm2.5 sensor",
            {"name": "PM2.5 Sensor"},
            {"name": "PM two point five sensor"},
        ),
    ]:
        phones = [x for word in text.split() for x in pronunciations.of(word)[0]]
        path = [x for phone in phones for x in (phone, 39)]
        logits = np.random.default_rng(1).normal(size=(len(path), 40))
        logits[np.arange(len(path)), path] += 9
        emission = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        found = search.find(emission.astype(np.float32))
        assert found is not None
        (command,) = found.readings
        assert (command.text, command.slots, command.said) == (reading, slots, how)


def test_compile_reads_them_too(tmp_path: pathlib.Path) -> None:
    names = tmp_path / "home.yaml"
    names.write_text("names: [Desk lamp]\n")
    done = run_module("firmware_sim.compile", "--grammar=home-assistant", f"--names={names}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("home-assistant: ")
    assert "templates are left out" in done.stdout and "turn on [the] {floor} lights" in done.stdout


def test_own_grammars_are_read_as_before() -> None:
    for path in sorted((REPOSITORY / "grammars").glob("*.yaml")):
        assert not templates.is_templates(path)
