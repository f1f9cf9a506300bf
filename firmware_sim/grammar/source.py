"""Grammars of spoken commands: what may be said, and what it means.

    python -m firmware_sim.grammar.source FILE.yaml [--sample=20]

A grammar is a YAML file in the form of Picovoice's speech-to-intent benchmark:

    context:
      expressions:
        orderDrink:
          - "[make me, I want] [a, an] ($size:size) $drink:coffeeDrink"
      slots:
        size: ["small", "eight ounce"]
        drink: ["espresso", "latte"]

`[a, b c]` are alternatives, `(a, b)` are some that may be left out, `$slot:name` stands for one of
the slot's values and puts its words into the result as `name`. Values may use all of this too; a
word counts for the innermost name around it. A `$slot` without a name goes by the slot's own in an
expression; in a value it is a part of that value. Nothing may contain itself, so every grammar is
finite; it may well have billions of sentences, and is never listed.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from absl import app, flags

from tf_speech_transformer.text.tokenizer import Tokenizer

MOST_STATES = 100_000  # of an automaton; barista's has 300
NO_SLOT = -1
VERSION = 1  # of what `compile` gives a bundle
_WORD = re.compile(r"[a-z']+")
_LEXEME = re.compile(r"[\[\](),]|\$[\w.]+(?::\w+)?|[^\s\[\](),$]+|\$")
_CLOSING = {"[": "]", "(": ")"}


class GrammarError(ValueError):
    """A grammar that cannot be used; the message names file and line."""


@dataclasses.dataclass(frozen=True)
class Word:
    text: str


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several phrases; an optional one has the empty phrase among them."""

    phrases: tuple["Phrase", ...]


@dataclasses.dataclass(frozen=True)
class Slot:
    """A value of `slot`, called `name` in the result; None: as what is around it."""

    slot: str
    name: str | None


Phrase = tuple[Word | Choice | Slot, ...]


@dataclasses.dataclass(frozen=True)
class Command:
    """A sentence and what it means; `slots` in the order of speech."""

    text: str
    intent: str
    slots: dict[str, str]


Label = tuple[Hashable, int]  # a token, and the index of the slot it belongs to or NO_SLOT


@dataclasses.dataclass(frozen=True)
class Automaton:
    """The sentences of a grammar as token sequences: minimal, without cycles, state 0 first.

    `arcs[state]` leads by (token, slot) to a state: by one at most for each label, but a token may
    come with several slots. `finals` gives the intent of what ends in a state.
    """

    arcs: list[dict[Label, int]]
    finals: dict[int, int]


