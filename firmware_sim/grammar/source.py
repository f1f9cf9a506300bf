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
finite.  It may have billions of sentences, so they are never listed.  A file that ends in .txt has
expressions only, one in each line, all of the intent "phrase".

A word that is said in another way than the lexicon has it may be written down in phones, those of
the CMU Pronouncing Dictionary.  The models that were trained for their grammar do not need it.

    context:
      pronunciations:
        siobhan: SH AH V AO N
        route: ["R UW T", "R AW T"]
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from firmware_sim.grammar import ambiguity, compiler, reader
from firmware_sim.grammar.automaton import NO_SLOT, PHONE_VERSION, VERSION, GrammarError, find_path
from firmware_sim.grammar.compiler import Automaton, Spelling
from firmware_sim.grammar.lexicon import Pronunciation
from firmware_sim.grammar.phrase import Phrase, Word, draw, labels, value_of
from firmware_sim.grammar.pronunciation import joined

REJECT_BELOW: Final = 0.1  # confidence below which a result over phones is no command


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
    """Expressions by intent, and the values of slots, as phrases.

    Args:
      collisions: None refuses a sentence with two intents.  A list gets what such sentences are,
        once the grammar was compiled; the first intent holds.
      own: pronunciations of words, which hold instead of others.
    """

    def __init__(
        self,
        name: str,
        expressions: dict[str, list[Phrase]],
        slots: dict[str, list[Phrase]],
        collisions: list[str] | None = None,
        own: Mapping[str, Sequence[Pronunciation]] | None = None,
    ) -> None:
        self.collisions, self.own = collisions, own or {}
        self.left_out: list[str] = []  # templates that need names or free words
        self.names: dict[str, list[list[Phrase]]] = {}  # of a home, by slot and domain
        self.name, self.expressions, self.slots = name, expressions, slots
        self.intents = list(expressions)
        names = labels(itertools.chain(*expressions.values()), slots)
        self.slot_names = [name for name in dict.fromkeys(names) if name is not None]

    @classmethod
    def read(cls, path: Path) -> "Grammar":
        """Reads and checks a file.

        Raises:
          GrammarError: the message says what is wrong, in which line, and what to do.
        """
        content = reader.read(path)
        grammar = cls(path.stem, content.expressions, content.slots, own=content.pronunciations)
        try:
            ambiguous = grammar.two_intents()
        except GrammarError as error:
            raise GrammarError(f"{path}: {error}") from error
        if ambiguous is None:
            return grammar
        words, intents = ambiguous
        lines = [
            next(
                line
                for line, phrase in zip(
                    content.lines[intent], grammar.expressions[intent], strict=True
                )
                if ambiguity.accepts(phrase, words, grammar.slots)
            )
            for intent in intents
        ]
        raise GrammarError(
            f"{path}, line {lines[0]}: {' '.join(words)!r:.200} is both {intents[0]} and "
            f"{intents[1]} (line {lines[1]}): take it out of one of them"
        )

    def two_intents(self) -> tuple[list[str], tuple[str, str]] | None:
        """The words of a sentence that has two intents, and these; None if there is none.

        Raises:
          GrammarError: the grammar is too large.
        """
        try:
            ambiguous = ambiguity.two_intents(self.word_automaton)
        except compiler.TwoIntents as error:
            return [str(token) for token in error.tokens], error.intents
        if ambiguous is None:
            return None
        words, (one, other) = ambiguous
        return words, (self.intents[one], self.intents[other])

    @property
    def words(self) -> list[str]:
        """All words that occur, sorted."""
        return sorted({word.text for word in self._words})

    @property
    def spoken(self) -> list[str]:
        """All words as they are said, sorted: "seventy", "five" for "75"."""
        return sorted({part for word in self._words for part in word.spoken.split()})

    @functools.cached_property
    def _words(self) -> list[Word]:
        words: set[Word] = {label[0] for arcs in self.word_automaton.arcs for label in arcs}
        return sorted(words, key=lambda word: (word.text, word.said, word.value))

    def count(self) -> int:
        """Number of commands: texts, each with its meaning."""
        return self.word_automaton.count()

    def sample(self, rng: np.random.Generator) -> Command:
        """A random command: intent, expression, and every alternative in it are drawn evenly."""
        intent = self.intents[rng.integers(len(self.intents))]
        phrases = self.expressions[intent]
        phrase = phrases[rng.integers(len(phrases))]
        words = list(draw(phrase, None, self.slots, rng))
        return Command(" ".join(word.text for word, _ in words), intent, _values(words))

    def parse(self, text: str) -> Command | None:
        """The meaning of a text; None if it is no sentence of the grammar.

        Of several meanings it takes the first, in this order: a word of no slot, then slots as the
        file first names them.
        """
        automaton, words = self.word_automaton, text.lower().split()
        path = find_path(
            0, len(words), lambda state, i: self._ways(state, words[i]), automaton.finals
        )
        if not path:
            return None
        values = _values(
            [(word, None if slot == NO_SLOT else self.slot_names[slot]) for word, slot, _ in path]
        )
        return Command(" ".join(words), self.intents[automaton.finals[path[-1][-1]]], values)

    def _ways(self, state: int, text: str) -> Iterator[tuple[Word, int, int]]:
        """A state's arcs by a word: the word, its slot, and where it leads."""
        arcs = self.word_automaton.arcs[state].items()
        found = [(word, slot, target) for (word, slot), target in arcs if word.text == text]
        return iter(sorted(found, key=lambda way: way[1]))

    def compile(self, tokenizer: TextEncoder, reject_below: float) -> dict[str, Any]:
        """The grammar as a bundle carries it, for `firmware_sim.grammar.automaton`.

        Args:
          tokenizer: of the bundle's model.
          reject_below: confidence, 0 to 1, below which a result is no command.

        Raises:
          ValueError: a word that the tokenizer cannot spell.
        """

        def spell(word: Word, first: bool) -> list[int]:
            if first:
                return tokenizer.encode(word.text)
            return tokenizer.encode(f"a {word.text}")[len(tokenizer.encode("a")) :]

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
        words = self._words
        automaton = compiler.pronounced(self.word_automaton, self.pronounced(pronounce))
        arcs = sorted(
            [state, phone, target, slot, word]
            for state, arcs in enumerate(automaton.arcs)
            for ((phone, word), slot), target in arcs.items()
        )
        compiled = self._compiled(PHONE_VERSION, automaton, arcs, [], reject_below)
        compiled["words"] = [word.text for word in words]
        if any(word.said for word in words):
            compiled["said"] = [word.said for word in words]
        if any(word.value for word in words):
            compiled["values"] = [word.value for word in words]
        return compiled

    def pronounced(
        self, pronounce: Callable[[str], Sequence[Sequence[int]]]
    ) -> dict[Word, list[Pronunciation]]:
        """The pronunciations of each word, those of the file before others."""
        return {
            word: joined([self.own.get(x) or pronounce(x) for x in word.spoken.split()])
            for word in self._words
        }

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
                own = [slot for slot in self.slots if not slot.startswith(reader.MACRO)]
                known = ", ".join(own) or "none"
                raise GrammarError(f"grammar {self.name} has no slot {name!r}: there are {known}")
            phrases = [tuple(Word(word) for word in _plain(value)) for value in values]
            extended[name] = [*self.slots[name], *phrases]
        grammar = Grammar(self.name, self.expressions, extended, self.collisions, self.own)
        ambiguous = grammar.two_intents() if self.collisions is None else None
        if ambiguous is not None:
            words, (one, other) = ambiguous
            raise GrammarError(
                f"grammar {self.name}: with these values {' '.join(words)!r:.200} is both {one} "
                f"and {other}: leave some out"
            )
        return grammar

    def automaton(self, spell: Spelling) -> Automaton:
        """The automaton over the tokens of words; see `compiler.build`."""
        return compiler.build(
            self.name, self.expressions, self.slots, self.slot_names, spell, self.collisions
        )

    @functools.cached_property
    def word_automaton(self) -> Automaton:
        """The automaton over words."""
        return self.automaton(lambda word, first: [word])


def _plain(value: str) -> list[str]:
    """The words of a slot's value."""
    words = value.lower().replace("\u2019", "'").split()
    if not words or not all(reader.WORD.fullmatch(word) for word in words):
        raise GrammarError(f"{value!r} cannot be said as it is written: spell it in letters")
    return words


def _values(words: Sequence[tuple[Word, str | None]]) -> dict[str, str]:
    """The value of each slot from the words of a sentence and their slots."""
    slots: dict[str, list[Word]] = {}
    for word, slot in words:
        if slot is not None:
            slots.setdefault(slot, []).append(word)
    return {slot: value_of(value) for slot, value in slots.items()}
