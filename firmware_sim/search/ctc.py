"""CTC: scores, the best path and the alignment of texts on the encoder's CTC logits.

Log probabilities are natural, float [frames, V]: a row for each frame of the encoder's memory.
"""

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_IMPOSSIBLE: Final = -math.inf
_UNLIKELY: Final = -1e4  # a text too fast for CTC's frames: only attention decides


@dataclasses.dataclass(frozen=True)
class CtcPrefix:
    """CTC's scores of a prefix: that it, and no further token, was spoken up to each frame."""

    score: float  # log probability of all texts with this prefix
    last: int | None  # token
    label: npt.NDArray[np.float64]  # [frames], alignments that end in the last token
    blank: npt.NDArray[np.float64]  # [frames], alignments that end in a blank

    def ended(self) -> "CtcPrefix":
        """The prefix as a complete text."""
        complete = float(np.logaddexp(self.label[-1], self.blank[-1]))
        return dataclasses.replace(self, score=max(complete, _UNLIKELY))


class CtcPrefixes:
    """CTC prefix scores (Graves, 2008; Watanabe et al., 2017, algorithm 2) without a loop in time.

    The recursion label[t] = (label[t-1] + before[t]) * p[t] is a cumulative sum once it is divided
    by the cumulative product of p; logarithms keep it in range.
    """

    def __init__(self, log_probabilities: npt.NDArray[np.float32], blank: int) -> None:
        """`log_probabilities`: float [frames, V], at least one frame."""
        self._emission = log_probabilities.astype(np.float64)
        self._product = np.cumsum(self._emission, axis=0)
        self._blank = blank

    def empty(self) -> CtcPrefix:
        """The empty prefix: only blanks."""
        blanks = self._product[:, self._blank]
        return CtcPrefix(0.0, None, np.full(len(blanks), _IMPOSSIBLE), blanks)

    def grow(self, prefix: CtcPrefix, tokens: npt.NDArray[np.int64]) -> dict[int, CtcPrefix]:
        """The prefix, extended by each of the tokens."""
        emission = self._emission[:, tokens]
        reached = np.logaddexp(prefix.label, prefix.blank)[:, None]
        # CTC writes a repeated token only after a blank.
        reached = np.where(tokens == prefix.last, prefix.blank[:, None], reached)
        first = np.full((1, len(tokens)), 0.0 if prefix.last is None else _IMPOSSIBLE)
        before = np.concatenate([first, reached[:-1]])
        scores = np.logaddexp.reduce(before + emission, axis=0)
        label = self._through(before, emission, self._product[:, tokens])
        earlier = np.concatenate([np.full((1, len(tokens)), _IMPOSSIBLE), label[:-1]])
        column = slice(self._blank, self._blank + 1)
        blank = self._through(earlier, self._emission[:, column], self._product[:, column])
        return {
            int(token): CtcPrefix(
                max(float(score), _UNLIKELY), int(token), label[:, i], blank[:, i]
            )
            for i, (token, score) in enumerate(zip(tokens, scores, strict=True))
        }

    @staticmethod
    def _through(
        before: npt.NDArray[np.float64],
        emission: npt.NDArray[np.float64],
        product: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """x[t] = log(exp(x[t-1]) + exp(before[t])) + emission[t], for x[-1] = -inf."""
        return product + np.logaddexp.accumulate(before - (product - emission), axis=0)


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Natural log of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def ctc_greedy(
    log_probabilities: npt.NDArray[np.float32], blank: int
) -> tuple[tuple[int, ...], float]:
    """The best path: repeats merged, blanks removed.

    Args:
      log_probabilities: float [frames, V].

    Returns:
      tokens, and the log probability of the path.
    """
    path = log_probabilities.argmax(axis=-1)
    score = float(log_probabilities.max(axis=-1, initial=_IMPOSSIBLE).sum()) if len(path) else 0.0
    return merge_repeats(path, blank), score


def merge_repeats(path: npt.NDArray[np.int64], blank: int) -> tuple[int, ...]:
    """The text of a CTC path [frames]."""
    changes = path[np.concatenate(([True], path[1:] != path[:-1]))] if len(path) else path
    return tuple(int(token) for token in changes if token != blank)


def ctc_align(
    logits: npt.NDArray[Any], tokens: tuple[int, ...], blank: int
) -> npt.NDArray[np.int64] | None:
    """When each token was spoken, by the most likely CTC alignment (Viterbi).

    As in `CtcPrefixes`, each label's recursion in time is an accumulation, here of maxima.  The
    frames' normalizers are the same for all paths, so sums of logits tell the best one.  Those of
    int8 are exact: every device finds the same path.  Of equals, it is the one that enters a label
    last.

    Args:
      logits: int8 or float [frames, V], or log probabilities.
      tokens: the text, without blanks.

    Returns:
      int64 [tokens, 2]: first frame of each, and the one after its last; None if the text does not
      fit into the frames.
    """
    labels = np.full(2 * len(tokens) + 1, blank)
    labels[1::2] = tokens
    count = len(logits)
    if not count:
        return None if tokens else np.zeros((0, 2), np.int64)
    emissions = logits[:, labels].astype(np.float64)
    products = np.cumsum(emissions, axis=0)
    scores = np.empty((len(labels), count))  # best path to each label and frame
    entries = np.empty((len(labels), count), np.int64)  # frame where that path entered the label
    for i in range(len(labels)):
        before = np.full(count, _IMPOSSIBLE)
        if i <= 1:
            before[0] = 0.0
        if i:
            before[1:] = scores[i - 1, :-1]
        if _may_skip(labels, i):
            before[1:] = np.maximum(before[1:], scores[i - 2, :-1])
        gains = before - (products[:, i] - emissions[:, i])
        best = np.maximum.accumulate(gains)
        scores[i] = products[:, i] + best
        entries[i] = np.maximum.accumulate(np.where(gains == best, np.arange(count), 0))

    label = len(labels) - 1
    if tokens and scores[label - 1, -1] > scores[label, -1]:
        label -= 1
    if scores[label, -1] == _IMPOSSIBLE:
        return None
    spans = np.zeros((len(tokens), 2), np.int64)
    end = count
    while True:
        first = int(entries[label, end - 1])
        if label % 2:
            spans[label // 2] = first, end
        if not first:
            return spans
        skip = (
            _may_skip(labels, label) and scores[label - 2, first - 1] > scores[label - 1, first - 1]
        )
        label -= 2 if skip else 1
        end = first


def _may_skip(labels: npt.NDArray[np.int64], i: int) -> bool:
    """Whether label i may follow label i - 2 without a blank."""
    return bool(i > 1 and i % 2 and labels[i] != labels[i - 2])
