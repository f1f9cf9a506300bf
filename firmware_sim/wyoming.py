"""A speech-to-text server for Home Assistant, by the Wyoming protocol.

    python -m firmware_sim.wyoming --uri=tcp://0.0.0.0:10300
    python -m firmware_sim.wyoming --sentences=my_sentences --names=home.yaml
    python -m firmware_sim.wyoming --home_assistant=http://ADDRESS:8123 --token_file=FILE

It understands the sentences of Home Assistant's intents, or those of `--sentences`: a file or a
directory in that form, or a grammar file.  Names of devices, areas and floors come from `--names`,
from Home Assistant's API, and with each request.  What is no sentence gives an empty transcript, so
Home Assistant never acts on half of what was said.

While speech goes on, the words that two attempts agree on are sent as partial transcripts.  The
client says where speech ends, unless it asks for the server's own detector by `vad_sensitivity`.

Clients that change their names wait for the new grammar, others do not.  One process serves all.
"""

import asyncio
import collections
import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
import pathlib
import sys
import threading
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from absl import flags
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
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
from firmware_sim.grammar.home import KINDS, HomeError, Name
from firmware_sim.grammar.lexicon import LexiconError
from firmware_sim.grammar.network import OpenGrammar
from firmware_sim.grammar.pronunciation import PronunciationError
from firmware_sim.grammar.source import Grammar
from firmware_sim.grammar.templates import BUILT_IN, Templates, is_templates
from firmware_sim.recognizer import Recognizer, compute_features
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.partial import PartialText
from firmware_sim.sound.audio import BLOCKS_PER_SECOND, AudioError
from firmware_sim.sound.pcm import Pcm
from firmware_sim.sound.stream import Endpointer
from firmware_sim.sound.utterance import Utterance

ENGLISH: Final = "english"  # the bundle by default
PARTIAL: Final = 0.5  # seconds from one partial transcript to the next
# Seconds of quiet that end speech, by `vad_sensitivity`: those of Home Assistant's own detector.
QUIET: Final = {"aggressive": 0.25, "default": 0.7, "relaxed": 1.25}
_REFRESH: Final = 1.0  # seconds that a request waits for newer names
_KEPT: Final = 4  # grammars of different names
_THREADS: Final = 3  # one recognises at a time, and others build grammars
_MOST_NAMES: Final = 2_000  # of a request; more are left out
_LONGEST_NAME: Final = 100  # characters
_PROGRAM: Final = "integer-speech-transformer"

Home = Mapping[str, Sequence[Name]]

log = logging.getLogger("wyoming")


class Homes:
    """Recognisers of the sentences, each for the names of some client.

    Args:
      recognizer: of a general bundle.
      sentences: a path for `templates.Templates.read`, or of a grammar file.
      names: what is known of the home.
      ask: fetches what else is known of it; it may raise HomeError.

    Raises:
      GrammarError: the sentences cannot be read.
      BundleError: the bundle is not a general one.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        sentences: pathlib.Path,
        names: Home,
        ask: Callable[[], Awaitable[Home]] | None = None,
    ) -> None:
        if recognizer.bundle.lexicon is None:
            raise BundleError(f"{recognizer.bundle.path} knows only its own commands: name another")
        self._recognizer, self._names, self._ask = recognizer, names, ask
        self._asked: Home = {}  # the latest answer of Home Assistant
        self._asking: asyncio.Task[None] | None = None
        self._templates = Templates.read(sentences) if is_templates(sentences) else None
        self._grammar = None if self._templates else Grammar.read(sentences)
        self._open: OpenGrammar | None = None  # the sentences of the latest names
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[tuple[str, ...], asyncio.Task[Recognizer]]
        self._kept = collections.OrderedDict()

    @property
    def bundle(self) -> bundles.Bundle:
        return self._recognizer.bundle

    def refresh(self) -> None:
        """Begins to ask Home Assistant for its names, if it is not being asked already."""
        if self._ask is not None and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._refresh(self._ask))

    async def _refresh(self, ask: Callable[[], Awaitable[Home]]) -> None:
        try:
            asked = await ask()
        except HomeError as error:
            log.warning("Names stay as they are: %s", error)
            return
        if asked != self._asked:
            self._asked = asked
            self._kept.clear()

    def prepare(self, names: Sequence[str]) -> tuple[str, ...]:
        """Begins to build the recogniser for further names in another thread, if they are new.

        Returns:
          its key.
        """
        key = tuple(sorted({x.strip() for x in names if 0 < len(x.strip()) <= _LONGEST_NAME}))
        key = key[:_MOST_NAMES]
        if key not in self._kept:
            self._kept[key] = asyncio.create_task(asyncio.to_thread(self._build, key))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return key

    async def recognizer(self, names: Sequence[str]) -> Recognizer:
        """The recogniser for further names.

        Raises:
          GrammarError: there is nothing to say with these names.
        """
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=_REFRESH)
        key = self.prepare(names)
        try:
            return await asyncio.shield(self._kept[key])
        except (GrammarError, PronunciationError):
            self._kept.pop(key, None)
            raise

    def _build(self, names: tuple[str, ...]) -> Recognizer:
        if self._grammar is not None:
            return self._recognizer.use(self._grammar)
        assert self._templates is not None
        home: dict[str, list[Name]] = {}
        for kind in KINDS.values():
            asked = [x for x in self._asked.get(kind, ()) if self._can_be_said(x.text)]
            home[kind] = [*self._names.get(kind, ()), *asked]
        known = {name.text.lower() for values in home.values() for name in values}
        # The protocol does not say whether a name is a device's or an area's.
        for text in names:
            if text.lower() not in known and self._can_be_said(text):
                for values in home.values():
                    values.append(Name(text))
        grammar = self._templates.grammar(home)
        with self._lock:
            if self._open is None or not self._open.fits(grammar):
                self._open = OpenGrammar(grammar, self._recognizer.pronunciations.of)
            return self._recognizer.use(self._open.filled(grammar.names))

    def _can_be_said(self, name: str) -> bool:
        parts = spoken.parts(name)
        try:
            for part in parts:
                self._recognizer.pronunciations.of(part)
        except PronunciationError as error:
            log.warning("The name %r is left out: %s", name, error)
            return False
        return bool(parts)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the server does for every client."""

    partial: bool = True  # transcripts while speech goes on
    quiet: float | None = None  # seconds that end speech; None: the client says where it ends


