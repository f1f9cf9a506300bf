"""Phrases: what an expression of a grammar, or a value of a slot, consists of."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Word:
    """A word as it is written, how it is said, and what it means.

    "75" is said "seventy five".  The value of a slot whose last word has a `value` is that one
    instead of its words: a door that is "closed" is "off".
    """

    text: str
    said: str = ""  # words with spaces between them; empty: as it is written
    value: str = ""  # empty: the words of the slot

    def __str__(self) -> str:
        return self.text

    @property
    def spoken(self) -> str:
        return self.said or self.text


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


def labels(phrases: Iterable[Phrase], slots: Slots) -> Iterator[str | None]:
    """The slot of each word that may occur in some phrases, with repetitions."""
    known: set[tuple[str, str | None]] = set()
    for phrase in phrases:
        yield from _labels(phrase, None, slots, known)


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
) -> Iterator[tuple[Word, str | None]]:
    """Words of a random sentence, each with its slot; every alternative is equally likely."""
    for item in phrase:
        if isinstance(item, Word):
            yield item, slot
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


def ended(phrase: Phrase, value: str) -> list[Phrase]:
    """The sentences of a phrase without slots, but the empty one; their last words have `value`."""
    if not phrase:
        return []
    *before, last = phrase
    ends: list[Phrase]
    if isinstance(last, Word):
        ends = [(dataclasses.replace(last, value=value),)]
    elif isinstance(last, Choice):
        ends = [end for alternative in last.phrases for end in ended(alternative, value)]
    else:
        raise ValueError(f"{last.slot} is a slot within a value")
    result = [(*before, *end) for end in ends]
    if measure([(last,)], {}).may_be_empty:
        result += ended(tuple(before), value)
    return list(dict.fromkeys(result))


def value_of(words: Sequence[Word]) -> str:
    """The value of a slot from its words."""
    values = [word.value for word in words if word.value]
    return values[-1] if values else " ".join(word.text for word in words)


def said(words: Sequence[Word]) -> str:
    """Words as people say them."""
    return " ".join(word.spoken for word in words)
