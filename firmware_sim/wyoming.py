"""A speech-to-text server for Home Assistant, by the Wyoming protocol.

    python -m firmware_sim.wyoming --uri=tcp://0.0.0.0:10300
    python -m firmware_sim.wyoming --sentences=my_sentences --names=home.yaml

It understands the sentences of Home Assistant's intents, or those of `--sentences`: a file or a
directory in that form, or a grammar file.  Names of devices, areas and floors come from `--names`
and with each request.  What is no sentence gives an empty transcript, so Home Assistant never acts
on half of what was said.

Clients that change their names wait for the new grammar, others do not.  One process serves all.
"""

import asyncio
import collections
import dataclasses
import importlib.metadata
import logging
import pathlib
import sys
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from absl import flags
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.server import AsyncEventHandler, AsyncServer

from firmware_sim import bundle as bundles
from firmware_sim.bundle import BundleError
from firmware_sim.command_line import tool
from firmware_sim.grammar import home as homes
from firmware_sim.grammar import spoken
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.home import KINDS, Name
from firmware_sim.grammar.lexicon import LexiconError
from firmware_sim.grammar.network import OpenGrammar
from firmware_sim.grammar.phrase import Choice, Word
from firmware_sim.grammar.pronunciation import PronunciationError
from firmware_sim.grammar.source import Grammar
from firmware_sim.grammar.templates import BUILT_IN, Templates, is_templates
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.sound.audio import AudioError, Resampler
from firmware_sim.sound.frontend import SAMPLE_RATE

LONGEST: Final = 30  # seconds of a request that are kept: the last ones
_KEPT: Final = 4  # grammars of different names
_MOST_NAMES: Final = 2_000  # of a request; more are left out
_LONGEST_NAME: Final = 100  # characters
_PROGRAM: Final = "integer-speech-transformer"

log = logging.getLogger("wyoming")


