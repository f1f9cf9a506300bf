"""The recogniser: 16 kHz audio in, text out, with the time that each part took."""

import dataclasses
import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle
from firmware_sim.grammar import automaton as grammars
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.runtime import Tensors
from firmware_sim.search.decoder import (
    Decoder,
    DecodingOptions,
    Hypothesis,
    merge_repeats,
    prefix_mask,
)
from firmware_sim.sound import frontend, segment


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that was heard, in a bundle with a grammar.

    `confidence` is the geometric mean of its tokens' probabilities, the end counted as one, as the
    search scores them: attention's and CTC's together, given the commands before it. A slot's is
    that times the share of its value among all texts of the beam, each as likely as its score says.

    If the product of the confidences of a window's commands is below the grammar's `reject_below`,
    none of them was said: speech that is no command is often heard as several.
    """

    text: str
    intent: str
    slots: dict[str, str]
    confidence: float  # 0 to 1: the geometric mean of its tokens' probabilities
    slot_confidence: dict[str, float]  # by slot
    start: float  # seconds from the beginning of the audio
    end: float

    def fields(self) -> dict[str, Any]:
        """All of it, rounded, as the tools print it in JSON."""
        return {
            "text": self.text,
            "intent": self.intent,
            "slots": self.slots,
            "confidence": round(self.confidence, 4),
            "slot_confidence": {k: round(v, 4) for k, v in self.slot_confidence.items()},
            "start": round(self.start, 2),
            "end": round(self.end, 2),
        }


@dataclasses.dataclass(frozen=True)
class Segment:
    """What was recognised in one piece of the audio."""

    start: int  # samples from the beginning of the audio
    end: int
    text: str  # empty where nothing, or no command, was heard
    tokens: tuple[int, ...]
    score: float  # log probability, see decoder.Hypothesis
    ended: bool  # False if the limit on tokens cut the text off
    frontend_seconds: float
    encoder_seconds: float
    step_seconds: tuple[float, ...]  # of each decoder step
    commands: tuple[Command, ...] = ()  # of a bundle with a grammar
    free_text: str | None = None  # what CTC hears, if the text was held to a grammar
    confidence: float | None = None  # of the whole text, a rejected one too
    speech: tuple[float, float] | None = None  # seconds, from what CTC hears first to last


@dataclasses.dataclass(frozen=True)
class Transcription:
    """What was recognised in the audio."""

    text: str
    tokens: tuple[int, ...]  # of all segments
    score: float  # sum over the segments
    audio_seconds: float
    seconds: float  # that it took, all together
    segments: tuple[Segment, ...]  # none for silence

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(command for segment in self.segments for command in segment.commands)


class Recognizer:
    """A bundle loaded on a runtime; one utterance after the other."""

    def __init__(
        self,
        bundle: Bundle,
        runtime_name: str = "litert",
        options: DecodingOptions | None = None,
        num_threads: int = 1,
    ) -> None:
        """Loads both models.

        Raises:
          ValueError: if there is no such runtime.
          BundleError: if the runtime cannot load the models, or the options do not fit the bundle.
        """
        self.bundle = bundle
        self.runtime_name = runtime_name
        self._encoder = runtime.load(runtime_name, bundle.encoder, num_threads)
        self._step = runtime.load(runtime_name, bundle.decoder_step, num_threads)
        self._decoder = Decoder(bundle, self._step, options or DecodingOptions())

    @property
    def arena_bytes(self) -> dict[str, int | None]:
        """Tensor memory of the encoder and of the decoder step, where the runtime knows it."""
        return {
            "encoder": self._encoder.arena_bytes,
            "decoder_step": self._step.arena_bytes,
        }

    def transcribe(self, audio: npt.NDArray[np.int16]) -> Transcription:
        """Recognises audio of any length; what is longer than the window is cut in its pauses.

        In noise a pause is hard to find. A bundle with a grammar hears each cut once more in the
        middle of a window, and if that is a command more surely than what lies on either side, the
        cut went through it. Noise alone, a second or two of it, is sometimes taken for a command;
        where it follows one and that window holds both, it has to be heard there too.

        Args:
          audio: int16 [samples], 16 kHz.
        """
        begin = time.perf_counter()
        window = self.bundle.window
        segments: list[Segment] = []
        for start, end in segment.split(audio, window):
            piece = self._segment(audio, start, end)
            if self._decoder.grammar is not None and segments and segments[-1].end == start:
                middle = int(np.clip(start - window // 2, 0, len(audio) - window))
                across = self._segment(audio, middle, middle + window)
                if _surety(across) > max(_surety(segments[-1]), _surety(piece)):
                    segments[-1] = across
                    continue
                cut = start / frontend.SAMPLE_RATE
                if across.end >= end and across.commands and across.commands[-1].end <= cut:
                    piece = dataclasses.replace(piece, text="", tokens=(), commands=())
            segments.append(piece)
        return Transcription(
            text=" ".join(s.text for s in segments if s.text),
            tokens=tuple(token for s in segments for token in s.tokens),
            score=sum(s.score for s in segments),
            audio_seconds=len(audio) / frontend.SAMPLE_RATE,
            seconds=time.perf_counter() - begin,
            segments=tuple(segments),
        )

    def _segment(self, audio: npt.NDArray[np.int16], start: int, end: int) -> Segment:
        begin = time.perf_counter()
        features = compute_features(self.bundle, audio[start:end])
        seconds = time.perf_counter() - begin
        return dataclasses.replace(self.recognize(features, start, end), frontend_seconds=seconds)

    def recognize(self, features: npt.NDArray[np.int8], start: int, end: int) -> Segment:
        """Recognises one piece of audio from its features.

        Args:
          features: int8 [frames, 40], as `compute_features` gives them; at most the window.
          start: the piece's first sample, for the result.
          end: the sample after its last one.
        """
        begin = encoded = time.perf_counter()
        found = Hypothesis((), 0.0, True, ())
        if len(features):
            outputs = self._encoder.invoke(encoder_inputs(self.bundle, features))
            encoded = time.perf_counter()
            found = self._decoder.decode(outputs, len(features))
        tokens, text = found.tokens, self.bundle.tokenizer.text
        commands: tuple[Command, ...] = ()
        free_text = confidence = speech = None
        if found.alignment is not None:
            offset = start / frontend.SAMPLE_RATE
            blank = self.bundle.tokenizer.blank
            heard = np.flatnonzero(found.alignment.best_path != blank)
            if len(heard):
                speech = self._seconds(offset, heard[0], heard[-1] + 1)
            confidence = math.exp(found.score / (len(tokens) + 1))
            if self._decoder.grammar is not None:
                free_text = text(merge_repeats(found.alignment.best_path, blank))
                commands = self._commands(found, offset)
                confidence = math.prod(x.confidence for x in commands) if commands else 0.0
                if confidence < self._decoder.grammar.reject_below:
                    commands = ()
                tokens = tokens if commands else ()
        return Segment(
            start=start,
            end=end,
            text=text(tokens),
            tokens=tokens,
            score=found.score,
            ended=found.ended,
            frontend_seconds=0.0,
            encoder_seconds=encoded - begin,
            step_seconds=found.step_seconds,
            commands=commands,
            free_text=free_text,
            confidence=confidence,
            speech=speech,
        )

    def _commands(self, found: Hypothesis, offset: float) -> tuple[Command, ...]:
        """The commands of a text held to the grammar; none if the text is not complete.

        Args:
          offset: seconds of the audio before the encoder's window.
        """
        grammar, alignment = self._decoder.grammar, found.alignment
        assert grammar is not None and alignment is not None
        parsed = grammar.parse(found.tokens)
        if not parsed or alignment.spans is None:
            return ()
        texts = [(found.tokens, found.score), *found.others]
        shares = np.exp(np.array([score for _, score in texts]) - found.score)
        shares /= shares.sum()
        meanings = [[self._values(x, tokens) for x in grammar.parse(tokens)] for tokens, _ in texts]
        # What the search had when each command was complete; the last one's end is the text's.
        reached = [0.0, *(found.scores[x.last - 1] for x in parsed[:-1]), found.scores[-1]]
        commands: list[Command] = []
        for number, command in enumerate(parsed):
            tokens = found.tokens[command.first : command.last]
            gained = reached[number + 1] - reached[number]
            confidence = min(1.0, math.exp(gained / (len(tokens) + 1)))
            agreeing = {
                name: sum(
                    float(share)
                    for share, others in zip(shares, meanings, strict=True)
                    if number < len(others) and others[number].get(name) == value
                )
                for name, value in meanings[0][number].items()
            }
            first, last = alignment.spans[command.first, 0], alignment.spans[command.last - 1, 1]
            start, stop = self._seconds(offset, first, last)
            commands.append(
                Command(
                    text=self.bundle.tokenizer.text(tokens),
                    intent=command.intent,
                    slots=meanings[0][number],
                    confidence=confidence,
                    slot_confidence={name: confidence * x for name, x in agreeing.items()},
                    start=start,
                    end=stop,
                )
            )
        return tuple(commands)

    def _seconds(self, offset: float, first: int, last: int) -> tuple[float, float]:
        """When memory frames [first, last) of a window were said that begins at `offset`."""
        limits = self.bundle.limits
        frame = limits.frames / limits.memory_frames * frontend.STEP_SAMPLES / frontend.SAMPLE_RATE
        return offset + float(first) * frame, offset + float(last) * frame

    def _values(self, command: grammars.Command, tokens: tuple[int, ...]) -> dict[str, str]:
        """The text of each slot's value."""
        return {
            name: self.bundle.tokenizer.text(tokens[i] for i in places)
            for name, places in command.slots.items()
        }


