"""Letters to phones: how a word that no dictionary has is said.

Each letter takes a label, which is a letter and its phones.  The n-grams of labels in a lexicon's
file give the cost of a label after the labels before it (joint-sequence model; Bisani and Ney
2008).  A beam finds the cheapest labels of a word.  All costs are integers, so every program finds
the same ones.
"""

import bisect
import itertools
from collections.abc import Iterator
from typing import Final

from firmware_sim.grammar.lexicon import COST_STEPS, LETTERS, Lexicon, Pronunciation

BEAM: Final = 16  # hypotheses
MARGIN: Final = 8 * COST_STEPS  # a hypothesis that costs so much more than the best is dropped

Labels = tuple[int, ...]
Hypothesis = tuple[int, Labels, Labels]  # cost, labels that matter to what follows, all labels
Arc = tuple[int, int]  # cost and label


class LetterToPhone:
    """Pronounces words by their letters."""

    def __init__(self, lexicon: Lexicon, beam: int = BEAM) -> None:
        self._lexicon, self._beam = lexicon, beam
        self._boundary = len(lexicon.labels)
        self._nodes: dict[Labels, int] = {}  # -1: the trie has nothing after these labels
        self._arcs: dict[tuple[Labels, int], list[Arc]] = {}  # by context and first label
        # The last word, which often begins as the next one does, and the beam before each letter.
        start: Hypothesis = (0, self._known((self._boundary,)), ())
        self._last: tuple[str, list[list[Hypothesis]]] = ("", [[start]])

    def pronounce(self, word: str, most: int) -> list[tuple[int, Pronunciation]]:
        """The cheapest pronunciations of a word, with their costs in steps of 1 / 16 nat.

        Of two that cost the same, that one comes first whose shorter beginning was cheaper, or
        else whose last label is smaller.

        Args:
            word: letters a to z and apostrophes.
            most: number of pronunciations, at least 1.
        """
        last, beams = self._last
        pairs = zip(word, last, strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        beams = beams[: shared + 1]
        for letter in word[shared:]:
            beams.append(self._extended(beams[-1], letter))
        self._last = word, beams
        hypotheses, end = beams[-1], self._boundary
        ended = [
            (cost + self._after(context, end, end + 1)[0][0], rank)
            for rank, (cost, context, _) in enumerate(hypotheses)
        ]
        result: dict[Pronunciation, int] = {}
        for cost, rank in sorted(ended):
            labels = hypotheses[rank][2]
            phones = tuple(phone for label in labels for phone in self._lexicon.labels[label])
            if phones:
                result.setdefault(phones, cost)
        return [(cost, phones) for phones, cost in list(result.items())[:most]]

    def _extended(self, hypotheses: list[Hypothesis], letter: str) -> list[Hypothesis]:
        """By the labels of a letter, the best first."""
        number = LETTERS.index(letter)
        first, last = self._lexicon.first_label[number : number + 2]
        arcs = [self._after(context, first, last) for _, context, _ in hypotheses]
        costs = [cost for cost, _, _ in hypotheses]
        limit = min(x + y[0][0] for x, y in zip(costs, arcs, strict=True)) + MARGIN
        following = [
            (cost + more, rank, label)
            for rank, cost in enumerate(costs)
            for more, label in _up_to(arcs[rank], limit - cost)
        ]
        following.sort()
        return [
            (cost, self._known((*hypotheses[rank][1], label)), (*hypotheses[rank][2], label))
            for cost, rank, label in following[: self._beam]
        ]

    def _after(self, context: Labels, first: int, last: int) -> list[Arc]:
        """The labels from `first` to before `last`, the cheapest first."""
        arcs = self._arcs.get((context, first))
        if arcs is None:
            arcs = self._arcs[context, first] = sorted(self._arcs_after(context, first, last))
        return arcs

    def _arcs_after(self, context: Labels, first: int, last: int) -> Iterator[Arc]:
        levels, cost = self._lexicon.levels, 0
        missing = set(range(first, last))
        while context and missing:
            node = self._node(context)
            if node >= 0:
                level, below = levels[len(context) - 1 : len(context) + 1]
                place, end = level.first[node], level.first[node + 1]
                place = bisect.bisect_left(below.labels, first, place, end)
                while place < end and (label := below.labels[place]) < last:
                    if label in missing:
                        missing.discard(label)
                        yield cost + below.costs[place], label
                    place += 1
                cost += level.backoffs[node]
            context = context[1:]
        for label in missing:
            yield cost + levels[0].costs[label], label

    def _known(self, labels: Labels) -> Labels:
        """The most of the last labels that the trie has something after."""
        while labels and self._node(labels) < 0:
            labels = labels[1:]
        return labels

    def _node(self, labels: Labels) -> int:
        """Its number among the n-grams of its level with children; -1 if it has none."""
        node = self._nodes.get(labels)
        if node is None:
            node = self._nodes[labels] = self._find(labels)
        return node

    def _find(self, labels: Labels) -> int:
        levels = self._lexicon.levels
        if len(labels) >= len(levels):
            return -1
        place = labels[0]
        if len(labels) > 1:
            parent = self._node(labels[:-1])
            if parent < 0:
                return -1
            first = levels[len(labels) - 2].first
            found = levels[len(labels) - 1].labels
            place = found.find(labels[-1], first[parent], first[parent + 1])
        return levels[len(labels) - 1].parents[place] if place >= 0 else -1


def _up_to(arcs: list[Arc], limit: int) -> list[Arc]:
    """Those that cost at most so much."""
    return arcs[: bisect.bisect_right(arcs, limit, key=lambda arc: arc[0])]
