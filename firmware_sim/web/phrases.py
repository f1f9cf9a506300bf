"""What may be said to a bundle: samples of its grammar."""

import random
from typing import Final

from firmware_sim.bundle import Bundle
from firmware_sim.grammar.automaton import NO_SLOT, Grammar

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
    sentences: list[str] = []
    values: dict[str, set[str]] = {name: set() for name in grammar.slots}
    for _ in range(_WALKS):
        tokens, parts = _walk(grammar, chance, bundle.limits.tokens)
        if tokens is None:
            continue
        text = bundle.tokenizer.text(tokens)
        if len(sentences) < count and text not in sentences:
            sentences.append(text)
        for slot, value in parts.items():
            values[grammar.slots[slot]].add(bundle.tokenizer.text(value))
    chosen = {name: sorted(found)[:_MOST_VALUES] for name, found in values.items() if found}
    return sentences, chosen


def _walk(
    grammar: Grammar, chance: random.Random, limit: int
) -> tuple[list[int] | None, dict[int, list[int]]]:
    """The tokens of a command, and those of each slot; None: it is longer than a text may be."""
    state = grammar.start
    tokens: list[int] = []
    slots: dict[int, list[int]] = {}
    while len(tokens) < limit:
        ways = [(token, *way) for token, all_ in grammar.arcs[state].items() for way in all_]
        if state in grammar.finals and (not ways or chance.random() < _STOP):
            return tokens, slots
        token, slot, _, state = chance.choice(ways)
        tokens.append(token)
        if slot != NO_SLOT:
            slots.setdefault(slot, []).append(token)
    return None, {}
