"""The recogniser: 16 kHz audio in, text and commands out, with the time of each part."""

import copy
import dataclasses
import functools
import math
import os
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle
from firmware_sim.grammar import automaton as grammars
from firmware_sim.grammar import source, templates
from firmware_sim.grammar.network import Network
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.runtime import Tensors
from firmware_sim.search.beam import Decoder, Hypothesis, prefix_mask
from firmware_sim.search.ctc import merge_repeats
from firmware_sim.search.first_pass import PhoneSearch, Reading
from firmware_sim.search.options import DecodingOptions
from firmware_sim.search.results import Command, Event, EventKind, Segment, Transcription
from firmware_sim.sound import audio as sound
from firmware_sim.sound import frontend, segment
from firmware_sim.sound.stream import Ending, Endpointer, Onset, Piece


class Recognizer:
    """A bundle loaded on a runtime.  Several threads may call it; one utterance runs at a time.

    Example:
      >>> import firmware_sim, numpy
      >>> recognizer = firmware_sim.load("digits")
      >>> recognizer.transcribe("one_two_three.wav").text  # doctest: +SKIP
      'one two three'
      >>> recognizer.transcribe(numpy.zeros(16000, numpy.int16)).text  # a second of silence
      ''
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime_name: str = "litert",
        options: DecodingOptions | None = None,
        num_threads: int = 1,
    ) -> None:
        """Loads both models; without `options` the search is that of the tools.

        Raises:
          ValueError: if there is no such runtime.
          BundleError: if the runtime cannot load the models, or the options do not fit the bundle.
        """
        self.bundle = bundle
        self.runtime_name = runtime_name
        self._encoder = runtime.load(runtime_name, bundle.encoder, num_threads)
        options = options or DecodingOptions()
        grammar = options.grammar_of(bundle)
        self._grammar: grammars.Sentences | None = grammar
        self._phones: PhoneSearch | None = None
        self._step: runtime.Runtime | None = None
        self._decoder: Decoder | None = None
        if bundle.phones and grammar:
            self._phones = self._phone_search(grammar)
        elif bundle.free_text:
            self._step = runtime.load(runtime_name, bundle.decoder_step, num_threads)
            self._decoder = Decoder(bundle, self._step, options)
        self._lock = threading.Lock()  # a runtime has one set of input tensors

    def use(
        self,
        grammar: str | os.PathLike[str] | source.Grammar | Network,
        slots: Mapping[str, Iterable[str]] | None = None,
        reject_below: float = source.REJECT_BELOW,
    ) -> "Recognizer":
        """A recogniser of other commands, which shares the loaded models with this one.

        This one stays as it is, so every client may have a grammar of its own.

        Args:
          grammar: a YAML file, one or a directory in Home Assistant's form, or what
            `grammar.templates.read` made of it; or a network, which is checked no more.
          slots: further values by slot, such as the names of contacts.
          reject_below: confidence, 0 to 1, below which speech is no command; a network has its own.

        Raises:
          GrammarError: the file is no grammar, or there is no such slot.
          PronunciationError: a word cannot be said as it is written.
          BundleError: the model knows only the commands that it was trained for.
        """
        other = copy.copy(self)
        if isinstance(grammar, Network):
            other._grammar, other._phones = grammar.sentences, self._phone_search(grammar)
            return other
        pronunciations, phones = self.pronunciations, self.bundle.phones
        assert phones is not None  # else there are no pronunciations
        if isinstance(grammar, source.Grammar):
            grammar = grammar.with_values(slots or {})
        else:
            grammar = templates.read(pathlib.Path(grammar), slots)
        compiled = grammar.compile_phones(pronunciations.of, reject_below)
        other._grammar = built = grammars.build(compiled, len(phones.names), ())
        other._phones = self._phone_search(built)
        other.bundle = dataclasses.replace(self.bundle, grammar=built)
        return other

    @functools.cached_property
    def pronunciations(self) -> Pronunciations:
        """Those of the bundle; recognisers of other commands share them.

        Raises:
          BundleError: the model knows only the commands that it was trained for.
        """
        return self.bundle.pronunciations()

    @property
    def arena_bytes(self) -> dict[str, int | None]:
        """Tensor memory of the encoder and of the decoder step, if the runtime knows it.

        A grammar over phones needs no decoder: 0.
        """
        return {
            "encoder": self._encoder.arena_bytes,
            "decoder_step": self._step.arena_bytes if self._step else 0,
        }

    def transcribe(
        self, audio: npt.NDArray[np.int16] | str | os.PathLike[str] | sound.Recording
    ) -> Transcription:
        """Recognises audio of any length; audio longer than the window is cut in its pauses.

        Memory does not grow with the length of a file.  In noise a pause is hard to find.  So a
        bundle with a grammar recognises each cut again, in the middle of a window: if the commands
        there have more confidence than those on either side, the cut went through a command.  Noise
        may look like one.  So one after a cut is kept only if a window across the cut has it too.

        Args:
          audio: int16 [samples], 16 kHz; or the path of a file that libsndfile decodes; or such a
            file or stream, opened.

        Raises:
          BundleError: if the bundle needs a grammar, and has none.
          AudioError: if the file cannot be decoded.
          ValueError: if an array is not int16 [samples].
          ExecutionError: if the runtime fails.

        Example:
          >>> import firmware_sim, numpy
          >>> result = firmware_sim.load("barista").transcribe(numpy.zeros(16000, numpy.int16))
          >>> result.text, result.commands, result.audio_seconds
          ('', (), 1.0)
        """
        recording = audio if isinstance(audio, sound.Recording) else _opened(audio)
        begin, window = time.perf_counter(), self.bundle.window
        segments: list[Segment] = []
        samples = 0
        for passage in segment.passages(recording, window):
            samples = passage.first + len(passage.samples)
            for start, end in passage.pieces:
                self._add(segments, passage, start, end)
        return Transcription(
            text=" ".join(s.text for s in segments if s.text),
            tokens=tuple(token for s in segments for token in s.tokens),
            score=sum(s.score for s in segments),
            audio_seconds=samples / frontend.SAMPLE_RATE,
            seconds=time.perf_counter() - begin,
            segments=tuple(segments),
            warning=recording.warning,
        )

    def listen(
        self, blocks: Iterable[npt.NDArray[np.int16]], early: bool = False
    ) -> Iterator[Event]:
        """Recognises a stream, utterance by utterance, as its blocks come.

        For each utterance: `SPEECH_BEGAN`, then `SPEECH_ENDED`, then its result.  The result is one
        `TEXT`; with a grammar it is a `COMMAND` for each command, or one `REJECTED`.  Speech that
        is longer than the window gives the result of each piece before `SPEECH_ENDED`.

        Args:
          blocks: int16 [samples] each, 16 kHz, of any sizes.
          early: also gives an `EARLY_TEXT` at each pause of 20 ms.

        Raises:
          ExecutionError: if the runtime fails.

        Example:
          >>> import firmware_sim, numpy
          >>> silence = [numpy.zeros(160, numpy.int16)] * 100  # blocks of 10 ms
          >>> for event in firmware_sim.load("barista").listen(silence):
          ...     print(event.kind.value, event.start / 16000, event.text)
        """
        endpointer = self.endpointer(early)
        for block in blocks:
            for change in endpointer.feed(sound.checked(block)):
                yield from self._events(change)
        for piece in endpointer.finish():
            yield from self._events(piece)

    def endpointer(self, early: bool = False) -> Endpointer:
        """Finds the utterances of one stream for this recogniser."""
        bundle = self.bundle
        return Endpointer(bundle.frontend, bundle.features, bundle.limits.frames, early)

    def recognize(
        self, features: npt.NDArray[np.int8], start: int, end: int, complete: bool = True
    ) -> Segment:
        """Recognises one piece of audio from its features.

        Args:
          features: int8 [frames, 40], as `compute_features` gives them; at most the window.
          start: the piece's first sample, for the result.
          end: the sample after its last one.
          complete: False also takes beginnings of sentences, of a grammar over phones.
        """
        if not (self._phones or self._decoder):
            raise self.bundle.needs_grammar()
        with self._lock:
            begin = encoded = time.perf_counter()
            heard = Segment(start, end, "", (), 0.0, True, 0.0, 0.0, ())
            if len(features):
                outputs = self._encoder.invoke(encoder_inputs(self.bundle, features))
                encoded = time.perf_counter()
                heard = self._hear(heard, outputs, len(features), complete)
        return dataclasses.replace(heard, encoder_seconds=encoded - begin)

    def _hear(self, segment: Segment, outputs: Tensors, frames: int, complete: bool) -> Segment:
        """The segment with what is made of the encoder's outputs."""
        if self._decoder is None or self._phones is not None:
            return self._hear_phones(segment, outputs, frames, complete)
        hypothesis = self._decoder.decode(outputs, frames)
        tokens, text = hypothesis.tokens, self.bundle.tokenizer.text
        commands: tuple[Command, ...] = ()
        free_text = confidence = speech = None
        if hypothesis.alignment is not None:
            offset = segment.start / frontend.SAMPLE_RATE
            blank = self.bundle.tokenizer.blank
            speech = self._spoken(hypothesis.alignment.best_path, blank, offset)
            confidence = math.exp(hypothesis.score / (len(tokens) + 1))
            if self._grammar is not None:
                free_text = text(merge_repeats(hypothesis.alignment.best_path, blank))
                commands = self._commands(hypothesis, offset)
                confidence = math.prod(x.confidence for x in commands) if commands else 0.0
                if confidence < self._grammar.reject_below:
                    commands = ()
                tokens = tokens if commands else ()
        return dataclasses.replace(
            segment,
            text=text(tokens),
            tokens=tokens,
            score=hypothesis.score,
            ended=hypothesis.ended,
            step_seconds=hypothesis.step_seconds,
            commands=commands,
            free_text=free_text,
            confidence=confidence,
            speech=speech,
        )

    def _phone_search(self, grammar: grammars.Grammar | Network) -> PhoneSearch:
        """The search of a grammar in the encoder's phones."""
        assert self.bundle.phones is not None
        scale = self.bundle.encoder.output("phone_logits").scale
        return PhoneSearch(grammar, self.bundle.phones.blank, 1.0 if scale is None else scale)

    def _hear_phones(self, heard: Segment, outputs: Tensors, frames: int, whole: bool) -> Segment:
        """The segment with the sentence that the encoder's phones make."""
        phones, grammar = self.bundle.phones, self._grammar
        assert self._phones is not None and phones is not None and grammar is not None
        logits = outputs["phone_logits"][0, : self.bundle.limits.memory_positions(frames)]
        offset = heard.start / frontend.SAMPLE_RATE
        path = logits.argmax(axis=1)
        sentence = self._phones.find(logits, whole)
        readings: tuple[Reading, ...] = sentence.readings if sentence else ()
        confidence = math.prod(x.confidence for x in readings) if readings else 0.0
        commands: tuple[Command, ...] = ()
        if sentence is not None and confidence >= grammar.reject_below:
            commands = tuple(
                Command(
                    text=x.text,
                    intent=x.intent,
                    slots=x.slots,
                    confidence=x.confidence,
                    slot_confidence=x.slot_confidence,
                    start=start,
                    end=end,
                    said=x.said,
                )
                for x in readings
                for start, end in (self._seconds(offset, x.first, x.last),)
            )
        return dataclasses.replace(
            heard,
            text=" ".join(x.text for x in commands),
            tokens=sentence.phones if sentence and commands else (),
            score=sentence.score if sentence else 0.0,
            commands=commands,
            free_text=" ".join(phones.names[x] for x in merge_repeats(path, phones.blank)),
            confidence=confidence,
            speech=self._spoken(path, phones.blank, offset),
        )

    def _spoken(
        self, path: npt.NDArray[np.int64], blank: int, offset: float
    ) -> tuple[float, float] | None:
        """Seconds from the first token to the last of CTC's best path; None without any."""
        spoken = np.flatnonzero(path != blank)
        return self._seconds(offset, spoken[0], spoken[-1] + 1) if len(spoken) else None

    def _add(self, segments: list[Segment], passage: segment.Passage, start: int, end: int) -> None:
        """Recognises the next piece of a passage; with a grammar, what was cut before it again."""
        window = self.bundle.window
        piece = self._segment(passage, start, end)
        if self._grammar is not None and segments and segments[-1].end == start:
            latest = passage.first + len(passage.samples) - window
            middle = int(np.clip(start - window // 2, 0, latest))
            across = self._segment(passage, middle, middle + window)
            if across.command_confidence > max(
                segments[-1].command_confidence, piece.command_confidence
            ):
                segments[-1] = across
                return
            cut = start / frontend.SAMPLE_RATE
            if across.end >= end and across.commands and across.commands[-1].end <= cut:
                piece = dataclasses.replace(piece, text="", tokens=(), commands=())
        segments.append(piece)

    def _segment(self, passage: segment.Passage, start: int, end: int) -> Segment:
        begin = time.perf_counter()
        samples = passage.samples[start - passage.first : end - passage.first]
        if passage.offset:
            shifted = samples.astype(np.int32) - passage.offset
            samples = np.clip(shifted, -32768, 32767).astype(np.int16)
        features = compute_features(self.bundle, samples)
        seconds = time.perf_counter() - begin
        return dataclasses.replace(self.recognize(features, start, end), frontend_seconds=seconds)

    def _events(self, change: Onset | Piece) -> Iterator[Event]:
        """The events of a stream at one change of it."""
        if isinstance(change, Onset):
            yield Event(EventKind.SPEECH_BEGAN, change.start, change.start)
            return
        place = change.start, change.end
        if change.ending in (Ending.PAUSE, Ending.STREAM):
            yield Event(EventKind.SPEECH_ENDED, *place)
        result = self.recognize(change.features, change.first, change.last)
        if change.ending is Ending.EARLY:
            yield Event(EventKind.EARLY_TEXT, *place, result.text, result.confidence)
        elif self._grammar is None:
            yield Event(EventKind.TEXT, *place, result.text, result.confidence)
        elif not result.commands:
            yield Event(EventKind.REJECTED, *place, result.free_text or "", result.confidence)
        else:
            for x in result.commands:
                start, end = (round(t * frontend.SAMPLE_RATE) for t in (x.start, x.end))
                yield Event(EventKind.COMMAND, start, end, x.text, x.confidence, x)

    def _commands(self, hypothesis: Hypothesis, offset: float) -> tuple[Command, ...]:
        """The commands of a text held to the grammar; none if the text is not complete.

        Args:
          offset: seconds of the audio before the encoder's window.
        """
        grammar, alignment = self._grammar, hypothesis.alignment
        assert isinstance(grammar, grammars.Grammar) and alignment is not None
        parsed = grammar.parse(hypothesis.tokens)
        if not parsed or alignment.spans is None:
            return ()
        texts = [(hypothesis.tokens, hypothesis.score), *hypothesis.others]
        shares = np.exp(np.array([score for _, score in texts]) - hypothesis.score)
        shares /= shares.sum()
        meanings = [[self._values(x, tokens) for x in grammar.parse(tokens)] for tokens, _ in texts]
        # Scores at the end of each command; the last one's end is the text's.
        inner = (hypothesis.scores[x.last - 1] for x in parsed[:-1])
        scores = [0.0, *inner, hypothesis.scores[-1]]
        commands: list[Command] = []
        for number, command in enumerate(parsed):
            tokens = hypothesis.tokens[command.first : command.last]
            log_prob = scores[number + 1] - scores[number]
            confidence = min(1.0, math.exp(log_prob / (len(tokens) + 1)))
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
        """Start and end of memory frames [first, last) of a window that begins at `offset`."""
        limits = self.bundle.limits
        frame = limits.frames / limits.memory_frames * frontend.STEP_SAMPLES / frontend.SAMPLE_RATE
        return offset + float(first) * frame, offset + float(last) * frame

    def _values(self, command: grammars.Command, tokens: tuple[int, ...]) -> dict[str, str]:
        """The text of each slot's value."""
        return {
            name: self.bundle.tokenizer.text(tokens[i] for i in places)
            for name, places in command.slots.items()
        }


def _opened(audio: npt.NDArray[np.int16] | str | os.PathLike[str]) -> sound.Recording:
    if isinstance(audio, (str, os.PathLike)):
        return sound.open_file(audio)
    return sound.Recording([sound.checked(audio)])


def compute_features(bundle: Bundle, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """int16 [samples] -> int8 [frames, channels], quantized as the bundle says."""
    return bundle.features.quantize(bundle.frontend.stream().process(audio))


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
