"""The decoder loop: encoder outputs -> tokens, one token an invocation of `decoder_step`.

N: longest text, S: memory frames, V: vocabulary, d: d_model.  The self-attention caches
([1, N, d] for each layer) start at real 0.0; the rows that step t writes go to slot t and are read
by the steps after it.  Where the decoder has convolutions, each has a window [1, 2, C] of the rows
that it read last.
"""

import dataclasses
import enum
import math
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle, BundleError, TensorSpec
from firmware_sim.grammar.automaton import Grammar, States
from firmware_sim.runtimes.runtime import Runtime, Tensors

_IMPOSSIBLE: Final = -math.inf
_UNLIKELY: Final = -1e4  # a text too fast for CTC's frames: attention alone decides
CTC_WEIGHT: Final = 0.3  # of CTC's score in the beam: `benchmarks.repeats` says what it is worth
_MARGIN: Final = 4.0  # hypotheses less than e^-4 times as likely as the best of a step are given up
_LANGUAGE_MARGIN: Final = 8.0  # with a language model, which may yet make good much more


# A text of a search: tokens, scores after each token and the end, whether it ended, and what the
# language model gave and took, which is not among the scores.
_Found = tuple[tuple[int, ...], tuple[float, ...], bool, float]


class Decoding(str, enum.Enum):
    """How tokens are chosen."""

    GREEDY = "greedy"
    BEAM = "beam"
    CTC = "ctc"  # best path of the encoder's CTC head; the decoder does not run


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """Choices of the search; the defaults are the cheapest."""

    decoding: Decoding = Decoding.GREEDY
    beam: int = 4  # hypotheses kept, for Decoding.BEAM
    length_penalty: float = 0.0  # scores are divided by (number of tokens)^length_penalty
    # Of the CTC score, 0 to 1, at every token: in what Decoding.BEAM chooses by, and in the scores
    # of Decoding.GREEDY. None: 0.3, if there is a CTC head.
    ctc_weight: float | None = 0.0
    grammar: bool = True  # held to the bundle's grammar, if it has one; not for Decoding.CTC
    # Of the language model's log probabilities, beside a weight of 1 for what was heard; for
    # Decoding.BEAM that is not held to a grammar. None: the bundle's weight, if it has a model.
    language_weight: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoding", Decoding(self.decoding))
        if self.beam < 1:
            raise ValueError(f"beam is {self.beam}; it must be at least 1.")
        if self.length_penalty < 0:
            raise ValueError(f"length_penalty is {self.length_penalty}; it must not be negative.")
        if self.ctc_weight is not None and not 0 <= self.ctc_weight <= 1:
            raise ValueError(f"ctc_weight is {self.ctc_weight}; it must be between 0 and 1.")
        if self.language_weight is not None and not 0 <= self.language_weight < math.inf:
            raise ValueError(f"language_weight is {self.language_weight}; it must not be negative.")

    def grammar_of(self, bundle: Bundle) -> Grammar | None:
        """What texts are held to."""
        return bundle.grammar if self.grammar and self.decoding is not Decoding.CTC else None

    def language_weight_of(self, bundle: Bundle) -> float:
        """Of the bundle's language model; 0.0 if it has no say."""
        if not bundle.language or self.decoding is not Decoding.BEAM or self.grammar_of(bundle):
            return 0.0
        return bundle.language.weight if self.language_weight is None else self.language_weight


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A decoded text."""

    tokens: tuple[int, ...]  # without start and end
    # Log probability, natural; with the options' CTC part and length penalty, without the language
    # model's part, which only chooses among texts.
    score: float
    ended: bool  # False if the limit on tokens cut the text off
    step_seconds: tuple[float, ...]  # of each decoder step run for this utterance
    # After each token, and after the end: what the search had by then, without a length penalty.
    scores: tuple[float, ...] = ()
    others: tuple[tuple[tuple[int, ...], float], ...] = ()  # further texts and their scores
    alignment: "Alignment | None" = None  # none without a CTC head


@dataclasses.dataclass(frozen=True)
class Alignment:
    """When the tokens of a text were said, and what CTC alone hears; memory frames."""

    spans: npt.NDArray[np.int64] | None  # [tokens, 2], see ctc_align
    best_path: npt.NDArray[np.int64]  # [frames], a token or blank


class StepState:
    """All inputs of the decoder step for one hypothesis, its own caches among them."""

    def __init__(self, inputs: Tensors, cache_names: tuple[str, ...]) -> None:
        self.inputs = inputs
        self._cache_names = cache_names

    def copy(self) -> "StepState":
        """A state whose caches and self-attention mask are its own; the rest is shared."""
        inputs = dict(self.inputs)
        for name in (*self._cache_names, "self_mask"):
            inputs[name] = self.inputs[name].copy()
        return StepState(inputs, self._cache_names)


class Decoder:
    """Searches for the text of one utterance after another on a loaded decoder step."""

    def __init__(self, bundle: Bundle, step: Runtime, options: DecodingOptions) -> None:
        """`step` is the bundle's decoder step on a runtime.

        Raises:
          BundleError: if the options need a CTC head or a language model and the bundle has none.
        """
        self._bundle = bundle
        self._step = step
        self._tokens = bundle.tokenizer
        self.grammar = options.grammar_of(bundle)
        self._ctc_weight = options.ctc_weight or 0.0
        self._options = options
        if options.language_weight and bundle.language is None:
            raise BundleError(
                f"{bundle.path} has no language model: decode without language_weight, or make one "
                "with tf_speech_transformer.language and convert the run again."
            )
        self._language_weight = options.language_weight_of(bundle)
        self.language = bundle.language if self._language_weight else None
        self._margin = _MARGIN if self.language is None else _LANGUAGE_MARGIN
        model = bundle.decoder_step
        self._logits = model.output("logits")
        self._rows = {f"cache_{n}": f"row_{n}" for n in range(bundle.decoder_layers)}
        self._newest = {f"window_{n}": f"newest_{n}" for n in range(bundle.decoder_convolutions)}
        self._position: TensorSpec | None = None
        if any(spec.name == "position" for spec in model.inputs):
            self._position = model.input("position")
        self._memory_mask = model.input("memory_mask")
        self._self_mask = mask_values(model.input("self_mask"), bundle.mask_value)
        self._token = model.input("token")
        self._ctc: TensorSpec | None = None
        if any(spec.name == "ctc_logits" for spec in bundle.encoder.outputs):
            self._ctc = bundle.encoder.output("ctc_logits")
            if options.ctc_weight is None:
                self._ctc_weight = CTC_WEIGHT
        elif options.decoding is Decoding.CTC or self._ctc_weight or self.grammar:
            raise BundleError(
                f"{bundle.path}: {bundle.encoder.file} has no output 'ctc_logits', which CTC "
                "decoding, ctc_weight and the confidence of commands need; decode without them."
            )

    def decode(self, encoded: Tensors, frames: int) -> Hypothesis:
        """Finds the text of an utterance.

        Args:
          encoded: the encoder's outputs.
          frames: feature frames of the utterance that went into the encoder.
        """
        options = self._options
        memory_frames = self._bundle.limits.memory_positions(frames)
        ctc = None
        if self._ctc is not None:
            ctc = log_softmax(self._ctc.dequantize(encoded["ctc_logits"][0, :memory_frames]))
        if options.decoding is Decoding.CTC:
            assert ctc is not None  # __init__ refused the bundle otherwise
            return self._ctc_best_path(ctc)

        seconds: list[float] = []
        state = self.start(encoded, frames)
        prefixes = None
        if ctc is not None and self._ctc_weight:
            prefixes = CtcPrefixes(ctc, self._tokens.blank)
        if options.decoding is Decoding.GREEDY:
            found = [self._greedy(state, seconds, prefixes)]
        else:
            found = self._beam(state, seconds, prefixes)
        totals = [scores[-1] for _, scores, *_ in found]
        normal = [
            self._normalise(score, len(tokens))
            for score, (tokens, *_) in zip(totals, found, strict=True)
        ]
        ranks = [
            self._normalise(score + language, len(tokens))
            for score, (tokens, _, _, language) in zip(totals, found, strict=True)
        ]
        best = int(np.argmax(ranks))
        tokens, scores, ended, _ = found[best]
        others = tuple(
            (text, normal[i]) for i, (text, _, whole, _) in enumerate(found) if i != best and whole
        )
        alignment = None if ctc is None else self._align(ctc, tokens)
        return Hypothesis(tokens, normal[best], ended, tuple(seconds), scores, others, alignment)

    def _align(self, ctc: npt.NDArray[np.float32], tokens: tuple[int, ...]) -> Alignment:
        return Alignment(ctc_align(ctc, tokens, self._tokens.blank), ctc.argmax(axis=1))

    def start(self, encoded: Tensors, frames: int) -> StepState:
        """The state before the first step, with the start token as its next."""
        bundle, model = self._bundle, self._bundle.decoder_step
        inputs: Tensors = {"memory": encoded["memory"]}
        inputs["memory_mask"] = prefix_mask(
            self._memory_mask, bundle.mask_value, bundle.limits.memory_positions(frames)
        )
        for name in (*self._rows, *self._newest):
            spec = model.input(name)
            inputs[name] = np.full(spec.shape, spec.quantize(0.0))
        if self._position is not None:
            inputs["position"] = one_hot(self._position, 0)
        inputs["token"] = one_hot(self._token, self._tokens.start)
        valid, masked = self._self_mask
        inputs["self_mask"] = np.full((1, bundle.limits.tokens + 1), masked)
        inputs["self_mask"][0, -1] = valid
        return StepState(inputs, tuple(self._rows))

    def advance(self, state: StepState, outputs: Tensors, step: int, token: int) -> None:
        """Puts the rows of step number `step` into the caches, and `token` next, in place."""
        for cache, row in self._rows.items():
            state.inputs[cache][0, step] = outputs[row][0, 0]
        for window, newest in self._newest.items():
            rows = [state.inputs[window][:, 1:], outputs[newest]]
            state.inputs[window] = np.concatenate(rows, 1)
        if self._position is not None:
            following = min(step + 1, self._position.shape[1] - 1)  # none after the last
            state.inputs["position"] = one_hot(self._position, following)
        state.inputs["self_mask"][0, step] = self._self_mask[0]
        state.inputs["token"] = one_hot(self._token, token)

    def _log_probabilities(self, outputs: Tensors) -> npt.NDArray[np.float32]:
        """[V]; blank and start can never follow."""
        result = log_softmax(self._logits.dequantize(outputs["logits"][0]))
        result[[self._tokens.blank, self._tokens.start]] = _IMPOSSIBLE
        return result

    def _invoke(self, state: StepState, seconds: list[float]) -> Tensors:
        begin = time.perf_counter()
        outputs = self._step.invoke(state.inputs)
        seconds.append(time.perf_counter() - begin)
        return outputs

    def _greedy(
        self, state: StepState, seconds: list[float], prefixes: "CtcPrefixes | None"
    ) -> _Found:
        """Attention alone chooses; with `prefixes` scores are joint, as those of `_beam`."""
        tokens: list[int] = []
        scores: list[float] = []
        attention, weight = 0.0, self._ctc_weight
        prefix = prefixes.empty() if prefixes else None
        places = self.grammar.first if self.grammar else frozenset()
        for step in range(self._bundle.limits.tokens):
            outputs = self._invoke(state, seconds)
            log_probabilities = self._log_probabilities(outputs)
            followers = self._followers(places)
            token = int(followers[np.argmax(log_probabilities[followers])])
            attention += float(log_probabilities[token])
            if prefixes is None or prefix is None:
                scores.append(attention)
            else:
                prefix = (
                    prefix.ended()
                    if token == self._tokens.end
                    else prefixes.grow(prefix, np.array([token]))[token]
                )
                scores.append((1 - weight) * attention + weight * prefix.score)
            if token == self._tokens.end:
                return tuple(tokens), tuple(scores), True, 0.0
            tokens.append(token)
            self.advance(state, outputs, step, token)
            places = self.grammar.follow(places, token) if self.grammar else places
        return tuple(tokens), tuple(scores), False, 0.0

    def _followers(self, places: States) -> npt.NDArray[np.int64]:
        """The tokens that may come next, the end among them; all without a grammar."""
        if self.grammar is None:
            return np.arange(len(self._tokens.tokens))
        end = (self._tokens.end,) if self.grammar.may_end(places) else ()
        return np.array(sorted((*self.grammar.allowed(places), *end)), np.int64)

    def _beam(
        self, state: StepState, seconds: list[float], prefixes: "CtcPrefixes | None"
    ) -> list[_Found]:
        """Hypotheses that ended; if none did, those that the limit cut off.

        With `prefixes` each score is joint, (1 - w) attention + w CTC, at every token: CTC goes
        through the speech from left to right once, and so keeps attention from skipping or
        repeating words (Watanabe et al., 2017).  A language model's part comes on top of it.
        """
        beam, limit, end = self._options.beam, self._bundle.limits.tokens, self._tokens.end
        weight = self._ctc_weight if prefixes is not None else 0.0
        grammar, margin = self.grammar, self._margin
        first = grammar.first if grammar else frozenset()
        active = [_Partial((), (), 0.0, 0.0, state, prefixes.empty() if prefixes else None, first)]
        ended: list[_Found] = []
        for step in range(limit):
            runs = [self._invoke(partial.state, seconds) for partial in active]
            candidates: list[_Candidate] = []
            for parent, (partial, outputs) in enumerate(zip(active, runs, strict=True)):
                attention = partial.attention + self._log_probabilities(outputs).astype(np.float64)
                language = partial.language + self._language(partial.tokens)
                # What CTC says of a token takes longer: the likeliest alone are asked for.
                likely = attention + language / (1 - weight) if weight < 1 else attention
                # Stable order: equal scores keep the lower token.
                followers = self._followers(partial.places)
                chosen = followers[np.argsort(-likely[followers], kind="stable")[: 2 * beam]]
                chosen = chosen[likely[chosen] > likely[chosen[0]] - margin]
                grown: dict[int, CtcPrefix] = {}
                if prefixes is not None and partial.prefix is not None:
                    grown = prefixes.grow(partial.prefix, chosen[chosen != end])
                if end in chosen and partial.prefix is not None:
                    grown[end] = partial.prefix.ended()
                for token in (int(t) for t in chosen):
                    prefix = grown.get(token)
                    score = float(attention[token])
                    if prefix is not None:
                        score = (1 - weight) * score + weight * prefix.score
                    candidates.append(
                        _Candidate(
                            parent,
                            token,
                            score,
                            float(attention[token]),
                            float(language[token]),
                            prefix,
                        )
                    )
            candidates.sort(key=lambda candidate: -candidate.rank)
            following: list[_Partial] = []
            for candidate in candidates[: 2 * beam]:
                if len(following) == beam or candidate.rank < candidates[0].rank - margin:
                    break
                partial, token = active[candidate.parent], candidate.token
                scores = (*partial.scores, candidate.score)
                if token == end:
                    ended.append((partial.tokens, scores, True, candidate.language))
                    continue
                state = partial.state.copy()
                self.advance(state, runs[candidate.parent], step, token)
                following.append(
                    _Partial(
                        (*partial.tokens, token),
                        scores,
                        candidate.attention,
                        candidate.language,
                        state,
                        candidate.prefix,
                        grammar.follow(partial.places, token) if grammar else partial.places,
                    )
                )
            active = following
            if (grammar or self.language) and ended:
                # Other meanings that are nearly as likely say how sure the best one is; and what
                # a language model gives for a token may be more than what it takes for the next.
                best = max(scores[-1] + language for _, scores, _, language in ended)
                active = [partial for partial in active if partial.rank > best - _MARGIN]
            if not active or (
                not grammar and not self.language and self._is_settled(ended, active)
            ):
                break
        return ended or [(x.tokens, x.scores, False, x.language) for x in active]

    def _language(self, tokens: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The language model's part of the score of each token after others, [V].

        A token of usual likelihood takes nothing: long texts are as good as short ones.
        """
        if self.language is None:
            return np.zeros(len(self._tokens.tokens))
        usual = self.language.entropy
        return self._language_weight * (self.language.log_probabilities(tokens) + usual)

    def _is_settled(self, ended: "list[_Found]", active: "list[_Partial]") -> bool:
        """Whether a hypothesis ended that no active one can still overtake."""
        if not ended:
            return False
        best = max(self._normalise(scores[-1], len(tokens)) for tokens, scores, *_ in ended)
        # A score only falls; the length penalty forgives most at the greatest length.
        return best >= self._normalise(active[0].scores[-1], self._bundle.limits.tokens)

    def _normalise(self, score: float, tokens: int) -> float:
        return score / (tokens + 1) ** self._options.length_penalty  # + 1 for the end

    def _ctc_best_path(self, ctc: npt.NDArray[np.float32]) -> Hypothesis:
        tokens, score = ctc_greedy(ctc, self._tokens.blank)
        special = (self._tokens.start, self._tokens.end)
        tokens = tuple(t for t in tokens if t not in special)
        return Hypothesis(tokens, score, True, (), alignment=self._align(ctc, tokens))


