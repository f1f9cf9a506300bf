"""The first pass: the sentences of a grammar over phones, by the CTC head of the encoder.

No decoder runs.  A prefix is what was said so far, as phones; its probability is the sum over all
alignments (Graves, 2008).  The search keeps the likeliest prefixes at each frame, and extends them
by the phones that the grammar allows.
"""

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.grammar import automaton
from firmware_sim.grammar.automaton import Grammar, States
from firmware_sim.search.ctc import ctc_align

PREFIXES: Final = 96  # kept at each frame
_MARGIN: Final = 25.0  # prefixes less than e^-25 times as likely as the best are dropped
_IMPOSSIBLE: Final = -math.inf
_NONE: Final = -1  # the phone of the empty prefix

LogProbabilities = npt.NDArray[np.float32]  # [frames, phones and blank], natural


@dataclasses.dataclass(frozen=True)
class Reading:
    """A command within a sentence."""

    text: str
    intent: str
    slots: dict[str, str]
    confidence: float  # 0 to 1
    slot_confidence: dict[str, float]
    first: int  # frame
    last: int  # the frame after its end


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What was said, as the grammar has it."""

    phones: tuple[int, ...]
    score: float  # log probability, of all pronunciations of the same words
    readings: tuple[Reading, ...]

    @property
    def text(self) -> str:
        return " ".join(reading.text for reading in self.readings)


class PhoneSearch:
    """Finds sentences of a grammar."""

    def __init__(self, grammar: Grammar, blank: int) -> None:
        self._grammar, self._blank = grammar, blank

    def find(self, emission: LogProbabilities) -> Sentence | None:
        """The likeliest sentence; None if none is complete."""
        found = [(x, score, self._grammar.parse(x)) for x, score in self.prefixes(emission)]
        found = [x for x in found if x[2]]
        if not found:
            return None
        # Pronunciations of the same words with the same meaning are one sentence.
        totals: dict[Any, float] = {}
        for _, score, commands in found:
            key = _meaning(commands)
            totals[key] = float(np.logaddexp(totals.get(key, _IMPOSSIBLE), score))
        best = max(totals, key=lambda key: totals[key])
        phones, _, commands = next(x for x in found if _meaning(x[2]) == best)
        spans = ctc_align(emission, phones, self._blank)
        if spans is None:
            return None
        losses = self._losses(emission, phones, spans)
        shares = {key: math.exp(total - totals[best]) for key, total in totals.items()}
        readings = tuple(
            self._reading(number, command, spans, losses, shares)
            for number, command in enumerate(commands)
        )
        return Sentence(phones, totals[best], readings)

    def _reading(
        self,
        number: int,
        command: automaton.Command,
        spans: npt.NDArray[np.int64],
        losses: npt.NDArray[np.float64],
        shares: dict[Any, float],
    ) -> Reading:
        first, last = int(spans[command.first, 0]), int(spans[command.last - 1, 1])
        loss = losses[first:last].sum() / (command.last - command.first)
        confidence = math.exp(loss)
        slots = _values(command)
        total = sum(shares.values())
        agreeing = {
            name: sum(
                share
                for key, share in shares.items()
                if number < len(key) and (name, value) in key[number][2]
            )
            for name, value in slots.items()
        }
        return Reading(
            text=" ".join(word for _, word in command.words),
            intent=command.intent,
            slots=slots,
            confidence=confidence,
            slot_confidence={name: confidence * x / total for name, x in agreeing.items()},
            first=first,
            last=last,
        )

    def _losses(
        self, emission: LogProbabilities, phones: tuple[int, ...], spans: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """How much less likely the sentence is at each frame than what was heard there: [frames].

        Both are best paths, so no value is above 0.  It measures what the grammar forbids, not how
        noisy the speech is.
        """
        path = np.full(len(emission), self._blank)
        for phone, (first, last) in zip(phones, spans, strict=True):
            path[first:last] = phone
        chosen = emission[np.arange(len(emission)), path]
        return (chosen - emission.max(axis=1)).astype(np.float64)

    def prefixes(self, emission: LogProbabilities) -> list[tuple[tuple[int, ...], float]]:
        """Complete sentences as phones with their log probabilities, the likeliest first."""
        tree = _Tree(self._grammar)
        nodes = np.array([0])
        blank, label = np.zeros(1), np.full(1, _IMPOSSIBLE)
        for frame in emission.astype(np.float64):
            nodes, blank, label = self._advance(tree, nodes, blank, label, frame)
        totals = np.logaddexp(blank, label)
        return [
            (tree.phones_of(int(nodes[i])), float(totals[i]))
            for i in np.argsort(-totals, kind="stable")
            if nodes[i] and self._grammar.may_end(tree.states[nodes[i]])
        ]

    def _advance(
        self,
        tree: "_Tree",
        nodes: npt.NDArray[np.int64],
        blank: npt.NDArray[np.float64],
        label: npt.NDArray[np.float64],
        frame: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The prefixes after a frame: nodes, and the log probability of those that end in a blank,
        and in their last phone."""
        total = np.logaddexp(blank, label)
        own = tree.phone[nodes]
        children = [tree.children_of(int(node)) for node in nodes]
        longer = np.concatenate(children)
        parent = np.repeat(np.arange(len(nodes)), [len(x) for x in children])
        phone = tree.phone[longer]
        # CTC writes a repeated phone only after a blank.
        before = np.where(phone == own[parent], blank[parent], total[parent])
        reached = before + frame[phone]
        place = np.full(tree.size, -1)
        place[nodes] = np.arange(len(nodes))
        stays = np.where(own == _NONE, _IMPOSSIBLE, label + frame[own])
        known = place[longer]
        again = known >= 0
        stays[known[again]] = np.logaddexp(stays[known[again]], reached[again])
        new_nodes = np.concatenate([nodes, longer[~again]])
        new_blank = np.concatenate(
            [total + frame[self._blank], np.full(int((~again).sum()), _IMPOSSIBLE)]
        )
        new_label = np.concatenate([stays, reached[~again]])
        scores = np.logaddexp(new_blank, new_label)
        kept = np.argsort(-scores, kind="stable")[:PREFIXES]
        kept = kept[scores[kept] > scores[kept[0]] - _MARGIN]
        return new_nodes[kept], new_blank[kept], new_label[kept]


