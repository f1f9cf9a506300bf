"""The first pass: the sentences of a grammar over phones, by the CTC head of the encoder.

No decoder runs.  Tokens pass through the grammar's automaton, frame by frame (Young et al., 1989):
one stands for the best alignment of a sentence's beginning with the speech so far.  Tokens of the
same words meet in the states of the automaton, however the words were pronounced, and the better
one goes on.  So a grammar of some thousand arcs is searched whole.

Scores are sums of logits: the normalizer of a frame is the same for every path.  With int8 all of
it is exact, so the C core (`c/speech_phones.c`) finds the same sentences.
"""

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.grammar import automaton
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.grammar.network import Network
from firmware_sim.grammar.phrase import Word, said, value_of
from firmware_sim.search.ctc import ctc_align

SENTENCES: Final = 4  # beginnings that a place of the automaton keeps
TOKENS: Final = 2048  # kept at each frame, before the best of each place are chosen
TEXTS: Final = 16  # sentences that tell how certain a slot is
ONE: Final = 1 << 16  # log probabilities of commands are whole numbers of 1 / ONE nats
_UNIT: Final = 1 << 24  # of a logit, likewise
_MARGIN: Final = 40  # nats; tokens less than e^-40 times as likely as the best are dropped
_MOST_MARGIN: Final = (1 << 16) - 1  # units of a logit
_IMPOSSIBLE: Final = -math.inf
_STEPS: Final = _UNIT // ONE
_START: Final = -1  # the record of a sentence without phones
_KEYS: Final = 2**31 - 1  # keys of sentences: hashes of their words and slots

Logits = npt.NDArray[Any]  # int8 or float [frames, phones and blank]
Whole = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Reading:
    """A command within a sentence."""

    text: str
    intent: str
    slots: dict[str, str]
    confidence: float  # 0 to 1
    slot_confidence: dict[str, float]
    said: dict[str, str]  # of slots whose values are not as they were said
    first: int  # frame
    last: int  # the frame after its end


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What was said, as the grammar has it."""

    phones: tuple[int, ...]
    score: float  # log probability of the best alignment
    readings: tuple[Reading, ...]

    @property
    def text(self) -> str:
        return " ".join(reading.text for reading in self.readings)


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Beginnings of sentences, each at an arc or in a state: arrays [tokens]."""

    place: Whole
    score: npt.NDArray[np.float64]
    key: Whole  # tells sentences apart
    record: Whole  # number of the last arc of each, and of the arcs before it, see `_trace`

    def at(self, chosen: npt.NDArray[Any]) -> "_Tokens":
        return _Tokens(*(getattr(self, x.name)[chosen] for x in dataclasses.fields(self)))

    def best(self) -> "_Tokens":
        """The best of each sentence in each place, and the best `SENTENCES` of each place."""
        order = np.lexsort((-self.score, self.place * _KEYS + self.key))
        one = self.at(order)
        first = np.ones(len(order), bool)
        first[1:] = (one.place[1:] != one.place[:-1]) | (one.key[1:] != one.key[:-1])
        one = one.at(first)
        one = one.at(np.lexsort((-one.score, one.place)))
        begins = np.searchsorted(one.place, one.place)
        return one.at(np.arange(len(one.place)) - begins < SENTENCES)


def _joined(*parts: _Tokens) -> _Tokens:
    names = [field.name for field in dataclasses.fields(_Tokens)]
    return _Tokens(*(np.concatenate([getattr(x, name) for x in parts]) for name in names))


