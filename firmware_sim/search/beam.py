"""The decoder loop: encoder outputs -> tokens, one token an invocation of `decoder_step`.

N: longest text, S: memory frames, V: vocabulary, d: d_model.  The self-attention caches
([1, N, d] for each layer) start at real 0.0.  Step t writes its rows to slot t, and later steps
read them.  If the decoder has convolutions, each has a window [1, 2, C] of the last two rows.
"""

import dataclasses
import math
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.grammar.automaton import States
from firmware_sim.runtimes.model import BundleError, TensorSpec
from firmware_sim.runtimes.runtime import Runtime, Tensors
from firmware_sim.search.ctc import CtcPrefix, CtcPrefixes, ctc_align, ctc_greedy, log_softmax
from firmware_sim.search.options import CTC_WEIGHT, Decoding, DecodingOptions
from firmware_sim.search.speech_model import SpeechModel

_IMPOSSIBLE: Final = -math.inf
_MARGIN: Final = 4.0  # hypotheses less than e^-4 times as likely as the best are dropped
_LANGUAGE_MARGIN: Final = 8.0  # with a language model, which may raise a hypothesis again


@dataclasses.dataclass(frozen=True)
class Alignment:
    """When the tokens of a text were spoken, and the best CTC path; memory frames."""

    spans: npt.NDArray[np.int64] | None  # [tokens, 2], see ctc_align
    best_path: npt.NDArray[np.int64]  # [frames], a token or blank


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A decoded text."""

    tokens: tuple[int, ...]  # without start and end
    # Natural log probability, with CTC's part and the length penalty. Without the language model's
    # part, which only chooses among texts.
    score: float
    ended: bool  # False if the limit on tokens cut the text off
    step_seconds: tuple[float, ...]  # duration of each decoder step
    # Scores after each token and after the end, without a length penalty.
    scores: tuple[float, ...] = ()
    others: tuple[tuple[tuple[int, ...], float], ...] = ()  # further texts and their scores
    alignment: Alignment | None = None  # None without a CTC head


class StepState:
    """All inputs of the decoder step for one hypothesis, its own caches among them."""

    def __init__(self, inputs: Tensors, cache_names: tuple[str, ...]) -> None:
        self.inputs = inputs
        self._cache_names = cache_names

    def copy(self) -> "StepState":
        """A state with its own caches and self-attention mask; it shares the other inputs."""
        inputs = dict(self.inputs)
        for name in (*self._cache_names, "self_mask"):
            inputs[name] = self.inputs[name].copy()
        return StepState(inputs, self._cache_names)


@dataclasses.dataclass(frozen=True)
class _Text:
    """A text that the search has finished."""

    tokens: tuple[int, ...]
    scores: tuple[float, ...]  # after each token and the end
    ended: bool
    language_score: float = 0.0  # the language model's part, which is not in `scores`

    @property
    def rank(self) -> float:
        return self.scores[-1] + self.language_score


@dataclasses.dataclass(frozen=True)
class _Partial:
    """An unfinished hypothesis of the beam."""

    tokens: tuple[int, ...]
    scores: tuple[float, ...]  # after each token; joint, without the language model's part
    attention_score: float
    language_score: float
    state: StepState
    prefix: CtcPrefix | None
    grammar_states: States

    @property
    def rank(self) -> float:
        return self.scores[-1] + self.language_score


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A hypothesis extended by one token."""

    parent: int
    token: int
    score: float
    attention_score: float
    language_score: float
    prefix: CtcPrefix | None

    @property
    def rank(self) -> float:
        """The beam keeps the highest."""
        return self.score + self.language_score