class _Tree:
    """Prefixes, each one's parent before it; number 0 is the empty one."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self.states: list[States] = [grammar.first]
        self._parents = [0]
        self._phones = np.full(1024, _NONE)
        self.size = 1
        self._children: dict[int, npt.NDArray[np.int64]] = {}

    @property
    def phone(self) -> npt.NDArray[np.int64]:
        """The last phone of each prefix."""
        return self._phones

    def children_of(self, node: int) -> npt.NDArray[np.int64]:
        """The prefixes that are a phone longer."""
        known = self._children.get(node)
        if known is None:
            states = self.states[node]
            allowed = self._grammar.allowed(states)
            end = self.size + len(allowed)
            if end > len(self._phones):
                more = np.full(2 * end - len(self._phones), _NONE)
                self._phones = np.concatenate([self._phones, more])
            known = np.arange(self.size, end)
            self._phones[known] = allowed
            self.states += [self._grammar.follow(states, phone) for phone in allowed]
            self._parents += [node] * len(allowed)
            self._children[node] = known
            self.size = end
        return known

    def phones_of(self, node: int) -> tuple[int, ...]:
        phones = []
        while node:
            phones.append(int(self._phones[node]))
            node = self._parents[node]
        return tuple(reversed(phones))


def _values(command: automaton.Command) -> dict[str, str]:
    """The words of each slot: those whose last phone is one of its positions."""
    return {
        name: " ".join(word for place, word in command.words if place in places)
        for name, places in command.slots.items()
    }


def _meaning(commands: list[automaton.Command]) -> tuple[Any, ...]:
    return tuple(
        (
            command.intent,
            tuple(word for _, word in command.words),
            tuple(_values(command).items()),
        )
        for command in commands
    )
