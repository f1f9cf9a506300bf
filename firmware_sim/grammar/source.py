"""Grammars of spoken commands: what may be said, and what it means.

A grammar is a YAML file in the form of Picovoice's speech-to-intent benchmark:

    context:
      expressions:
        orderDrink:
          - "[make me, I want] [a, an] ($size:size) $drink:coffeeDrink"
      slots:
        size: ["small", "eight ounce"]
        drink: ["espresso", "latte"]

`[a, b c]` are alternatives, `(a, b)` are optional alternatives.  `$slot:name` stands for one of the
slot's values and puts its words into the result as `name`.  Values may use the same syntax; a word
belongs to the innermost name around it.  In an expression, a `$slot` without a name has its own
name; in a value it is a part of that value.  Nothing may contain itself, so every grammar is
finite.  It may have billions of sentences, so they are never listed.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import yaml

from firmware_sim.grammar import compiler
from firmware_sim.grammar.automaton import NO_SLOT, NO_WORD, PHONE_VERSION, VERSION, GrammarError
from firmware_sim.grammar.compiler import Automaton, Spelling
from firmware_sim.grammar.phrase import (
    Choice,
    Phrase,
    Slot,
    Word,
    draw,
    labels,
    may_be_empty,
    used_slots,
)

REJECT_BELOW: Final = 0.3  # confidence below which a result over phones is no command
_WORD: Final = re.compile(r"[a-z']+")
_LEXEME: Final = re.compile(r"[\[\](),]|\$[\w.]+(?::\w+)?|[^\s\[\](),$]+|\$")
_CLOSING: Final = {"[": "]", "(": ")"}


class TextEncoder(Protocol):
    """The part of a tokenizer that a grammar needs."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start and end.  Raises ValueError if it cannot be spelt."""
        ...


