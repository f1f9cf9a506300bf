"""Words that a model takes for one another, by the phones that it was measured to confuse."""

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.grammar.automaton import NO_SLOT
from firmware_sim.grammar.compiler import Automaton
from firmware_sim.grammar.lexicon import Pronunciation
from firmware_sim.grammar.phones import PHONES
from firmware_sim.grammar.phrase import Word

STEPS: Final = 16  # of a file's costs, in a nat
LIMIT: Final = 2.0  # nats: a word that costs so much more than what was said is heard 1 time in 8
_COUNT: Final = len(PHONES)
_SHORT: Final = 4  # phones of a word that may differ in two of them
_COSTS: Final = _COUNT * (_COUNT + 2)

Costs = npt.NDArray[np.float64]  # nats


class ConfusionError(ValueError):
    """What should be a file of confusions is none."""


class Confusions:
    """What it costs to hear a phone as another, in nats: minus the logarithm of its share.

    Args:
      heard: [39, 39], the phone that was said, and the one that was heard.
      lost: [39], of phones that were said and not heard.
      added: [39], of phones that were heard and not said.
    """

    def __init__(self, heard: Costs, lost: Costs, added: Costs) -> None:
        self._heard, self._lost, self._added = heard, lost, added

    @classmethod
    def load(cls, data: bytes) -> "Confusions":
        """Reads the file of a bundle: `heard`, `lost` and `added`, a byte each.

        Raises:
          ConfusionError: it has another size.
        """
        if len(data) != _COSTS:
            raise ConfusionError(f"{len(data)} bytes instead of {_COSTS}")
        costs = np.frombuffer(data, np.uint8).astype(np.float64) / STEPS
        heard, lost, added = np.split(costs, [_COUNT * _COUNT, _COUNT * (_COUNT + 1)])
        return cls(heard.reshape(_COUNT, _COUNT), lost, added)

    def dump(self) -> bytes:
        """The file that `load` reads; costs of more than 15.9 nats are 15.9."""
        costs = np.concatenate([self._heard.ravel(), self._lost, self._added])
        return np.clip(np.rint(costs * STEPS), 0, 255).astype(np.uint8).tobytes()

    def cost(self, said: Pronunciation, heard: Pronunciation) -> float:
        """Of the best alignment of what was heard with what was said."""
        row = np.concatenate([[0.0], np.cumsum(self._added[list(heard)])]).tolist()
        for phone in said:
            heard_as, lost = self._heard[phone], float(self._lost[phone])
            new = [row[0] + lost]
            for place, other in enumerate(heard):
                new.append(
                    min(
                        row[place] + float(heard_as[other]),
                        row[place + 1] + lost,
                        new[place] + float(self._added[other]),
                    )
                )
            row = new
        return float(row[-1])

    def gap(self, said: Pronunciation, heard: Pronunciation) -> float:
        """How much more it costs to hear `heard` than what was said; 0 at least."""
        return max(0.0, self.cost(said, heard) - self.cost(said, said))


def confusable(
    automaton: Automaton,
    pronunciations: Mapping[Word, Sequence[Pronunciation]],
    confusions: Confusions | None,
) -> list[tuple[float, str, str]]:
    """Pairs of words that may stand in one place, mean different things, and sound alike.

    Without `confusions`, only those that are said in the same way.

    Args:
      automaton: over words.

    Returns:
      (nats, what was said, what may be heard instead), those of the smallest cost first; two words
      that are said alike cost 0.
    """
    found: dict[tuple[str, str], float] = {}
    seen: set[frozenset[Word]] = set()
    for arcs in automaton.arcs:
        for one, other in _alike(arcs, pronunciations, confusions is not None):
            if frozenset((one, other)) in seen:
                continue
            seen.add(frozenset((one, other)))
            cost, said, heard = min(
                _gap(first, second, pronunciations, confusions)
                for first, second in ((one, other), (other, one))
            )
            if cost <= LIMIT:
                pair = (min(said, heard), max(said, heard))
                found[pair] = min(cost, found.get(pair, cost))
    return sorted((cost, *pair) for pair, cost in found.items())


def _gap(
    said: Word,
    heard: Word,
    pronunciations: Mapping[Word, Sequence[Pronunciation]],
    confusions: Confusions | None,
) -> tuple[float, str, str]:
    ways = itertools.product(pronunciations[said], pronunciations[heard])
    gaps = (
        0.0 if one == other else confusions.gap(one, other) if confusions else LIMIT + 1
        for one, other in ways
    )
    return min(gaps), said.text, heard.text


def _alike(
    arcs: Mapping[Any, int],
    pronunciations: Mapping[Word, Sequence[Pronunciation]],
    nearly: bool,
) -> Iterator[tuple[Word, Word]]:
    """Pairs of a state's words with pronunciations that differ in few phones, or in none.

    Two pronunciations differ in a phone at most if they are the same without a phone of each.
    """
    places: dict[Pronunciation, list[Any]] = collections.defaultdict(list)
    for (word, slot), target in arcs.items():
        keys = set[Pronunciation]()
        for phones in pronunciations[word]:
            keys.add(phones)
            if nearly:
                keys |= _without_one(phones)
                if len(phones) <= _SHORT:
                    keys |= {y for x in _without_one(phones) for y in _without_one(x)}
        for key in keys:
            if key or not nearly:
                places[key].append((word, slot, target))
    for alike in places.values():
        for (one, slot, target), (other, other_slot, other_target) in itertools.combinations(
            alike, 2
        ):
            same = slot == other_slot == NO_SLOT and target == other_target
            if not same and one.text != other.text:
                yield one, other


def _without_one(phones: Pronunciation) -> set[Pronunciation]:
    return {phones[:i] + phones[i + 1 :] for i in range(len(phones))}