class PhoneSearch:
    """Finds sentences of a grammar.

    Args:
      grammar: over phones; as arrays, it is searched as it is.
      unit: nats of a unit of the logits.
    """

    def __init__(self, grammar: Grammar | Network, blank: int, unit: float = 1.0) -> None:
        self._network = grammar if isinstance(grammar, Network) else Network.of(grammar)
        self._grammar, self._blank = self._network.sentences, blank
        self._nats = nats(unit)

    def find(self, logits: Logits, complete: bool = True) -> Sentence | None:
        """The likeliest sentence; None if there is none.

        Args:
          complete: False also takes beginnings of sentences, of speech that goes on.
        """
        found = self.sentences(logits, complete)
        if not found:
            return None
        arcs, score = found[0]
        phones = tuple(int(x) for x in self._network.phone[arcs])
        spans = ctc_align(logits, phones, self._blank)
        if spans is None:
            return None
        losses = self._losses(logits, phones, spans)
        unit = self._nats / _UNIT
        shares = [
            (self._meaning(other), math.exp(unit * (behind - score)))
            for other, behind in found[:TEXTS]
        ]
        readings = tuple(
            self._reading(number, command, spans, losses, shares)
            for number, command in enumerate(self._commands(arcs))
        )
        normalizers = np.logaddexp.reduce(unit * logits.astype(np.float64), axis=1)
        return Sentence(phones, unit * score - float(normalizers.sum()), readings)

    def sentences(self, logits: Logits, complete: bool = True) -> list[tuple[Whole, float]]:
        """Sentences as arcs with their sums of logits, the likeliest first."""
        network = self._network
        none = np.zeros(0, np.int64)
        labels = _Tokens(none, np.zeros(0), none, none)
        start = np.array([self._grammar.start])
        blanks = _Tokens(start, np.zeros(1), np.zeros(1, np.int64), np.array([_START]))
        parents, arcs = [none], [none]  # of the records, frame by frame
        count = 0
        for frame in logits.astype(np.float64):
            labels, blanks, new = self._advance(labels, blanks, frame)
            # Tokens that entered an arc point to the record before it until now.
            parents.append(labels.record[new])
            arcs.append(labels.place[new])
            records = labels.record.copy()
            records[new] = count + np.arange(len(parents[-1]))
            count += len(parents[-1])
            labels = dataclasses.replace(labels, record=records)
        ended = _joined(dataclasses.replace(labels, place=network.target[labels.place]), blanks)
        ended = ended.at((network.final[ended.place] | (not complete)) & (ended.record != _START))
        order = np.argsort(-ended.score, kind="stable")
        kept = order[np.sort(np.unique(ended.key[order], return_index=True)[1])]
        parent, arc = np.concatenate(parents), np.concatenate(arcs)
        return [(_trace(parent, arc, int(ended.record[i])), float(ended.score[i])) for i in kept]

    def _advance(
        self, labels: _Tokens, blanks: _Tokens, frame: npt.NDArray[np.float64]
    ) -> tuple[_Tokens, _Tokens, npt.NDArray[np.bool_]]:
        """The tokens after a frame: at arcs, in states after blanks, and which entered their arc.

        At an arc the last frame was its phone.
        """
        network = self._network
        here = _joined(dataclasses.replace(labels, place=network.target[labels.place]), blanks)
        last = np.concatenate([network.phone[labels.place], np.full(len(blanks.place), -1)])
        begin = network.after_first[here.place]
        counts = network.after_first[here.place + 1] - begin
        token = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(token)) - np.repeat(np.cumsum(counts) - counts, counts)
        arc = network.after[begin[token] + within]
        # CTC writes a repeated phone only after a blank.
        allowed = last[token] != network.phone[arc]
        token, arc = token[allowed], arc[allowed]
        says = network.says[arc]
        key = here.key[token]
        key = np.where(says == 0, key, (key * 1_000_003 + says) % _KEYS)
        entered = _Tokens(arc, here.score[token], key, here.record[token])
        moved = _joined(labels, entered)
        moved = dataclasses.replace(moved, score=moved.score + frame[network.phone[moved.place]])
        # Marked in the record until the best are chosen.
        new = np.arange(len(moved.place)) >= len(labels.place)
        marked = dataclasses.replace(moved, record=moved.record * 2 + new)
        rests = dataclasses.replace(here, score=here.score + frame[self._blank])
        likely = _likely(np.concatenate([marked.score, rests.score]), margin(self._nats))
        count = len(marked.score)
        marked, rests = marked.at(likely[:count]).best(), rests.at(likely[count:]).best()
        new = marked.record % 2 == 1
        return dataclasses.replace(marked, record=marked.record // 2), rests, new

    def _commands(self, arcs: Whole) -> list[automaton.Command]:
        """The commands of a sentence; each after the first begins with an arc of the start."""
        network = self._network
        begins = network.source[arcs] == self._grammar.start
        begins[0] = False
        columns = (begins, network.slot[arcs], network.word[arcs], network.target[arcs])
        return self._grammar.commands(list(zip(*(x.tolist() for x in columns), strict=True)))

    def _meaning(self, arcs: Whole) -> tuple[Any, ...]:
        return tuple(
            (
                command.intent,
                tuple(word.text for _, word in command.words),
                tuple(_values(command).items()),
            )
            for command in self._commands(arcs)
        )

    def _reading(
        self,
        number: int,
        command: automaton.Command,
        spans: npt.NDArray[np.int64],
        losses: npt.NDArray[np.float64],
        shares: list[tuple[Any, float]],
    ) -> Reading:
        first, last = int(spans[command.first, 0]), int(spans[command.last - 1, 1])
        loss = losses[first:last].sum() * self._nats // _STEPS
        log_confidence = -int(loss // (command.last - command.first))
        confidence = math.exp(log_confidence / ONE)
        slots = _values(command)
        total = sum(share for _, share in shares)
        agreeing = {
            name: sum(
                share
                for key, share in shares
                if number < len(key) and (name, value) in key[number][2]
            )
            for name, value in slots.items()
        }
        return Reading(
            text=" ".join(word.text for _, word in command.words),
            intent=command.intent,
            slots=slots,
            confidence=confidence,
            slot_confidence={name: confidence * x / total for name, x in agreeing.items()},
            said={
                name: said(words)
                for name, words in _words(command).items()
                if said(words) != slots[name]
            },
            first=first,
            last=last,
        )

    def _losses(
        self, logits: Logits, phones: tuple[int, ...], spans: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """By how many units what was heard at each frame is above the sentence: [frames].

        Both are best paths, so no value is below 0.  It measures what the grammar forbids, not how
        noisy the speech is.
        """
        path = np.full(len(logits), self._blank)
        for phone, (first, last) in zip(phones, spans, strict=True):
            path[first:last] = phone
        chosen = logits[np.arange(len(logits)), path]
        return logits.max(axis=1).astype(np.float64) - chosen


def nats(unit: float) -> int:
    """Nats of a unit of the logits, in 2^-24, at least 1 of these."""
    return max(1, round(unit * _UNIT))


def margin(unit_nats: int) -> int:
    """How far below the best a token may be, in units of the logits."""
    return min(_MARGIN * _UNIT // unit_nats, _MOST_MARGIN)


def _likely(scores: npt.NDArray[np.float64], apart: int) -> npt.NDArray[np.bool_]:
    """Which of the scores are kept: at most `TOKENS`, and either all of equal ones or none."""
    best = scores.max()
    kept: npt.NDArray[np.bool_] = scores > best - apart
    if np.count_nonzero(kept) > TOKENS:
        place = len(scores) - TOKENS - 1
        worst = np.partition(scores, place)[place]
        kept = scores > worst
        if worst == best:  # too many equal ones: the first
            kept = (scores == best) & (np.cumsum(scores == best) <= TOKENS)
    return kept


def _trace(parent: Whole, arc: Whole, record: int) -> Whole:
    """The arcs of a sentence, from its last record back."""
    arcs = []
    while record != _START:
        arcs.append(int(arc[record]))
        record = int(parent[record])
    return np.array(arcs[::-1], np.int64)


def _words(command: automaton.Command) -> dict[str, list[Word]]:
    """The words of each slot: those whose last phone is one of its positions."""
    return {
        name: [word for place, word in command.words if place in places]
        for name, places in command.slots.items()
    }


def _values(command: automaton.Command) -> dict[str, str]:
    """The value of each slot."""
    return {name: value_of(words) for name, words in _words(command).items()}