class Grammar:
    """Expressions by intent, and the values of slots, as phrases."""

    def __init__(
        self, name: str, expressions: dict[str, list[Phrase]], slots: dict[str, list[Phrase]]
    ) -> None:
        self.name, self.expressions, self.slots = name, expressions, slots
        self.intents = list(expressions)
        names = (
            name
            for phrases in expressions.values()
            for phrase in phrases
            for name in self._labels(phrase, None)
        )
        self.slot_names = [name for name in dict.fromkeys(names) if name is not None]

    @classmethod
    def read(cls, path: Path) -> "Grammar":
        """Reads and checks a file.

        Raises:
            GrammarError: what is wrong, in which line, and what to do.
        """
        return _Reader(path).grammar()

    @property
    def words(self) -> list[str]:
        """All words that occur, sorted."""
        arcs = (label[0] for arcs in self.word_automaton.arcs for label in arcs)
        return sorted({str(word) for word in arcs})

    def count(self) -> int:
        """How many commands there are: texts, each with its meaning."""
        automaton = self.word_automaton
        counts: dict[int, int] = {}
        for state in _backwards(automaton.arcs):
            following = sum(counts[target] for target in automaton.arcs[state].values())
            counts[state] = following + (state in automaton.finals)
        return counts[0]

    def sample(self, rng: np.random.Generator) -> Command:
        """A random command: intent, expression, and every alternative in it are drawn evenly."""
        intent = self.intents[rng.integers(len(self.intents))]
        phrases = self.expressions[intent]
        words: list[tuple[str, str | None]] = []
        self._draw(phrases[rng.integers(len(phrases))], None, rng, words)
        slots: dict[str, list[str]] = {}
        for word, slot in words:
            if slot is not None:
                slots.setdefault(slot, []).append(word)
        text = " ".join(word for word, _ in words)
        return Command(text, intent, {slot: " ".join(value) for slot, value in slots.items()})

    def parse(self, text: str) -> Command | None:
        """The meaning of a text; None if it is no sentence of the grammar.

        Of several meanings the first is taken, in the order: word of no slot, slots as they are
        first named in the file.
        """
        automaton, words = self.word_automaton, text.lower().split()

        def search(state: int, i: int) -> tuple[int, list[int]] | None:
            if i == len(words):
                return (automaton.finals[state], []) if state in automaton.finals else None
            for slot in range(NO_SLOT, len(self.slot_names)):
                target = automaton.arcs[state].get((words[i], slot))
                found = None if target is None else search(target, i + 1)
                if found is not None:
                    return found[0], [slot, *found[1]]
            return None

        found = search(0, 0)
        if found is None:
            return None
        slots: dict[str, list[str]] = {}
        for word, slot in zip(words, found[1], strict=True):
            if slot != NO_SLOT:
                slots.setdefault(self.slot_names[slot], []).append(word)
        values = {slot: " ".join(value) for slot, value in slots.items()}
        return Command(" ".join(words), self.intents[found[0]], values)

    def compile(self, tokenizer: Tokenizer, reject_below: float) -> dict[str, Any]:
        """The grammar as a bundle carries it, for `firmware_sim.grammar.automaton`.

        Args:
            tokenizer: of the bundle's model.
            reject_below: confidence, 0 to 1, under which a result is no command.

        Raises:
            ValueError: a word that the tokenizer cannot spell.
        """

        def spell(word: str, first: bool) -> list[int]:
            if first:
                return tokenizer.encode(word)
            return tokenizer.encode(f"a {word}")[len(tokenizer.encode("a")) :]

        automaton = self.automaton(spell)
        return {
            "version": VERSION,
            "name": self.name,
            "intents": self.intents,
            "slots": self.slot_names,
            "states": len(automaton.arcs),
            "start": 0,
            "arcs": sorted(
                [state, token, target, slot]
                for state, arcs in enumerate(automaton.arcs)
                for (token, slot), target in arcs.items()
            ),
            "finals": sorted(map(list, automaton.finals.items())),
            "between": tokenizer.encode("a a")[len(tokenizer.encode("a")) : -1],
            "reject_below": reject_below,
        }

    def automaton(self, spell: Callable[[str, bool], Sequence[Hashable]]) -> Automaton:
        """The automaton over the tokens of words.

        Args:
            spell: tokens of a word; the second argument says whether it is a sentence's first.

        Raises:
            GrammarError: a sentence has two intents, or there are more than `MOST_STATES` states.
        """
        return _minimal(*self._deterministic(spell))

    @functools.cached_property
    def word_automaton(self) -> Automaton:
        """The automaton over words."""
        return self.automaton(lambda word, first: [word])

    def _labels(self, phrase: Phrase, slot: str | None) -> Iterator[str | None]:
        """The slot of each word that may occur, again and again."""
        for item in phrase:
            if isinstance(item, Word):
                yield slot
            elif isinstance(item, Choice):
                for alternative in item.phrases:
                    yield from self._labels(alternative, slot)
            else:
                for value in self.slots[item.slot]:
                    yield from self._labels(value, item.name or slot)

    def _draw(
        self,
        phrase: Phrase,
        slot: str | None,
        rng: np.random.Generator,
        words: list[tuple[str, str | None]],
    ) -> None:
        for item in phrase:
            if isinstance(item, Word):
                words.append((item.text, slot))
            elif isinstance(item, Choice):
                self._draw(item.phrases[rng.integers(len(item.phrases))], slot, rng, words)
            else:
                values = self.slots[item.slot]
                self._draw(values[rng.integers(len(values))], item.name or slot, rng, words)

    def _deterministic(
        self, spell: Callable[[str, bool], Sequence[Hashable]]
    ) -> tuple[list[dict[Label, int]], dict[int, int]]:
        """An automaton with one state for each set of places that the same labels lead to."""
        places: list[list[tuple[Label | None, int]]] = []  # by place: arcs; without a label: free

        def place() -> int:
            places.append([])
            return len(places) - 1

        def lay(phrase: Phrase, slot: str | None, starts: dict[bool, int]) -> dict[bool, int]:
            """Adds arcs; places by whether the next word is the sentence's first, then as now."""
            for item in phrase:
                ends: dict[bool, int] = {}

                def join(first: bool, end: int, ends: dict[bool, int] = ends) -> None:
                    if first not in ends:
                        ends[first] = place()
                    places[end].append((None, ends[first]))

                for first, start in starts.items():
                    if isinstance(item, Word):
                        index = NO_SLOT if slot is None else self.slot_names.index(slot)
                        end = start
                        for token in spell(item.text, first):
                            places[end].append(((token, index), len(places)))
                            end = place()
                        join(False, end)
                        continue
                    if isinstance(item, Choice):
                        phrases, inner = item.phrases, slot
                    else:
                        phrases = tuple(self.slots[item.slot])
                        inner = item.name or slot
                    for alternative in phrases:
                        begin = place()
                        places[start].append((None, begin))
                        for silent, end in lay(alternative, inner, {first: begin}).items():
                            join(silent, end)
                starts = ends
            return starts

        start = place()
        intent_of: dict[int, int] = {}
        for intent, phrases in enumerate(self.expressions.values()):
            for phrase in phrases:
                for end in lay(phrase, None, {True: start}).values():
                    intent_of[end] = intent

        def reach(seeds: set[int]) -> frozenset[int]:
            found, stack = set(seeds), list(seeds)
            while stack:
                for label, target in places[stack.pop()]:
                    if label is None and target not in found:
                        found.add(target)
                        stack.append(target)
            # Places with nothing but free arcs tell states apart without need.
            return frozenset(
                x for x in found if x in intent_of or any(y is not None for y, _ in places[x])
            )

        first_state = reach({start})
        numbers = {first_state: 0}
        waiting: list[tuple[frozenset[int], tuple[Hashable, ...]]] = [(first_state, ())]
        arcs: list[dict[Label, int]] = []
        finals: dict[int, int] = {}
        for members, said in waiting:  # grows while it is gone through
            intents = sorted({intent_of[x] for x in members if x in intent_of})
            if len(intents) > 1:
                one, other, *_ = (self.intents[i] for i in intents)
                sentence = " ".join(map(str, said))
                raise GrammarError(
                    f"grammar {self.name}: {sentence!r} is both {one} and {other}: "
                    "take it out of one of them"
                )
            if intents:
                finals[len(arcs)] = intents[0]
            targets: dict[Label, set[int]] = {}
            for member in sorted(members):
                for label, target in places[member]:
                    if label is not None:
                        targets.setdefault(label, set()).add(target)
            here: dict[Label, int] = {}
            for label, seeds in targets.items():
                following = reach(seeds)
                if following not in numbers:
                    numbers[following] = len(numbers)
                    waiting.append((following, (*said, label[0])))
                here[label] = numbers[following]
            arcs.append(here)
            if len(numbers) > MOST_STATES:
                raise GrammarError(
                    f"grammar {self.name} needs more than {MOST_STATES} states: "
                    "say it with fewer alternatives side by side"
                )
        return arcs, finals