class Homes:
    """Recognisers of the sentences, each for the names of some client.

    Args:
      recognizer: of a general bundle.
      sentences: a path for `templates.Templates.read`, or of a grammar file.
      names: what is known of the home.

    Raises:
      GrammarError: the sentences cannot be read.
      BundleError: the bundle is not a general one.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        sentences: pathlib.Path,
        names: Mapping[str, Sequence[Name]],
    ) -> None:
        if recognizer.bundle.lexicon is None:
            raise BundleError(f"{recognizer.bundle.path} knows only its own commands: name another")
        self._recognizer, self._names = recognizer, names
        self._templates = Templates.read(sentences) if is_templates(sentences) else None
        self._grammar = None if self._templates else Grammar.read(sentences)
        self._open: OpenGrammar | None = None  # the sentences of the latest names
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[tuple[str, ...], asyncio.Task[Recognizer]]
        self._kept = collections.OrderedDict()

    @property
    def bundle(self) -> bundles.Bundle:
        return self._recognizer.bundle

    async def recognizer(self, names: Sequence[str]) -> Recognizer:
        """The recogniser for further names; built in another thread, if they are new.

        Raises:
          GrammarError: there is nothing to say with these names.
        """
        key = tuple(sorted({x.strip() for x in names if 0 < len(x.strip()) <= _LONGEST_NAME}))
        key = key[:_MOST_NAMES]
        if key not in self._kept:
            self._kept[key] = asyncio.create_task(asyncio.to_thread(self._build, key))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        task = self._kept[key]
        self._kept.move_to_end(key)
        try:
            return await asyncio.shield(task)
        except (GrammarError, PronunciationError):
            self._kept.pop(key, None)
            raise

    def _build(self, names: tuple[str, ...]) -> Recognizer:
        if self._grammar is not None:
            return self._recognizer.use(self._grammar)
        assert self._templates is not None
        home = {kind: list(self._names.get(kind, ())) for kind in KINDS.values()}
        known = {name.text.lower() for values in home.values() for name in values}
        # The protocol does not say whether a name is a device's or an area's.
        for text in names:
            if text.lower() not in known and self._can_be_said(text):
                for values in home.values():
                    values.append(Name(text))
        grammar = self._templates.grammar(home)
        lists = {name: grammar.slots[name] for name in grammar.names}
        with self._lock:
            if self._open is None or not self._open.fits(grammar):
                self._open = OpenGrammar(grammar, self._recognizer.pronunciations.of)
            sentences = self._open
        return self._recognizer.use(sentences.filled(lists))

    def _can_be_said(self, name: str) -> bool:
        words = [
            word
            for item in spoken.phrase(name)
            for word in ([x[0] for x in item.phrases] if isinstance(item, Choice) else [item])
            if isinstance(word, Word)
        ]
        try:
            for word in words:
                for part in word.spoken.split():
                    self._recognizer.pronunciations.of(part)
        except PronunciationError as error:
            log.warning("The name %r is left out: %s", name, error)
            return False
        return bool(words)


@dataclasses.dataclass
class Sound:
    """PCM of any rate, width and channels, block by block -> int16 [samples] at 16 kHz.

    Raises:
      AudioError: there is no such format.
    """

    rate: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        sizes = (self.rate, self.width, self.channels)
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in sizes):
            raise AudioError(f"rate, width and channels are {sizes}, not numbers")
        if not (1 <= self.width <= 4 and 1 <= self.channels <= 32):
            raise AudioError(
                f"{self.width} bytes a sample in {self.channels} channels: 1 to 4 bytes and 1 to "
                "32 channels are read"
            )
        self._resample = Resampler(self.rate)
        self._rest = b""

    def __call__(self, audio: bytes, last: bool = False) -> npt.NDArray[np.int16]:
        """The samples that the next bytes complete."""
        audio = self._rest + audio
        whole = len(audio) - len(audio) % (self.width * self.channels)
        self._rest = audio[whole:]
        parts = np.frombuffer(audio[:whole], np.uint8).reshape(-1, self.width)
        if self.width == 1:
            parts = parts ^ np.uint8(128)  # 8 bits are unsigned
        padded = np.zeros((len(parts), 4), np.uint8)
        padded[:, 4 - self.width :] = parts
        values = padded.view("<i4").reshape(-1, self.channels)
        mono = (values.astype(np.float64).mean(axis=1) / 2**31).astype(np.float32)
        return self._resample(mono, last)


class Handler(AsyncEventHandler):
    """One client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, known: Homes
    ) -> None:
        super().__init__(reader, writer)
        self._homes = known
        self._names: list[str] = []
        self._sound: Sound | None = None
        self._blocks: collections.deque[npt.NDArray[np.int16]] = collections.deque()
        self._samples = 0

    async def run(self) -> None:
        """Serves the client until it leaves; what it does wrong ends its connection only."""
        try:
            await super().run()
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.info("A client is gone: %s", error)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            log.warning("A client sent something else than events: %r", error)

    async def handle_event(self, event: Event) -> bool:
        """Answers an event; False ends the connection."""
        try:
            return await self._answer(event)
        except (AudioError, GrammarError, ExecutionError, PronunciationError) as error:
            await self.write_event(Error(text=str(error), code=type(error).__name__).event())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            text = f"the event {event.type!r:.60} is not as it should be: {error!r}"
            await self.write_event(Error(text=text, code="bad-event").event())
        return False

    async def _answer(self, event: Event) -> bool:
        if Describe.is_type(event.type):
            await self.write_event(info(self._homes.bundle).event())
        elif Transcribe.is_type(event.type):
            request = Transcribe.from_event(event)
            names = [*(request.transcript_names or ()), *(request.transcript_terms or ())]
            if not all(isinstance(name, str) for name in names):
                raise TypeError("names have to be texts")
            self._names = names
            self._forget()
        elif AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            self._forget()
            self._sound = Sound(start.rate, start.width, start.channels)
        elif AudioChunk.is_type(event.type):
            chunk = AudioChunk.from_event(event)
            if self._sound is None:
                self._sound = Sound(chunk.rate, chunk.width, chunk.channels)
            self._keep(self._sound(chunk.audio))
        elif AudioStop.is_type(event.type):
            text = await self._transcribe()
            await self.write_event(Transcript(text=text, language="en").event())
        return True

    async def _transcribe(self) -> str:
        if self._sound is not None:
            self._keep(self._sound(b"", last=True))
        blocks = list(self._blocks)
        self._forget()
        recognizer = await self._homes.recognizer(self._names)
        if not blocks:
            return ""
        result = await asyncio.to_thread(recognizer.transcribe, np.concatenate(blocks))
        return result.text

    def _keep(self, samples: npt.NDArray[np.int16]) -> None:
        self._blocks.append(samples)
        self._samples += len(samples)
        while self._samples - len(self._blocks[0]) >= LONGEST * SAMPLE_RATE:
            self._samples -= len(self._blocks.popleft())

    def _forget(self) -> None:
        self._sound = None
        self._blocks.clear()
        self._samples = 0


