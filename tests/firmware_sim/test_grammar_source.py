"""Grammars: reading, counting, sampling, meaning, and what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest

from firmware_sim.grammar.phones import ids
from firmware_sim.grammar.source import Command, Grammar, GrammarError
from tf_speech_transformer.text.tokenizer import CharacterTokenizer, SentencePieceTokenizer

EXAMPLES = sorted((Path(__file__).parents[2] / "grammars").glob("*.yaml"))

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COFFEE = """context:
  expressions:
    order:
      - "[make me, I want] [a, an] ($size:size) $drink:coffeeDrink"
    stop: ["stop (it)"]
  slots:
    size: ["small", "eight ounce"]
    drink: ["espresso", "($size:size) latte"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "coffee.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def coffee(tmp_path: Path) -> Grammar:
    return Grammar.read(write(tmp_path, COFFEE))


def all_texts(grammar: Grammar) -> set[str]:
    """By brute force, through the automaton of words."""
    automaton = grammar.automaton(lambda word, first: [word])
    found: set[str] = set()
    waiting: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    while waiting:
        state, said = waiting.pop()
        if state in automaton.finals:
            found.add(" ".join(said))
        for (word, _), target in automaton.arcs[state].items():
            waiting.append((target, (*said, str(word))))
    return found


def test_a_grammar_accepts_just_its_sentences(coffee: Grammar):
    sizes, drinks = ("", "small ", "eight ounce "), ("espresso", "latte")
    expected = {"stop", "stop it"}
    for opening in ("make me a", "make me an", "i want a", "i want an"):
        for size in sizes:
            expected |= {f"{opening} {size}{drink}" for drink in drinks}
            # The size before a latte may be said twice: by the order, and by the drink.
            expected |= {f"{opening} {size}{again}latte" for again in sizes}
    assert all_texts(coffee) == expected
    assert coffee.words == sorted({word for text in expected for word in text.split()})


def test_meaning_of_a_text(coffee: Grammar):
    command = coffee.parse("Make me an eight ounce  espresso")
    assert command == Command(
        "make me an eight ounce espresso",
        "order",
        {"size": "eight ounce", "coffeeDrink": "espresso"},
    )
    assert coffee.parse("stop") == Command("stop", "stop", {})
    for text in ("", "stop stop", "make me a", "make me a tea", "small espresso"):
        assert coffee.parse(text) is None


def test_a_word_counts_for_the_innermost_name(tmp_path: Path):
    path = write(
        tmp_path,
        """context:
  expressions: {call: ["call $number"], at: ["at $time:when"]}
  slots:
    number: ["$digit $digit"]
    digit: [one, two]
    time: ["$digit:hour o'clock"]
""",
    )
    grammar = Grammar.read(path)
    assert grammar.slot_names == ["number", "hour", "when"]
    call, at = grammar.parse("call one two"), grammar.parse("at two o'clock")
    assert call is not None and call.slots == {"number": "one two"}
    assert at is not None and at.slots == {"hour": "two", "when": "o'clock"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_samples_are_sentences_and_mean_what_they_say(path: Path):
    grammar = Grammar.read(path)
    rng = np.random.default_rng(3)
    commands = [grammar.sample(rng) for _ in range(300)]
    assert {command.intent for command in commands} == set(grammar.intents)
    for command in commands:
        parsed = grammar.parse(command.text)
        assert parsed is not None and parsed.intent == command.intent
        assert parsed.slots == command.slots
    assert len({command.text for command in commands}) > 150


def test_barista_has_the_language_of_its_benchmark():
    # The count of https://github.com/Picovoice/speech-to-intent-benchmark's grammar, which spells
    # every order of the parts out, as this module reads it.
    (path,) = (path for path in EXAMPLES if path.stem == "barista")
    grammar = Grammar.read(path)
    assert grammar.count() == 120_130_920
    assert len(grammar.words) == 55
    command = grammar.parse(
        "i'd like a medium medium roast iced mocha with a bit of soy milk and sugar"
    )
    assert command is not None and command.slots == {
        "size": "medium",
        "roast": "medium roast",
        "coffeeDrink": "iced mocha",
        "milkAmount": "a bit of soy milk",
        "sugarAmount": "sugar",
    }


def test_a_compiled_grammar_accepts_the_tokens_of_samples_alone(coffee: Grammar):
    pieces = SentencePieceTokenizer.train(sorted(all_texts(coffee)) * 4, pieces=40)
    for tokenizer in (pieces, CharacterTokenizer()):
        compiled = coffee.compile(tokenizer, reject_below=0.5)
        finals = dict(compiled["finals"])

        def ends(text: str, tokenizer=tokenizer, compiled=compiled) -> set[int]:
            states = {compiled["start"]}
            for token in tokenizer.encode(text):
                states = {b for a, t, b, _ in compiled["arcs"] if a in states and t == token}
            return states

        for text in all_texts(coffee):
            intents = {compiled["intents"][finals[x]] for x in ends(text) if x in finals}
            assert intents == {"stop" if text.startswith("stop") else "order"}
        for text in ("make me a", "stop it stop", "make me a lattel"):
            assert not ends(text) & finals.keys()
        # A label leads to one state at most: a device follows sets of states, not paths.
        labels = [(a, token, slot) for a, token, _, slot in compiled["arcs"]]
        assert len(labels) == len(set(labels))


def test_a_text_file_has_a_phrase_in_each_line(tmp_path: Path):
    lines = tmp_path / "phrases.txt"
    lines.write_text("Stop (it)\r\n\n  turn [on, off] the light\n", encoding="utf-8-sig")
    phrases = Grammar.read(lines)
    assert phrases.name == "phrases" and phrases.intents == ["phrase"]
    assert all_texts(phrases) == {"stop", "stop it", "turn on the light", "turn off the light"}
    lines.write_text("stop\n\nturn [on the light\n")
    with pytest.raises(GrammarError, match=r"phrases.txt, line 3: "):
        Grammar.read(lines)
    lines.write_text(" \n")
    with pytest.raises(GrammarError, match="add what people say"):
        Grammar.read(lines)


def test_billions_of_sentences_are_counted_not_listed(tmp_path: Path):
    expression = " ".join(["[zero, one, two, three, four, five, six, seven, eight, nine]"] * 30)
    text = f'context:\n  expressions:\n    number: ["{expression}"]\n'
    grammar = Grammar.read(write(tmp_path, text))
    assert grammar.count() == 10**30
    assert len(grammar.sample(np.random.default_rng(0)).text.split()) == 30


def test_macros_built_in_numbers_and_empty_slots_are_read(tmp_path: Path):
    text = """context:
  expressions:
    setLamp:
      - "@please [turn, switch] $state:state the (@where) lamp"
      - "set the lamp to $pv.Percent:level"
    goTo: ["go to room $pv.TwoDigitInteger:room", "the $pv.TwoDigitOrdinal:floor floor"]
  slots: {state: ["on", "off"]}
  macros:
    please: [please, could you]
    where: [kitchen, "@place hall"]
    place: [big, small]
"""
    grammar = Grammar.read(write(tmp_path, text))
    assert grammar.slot_names == ["state", "level", "room", "floor"]
    for said, slots in {
        "could you turn on the small hall lamp": {"state": "on"},
        "set the lamp to forty two percent": {"level": "forty two percent"},
        "set the lamp to one hundred percent": {"level": "one hundred percent"},
        "go to room ninety nine": {"room": "ninety nine"},
        "go to room zero": {"room": "zero"},
        "the twentieth floor": {"floor": "twentieth"},
        "the thirty first floor": {"floor": "thirty first"},
    }.items():
        command = grammar.parse(said)
        assert command is not None and command.slots == slots
    for said in ("turn on the lamp", "go to room twenty ten", "the twenty floor"):
        assert grammar.parse(said) is None
    empty = "context:\n  expressions: {stop: [stop]}\n  slots:\n  macros: ~\n"
    assert Grammar.read(write(tmp_path, empty)).count() == 1


@pytest.mark.parametrize(
    ("expressions", "slots", "complaint"),
    [
        (
            "{hours: [wait $n:hours], minutes: [now, wait $n:minutes]}",
            "{n: [one, two]}",
            r"line 2: 'wait one' is both hours and minutes \(line 2\)",
        ),
        (
            "\n    any: [lights in the $room]\n    one: [stop, lights in the kitchen]",
            "{room: [hall, kitchen]}",
            r"line 3: 'lights in the kitchen' is both any and one \(line 4\)",
        ),
        (
            "\n    a: ['$x:p $x:q']\n    b:\n    - stop\n    - '$y:r'",
            "{x: [one, one two], y: [one two one]}",
            r"line 3: 'one two one' is both a and b \(line 6\)",
        ),
    ],
)
def test_a_sentence_with_two_intents_is_refused_with_both_places(
    tmp_path: Path, expressions: str, slots: str, complaint: str
):
    with pytest.raises(GrammarError, match=complaint):
        Grammar.read(write(tmp_path, f"context:\n  expressions: {expressions}\n  slots: {slots}\n"))


def test_two_meanings_of_one_intent_are_allowed(tmp_path: Path):
    text = "context: {expressions: {a: ['$n:x $n:y', '$n:y $n:x']}, slots: {n: [one, two]}}\n"
    command = Grammar.read(write(tmp_path, text)).parse("one two")
    assert command is not None and command.slots == {"x": "one", "y": "two"}


@pytest.mark.parametrize(
    ("slots", "complaint"),
    [
        ([f'"$s{i + 1} $s{i + 1}"' for i in range(22)], "holds more than"),  # 4 million words
        ([f'"a $s{i + 1}", "b $s{i + 1}"' for i in range(30)], "holds more than"),
        ([f'"a $s{i + 1}"' for i in range(3000)], "slots more than"),
    ],
)
def test_slots_that_unfold_without_end_are_refused(
    tmp_path: Path, slots: list[str], complaint: str
):
    lines = [f"    s{i}: [{values}]\n" for i, values in enumerate([*slots, "a"])]
    text = "context:\n  expressions: {a: [$s0]}\n  slots:\n" + "".join(lines)
    with pytest.raises(GrammarError, match=f"line [0-9]*: slot .* {complaint}"):
        Grammar.read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("[" * 3000 + "a" + "]" * 3000, "line 1: brackets lie more than"),
        ("a " * 250_000, "more than 200000 words"),
        (" ".join(["x", *(f"({a}{b})" for a in LETTERS for b in LETTERS)]), "too much open"),
        ("x" * 1_000_000, "has more than 1000000 bytes"),
    ],
)
def test_an_expression_that_nothing_can_compile_is_refused(
    tmp_path: Path, expression: str, complaint: str
):
    text = f"context: {{expressions: {{a: ['{expression}']}}}}\n"
    with pytest.raises(GrammarError, match=complaint) as refusal:
        Grammar.read(write(tmp_path, text))
    assert len(str(refusal.value)) < 600