def _minimal(arcs: list[dict[Label, int]], finals: dict[int, int]) -> Automaton:
    """Merges states that the same sentences follow; states are numbered from the start on."""
    merged: dict[int, int] = {}
    known: dict[Hashable, int] = {}
    for state in _backwards(arcs):
        followers = frozenset((label, merged[target]) for label, target in arcs[state].items())
        merged[state] = known.setdefault((finals.get(state), followers), state)
    numbers = {merged[0]: 0}
    order = [merged[0]]
    for state in order:  # grows while it is gone through
        for target in arcs[state].values():
            if merged[target] not in numbers:
                numbers[merged[target]] = len(numbers)
                order.append(merged[target])
    return Automaton(
        [{label: numbers[merged[x]] for label, x in arcs[state].items()} for state in order],
        {numbers[state]: finals[state] for state in order if state in finals},
    )


def _backwards(arcs: list[dict[Label, int]]) -> list[int]:
    """The states that can be reached from 0, each after all that follow it."""
    done: dict[int, None] = {}
    stack: list[tuple[int, Iterator[int]]] = [(0, iter(arcs[0].values()))]
    while stack:
        state, targets = stack[-1]
        target = next((x for x in targets if x not in done), None)
        if target is None:
            done[state] = None
            stack.pop()
        else:
            stack.append((target, iter(arcs[target].values())))
    return list(done)


