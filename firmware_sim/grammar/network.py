"""A grammar over phones as arrays, which the first pass searches; names are put in late.

Names of a home change while a program runs, its sentences do not.  So `OpenGrammar` compiles the
sentences once, with a placeholder for each list of names, and each list by itself.  `filled` copies
the lists into their places: a new name costs the time of its list.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.grammar import source
from firmware_sim.grammar.automaton import (
    NO_WORD,
    Grammar,
    GrammarError,
    Sentences,
    vocabulary,
)
from firmware_sim.grammar.phones import PHONES
from firmware_sim.grammar.phrase import Phrase, Word

MOST_ARCS: Final = 2_000_000  # of a grammar with its names
_KEPT: Final = 32  # lists that stay compiled
_LISTS: Final = len(PHONES)  # the first placeholder's number among phones

Whole = npt.NDArray[np.int32]
Pronounce = Callable[[str], Sequence[Sequence[int]]]


class Network:
    """The arcs of an automaton over phones, sorted by the states that they leave.

    Args:
      sentences: what its paths mean.
      states: their number.
      arcs: int32 [5, arcs]: state, phone, state after it, slot, word.
    """

    def __init__(self, sentences: Sentences, states: int, arcs: Whole) -> None:
        self.sentences = sentences
        arcs = arcs[:, np.argsort(arcs[0], kind="stable")]
        # A home of 1,000 names has 340,000 arcs: 8 MB in these types.
        self.source, self.target, self.word = arcs[[0, 2, 4]]
        self.phone, self.slot = arcs[1].astype(np.int16), arcs[3].astype(np.int16)
        # A sentence goes on in the same words after the last phone of each.
        self.says = np.where(arcs[4] == NO_WORD, 0, arcs[4] * 1009 + arcs[3] + 2)
        first = np.searchsorted(arcs[0], np.arange(states + 1))
        self.final = np.zeros(states, bool)
        self.final[list(sentences.finals)] = True
        # Arcs that may follow each state, one after the other; another sentence may follow a final.
        begin = np.arange(first[sentences.start], first[sentences.start + 1])
        own = np.diff(first)
        counts = own + self.final * len(begin)
        self.after_first = np.concatenate([[0], np.cumsum(counts)])
        state = np.repeat(np.arange(states), counts)
        within = np.arange(len(state)) - self.after_first[state]
        again = within - own[state]
        after = np.where(again < 0, first[state] + within, begin[np.maximum(again, 0)])
        self.after = after.astype(np.int32)

    @classmethod
    def of(cls, grammar: Grammar) -> "Network":
        """The arcs of a grammar over phones."""
        arcs = [
            (state, phone, target, slot, word)
            for state, ways in enumerate(grammar.arcs)
            for phone, each in sorted(ways.items())
            for slot, word, target in each
        ]
        return cls(grammar, len(grammar.arcs), np.array(arcs, np.int32).reshape(-1, 5).T)


class OpenGrammar:
    """Sentences whose lists of names are open.

    Args:
      grammar: the sentences; the slots `grammar.names` are open, whatever their values are.
      pronounce: the pronunciations of a word, each a sequence of phones.

    Raises:
      GrammarError: the sentences are too many.
    """

    def __init__(self, grammar: source.Grammar, pronounce: Pronounce) -> None:
        self._grammar, self._pronounce = grammar, pronounce
        names = {name: f"{{{number}}}" for number, name in enumerate(grammar.names)}
        slots: dict[str, list[Phrase]] = dict(grammar.slots)
        slots |= {name: [(Word(x),)] for name, x in names.items()}
        own = {x: [(_LISTS + number,)] for number, x in enumerate(names.values())}
        self._held = source.Grammar(
            grammar.name, grammar.expressions, slots, [], {**grammar.own, **own}
        ).compile_phones(pronounce)
        self._arcs: Whole = np.array(self._held["arcs"], np.int32).reshape(-1, 5).T
        self._list = functools.lru_cache(_KEPT)(self._compiled)

    def fits(self, grammar: source.Grammar) -> bool:
        """Whether a grammar has the same sentences, but for its names."""
        mine = self._grammar
        return mine.expressions == grammar.expressions and list(mine.names) == list(grammar.names)

    def filled(self, values: Mapping[str, Sequence[Sequence[Phrase]]]) -> Network:
        """The network with the values of each list, which may come in several parts.

        A part that stays as it was is not compiled again.

        Raises:
          GrammarError: there are too many.
          PronunciationError: a value cannot be said.
        """
        held, numbers = self._held, {x: i for i, x in enumerate(vocabulary(self._held))}
        is_list = self._arcs[1] >= _LISTS
        parts = [self._arcs[:, ~is_list]]
        states, total = held["states"], 0
        # Places of a list that go on in the same way share its arcs, but for the first ones.
        places: dict[tuple[int, int, int], list[int]] = {}
        for origin, number, target, slot, _ in self._arcs[:, is_list].T.tolist():
            places.setdefault((number - _LISTS, target, slot), []).append(origin)

        def part(phrases: Sequence[Phrase]) -> tuple[int, Whole, Any]:
            """States, arcs with words of the whole vocabulary, and how the arcs go on."""
            words, count, arcs, ending = self._list(tuple(phrases))
            own = [numbers.setdefault(x, len(numbers)) for x in words]
            word = np.array([*own, NO_WORD], np.int32)[arcs[4]]
            return count, np.concatenate([arcs[:4], word[None]]), ending

        lists = [[part(x) for x in values[name]] for name in self._grammar.names]
        for (number, target, slot), origins in places.items():
            for count, arcs, ending in lists[number]:
                one = arcs.copy()
                one[[0, 2]] = np.where(arcs[[0, 2]] == 0, -1, arcs[[0, 2]] - 1 + states)
                one[3] = slot
                last = _with(one[:, ending[1]], 2, target)
                one = np.concatenate([one[:, ~ending[0]], last], axis=1)
                begins = one[0] < 0
                parts.append(one[:, ~begins])
                parts += [_with(one[:, begins], 0, x) for x in origins]
                states += count - 1
                total += one.shape[1]
            if total > MOST_ARCS:
                raise GrammarError(
                    f"the names of grammar {held['name']} need more than {MOST_ARCS} arcs: "
                    "expose fewer devices"
                )
        sentences = Sentences(
            name=held["name"],
            intents=tuple(held["intents"]),
            slots=tuple(held["slots"]),
            start=held["start"],
            finals=dict(held["finals"]),
            between=None,
            reject_below=held["reject_below"],
            vocabulary=tuple(numbers),
        )
        return Network(sentences, states, np.concatenate(parts, axis=1))

    def _compiled(self, values: tuple[Phrase, ...]) -> tuple[tuple[Word, ...], int, Whole, Any]:
        """A list by itself.

        Returns:
          its words; the number of its states; its arcs, int32 [5, arcs]; bool [2, arcs]: whether
          nothing follows an arc, and whether a value ends with it.
        """
        content = source.Grammar("names", {"": list(values)}, {}).compile_phones(self._pronounce)
        arcs = np.array(content["arcs"], np.int32).reshape(-1, 5).T
        final = np.zeros(content["states"], bool)
        final[[state for state, _ in content["finals"]]] = True
        goes_on = np.zeros(content["states"], bool)
        goes_on[arcs[0]] = True
        ending = np.stack([~goes_on[arcs[2]], final[arcs[2]]])
        return vocabulary(content), content["states"], arcs, ending


def _with(arcs: Whole, row: int, state: int) -> Whole:
    """The arcs with another state in a row: 0, which they leave; 2, which they lead to."""
    arcs = arcs.copy()
    arcs[row] = state
    return arcs
