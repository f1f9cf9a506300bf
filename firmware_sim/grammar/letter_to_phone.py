"""Letters to phones: how a word that no dictionary has is said.

Each letter takes a label, which is a letter and its phones.  The n-grams of labels in a lexicon's
file give the cost of a label after the labels before it (joint-sequence model; Bisani and Ney
2008).  A beam finds the cheapest labels of a word.  All costs are integers, so every program finds
the same ones.
"""

from typing import Final

from firmware_sim.grammar.lexicon import COST_STEPS, LETTERS, Lexicon, Pronunciation

BEAM: Final = 16  # hypotheses
MARGIN: Final = 8 * COST_STEPS  # a hypothesis that costs so much more than the best is dropped

Labels = tuple[int, ...]
Arc = tuple[int, int, Labels]  # cost, label, and the labels that matter to what follows


class LetterToPhone:
    """Pronounces words by their letters."""

    def __init__(self, lexicon: Lexicon, beam: int = BEAM) -> None:
        self._lexicon, self._beam = lexicon, beam
        self._boundary = len(lexicon.labels)
        self._nodes: dict[Labels, int] = {}  # -1: the trie has nothing after these labels
        self._arcs: dict[tuple[Labels, str], list[Arc]] = {}

    def pronounce(self, word: str, most: int) -> list[tuple[int, Pronunciation]]:
        """The cheapest pronunciations of a word, with their costs in steps of 1 / 16 nat.

        Of two that cost the same, that one comes first whose shorter beginning was cheaper, or
        else whose last label is smaller.

        Args:
            word: letters a to z and apostrophes.
            most: number of pronunciations, at least 1.
        """
        start = self._known((self._boundary,))
        hypotheses: list[tuple[int, Labels, Labels]] = [(0, start, ())]
        for letter in word:
            following = [
                (cost + more, rank, label, context)
                for rank, (cost, before, _) in enumerate(hypotheses)
                for more, label, context in self._after(before, letter)
            ]
            following.sort(key=lambda x: x[:3])
            limit = following[0][0] + MARGIN
            hypotheses = [
                (cost, context, (*hypotheses[rank][2], label))
                for cost, rank, label, context in following[: self._beam]
                if cost <= limit
            ]
        ended = [
            (cost + self._arc(context, self._boundary)[0], rank)
            for rank, (cost, context, _) in enumerate(hypotheses)
        ]
        result: dict[Pronunciation, int] = {}
        for cost, rank in sorted(ended):
            labels = hypotheses[rank][2]
            phones = tuple(phone for label in labels for phone in self._lexicon.labels[label])
            if phones:
                result.setdefault(phones, cost)
        return [(cost, phones) for phones, cost in list(result.items())[:most]]

    def _after(self, context: Labels, letter: str) -> list[Arc]:
        """The labels of a letter."""
        arcs = self._arcs.get((context, letter))
        if arcs is None:
            number = LETTERS.index(letter)
            first, last = self._lexicon.first_label[number : number + 2]
            arcs = [self._arc(context, label) for label in range(first, last)]
            self._arcs[context, letter] = arcs
        return arcs

    def _arc(self, context: Labels, label: int) -> Arc:
        levels, cost = self._lexicon.levels, 0
        while context:
            node = self._node(context)
            if node >= 0:
                level, below = levels[len(context) - 1 : len(context) + 1]
                place = below.labels.find(label, level.first[node], level.first[node + 1])
                if place >= 0:
                    return cost + below.costs[place], label, self._known((*context, label))
                cost += level.backoffs[node]
            context = context[1:]
        return cost + levels[0].costs[label], label, self._known((label,))

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