def _used(phrase: Phrase) -> Iterator[str]:
    for item in phrase:
        if isinstance(item, Slot):
            yield item.slot
        elif isinstance(item, Choice):
            for alternative in item.phrases:
                yield from _used(alternative)


# ---------------------------------------------------------------------------------------- reading


class _Reader:
    """One file; every complaint goes through `fail`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, int] = {}  # of the definition of each slot

    def fail(self, node: yaml.Node | None, problem: str) -> GrammarError:
        where = f", line {node.start_mark.line + 1}" if node is not None else ""
        return GrammarError(f"{self.path}{where}: {problem}")

    def grammar(self) -> Grammar:
        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise GrammarError(f"{self.path}: {error.strerror}: name a grammar file") from error
        except UnicodeDecodeError as error:
            raise GrammarError(
                f"{self.path} is not text in UTF-8: save it as such ({error})"
            ) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or "it cannot be read"
            raise GrammarError(f"{self.path}{where}: not YAML: {problem}") from error
        top = self.mapping(root, "the file")
        if "context" not in top:
            raise self.fail(root, "no `context`: put `expressions` and `slots` under one")
        context = self.mapping(top["context"], "`context`")
        if "expressions" not in context:
            raise self.fail(top["context"], "no `expressions`: add an intent with what people say")
        intents = self.mapping(context["expressions"], "`expressions`")
        slots_node = context.get("slots")
        slot_nodes = self.mapping(slots_node, "`slots`") if slots_node is not None else {}
        if not intents:
            raise self.fail(context["expressions"], "no expressions: add an intent with some")
        slots = {
            name: self.phrases(node, f"slot {name}", True) for name, node in slot_nodes.items()
        }
        expressions = {
            name: self.phrases(node, f"intent {name}", False) for name, node in intents.items()
        }
        for node, phrases in [
            *((slot_nodes[name], values) for name, values in slots.items()),
            *((intents[name], values) for name, values in expressions.items()),
        ]:
            for item, phrase in zip(node.value, phrases, strict=True):
                for used in _used(phrase):
                    if used not in slots:
                        raise self.fail(
                            item, f"${used} is not defined: add it under `slots` or rename it"
                        )
        for name in slots:
            self.refuse_recursion(name, slots, slot_nodes, ())
        for name, node in intents.items():
            for item, phrase in zip(node.value, expressions[name], strict=True):
                if _may_be_empty(phrase, slots):
                    raise self.fail(item, f"an expression of {name} may be silence: add a word")
        return Grammar(self.path.stem, expressions, slots)

    def mapping(self, node: yaml.Node | None, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, f"{what} must be a mapping of names")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value in found:
                raise self.fail(key, f"{key.value} is there twice: keep one")
            found[key.value] = value
        return found

    def phrases(self, node: yaml.Node, what: str, values: bool) -> list[Phrase]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, f"{what} must be a list")
        if not node.value:
            raise self.fail(node, f"{what} is empty: add what people say")
        return [self.phrase(item, what, values) for item in node.value]

    def phrase(self, node: yaml.Node, what: str, value: bool) -> Phrase:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, f"{what} holds something else than texts")
        lexemes = _LEXEME.findall(node.value)
        position = 0

        def sequence(closing: str) -> Phrase:
            nonlocal position
            items: list[Word | Choice | Slot] = []
            while position < len(lexemes):
                lexeme = lexemes[position]
                if lexeme in ("]", ")", ","):
                    if not closing or (lexeme != "," and lexeme != closing):
                        raise self.fail(node, f"{lexeme!r} has no beginning in {node.value!r}")
                    return tuple(items)
                position += 1
                if lexeme in _CLOSING:
                    items.append(choice(lexeme))
                elif lexeme == "$":
                    raise self.fail(node, f"$ without a name in {node.value!r}")
                elif lexeme.startswith("$"):
                    slot, _, name = lexeme[1:].partition(":")
                    items.append(Slot(slot, name or (None if value else slot)))
                else:
                    items.append(self.word(node, lexeme))
            if closing:
                raise self.fail(node, f"{closing!r} is missing in {node.value!r}")
            return tuple(items)

        def choice(opening: str) -> Choice:
            nonlocal position
            phrases: list[Phrase] = [] if opening == "[" else [()]
            while True:
                phrase = sequence(_CLOSING[opening])
                if not phrase:
                    raise self.fail(node, f"an alternative of {node.value!r} has no words")
                phrases.append(phrase)
                position += 1
                if lexemes[position - 1] != ",":
                    return Choice(tuple(phrases))

        phrase = sequence("")
        if not phrase:
            raise self.fail(node, f"{what} holds a text without words")
        return phrase

    def word(self, node: yaml.Node, text: str) -> Word:
        word = text.lower().replace("\u2019", "'")
        if not _WORD.fullmatch(word):
            raise self.fail(
                node,
                f"{text!r} cannot be said as it is written: spell it in the letters a to z "
                "(an apostrophe is allowed), as 'twelve ounce' for '12oz'",
            )
        return Word(word)

    def refuse_recursion(
        self,
        name: str,
        slots: dict[str, list[Phrase]],
        nodes: dict[str, yaml.Node],
        above: tuple[str, ...],
    ) -> None:
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise self.fail(
                nodes[name], f"slot {name} contains itself ({circle}): break the circle"
            )
        for phrase in slots[name]:
            for used in _used(phrase):
                self.refuse_recursion(used, slots, nodes, (*above, name))


def _may_be_empty(phrase: Phrase, slots: dict[str, list[Phrase]]) -> bool:
    for item in phrase:
        if isinstance(item, Word):
            return False
        phrases = item.phrases if isinstance(item, Choice) else slots[item.slot]
        if not any(_may_be_empty(x, slots) for x in phrases):
            return False
    return True


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("give one grammar file")
    try:
        grammar = Grammar.read(Path(argv[1]))
        count, words = grammar.count(), grammar.words
        states = len(grammar.word_automaton.arcs)
    except GrammarError as error:
        sys.exit(f"grammar: {error}")
    print(
        f"{grammar.name}: {len(grammar.intents)} intents, {len(grammar.slot_names)} slots, "
        f"{len(words)} words, {count:,} commands, {states} states"
    )
    rng = np.random.default_rng(flags.FLAGS.seed)
    for _ in range(flags.FLAGS.sample):
        command = grammar.sample(rng)
        slots = ", ".join(f"{name}: {value}" for name, value in command.slots.items())
        print(f"{command.text}\t{command.intent}({slots})")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_integer("sample", 10, "Random commands to print.", 0)
    flags.DEFINE_integer("seed", 1, "Of the random commands.")
    app.run(main)


if __name__ == "__main__":
    run()