def _surety(heard: Segment) -> float:
    """Confidence of a segment's commands; 0 without one."""
    return (heard.confidence or 0.0) if heard.commands else 0.0


def quantize_features(bundle: Bundle, values: npt.NDArray[np.uint16]) -> npt.NDArray[np.int8]:
    """What the frontend gave, uint16 [frames, channels] -> int8, as the bundle says."""
    quantization = bundle.features
    return frontend.quantize(
        values, quantization.numerator, quantization.denominator, quantization.zero_point
    )


def compute_features(bundle: Bundle, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """int16 [samples] -> int8 [frames, channels], quantized as the bundle says."""
    return quantize_features(bundle, bundle.frontend.stream().process(audio))


def encoder_inputs(bundle: Bundle, features: npt.NDArray[np.int8]) -> Tensors:
    """The encoder's inputs for int8 [frames, channels] features of one utterance.

    Raises:
      ValueError: if there are no frames, or more than the window holds.
    """
    limits, quantization = bundle.limits, bundle.features
    if not 0 < len(features) <= limits.frames:
        raise ValueError(f"{len(features)} frames do not fit a window of {limits.frames}.")
    spec = bundle.encoder.input("features")
    padded = np.full(spec.shape, quantization.zero_point, np.int8)
    padded[0, : len(features)] = features
    valid = limits.memory_positions(len(features))
    mask = prefix_mask(bundle.encoder.input("memory_mask"), bundle.mask_value, valid)
    if spec.scale is None:
        real = (padded.astype(np.float32) - quantization.zero_point) * quantization.scale
        return {"features": real.astype(np.float32), "memory_mask": mask}
    return {"features": padded, "memory_mask": mask}
