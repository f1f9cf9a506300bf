"""Aligns the letters of words with their phones, by expectation and maximisation.

A letter stands for no phone, one or two.  How often a letter stands for which is learned from all
pairs of a word and a pronunciation (Bisani and Ney 2008, with single letters).
"""

import collections
from collections.abc import Sequence
from typing import Final

import numpy as np

from firmware_sim.grammar.lexicon import LETTERS
from firmware_sim.grammar.phones import PHONES

ROUNDS: Final = 6  # of expectation and maximisation
MOST_PHONES: Final = 2  # of a letter
_SHARES: Final = (0.1, 0.8, 0.1)  # of letters with no, one and two phones, before the first round

Label = tuple[str, tuple[int, ...]]  # a letter, and the ids of its phones
Pair = tuple[str, tuple[int, ...]]  # a word and the ids of its phones


class _Group:
    """The pairs with L letters and P phones.

    `probabilities`, in each method: of letter and none, one, two phones: [A], [A, F], [A, F, F].
    """

    def __init__(self, pairs: Sequence[Pair], members: list[int]) -> None:
        self.members = members
        self.letters = np.array([[LETTERS.index(x) for x in pairs[i][0]] for i in members])
        self.phones = np.array([pairs[i][1] for i in members])

    def emissions(self, probabilities: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of each letter with the phones from each place on: [N, L, 1], [N, L, P], [N, L, P-1]."""
        letters, phones = self.letters[:, :, None], self.phones[:, None]
        return [
            probabilities[0][letters],
            probabilities[1][letters, phones],
            probabilities[2][letters, phones[:, :, :-1], phones[:, :, 1:]],
        ]

    def expect(self, probabilities: Sequence[np.ndarray]) -> list[np.ndarray]:
        """How often, all pairs together, each letter stands for which phones."""
        emissions = self.emissions(probabilities)
        (count, length), places = self.letters.shape, self.phones.shape[1] + 1
        before = np.zeros((length + 1, count, places))  # the probability of all up to here
        after = np.zeros((length + 1, count, places))
        before[0, :, 0] = after[length, :, -1] = 1
        for i in range(length):
            for k, emission in enumerate(emissions):
                before[i + 1, :, k:] += before[i, :, : places - k] * emission[:, i]
        for i in reversed(range(length)):
            for k, emission in enumerate(emissions):
                after[i, :, : places - k] += after[i + 1, :, k:] * emission[:, i]
        letters, phones = self.letters[:, :, None], self.phones[:, None]
        cells = [
            np.broadcast_to(letters, (count, length, places)),
            letters * len(PHONES) + phones,
            (letters * len(PHONES) + phones[:, :, :-1]) * len(PHONES) + phones[:, :, 1:],
        ]
        counts = []
        for k, emission in enumerate(emissions):
            share = before[:-1, :, : places - k] * after[1:, :, k:] / after[0, :, :1]
            share = share.transpose(1, 0, 2) * emission
            number = np.bincount(cells[k].ravel(), share.ravel(), probabilities[k].size)
            counts.append(number.reshape(probabilities[k].shape))
        return counts

    def best(self, probabilities: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest number of phones of each letter, int [N, L], and its probability, [N].

        One phone is preferred to none, and none to two, if they are as likely.
        """
        emissions = self.emissions(probabilities)
        (count, length), places = self.letters.shape, self.phones.shape[1] + 1
        after = np.zeros((count, places))
        after[:, -1] = 1
        choices = []
        for i in reversed(range(length)):
            options = np.zeros((3, count, places))
            for order, k in enumerate((1, 0, 2)):
                options[order, :, : places - k] = after[:, k:] * emissions[k][:, i]
            choices.append(np.array([1, 0, 2])[options.argmax(0)])
            after = options.max(0)
        numbers, place = np.zeros((count, length), int), np.zeros(count, int)
        for i in range(length):
            numbers[:, i] = choices[length - 1 - i][np.arange(count), place]
            place = np.minimum(place + numbers[:, i], places - 1)
        return numbers, after[:, 0]


def align(pairs: Sequence[Pair]) -> list[list[Label] | None]:
    """The labels of each pair's letters; None for one with too many phones."""
    sizes: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    for i, (word, phones) in enumerate(pairs):
        if word and 0 < len(phones) <= MOST_PHONES * len(word):
            sizes[len(word), len(phones)].append(i)
    groups = [_Group(pairs, members) for _, members in sorted(sizes.items())]
    letters, phones_count = len(LETTERS), len(PHONES)
    probabilities = [
        np.full((letters, *[phones_count] * k), share / phones_count**k)
        for k, share in enumerate(_SHARES)
    ]
    for _ in range(ROUNDS):
        counts = [
            np.sum(x, 0) for x in zip(*(g.expect(probabilities) for g in groups), strict=True)
        ]
        total = np.sum([x.reshape(letters, -1).sum(1) for x in counts], 0)
        total = np.where(total > 0, total, 1)
        probabilities = [x / total.reshape(-1, *[1] * k) for k, x in enumerate(counts)]
    result: list[list[Label] | None] = [None] * len(pairs)
    for group in groups:
        for member, numbers, likely in zip(group.members, *group.best(probabilities), strict=True):
            if likely > 0:
                word, phones = pairs[member]
                ends = np.cumsum(numbers).tolist()
                starts = [0, *ends[:-1]]
                spans = zip(word, starts, ends, strict=True)
                result[member] = [(x, tuple(phones[a:b])) for x, a, b in spans]
    return result
