"""Language models of n-grams of tokens: counted with discounts, mixed, pruned, packed."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

COST_STEPS = 16  # of a cost, a nat, as `firmware_sim/search/language.py` reads it
ROUNDS = 20  # of expectation and maximisation


class Vocabulary(Protocol):
    """Of a tokenizer, or of other units."""

    @property
    def size(self) -> int: ...
    @property
    def start(self) -> int: ...  # the token before a text
    @property
    def end(self) -> int: ...  # the token after a text


class NGrams:
    """A back-off model: level n holds the n-grams of n + 1 tokens, each by its key.

    The key of an n-gram is the number whose digits are its tokens, in base V.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.keys: list[np.ndarray] = []  # int64 [N], in order
        self.probabilities: list[np.ndarray] = []  # float64 [N], of the last token
        self.shares: list[np.ndarray] = []  # float64 [N], of all n-grams of the level in the texts
        self.contexts: list[np.ndarray] = []  # int64, in order: n-grams of n tokens before others
        self.backoffs: list[np.ndarray] = []  # float64: probability left for shorter ones

    def probability(self, level: int, keys: np.ndarray) -> np.ndarray:
        """Of the last tokens of n-grams of level + 1 tokens, float64 [N], known or not."""
        if level < 0:
            return np.full(len(keys), 1 / self.vocabulary)
        places, known = find(self.keys[level], keys)
        result = np.empty(len(keys))
        result[known] = self.probabilities[level][places[known]]
        if not known.all():
            unknown = keys[~known]
            result[~known] = self.backoff(level, unknown // self.vocabulary) * self.probability(
                level - 1, unknown % self.vocabulary**level
            )
        return result

    def backoff(self, level: int, contexts: np.ndarray) -> np.ndarray:
        """Float64 [N]: 1 after what has nothing on the level."""
        return look_up(self.contexts[level], self.backoffs[level], contexts, 1.0)

    @property
    def order(self) -> int:
        return len(self.keys)


def find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where numbers are among sorted ones, and whether they are there."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return places, known[places] == wanted


def look_up(
    known: np.ndarray, values: np.ndarray, wanted: np.ndarray, otherwise: float
) -> np.ndarray:
    """The values of numbers among sorted ones: float64 [N]."""
    result = np.full(len(wanted), otherwise)
    places, there = find(known, wanted)
    result[there] = values[places[there]]
    return result


def windows(texts: Sequence[Sequence[int]], vocabulary: Vocabulary, order: int) -> list[np.ndarray]:
    """The keys of all n-grams in texts, with their starts and ends: int64 [N] for each level."""
    tokens = np.concatenate([[vocabulary.start, *text, vocabulary.end] for text in texts])
    lengths = np.array([len(text) + 2 for text in texts])
    places = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    levels, key = [], tokens.astype(np.int64)
    for level in range(order):
        if level:
            key = key.copy()
            key[level:] += tokens[:-level] * vocabulary.size**level
        levels.append(key[places >= max(1, level)])
    return levels