@dataclasses.dataclass
class Request:
    """What a client wants, and what it got."""

    names: Sequence[str] = ()
    quiet: float | None = None  # seconds that end speech; None: the client says where it ends
    utterance: Utterance | None = None
    text: PartialText = dataclasses.field(default_factory=PartialText)
    started: bool = False  # whether a part of the transcript was written
    answered: bool = False


class Handler(AsyncEventHandler):
    """One client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        known: Homes,
        settings: Settings = Settings(),
    ) -> None:
        super().__init__(reader, writer)
        self._homes, self._settings = known, settings
        self._request = Request(quiet=settings.quiet)
        self._partial: asyncio.Task[None] | None = None
        self._next_partial = 0.0  # time of the loop

    async def run(self) -> None:
        """Serves the client until it leaves; what it does wrong ends its connection only."""
        try:
            await super().run()
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.info("A client is gone: %s", error)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            log.warning("A client sent something else than events: %r", error)

    async def disconnect(self) -> None:
        """Ends what is done for a client that is gone."""
        if self._partial is not None:
            self._partial.cancel()

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
            await self.write_event(info(self._homes.bundle, self._settings).event())
        elif Transcribe.is_type(event.type):
            request = Transcribe.from_event(event)
            names = [*(request.transcript_names or ()), *(request.transcript_terms or ())]
            if not all(isinstance(name, str) for name in names):
                raise TypeError("names have to be texts")
            quiet = self._settings.quiet
            if request.vad_sensitivity is not None:
                quiet = QUIET.get(str(request.vad_sensitivity), QUIET["default"])
            self._request = Request(names, quiet)
            self._homes.prepare(names)  # while the client speaks
        elif AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            self._begin(Pcm(start.rate, start.width, start.channels))
        elif AudioChunk.is_type(event.type):
            await self._hear(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type):
            if not self._request.answered:
                await self._transcribe(self._request)
            self._request = Request(self._request.names, self._request.quiet)
        return True

    def _begin(self, pcm: Pcm) -> Utterance:
        """A new utterance, of the same names as the one before."""
        names, quiet, bundle = self._request.names, self._request.quiet, self._homes.bundle
        endpointer = None
        if quiet is not None:
            frames, blocks = bundle.limits.frames, round(quiet * BLOCKS_PER_SECOND)
            endpointer = Endpointer(bundle.frontend, bundle.features, frames, hangover=blocks)
        utterance = Utterance(pcm, endpointer)
        self._request = Request(names, quiet, utterance)
        self._next_partial = asyncio.get_running_loop().time() + PARTIAL
        self._homes.refresh()
        return utterance

    async def _hear(self, chunk: AudioChunk) -> None:
        if self._request.answered:  # its end was found before the client's
            return
        utterance = self._request.utterance
        if utterance is None:
            utterance = self._begin(Pcm(chunk.rate, chunk.width, chunk.channels))
        utterance.hear(chunk.audio)
        if utterance.has_ended:
            await self._transcribe(self._request)
            return
        now = asyncio.get_running_loop().time()
        idle = self._partial is None or self._partial.done()
        if self._settings.partial and idle and now >= self._next_partial:
            self._next_partial = now + PARTIAL
            self._partial = asyncio.create_task(self._guess(self._request, utterance.samples()))

    async def _guess(self, request: Request, samples: npt.NDArray[np.int16]) -> None:
        """Writes the words that are certain by now."""
        if len(samples) > self._homes.bundle.window:
            return
        with contextlib.suppress(OSError, ExecutionError, GrammarError, PronunciationError):
            recognizer = await self._homes.recognizer(request.names)
            words = await asyncio.to_thread(_beginning, recognizer, samples)
            if not request.answered:
                await self._write(request, request.text.agree(words))

    async def _transcribe(self, request: Request) -> None:
        """Answers a request."""
        request.answered = True
        recognizer, text = await self._homes.recognizer(request.names), ""
        if request.utterance is not None:
            request.utterance.hear(b"", last=True)
            samples = request.utterance.samples()
            text = (await asyncio.to_thread(recognizer.transcribe, samples)).text
        if self._settings.partial:
            await self._write(request, request.text.add(text.split()))
        await self.write_event(Transcript(text=text, language="en").event())
        if request.started:
            await self.write_event(TranscriptStop().event())

    async def _write(self, request: Request, text: str) -> None:
        """Writes a part of a transcript; the first one comes after its start."""
        if not request.started:
            request.started = True
            await self.write_event(TranscriptStart(language="en").event())
        if text:
            await self.write_event(TranscriptChunk(text).event())


def _beginning(recognizer: Recognizer, samples: npt.NDArray[np.int16]) -> list[str]:
    """The words of a sentence that may go on."""
    features = compute_features(recognizer.bundle, samples)
    return recognizer.recognize(features, 0, len(samples), complete=False).text.split()


def info(bundle: bundles.Bundle, settings: Settings) -> Info:
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
        supports_transcript_streaming=settings.partial,
        requires_external_vad=settings.quiet is None,
    )
    return Info(asr=[program])


async def serve(uri: str, known: Homes, settings: Settings, zeroconf: str | None) -> None:
    """Runs the server until it is told to stop.

    Raises:
      ValueError: the URI cannot be used.
      OSError: nor can its address.
    """
    server = AsyncServer.from_uri(uri)
    asyncio.get_running_loop().set_default_executor(futures.ThreadPoolExecutor(_THREADS))
    known.refresh()
    await known.recognizer(())  # so that what is wrong with the sentences is said now
    if zeroconf:
        from wyoming.zeroconf import HomeAssistantZeroconf

        address = urllib.parse.urlparse(uri)
        if address.scheme != "tcp" or address.port is None:
            raise ValueError("--zeroconf needs a --uri of tcp://ADDRESS:PORT")
        host = None if address.hostname in ("0.0.0.0", None) else address.hostname
        await HomeAssistantZeroconf(address.port, zeroconf, host).register_server()
    print(f"listening: {uri}", flush=True)
    await server.run(lambda reader, writer: Handler(reader, writer, known, settings))


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values: Any = flags.FLAGS
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}.", file=sys.stderr)
        return 1
    if bool(values.home_assistant) != bool(values.token_file):
        print("--home_assistant and --token_file belong together.", file=sys.stderr)
        return 1
    try:
        names = homes.read(pathlib.Path(values.names)) if values.names else {}
        ask = None
        if values.home_assistant:
            token = pathlib.Path(values.token_file).read_text(encoding="utf-8").strip()
            ask = functools.partial(homes.fetch, values.home_assistant, token)
            asyncio.run(ask())  # so that a wrong token is said now
        tool.share_heap()
        recognizer = Recognizer(bundles.load(values.bundle), num_threads=values.num_threads)
        known = Homes(recognizer, pathlib.Path(values.sentences), names, ask)
        settings = Settings(values.partial, QUIET["default"] if values.endpointing else None)
        asyncio.run(serve(values.uri, known, settings, values.zeroconf))
    except (BundleError, GrammarError, HomeError, LexiconError, PronunciationError) as error:
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
    flags.DEFINE_string("bundle", ENGLISH, "General bundle: its name, directory or .zip.")
    flags.DEFINE_string("sentences", BUILT_IN, "Sentences: YAML file or directory.")
    flags.DEFINE_string("names", None, "YAML file of a home's names.")
    flags.DEFINE_string("home_assistant", None, "Address to ask for names: http://HOST:8123.")
    flags.DEFINE_string("token_file", None, "File with a long-lived access token for it.")
    flags.DEFINE_bool("partial", True, "Write transcripts while speech goes on.")
    flags.DEFINE_bool("endpointing", False, "Find the end of speech for every client.")
    flags.DEFINE_string("zeroconf", None, "Name under which Home Assistant finds the server.")
    flags.DEFINE_integer("num_threads", 1, "Threads of LiteRT.", lower_bound=1)
    tool.run(main)


if __name__ == "__main__":
    run()
