"""What may be said to a bundle: samples of its grammar."""

import random
from typing import Final

from firmware_sim.bundle import Bundle
from firmware_sim.grammar.automaton import NO_SLOT, NO_WORD, Grammar
from firmware_sim.grammar.phrase import value_of

_WALKS: Final = 4_000  # from which values of slots are collected
_MOST_VALUES: Final = 60  # of a slot
_STOP: Final = 0.7  # probability of ending where a command may end


def samples(bundle: Bundle, count: int) -> tuple[list[str], dict[str, list[str]]]:
    """Sentences of the grammar, and values of its slots; the same at each call.

    Returns:
      `count` sentences, and values by slot; both empty without a grammar.
    """
    grammar, chance = bundle.grammar, random.Random(0)
    if grammar is None:
        return [], {}
    limit = bundle.limits.memory_frames if grammar.of_phones else bundle.limits.tokens
    sentences: list[str] = []
    values: dict[str, set[str]] = {name: set() for name in grammar.slots}
    for _ in range(_WALKS):
        steps = _walk(grammar, chance, limit)
        text = _text(bundle, grammar, steps)
        if len(sentences) < count and text and text not in sentences:
            sentences.append(text)
        for slot in {slot for _, slot, _ in steps} - {NO_SLOT}:
            part = [step for step in steps if step[1] == slot]
            values[grammar.slots[slot]].add(_text(bundle, grammar, part, is_value=True))
    chosen = {name: sorted(found)[:_MOST_VALUES] for name, found in values.items() if found}
    return sentences, chosen


_Step = tuple[int, int, int]  # token, slot and word of an arc


def _text(bundle: Bundle, grammar: Grammar, steps: list[_Step], is_value: bool = False) -> str:
    """What is written for the arcs of a command, or of the value of a slot."""
    if not grammar.of_phones:
        return bundle.tokenizer.text(token for token, *_ in steps)
    words = [grammar.vocabulary[word] for *_, word in steps if word != NO_WORD]
    return value_of(words) if is_value else " ".join(word.text for word in words)


def _walk(grammar: Grammar, chance: random.Random, limit: int) -> list[_Step]:
    """The arcs of a command; none if it is longer than a text may be."""
    state = grammar.start
    steps: list[_Step] = []
    while len(steps) < limit:
        ways = [(token, *way) for token, all_ in grammar.arcs[state].items() for way in all_]
        if state in grammar.finals and (not ways or chance.random() < _STOP):
            return steps
        token, slot, word, state = chance.choice(ways)
        steps.append((token, slot, word))
    return []