def longest(texts: Sequence[Sequence[int]], vocabulary: Vocabulary, order: int) -> list[np.ndarray]:
    """The key of the longest n-gram that ends in each token of texts and in their ends: int64 [N]
    for each level from 1 on."""
    _, *keys = windows(texts, vocabulary, order)
    # An n-gram is not longer where it begins with the start.
    first = [x // vocabulary.size**level for level, x in enumerate(keys, 1)]
    return [
        x if level == order - 1 else x[token == vocabulary.start]
        for level, (x, token) in enumerate(zip(keys, first, strict=True), 1)
    ]


def absolute_discounting(
    texts: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    order: int,
    continuations: bool = False,
) -> NGrams:
    """The model of texts, lists of tokens (Ney et al. 1994).

    Counts of one, of two and of more have a discount each.  With `continuations`, an n-gram that is
    not of the longest counts as often as different tokens stand before it (Kneser and Ney 1995).
    """
    model, size = NGrams(vocabulary.size), vocabulary.size
    levels = [np.unique(x, return_counts=True) for x in windows(texts, vocabulary, order)]
    for level, (keys, occurrences) in enumerate(levels):
        counts = occurrences
        if continuations and level + 1 < order:
            ends = levels[level + 1][0] % size ** (level + 1)
            shorter, before = np.unique(ends, return_counts=True)
            different = look_up(shorter, before, keys, 0).astype(np.int64)
            # Nothing stands before the start of a text.
            counts = np.where(different > 0, different, occurrences)
        contexts, number = np.unique(keys // size, return_inverse=True)
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(number, counts)
        backoffs = np.bincount(number, discounts) / totals
        shorter = model.probability(level - 1, keys % size**level)
        model.keys.append(keys)
        model.probabilities.append(
            (counts - discounts) / totals[number] + backoffs[number] * shorter
        )
        model.shares.append(occurrences / occurrences.sum())
        model.contexts.append(contexts)
        model.backoffs.append(backoffs)
    return model


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2, and 3 or more; bounded, for few counts say little."""
    once, twice, thrice, four = (np.count_nonzero(counts == n) + 1e-9 for n in (1, 2, 3, 4))
    share = once / (once + 2 * twice)
    discounts = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice]
    discounts.append(3 - 4 * share * four / thrice)
    return np.array([0.0, *(np.clip(x, 0.1, n) for n, x in enumerate(discounts, 1))])


def mixture(models: Sequence[NGrams], seen: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The weights of the mixture of models that fits texts best, and its nats a token.

    Expectation and maximisation, `ROUNDS` times. `seen`: the texts' n-grams, by `longest`.
    """
    probabilities = np.array(
        [
            np.concatenate([model.probability(level, x) for level, x in enumerate(seen, 1)])
            for model in models
        ]
    )
    weights = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        parts = weights[:, None] * probabilities
        weights = (parts / parts.sum(0)).mean(1)
    return weights, float(-np.log(weights @ probabilities).mean())


def mix(models: Sequence[NGrams], weights: np.ndarray) -> NGrams:
    """One model with the n-grams of all, each with the mixture's probability."""
    mixed = NGrams(models[0].vocabulary)
    for level in range(models[0].order):
        keys = np.unique(np.concatenate([model.keys[level] for model in models]))
        probabilities, shares = [], []
        for model in models:
            probabilities.append(model.probability(level, keys))
            shares.append(look_up(model.keys[level], model.shares[level], keys, 0.0))
        mixed.keys.append(keys)
        mixed.probabilities.append(weights @ np.array(probabilities))
        mixed.shares.append(weights @ np.array(shares))
    _leave_rest(mixed)
    return mixed


def _leave_rest(model: NGrams) -> None:
    """Sets the back-offs so that all tokens together have a probability of 1 after any context."""
    size = model.vocabulary
    levels = zip(model.keys, model.probabilities, strict=True)
    for level, (keys, probabilities) in enumerate(levels):
        contexts, number = np.unique(keys // size, return_inverse=True)
        shorter = model.probability(level - 1, keys % size**level)
        rest = 1 - np.bincount(number, probabilities)
        without = 1 - np.bincount(number, shorter)
        model.contexts.append(contexts)
        # If everything was seen after a context, nothing is left for the rest.
        model.backoffs.append(np.maximum(rest, 1e-6) / np.maximum(without, 1e-6))


def prune(model: NGrams, entries: int) -> NGrams:
    """The model with at most `entries` n-grams besides single tokens.

    Those are kept whose loss would change the probability of the texts most (Seymore and Rosenfeld
    1996).
    """
    size = model.vocabulary
    worth: list[np.ndarray] = [np.full(len(model.keys[0]), np.inf)]
    for level in range(1, model.order):
        keys = model.keys[level]
        without = model.backoff(level, keys // size) * model.probability(
            level - 1, keys % size**level
        )
        change = np.abs(np.log(model.probabilities[level] / without))
        worth.append(model.shares[level] * change)
    for level in reversed(range(1, model.order)):
        # An n-gram is kept if a longer one begins with it.
        places, known = find(model.keys[level - 1], model.keys[level] // size)
        np.maximum.at(worth[level - 1], places[known], worth[level][known])
    descending = np.sort(np.concatenate(worth[1:]))[::-1]
    least = descending[entries] if entries < len(descending) else -1.0
    pruned = NGrams(size)
    for level, values in enumerate(worth):
        kept = values > least
        pruned.keys.append(model.keys[level][kept])
        pruned.probabilities.append(model.probabilities[level][kept])
    _leave_rest(pruned)
    return pruned


def pack(model: NGrams) -> dict[str, np.ndarray]:
    """The arrays of `language.npz`."""
    size = model.vocabulary
    token_type = np.min_scalar_type(size)
    parents = np.arange(size)
    arrays: dict[str, np.ndarray] = {"cost_0": costs(model.probability(0, parents))}
    for level, keys in enumerate(model.keys[1:], 1):
        if not len(keys):  # then longer ones have none either
            break
        children = np.bincount(np.searchsorted(parents, keys // size), minlength=len(parents))
        after = model.backoff(level, parents)
        steps = np.clip(np.rint(-np.log(after) * COST_STEPS), -128, 127)
        arrays[f"backoff_{level - 1}"] = steps.astype(np.int8)
        arrays[f"children_{level - 1}"] = children.astype(np.min_scalar_type(children.max()))
        arrays[f"token_{level}"] = (keys % size).astype(token_type)
        arrays[f"cost_{level}"] = costs(model.probabilities[level])
        parents = keys
    return arrays


def costs(probabilities: np.ndarray) -> np.ndarray:
    """Uint8, see `firmware_sim.search.language`."""
    steps = np.rint(-np.log(probabilities) * COST_STEPS)
    return np.clip(steps, 0, 255).astype(np.uint8)