@dataclasses.dataclass(frozen=True)
class Command:
    """A sentence and what it means; `slots` in the order of speech."""

    text: str
    intent: str
    slots: dict[str, str]


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
            for name in labels(phrase, None, slots)
        )
        self.slot_names = [name for name in dict.fromkeys(names) if name is not None]

    @classmethod
    def read(cls, path: Path) -> "Grammar":
        """Reads and checks a file.

        Raises:
          GrammarError: the message says what is wrong, in which line, and what to do.
        """
        return _Reader(path).grammar()

    @property
    def words(self) -> list[str]:
        """All words that occur, sorted."""
        arcs = (label[0] for arcs in self.word_automaton.arcs for label in arcs)
        return sorted({str(word) for word in arcs})

    def count(self) -> int:
        """Number of commands: texts, each with its meaning."""
        return self.word_automaton.count()

    def sample(self, rng: np.random.Generator) -> Command:
        """A random command: intent, expression, and every alternative in it are drawn evenly."""
        intent = self.intents[rng.integers(len(self.intents))]
        phrases = self.expressions[intent]
        phrase = phrases[rng.integers(len(phrases))]
        words = list(draw(phrase, None, self.slots, rng))
        return Command(" ".join(word for word, _ in words), intent, _values(words))

    def parse(self, text: str) -> Command | None:
        """The meaning of a text; None if it is no sentence of the grammar.

        Of several meanings it takes the first, in this order: a word of no slot, then slots as the
        file first names them.
        """
        automaton, words = self.word_automaton, text.lower().split()

        def search(state: int, i: int) -> tuple[int, list[int]] | None:
            if i == len(words):
                return (automaton.finals[state], []) if state in automaton.finals else None
            for slot in range(NO_SLOT, len(self.slot_names)):
                target = automaton.arcs[state].get((words[i], slot))
                rest = None if target is None else search(target, i + 1)
                if rest is not None:
                    return rest[0], [slot, *rest[1]]
            return None

        meaning = search(0, 0)
        if meaning is None:
            return None
        intent, slots = meaning
        names = (None if slot == NO_SLOT else self.slot_names[slot] for slot in slots)
        values = _values(list(zip(words, names, strict=True)))
        return Command(" ".join(words), self.intents[intent], values)

    def compile(self, tokenizer: TextEncoder, reject_below: float) -> dict[str, Any]:
        """The grammar as a bundle carries it, for `firmware_sim.grammar.automaton`.

        Args:
          tokenizer: of the bundle's model.
          reject_below: confidence, 0 to 1, below which a result is no command.

        Raises:
          ValueError: a word that the tokenizer cannot spell.
        """

        def spell(word: str, first: bool) -> list[list[int]]:
            if first:
                return [tokenizer.encode(word)]
            return [tokenizer.encode(f"a {word}")[len(tokenizer.encode("a")) :]]

        automaton = self.automaton(spell)
        arcs = sorted(
            [state, token, target, slot]
            for state, arcs in enumerate(automaton.arcs)
            for (token, slot), target in arcs.items()
        )
        between = tokenizer.encode("a a")[len(tokenizer.encode("a")) : -1]
        return self._compiled(VERSION, automaton, arcs, between, reject_below)

    def compile_phones(
        self,
        pronounce: Callable[[str], Sequence[Sequence[int]]],
        reject_below: float = REJECT_BELOW,
    ) -> dict[str, Any]:
        """The same over phones, for a model that was never trained on the grammar.

        Args:
          pronounce: the pronunciations of a word, each a sequence of phones.
        """
        words = self.words
        numbers = {word: number for number, word in enumerate(words)}

        def spell(word: str, first: bool) -> list[list[tuple[int, int]]]:
            return [
                [*((phone, NO_WORD) for phone in phones[:-1]), (phones[-1], numbers[word])]
                for phones in pronounce(word)
            ]

        automaton = self.automaton(spell)
        arcs = sorted(
            [state, phone, target, slot, word]
            for state, arcs in enumerate(automaton.arcs)
            for ((phone, word), slot), target in arcs.items()
        )
        compiled = self._compiled(PHONE_VERSION, automaton, arcs, [], reject_below)
        return {**compiled, "words": words}

    def _compiled(
        self,
        version: int,
        automaton: Automaton,
        arcs: list[list[int]],
        between: list[int],
        reject_below: float,
    ) -> dict[str, Any]:
        return {
            "version": version,
            "name": self.name,
            "intents": self.intents,
            "slots": self.slot_names,
            "states": len(automaton.arcs),
            "start": 0,
            "arcs": arcs,
            "finals": sorted(map(list, automaton.finals.items())),
            "between": between,
            "reject_below": reject_below,
        }

    def with_values(self, slots: Mapping[str, Iterable[str]]) -> "Grammar":
        """The grammar with further values of slots: names of contacts, of rooms.

        Args:
          slots: for names of the file's `slots`, words in letters.

        Raises:
          GrammarError: there is no such slot, or a value has a character that is no letter.
        """
        extended = dict(self.slots)
        for name, values in slots.items():
            if name not in self.slots:
                known = ", ".join(self.slots) or "none"
                raise GrammarError(f"grammar {self.name} has no slot {name!r}: there are {known}")
            phrases = [tuple(Word(word) for word in _plain(value)) for value in values]
            extended[name] = [*self.slots[name], *phrases]
        return Grammar(self.name, self.expressions, extended)

    def automaton(self, spell: Spelling) -> Automaton:
        """The automaton over the tokens of words; see `compiler.build`."""
        return compiler.build(self.name, self.expressions, self.slots, self.slot_names, spell)

    @functools.cached_property
    def word_automaton(self) -> Automaton:
        """The automaton over words."""
        return self.automaton(lambda word, first: [[word]])


def _plain(value: str) -> list[str]:
    """The words of a slot's value."""
    words = value.lower().replace("\u2019", "'").split()
    if not words or not all(_WORD.fullmatch(word) for word in words):
        raise GrammarError(f"{value!r} cannot be said as it is written: spell it in letters")
    return words