def test_a_sentence_of_thousands_of_words_is_read(tmp_path: Path):
    words = "one two three four five " * 2000
    grammar = Grammar.read(write(tmp_path, f"context: {{expressions: {{a: ['{words}']}}}}\n"))
    assert grammar.parse(words) is not None and grammar.parse(words + " one") is None


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "&a [*a]\n", "*a\n", "a: " * 9])
def test_yaml_that_is_too_deep_or_circular_is_refused(tmp_path: Path, text: str):
    with pytest.raises(GrammarError, match=r"coffee\.yaml"):
        Grammar.read(write(tmp_path, text))


def test_a_file_that_never_ends_is_refused(tmp_path: Path):
    with pytest.raises(GrammarError, match="is not a file"):
        Grammar.read(Path("/dev/zero"))
    with pytest.raises(GrammarError, match="is not a file"):
        Grammar.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (COFFEE.replace("$drink:", "$drinks:"), r"coffee.yaml, line 4: \$drinks is not defined"),
        (
            COFFEE.replace("small", "$drink"),
            r"line 7: slot size contains itself \(size -> drink -> size\)",
        ),
        (COFFEE.replace("small", "12oz"), r"line 7: '12oz' cannot be said as it is written"),
        (COFFEE.replace("[a, an]", "[a, an"), r"line 4: '\]' is missing"),
        (COFFEE.replace("[a, an]", "a, an]"), r"line 4: ',' has no beginning"),
        (COFFEE.replace("[a, an]", "[a, ]"), r"line 4: an alternative .* has no words"),
        (COFFEE.replace("stop (it)", "(stop)"), r"line 5: an expression of stop may be silence"),
        (COFFEE.replace("    stop", "    halt: [stop]\n    stop"), "'stop' is both halt and stop"),
        (COFFEE.replace("$size:size) $", "$ ) $"), r"line 4: \$ without a name"),
        (COFFEE.replace("  slots", "  slots: {}\n  slots"), r"line 7: slots is there twice"),
        (COFFEE.replace('["small", "eight ounce"]', "[]"), r"line 7: slot size is empty"),
        (COFFEE.replace('["small", "eight ounce"]', "small"), r"line 7: slot size must be a list"),
        (COFFEE.replace('"small"', "{a: b}"), r"line 7: slot size holds something else"),
        ("context: {slots: {}}\n", r"line 1: no `expressions`"),
        ("context: {expressions: {}}\n", r"line 1: no expressions"),
        ("hello: [\n", r"line 2: not YAML"),
        ("", r"the file must be a mapping"),
        ("slots: {}\n", r"line 1: no `context`"),
        (COFFEE.replace("stop:", "? [stop]\n    :"), "line 5: a name in `expressions` is a list"),
        (COFFEE.replace("stop:", "? {stop: b}\n    :"), "line 5: a name in `expressions` is"),
        (COFFEE.replace("stop:", '"":'), "an intent is called ''"),
        (COFFEE.replace("(it)", "@now"), "line 5: @now is not defined: add it under `macros`"),
        (COFFEE.replace("(it)", "@"), "line 5: @ without a name"),
        (COFFEE.replace("(it)", "$pv.Alphabetic"), r"line 5: \$pv.Alphabetic is not among the"),
        (COFFEE + "  macros: {m: ['@m']}\n", r"line 9: macro m contains itself \(@m -> @m\)"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(GrammarError, match=complaint):
        Grammar.read(write(tmp_path, text)).count()


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(GrammarError, match=r"nothing\.yaml: No such file"):
        Grammar.read(tmp_path / "nothing.yaml")


def test_too_many_alternatives_side_by_side_are_refused(tmp_path: Path):
    # (a|b)^k a (a|b)^18: the smallest automaton remembers the last 18 words.
    word = "[a, b]"
    expression = " ".join([f"({word})"] * 20 + ["a"] + [word] * 18)
    text = f'context:\n  expressions:\n    long: ["{expression}"]\n'
    with pytest.raises(GrammarError, match="leaves too much open"):
        Grammar.read(write(tmp_path, text)).count()


def test_a_file_says_how_a_word_is_said(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "context:\n  expressions: {call: [call siobhan on this route]}\n"
        "  pronunciations:\n    Siobhan: SH AH0 V AO1 N\n    route: [r uw t, R AW T]\n"
    )
    grammar = Grammar.read(path)
    ways = {word.text: x for word, x in grammar.pronounced(lambda word: [(0,)]).items()}
    assert ways["siobhan"] == [tuple(ids(["SH", "AH", "V", "AO", "N"]))]
    assert ways["route"] == [tuple(ids(x.split())) for x in ("R UW T", "R AW T")]
    assert ways["call"] == [(0,)]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("mocha: M OH K AH", "line 3: mocha: 'OH' is no phone: there are AA AE"),
        ("mocha: ''", "line 3: mocha needs its phones, as in `mocha: M OW K AH`"),
        ("mocha: {a: b}", "line 3: mocha needs its phones"),
        ("mocha: [M OW, [K]]", "line 3: mocha needs its phones"),
        ("12oz: M OW", "line 3: '12oz' cannot be said as it is written"),
    ],
)
def test_a_pronunciation_that_is_none_is_refused(tmp_path: Path, own: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"context:\n  expressions: {{go: [mocha]}}\n  pronunciations: {{{own}}}\n")
    with pytest.raises(GrammarError) as raised:
        Grammar.read(path)
    assert f"{path}, {message}" in str(raised.value)


def test_a_second_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grammar.yaml"
    path.write_text("context: {expressions: {go: [go]}}\n---\ncontext: {expressions: {up: [up]}}\n")
    with pytest.raises(GrammarError, match="line 2: a second document begins"):
        Grammar.read(path)


@pytest.mark.parametrize(
    "text",
    [
        'context:\n  expressions: {go: [go]}\n  slots: {"a\\nb": []}\n',
        'context: {expressions: {go: [go]}}\n"a\\nb": 1\n"a\\nb": 2\n',
    ],
)
def test_a_name_of_two_lines_is_refused_in_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "grammar.yaml"
    path.write_text(text)
    with pytest.raises(GrammarError) as raised:
        Grammar.read(path)
    assert len(str(raised.value).splitlines()) == 1 and r"a\nb" in str(raised.value)
