"""Ambiguity: a sentence that has two intents would get either, by chance."""

from collections.abc import Sequence
from typing import Final

from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.compiler import Automaton
from firmware_sim.grammar.phrase import Choice, Phrase, Slots, Word

_MOST_PAIRS: Final = 1_000_000  # of ways to follow

Words = Sequence[str]


def two_intents(automaton: Automaton) -> tuple[list[str], tuple[int, int]] | None:
    """The words of a sentence with two intents, and these; None if there is none.

    The automaton's labels have slots, so one sentence may lead to several states: it follows all
    pairs of them.

    Raises:
      GrammarError: there are too many pairs.
    """
    by_word: list[dict[str, list[int]]] = []
    for arcs in automaton.arcs:
        targets: dict[str, list[int]] = {}
        for (word, _), target in arcs.items():
            targets.setdefault(str(word), []).append(target)
        by_word.append(targets)
    reachable = _reachable_intents(automaton)
    # Of each pair: the pair before it, and the word between.
    before: dict[tuple[int, int], tuple[tuple[int, int], str]] = {(0, 0): ((0, 0), "")}
    waiting = [(0, 0)]
    followed = 0
    for pair in waiting:  # grows during the loop
        one, other = by_word[pair[0]], by_word[pair[1]]
        for word in one.keys() & other.keys() if one is not other else one:
            for first in one[word]:
                for second in other[word]:
                    followed += 1
                    following = (min(first, second), max(first, second))
                    intents = reachable[first] | reachable[second]
                    if following in before or not intents & (intents - 1):
                        continue
                    before[following] = (pair, word)
                    waiting.append(following)
                    ends = [automaton.finals.get(state) for state in following]
                    if None not in ends and ends[0] != ends[1]:
                        return _words_to(following, before), (min(ends), max(ends))  # type: ignore
        if followed > _MOST_PAIRS:
            raise GrammarError("too many words mean several slots: use fewer of them side by side")
    return None


def _reachable_intents(automaton: Automaton) -> list[int]:
    """By state, a bit for each intent of the sentences through it."""
    reachable = [0] * len(automaton.arcs)
    for state in automaton.backwards():
        bits = 1 << automaton.finals[state] if state in automaton.finals else 0
        for target in automaton.arcs[state].values():
            bits |= reachable[target]
        reachable[state] = bits
    return reachable


def _words_to(
    pair: tuple[int, int], before: dict[tuple[int, int], tuple[tuple[int, int], str]]
) -> list[str]:
    words = []
    while pair != (0, 0):
        pair, word = before[pair]
        words.append(word)
    return words[::-1]


def accepts(phrase: Phrase, words: Words, slots: Slots) -> bool:
    """Whether the words are a sentence of the phrase."""
    known: dict[tuple[str, int], frozenset[int]] = {}

    def ends(phrase: Phrase, start: int) -> frozenset[int]:
        """The places in `words` after the phrase."""
        places = frozenset((start,))
        for item in phrase:
            following: set[int] = set()
            for place in places:
                if isinstance(item, Word):
                    if place < len(words) and words[place] == item.text:
                        following.add(place + 1)
                elif isinstance(item, Choice):
                    following.update(*(ends(x, place) for x in item.phrases))
                else:
                    if (item.slot, place) not in known:
                        values = (ends(x, place) for x in slots[item.slot])
                        known[item.slot, place] = frozenset().union(*values)
                    following |= known[item.slot, place]
            places = frozenset(following)
        return places

    return len(words) in ends(phrase, 0)