def _values(words: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """The text of each slot from the words of a sentence and their slots."""
    slots: dict[str, list[str]] = {}
    for word, slot in words:
        if slot is not None:
            slots.setdefault(slot, []).append(word)
    return {slot: " ".join(value) for slot, value in slots.items()}


class _Reader:
    """Reads one file; `error` adds its path and the line to a message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, int] = {}  # of the definition of each slot

    def error(self, node: yaml.Node | None, problem: str) -> GrammarError:
        where = f", line {node.start_mark.line + 1}" if node is not None else ""
        return GrammarError(f"{self.path}{where}: {problem}")

    def grammar(self) -> Grammar:
        root = self.compose()
        top = self.mapping(root, "the file")
        if "context" not in top:
            raise self.error(root, "no `context`: put `expressions` and `slots` under one")
        context = self.mapping(top["context"], "`context`")
        if "expressions" not in context:
            raise self.error(top["context"], "no `expressions`: add an intent with what people say")
        intents = self.mapping(context["expressions"], "`expressions`")
        slots_node = context.get("slots")
        slot_nodes = self.mapping(slots_node, "`slots`") if slots_node is not None else {}
        if not intents:
            raise self.error(context["expressions"], "no expressions: add an intent with some")
        slots = {
            name: self.phrases(node, f"slot {name}", True) for name, node in slot_nodes.items()
        }
        expressions = {
            name: self.phrases(node, f"intent {name}", False) for name, node in intents.items()
        }
        self.check_slots_exist(slot_nodes, slots, slots)
        self.check_slots_exist(intents, expressions, slots)
        for name in slots:
            self.refuse_recursion(name, slots, slot_nodes, ())
        for name, node in intents.items():
            for item, phrase in zip(node.value, expressions[name], strict=True):
                if may_be_empty(phrase, slots):
                    raise self.error(item, f"an expression of {name} may be silence: add a word")
        return Grammar(self.path.stem, expressions, slots)

    def compose(self) -> yaml.Node | None:
        """The nodes of the file."""
        try:
            return yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
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

    def check_slots_exist(
        self,
        nodes: Mapping[str, yaml.Node],
        phrases: Mapping[str, Sequence[Phrase]],
        slots: Mapping[str, Sequence[Phrase]],
    ) -> None:
        for name, node in nodes.items():
            for item, phrase in zip(node.value, phrases[name], strict=True):
                for slot in used_slots(phrase):
                    if slot not in slots:
                        raise self.error(
                            item, f"${slot} is not defined: add it under `slots` or rename it"
                        )

    def mapping(self, node: yaml.Node | None, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must be a mapping of names")
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value in entries:
                raise self.error(key, f"{key.value} is there twice: keep one")
            entries[key.value] = value
        return entries

    def phrases(self, node: yaml.Node, what: str, values: bool) -> list[Phrase]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{what} must be a list")
        if not node.value:
            raise self.error(node, f"{what} is empty: add what people say")
        return [self.phrase(item, what, values) for item in node.value]

    def phrase(self, node: yaml.Node, what: str, value: bool) -> Phrase:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"{what} holds something else than texts")
        lexemes = _LEXEME.findall(node.value)
        position = 0

        def sequence(closing: str) -> Phrase:
            nonlocal position
            items: list[Word | Choice | Slot] = []
            while position < len(lexemes):
                lexeme = lexemes[position]
                if lexeme in ("]", ")", ","):
                    if not closing or (lexeme != "," and lexeme != closing):
                        raise self.error(node, f"{lexeme!r} has no beginning in {node.value!r}")
                    return tuple(items)
                position += 1
                if lexeme in _CLOSING:
                    items.append(choice(lexeme))
                elif lexeme == "$":
                    raise self.error(node, f"$ without a name in {node.value!r}")
                elif lexeme.startswith("$"):
                    slot, _, name = lexeme[1:].partition(":")
                    items.append(Slot(slot, name or (None if value else slot)))
                else:
                    items.append(self.word(node, lexeme))
            if closing:
                raise self.error(node, f"{closing!r} is missing in {node.value!r}")
            return tuple(items)

        def choice(opening: str) -> Choice:
            nonlocal position
            phrases: list[Phrase] = [] if opening == "[" else [()]
            while True:
                phrase = sequence(_CLOSING[opening])
                if not phrase:
                    raise self.error(node, f"an alternative of {node.value!r} has no words")
                phrases.append(phrase)
                position += 1
                if lexemes[position - 1] != ",":
                    return Choice(tuple(phrases))

        phrase = sequence("")
        if not phrase:
            raise self.error(node, f"{what} holds a text without words")
        return phrase

    def word(self, node: yaml.Node, text: str) -> Word:
        word = text.lower().replace("\u2019", "'")
        if not _WORD.fullmatch(word):
            raise self.error(
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
            raise self.error(
                nodes[name], f"slot {name} contains itself ({circle}): break the circle"
            )
        for phrase in slots[name]:
            for used in used_slots(phrase):
                self.refuse_recursion(used, slots, nodes, (*above, name))
