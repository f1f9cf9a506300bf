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
    for item in phrase:
        if isinstance(item, Word):
            yield slot
        elif isinstance(item, Choice):
            for alternative in item.phrases:
                yield from labels(alternative, slot, slots)
        else:
            for value in slots[item.slot]:
                yield from labels(value, item.name or slot, slots)


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


def may_be_empty(phrase: Phrase, slots: Slots) -> bool:
    """Whether a phrase allows a sentence without words."""
    for item in phrase:
        if isinstance(item, Word):
            return False
        phrases = item.phrases if isinstance(item, Choice) else slots[item.slot]
        if not any(may_be_empty(x, slots) for x in phrases):
            return False
    return True