@dataclasses.dataclass(frozen=True)
class CtcPrefix:
    """CTC's view of a text so far: that it, and nothing more, was said up to each frame."""

    score: float  # log probability of all texts that begin with this one
    last: int | None  # token
    label: npt.NDArray[np.float64]  # [frames], alignments that end in the last token
    blank: npt.NDArray[np.float64]  # [frames], alignments that end in a blank

    def ended(self) -> "CtcPrefix":
        """The same text as a whole one."""
        whole = float(np.logaddexp(self.label[-1], self.blank[-1]))
        return dataclasses.replace(self, score=max(whole, _UNLIKELY))


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
        """The empty text: blanks alone."""
        blanks = self._product[:, self._blank]
        return CtcPrefix(0.0, None, np.full(len(blanks), _IMPOSSIBLE), blanks)

    def grow(self, prefix: CtcPrefix, tokens: npt.NDArray[np.int64]) -> dict[int, CtcPrefix]:
        """The prefix with each of the tokens put to it."""
        emission = self._emission[:, tokens]
        said = np.logaddexp(prefix.label, prefix.blank)[:, None]
        # A token like the last one must have a blank between.
        said = np.where(tokens == prefix.last, prefix.blank[:, None], said)
        first = np.full((1, len(tokens)), 0.0 if prefix.last is None else _IMPOSSIBLE)
        before = np.concatenate([first, said[:-1]])
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


