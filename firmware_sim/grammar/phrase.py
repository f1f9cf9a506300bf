"""Phrases: what an expression of a grammar, or a value of a slot, consists of."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Word:
    text: str


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several phrases; an optional one has the empty phrase among them."""

    phrases: tuple["Phrase", ...]


@dataclasses.dataclass(frozen=True)
class Slot:
    """A value of `slot`, called `name` in the result; None: the name of the phrase around it."""

    slot: str
    name: str | None


Phrase = tuple[Word | Choice | Slot, ...]
Slots = Mapping[str, Sequence[Phrase]]  # values by slot


def labels(phrase: Phrase, slot: str | None, slots: Slots) -> Iterator[str | None]:
    """The slot of each word that may occur, with repetitions; `slot` is the one around it."""
    return _labels(phrase, slot, slots, set())


def _labels(
    phrase: Phrase, slot: str | None, slots: Slots, known: set[tuple[str, str | None]]
) -> Iterator[str | None]:
    """`known`: slots, and the names around them, whose labels are there already."""
    for item in phrase:
        if isinstance(item, Word):
            yield slot
        elif isinstance(item, Choice):
            for alternative in item.phrases:
                yield from _labels(alternative, slot, slots, known)
        elif (item.slot, item.name or slot) not in known:
            known.add((item.slot, item.name or slot))
            for value in slots[item.slot]:
                yield from _labels(value, item.name or slot, slots, known)


def draw(
    phrase: Phrase, slot: str | None, slots: Slots, rng: np.random.Generator
) -> Iterator[tuple[str, str | None]]:
    """Words of a random sentence, each with its slot; every alternative is equally likely."""
    for item in phrase:
        if isinstance(item, Word):
            yield item.text, slot
        elif isinstance(item, Choice):
            yield from draw(item.phrases[rng.integers(len(item.phrases))], slot, slots, rng)
        else:
            values = slots[item.slot]
            value = values[rng.integers(len(values))]
            yield from draw(value, item.name or slot, slots, rng)


def used_slots(phrase: Phrase) -> Iterator[str]:
    """The slots that a phrase refers to."""
    for item in phrase:
        if isinstance(item, Slot):
            yield item.slot
        elif isinstance(item, Choice):
            for alternative in item.phrases:
                yield from used_slots(alternative)


@dataclasses.dataclass(frozen=True)
class Measure:
    """How large a phrase is when every slot in it is written out."""

    words: int
    depth: int  # of brackets and slots
    may_be_empty: bool  # whether it allows a sentence without words


def measure(phrases: Sequence[Phrase], slots: Mapping[str, Measure]) -> Measure:
    """Of alternatives; `slots` has all that they refer to."""
    words = depth = 0
    empty = False
    for phrase in phrases:
        silent = True
        for item in phrase:
            if isinstance(item, Word):
                words, silent = words + 1, False
                continue
            inner = slots[item.slot] if isinstance(item, Slot) else measure(item.phrases, slots)
            words, depth = words + inner.words, max(depth, inner.depth + 1)
            silent = silent and inner.may_be_empty
        empty = empty or silent
    return Measure(words, depth, empty)