class Decoder:
    """Searches for the text of one utterance after another on a loaded decoder step."""

    def __init__(
        self, model: SpeechModel, step: Runtime, options: DecodingOptions | None = None
    ) -> None:
        """`step` is the model's decoder step on a runtime.

        Raises:
          BundleError: if the options need a CTC head or a language model and there is none.
        """
        options = options or DecodingOptions()
        self._model = model
        self._step = step
        self._tokens = model.tokenizer
        self._options = options
        self.grammar = options.grammar_of(model)
        self._beam = options.beam_of(model)
        self._ctc_weight = options.ctc_weight or 0.0
        if options.language_weight and model.language is None:
            raise BundleError(
                f"{model.path} has no language model: decode without language_weight, or make one "
                "with tf_speech_transformer.language and convert the run again."
            )
        self._language_weight = options.language_weight_of(model)
        self.language = model.language if self._language_weight else None
        self._margin = _MARGIN if self.language is None else _LANGUAGE_MARGIN
        step_model = model.decoder_step
        self._logits = step_model.output("logits")
        self._rows = {f"cache_{n}": f"row_{n}" for n in range(model.decoder_layers)}
        self._newest = {f"window_{n}": f"newest_{n}" for n in range(model.decoder_convolutions)}
        self._position: TensorSpec | None = None
        if any(spec.name == "position" for spec in step_model.inputs):
            self._position = step_model.input("position")
        self._memory_mask = step_model.input("memory_mask")
        self._self_mask = mask_values(step_model.input("self_mask"), model.mask_value)
        self._token = step_model.input("token")
        self._ctc: TensorSpec | None = None
        if any(spec.name == "ctc_logits" for spec in model.encoder.outputs):
            self._ctc = model.encoder.output("ctc_logits")
            if options.ctc_weight is None:
                self._ctc_weight = CTC_WEIGHT
        elif options.decoding is Decoding.CTC or self._ctc_weight or self.grammar:
            raise BundleError(
                f"{model.path}: {model.encoder.file} has no output 'ctc_logits', which CTC "
                "decoding, ctc_weight and the confidence of commands need; decode without them."
            )

    def decode(self, encoded: Tensors, frames: int) -> Hypothesis:
        """Finds the text of an utterance.

        Args:
          encoded: the encoder's outputs.
          frames: feature frames of the utterance that went into the encoder.
        """
        memory_frames = self._model.limits.memory_positions(frames)
        logits = ctc = None
        if self._ctc is not None:
            logits = encoded["ctc_logits"][0, :memory_frames]
            ctc = log_softmax(self._ctc.dequantize(logits))
        if self._options.decoding is Decoding.CTC:
            assert ctc is not None and logits is not None  # __init__ refused the bundle otherwise
            return self._ctc_best_path(ctc, logits)

        seconds: list[float] = []
        state = self.start(encoded, frames)
        prefixes = None
        if ctc is not None and self._ctc_weight:
            prefixes = CtcPrefixes(ctc, self._tokens.blank)
        if self._options.decoding is Decoding.GREEDY:
            texts = [self._greedy(state, seconds, prefixes)]
        else:
            texts = self._search(state, seconds, prefixes)
        scores = [self._normalise(text.scores[-1], len(text.tokens)) for text in texts]
        ranks = [self._normalise(text.rank, len(text.tokens)) for text in texts]
        best = int(np.argmax(ranks))
        text = texts[best]
        others = tuple(
            (other.tokens, scores[i]) for i, other in enumerate(texts) if i != best and other.ended
        )
        alignment = None if logits is None else self._align(logits, text.tokens)
        return Hypothesis(
            text.tokens, scores[best], text.ended, tuple(seconds), text.scores, others, alignment
        )

    def start(self, encoded: Tensors, frames: int) -> StepState:
        """The state before the first step, with the start token as its next."""
        model, step = self._model, self._model.decoder_step
        inputs: Tensors = {"memory": encoded["memory"]}
        inputs["memory_mask"] = prefix_mask(
            self._memory_mask, model.mask_value, model.limits.memory_positions(frames)
        )
        for name in (*self._rows, *self._newest):
            spec = step.input(name)
            inputs[name] = np.full(spec.shape, spec.quantize(0.0))
        if self._position is not None:
            inputs["position"] = one_hot(self._position, 0)
        inputs["token"] = one_hot(self._token, self._tokens.start)
        valid, masked = self._self_mask
        inputs["self_mask"] = np.full((1, model.limits.tokens + 1), masked)
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

    def _align(self, logits: npt.NDArray[Any], tokens: tuple[int, ...]) -> Alignment:
        return Alignment(ctc_align(logits, tokens, self._tokens.blank), logits.argmax(axis=1))

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
        self, state: StepState, seconds: list[float], prefixes: CtcPrefixes | None
    ) -> _Text:
        """Only attention chooses; with `prefixes` the scores are joint, as those of `_search`."""
        tokens: list[int] = []
        scores: list[float] = []
        attention, weight = 0.0, self._ctc_weight
        prefix = prefixes.empty() if prefixes else None
        states = self.grammar.first if self.grammar else frozenset()
        for step in range(self._model.limits.tokens):
            outputs = self._invoke(state, seconds)
            log_probabilities = self._log_probabilities(outputs)
            followers = self._followers(states)
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
                return _Text(tuple(tokens), tuple(scores), True)
            tokens.append(token)
            self.advance(state, outputs, step, token)
            states = self.grammar.follow(states, token) if self.grammar else states
        return _Text(tuple(tokens), tuple(scores), False)

    def _followers(self, states: States) -> npt.NDArray[np.int64]:
        """The tokens that may come next, the end among them; all without a grammar."""
        if self.grammar is None:
            return np.arange(len(self._tokens.tokens))
        end = (self._tokens.end,) if self.grammar.may_end(states) else ()
        return np.array(sorted((*self.grammar.allowed(states), *end)), np.int64)

    def _search(
        self, state: StepState, seconds: list[float], prefixes: CtcPrefixes | None
    ) -> list[_Text]:
        """The beam: hypotheses that ended, or, if none did, those that the limit cut off.

        With `prefixes` each score is joint, (1 - w) attention + w CTC, at every token.  CTC goes
        through the speech from left to right once, and so keeps attention from skipping or
        repeating words (Watanabe et al., 2017).  A language model's part is added to that.
        """
        first = self.grammar.first if self.grammar else frozenset()
        active = [_Partial((), (), 0.0, 0.0, state, prefixes.empty() if prefixes else None, first)]
        ended: list[_Text] = []
        for step in range(self._model.limits.tokens):
            runs = [self._invoke(partial.state, seconds) for partial in active]
            candidates = [
                candidate
                for parent, (partial, outputs) in enumerate(zip(active, runs, strict=True))
                for candidate in self._candidates(parent, partial, outputs, prefixes)
            ]
            candidates.sort(key=lambda candidate: -candidate.rank)
            texts, active = self._extend(step, active, runs, candidates)
            ended += texts
            if (self.grammar or self.language) and ended:
                # Texts that are nearly as likely tell how certain the best one is. A language model
                # may still add more for a token than it takes for the next.
                best = max(text.rank for text in ended)
                active = [partial for partial in active if partial.rank > best - _MARGIN]
            elif active and self._is_settled(ended, active):
                break
            if not active:
                break
        return ended or [_Text(x.tokens, x.scores, False, x.language_score) for x in active]

    def _candidates(
        self, parent: int, partial: _Partial, outputs: Tensors, prefixes: CtcPrefixes | None
    ) -> list[_Candidate]:
        """The likeliest tokens after a hypothesis, twice as many as the beam keeps."""
        weight, end = self._ctc_weight, self._tokens.end
        log_probabilities = self._log_probabilities(outputs).astype(np.float64)
        attention = partial.attention_score + log_probabilities
        language = partial.language_score + self._language_scores(partial.tokens)
        # CTC's scores take long to compute: only the tokens likely without them get one.
        likely = attention + language / (1 - weight) if weight < 1 else attention
        # Stable order: equal scores keep the lower token.
        followers = self._followers(partial.grammar_states)
        chosen = followers[np.argsort(-likely[followers], kind="stable")[: 2 * self._beam]]
        chosen = chosen[likely[chosen] > likely[chosen[0]] - self._margin]
        grown: dict[int, CtcPrefix] = {}
        if prefixes is not None and partial.prefix is not None:
            grown = prefixes.grow(partial.prefix, chosen[chosen != end])
        if end in chosen and partial.prefix is not None:
            grown[end] = partial.prefix.ended()
        candidates = []
        for token in (int(t) for t in chosen):
            score, prefix = float(attention[token]), grown.get(token)
            joint = score if prefix is None else (1 - weight) * score + weight * prefix.score
            candidates.append(
                _Candidate(parent, token, joint, score, float(language[token]), prefix)
            )
        return candidates

    def _extend(
        self,
        step: int,
        active: list[_Partial],
        runs: list[Tensors],
        candidates: list[_Candidate],
    ) -> tuple[list[_Text], list[_Partial]]:
        """The texts that end here, and the hypotheses of the next step; `candidates` are sorted."""
        ended: list[_Text] = []
        following: list[_Partial] = []
        for candidate in candidates[: 2 * self._beam]:
            least = candidates[0].rank - self._margin
            if len(following) == self._beam or candidate.rank < least:
                break
            partial, token = active[candidate.parent], candidate.token
            scores = (*partial.scores, candidate.score)
            if token == self._tokens.end:
                ended.append(_Text(partial.tokens, scores, True, candidate.language_score))
                continue
            state, states = partial.state.copy(), partial.grammar_states
            self.advance(state, runs[candidate.parent], step, token)
            following.append(
                _Partial(
                    (*partial.tokens, token),
                    scores,
                    candidate.attention_score,
                    candidate.language_score,
                    state,
                    candidate.prefix,
                    self.grammar.follow(states, token) if self.grammar else states,
                )
            )
        return ended, following

    def _language_scores(self, tokens: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The language model's part of the score of each token after others, [V].

        A token of usual likelihood scores 0, so that long texts are not worse than short ones.
        """
        if self.language is None:
            return np.zeros(len(self._tokens.tokens))
        usual = self.language.entropy
        return self._language_weight * (self.language.log_probabilities(tokens) + usual)

    def _is_settled(self, ended: list[_Text], active: list[_Partial]) -> bool:
        """Whether a text has ended that no active hypothesis can still overtake."""
        if not ended:
            return False
        best = max(self._normalise(text.scores[-1], len(text.tokens)) for text in ended)
        # A score only falls; the length penalty forgives most at the greatest length.
        return best >= self._normalise(active[0].scores[-1], self._model.limits.tokens)

    def _normalise(self, score: float, tokens: int) -> float:
        return score / (tokens + 1) ** self._options.length_penalty  # + 1 for the end

    def _ctc_best_path(self, ctc: npt.NDArray[np.float32], logits: npt.NDArray[Any]) -> Hypothesis:
        tokens, score = ctc_greedy(ctc, self._tokens.blank)
        special = (self._tokens.start, self._tokens.end)
        tokens = tuple(t for t in tokens if t not in special)
        return Hypothesis(tokens, score, True, (), alignment=self._align(logits, tokens))


def mask_values(spec: TensorSpec, mask_value: float) -> tuple[Any, Any]:
    """Stored values of a mask input at a (valid, masked) position."""
    valid, masked = spec.quantize([0.0, mask_value])
    return valid, masked


def prefix_mask(spec: TensorSpec, mask_value: float, valid: int) -> npt.NDArray[Any]:
    """A mask of spec's shape [1, positions]: the first `valid` positions are valid."""
    open_position, masked = mask_values(spec, mask_value)
    mask = np.full(spec.shape, masked)
    mask[0, :valid] = open_position
    return mask


def one_hot(spec: TensorSpec, token: int) -> npt.NDArray[Any]:
    """A one-hot row of spec's shape [1, V]: real 1.0 at the token, 0.0 elsewhere."""
    zero, one = spec.quantize([0.0, 1.0])
    row = np.full(spec.shape, zero)
    row[0, token] = one
    return row