@dataclasses.dataclass(frozen=True)
class _Partial:
    """An unfinished hypothesis of the beam."""

    tokens: tuple[int, ...]
    scores: tuple[float, ...]  # after each token; joint, without the language model's part
    attention: float
    language: float  # what the language model has given and taken
    state: StepState
    prefix: CtcPrefix | None
    places: States  # in the grammar

    @property
    def rank(self) -> float:
        return self.scores[-1] + self.language


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A token that may follow a hypothesis, and what the text with it has."""

    parent: int
    token: int
    score: float
    attention: float
    language: float
    prefix: CtcPrefix | None

    @property
    def rank(self) -> float:
        """What the beam is sorted by."""
        return self.score + self.language


def mask_values(spec: TensorSpec, mask_value: float) -> tuple[Any, Any]:
    """What a mask input stores at a (valid, masked) position."""
    valid, masked = spec.quantize([0.0, mask_value])
    return valid, masked


def prefix_mask(spec: TensorSpec, mask_value: float, valid: int) -> npt.NDArray[Any]:
    """A mask of spec's shape [1, positions] whose first `valid` positions are valid."""
    open_position, masked = mask_values(spec, mask_value)
    mask = np.full(spec.shape, masked)
    mask[0, :valid] = open_position
    return mask


def one_hot(spec: TensorSpec, token: int) -> npt.NDArray[Any]:
    """A token as spec's shape [1, V] wants it: real 1.0 at its place, 0.0 elsewhere."""
    zero, one = spec.quantize([0.0, 1.0])
    row = np.full(spec.shape, zero)
    row[0, token] = one
    return row


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
    log_probabilities: npt.NDArray[np.float32], tokens: tuple[int, ...], blank: int
) -> npt.NDArray[np.int64] | None:
    """When each token was said, by the most likely CTC alignment (Viterbi).

    As in `CtcPrefixes`, the recursion in time of each label is an accumulation: of maxima here.

    Args:
      log_probabilities: float [frames, V].
      tokens: the text, without blanks.

    Returns:
      int64 [tokens, 2]: first frame of each, and the one after its last; None if the text does not
      fit into the frames.
    """
    labels = np.full(2 * len(tokens) + 1, blank)
    labels[1::2] = tokens
    count = len(log_probabilities)
    if not count:
        return None if tokens else np.zeros((0, 2), np.int64)
    emissions = log_probabilities[:, labels].astype(np.float64)
    products = np.cumsum(emissions, axis=0)
    scores = np.empty((len(labels), count))  # of the best path to a label at a frame
    entries = np.empty((len(labels), count), np.int64)  # the frame in which that came to the label
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
    """Whether label i may be reached over the blank before it."""
    return bool(i > 1 and i % 2 and labels[i] != labels[i - 2])