def info(bundle: bundles.Bundle) -> Info:
    """What the server says of itself."""
    ours = Attribution(name="The Integer Speech Transformer authors", url="")
    version = importlib.metadata.version(_PROGRAM)
    model = AsrModel(
        name=bundle.path.name,
        attribution=ours,
        installed=True,
        description="Sentences of a home, in 8-bit integers",
        version=version,
        languages=["en"],
    )
    program = AsrProgram(
        name=_PROGRAM,
        attribution=ours,
        installed=True,
        description="Speech recognition with a Transformer in 8-bit integers",
        version=version,
        models=[model],
    )
    return Info(asr=[program])


async def serve(uri: str, known: Homes, zeroconf: str | None) -> None:
    """Runs the server until it is told to stop.

    Raises:
      ValueError: the URI cannot be used.
      OSError: nor can its address.
    """
    server = AsyncServer.from_uri(uri)
    await known.recognizer(())  # so that what is wrong with the sentences is said now
    if zeroconf:
        from wyoming.zeroconf import HomeAssistantZeroconf

        address = urllib.parse.urlparse(uri)
        if address.scheme != "tcp" or address.port is None:
            raise ValueError("--zeroconf needs a --uri of tcp://ADDRESS:PORT")
        host = None if address.hostname in ("0.0.0.0", None) else address.hostname
        await HomeAssistantZeroconf(address.port, zeroconf, host).register_server()
    print(f"listening: {uri}", flush=True)
    await server.run(lambda reader, writer: Handler(reader, writer, known))


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values: Any = flags.FLAGS
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}.", file=sys.stderr)
        return 1
    try:
        names = homes.read(pathlib.Path(values.names)) if values.names else {}
        recognizer = Recognizer(bundles.load(values.bundle), num_threads=values.num_threads)
        known = Homes(recognizer, pathlib.Path(values.sentences), names)
        asyncio.run(serve(values.uri, known, values.zeroconf))
    except (BundleError, GrammarError, LexiconError, PronunciationError) as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"{values.uri}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("uri", "tcp://0.0.0.0:10300", "Address: tcp://, unix:// or stdio://.")
    flags.DEFINE_string("bundle", "english", "General bundle: its name, directory or .zip.")
    flags.DEFINE_string("sentences", BUILT_IN, "Sentences: YAML file or directory.")
    flags.DEFINE_string("names", None, "YAML file of a home's names.")
    flags.DEFINE_string("zeroconf", None, "Name under which Home Assistant finds the server.")
    flags.DEFINE_integer("num_threads", 1, "Threads of LiteRT.", lower_bound=1)
    tool.run(main)


if __name__ == "__main__":
    run()
