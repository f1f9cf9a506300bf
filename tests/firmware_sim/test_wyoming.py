"""The server, spoken to over loopback by the client of the package wyoming."""

import asyncio
import pathlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.server import AsyncTcpServer

from firmware_sim import bundle as bundles
from firmware_sim import wyoming
from firmware_sim.grammar.home import Home, HomeError, Name
from firmware_sim.grammar.source import Grammar
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.partial import PartialText
from firmware_sim.sound.pcm import Pcm
from firmware_sim.wyoming import Handler, Homes, Settings
from tests.conftest import REPOSITORY, run_module

Samples = npt.NDArray[np.int16]
SENTENCES = "intents: {Go: {data: [{sentences: ['go to {name}']}]}}\n"
LIGHT = {"name": [Name("Desk lamp")]}
PLAIN = Settings(partial=False)


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model is never sure: whatever it prefers among the sentences counts."""
    monkeypatch.setattr(Grammar.compile_phones, "__defaults__", (0.0,))


@pytest.fixture
def sentences(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "sentences.yaml"
    path.write_text(SENTENCES)
    return path


def serve(
    general: pathlib.Path,
    sentences: pathlib.Path,
    talk: Callable[[int], Awaitable[Any]],
    settings: Settings = PLAIN,
    ask: Callable[[], Awaitable[Home]] | None = None,
) -> Any:
    """What clients hear of a server at a free port."""

    async def session() -> Any:
        known = Homes(Recognizer(bundles.load(general)), sentences, LIGHT, ask)
        server = AsyncTcpServer("127.0.0.1", 0)
        await server.start(lambda reader, writer: Handler(reader, writer, known, settings))
        assert server._server is not None
        try:
            return await talk(server._server.sockets[0].getsockname()[1])
        finally:
            await server.stop()

    return asyncio.run(session())


async def ask(
    port: int,
    samples: Samples,
    names: list[str] | None = None,
    sound: tuple[int, int, int] = (16000, 2, 1),
) -> str:
    """The transcript of a recording."""
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Transcribe(transcript_names=names).event())
        await client.write_event(AudioStart(*sound).event())
        data = samples.tobytes()
        for start in range(0, len(data), 2047):  # cuts samples in two
            await client.write_event(AudioChunk(*sound, data[start : start + 2047]).event())
        await client.write_event(AudioStop().event())
        event = await client.read_event()
        assert event is not None and Transcript.is_type(event.type), event
        return Transcript.from_event(event).text


def test_the_server_says_what_it_is(general: pathlib.Path, sentences: pathlib.Path) -> None:
    async def talk(port: int) -> Event | None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            return await client.read_event()

    event = serve(general, sentences, talk)
    (program,) = Info.from_event(event).asr
    assert program.installed and [x.languages for x in program.models] == [["en"]]


def test_clients_have_names_of_their_own(
    general: pathlib.Path, sentences: pathlib.Path, speech: Samples, accepting: None
) -> None:
    names = ["3D printer", "TV", "PM2.5", "Kitchen", "TV", "Kitchen"]

    async def talk(port: int) -> list[str]:
        async def one(name: str) -> str:
            return await ask(port, speech[:20000], [name])

        return await asyncio.gather(*map(one, names))

    for name, text in zip(names, serve(general, sentences, talk), strict=True):
        assert text in (f"go to {name.lower()}", "go to desk lamp")


def test_speech_that_is_no_sentence_gives_an_empty_transcript(
    sentences: pathlib.Path, speech: Samples
) -> None:
    english = REPOSITORY / "pretrained" / "english"

    async def talk(port: int) -> list[str]:
        silence = np.zeros(16000, np.int16)
        return [await ask(port, x, ["Kitchen"]) for x in (speech[:20000], silence, silence[:0])]

    assert serve(english, sentences, talk) == ["", "", ""]


def test_a_name_that_cannot_be_said_is_left_out(
    general: pathlib.Path, sentences: pathlib.Path, speech: Samples, accepting: None
) -> None:
    async def talk(port: int) -> str:
        return await ask(port, speech[:20000], ["\u041a\u0443\u0445\u043d\u044f", "", "x" * 500])

    assert serve(general, sentences, talk) == "go to desk lamp"


def test_wrong_events_and_cut_connections_harm_no_other_client(
    general: pathlib.Path, sentences: pathlib.Path, speech: Samples, accepting: None
) -> None:
    wrong = [
        b"hello\n",
        b"[1]\n",
        b"{}\n",
        b'{"type": 5}\n',
        b'{"type": "audio-chunk", "data_length": 99999}\n{',
        b'{"type": "audio-start", "payload_length": -1}\n',
        b"x" * 200_000,
    ]
    refused = [
        Event("audio-start", {"rate": 1, "width": 2, "channels": 1}),
        Event("audio-start", {"rate": 16000, "width": 9, "channels": 1}),
        Event("audio-start", {"rate": "16000", "width": 2, "channels": 1}),
        Event("audio-chunk", {}),
        Event("transcribe", {"transcript_names": [5]}),
        Event("transcribe", {"transcript_names": 5}),
    ]

    async def talk(port: int) -> str:
        for data in wrong:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.close()
        for event in refused:
            async with AsyncTcpClient("127.0.0.1", port) as client:
                await client.write_event(event)
                answer = await client.read_event()
                assert answer is not None and Error.is_type(answer.type)
                assert await client.read_event() is None
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Event("play-music", {"volume": 11}))  # is not for us
            await client.write_event(AudioChunk(16000, 2, 1, speech.tobytes()).event())
        return await ask(port, speech[:20000])

    assert serve(general, sentences, talk) == "go to desk lamp"


async def events_of(client: AsyncTcpClient) -> list[Event]:
    """All events of a server until the end of a transcript."""
    events = []
    while not events or not TranscriptStop.is_type(events[-1].type):
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


def test_a_transcript_is_written_while_speech_goes_on(
    general: pathlib.Path,
    sentences: pathlib.Path,
    speech: Samples,
    accepting: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wyoming, "PARTIAL", 0.0)  # seconds between attempts

    async def talk(port: int) -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(AudioStart(16000, 2, 1).event())
            chunk = AudioChunk(16000, 2, 1, speech[:16000].tobytes())
            await client.write_event(chunk.event())
            first = await client.read_event()  # although the audio has not ended
            await client.write_event(AudioChunk(16000, 2, 1, speech[16000:20000].tobytes()).event())
            await client.write_event(AudioStop().event())
            assert first is not None
            return [first, *await events_of(client)]

    first, *events, last, stop = serve(general, sentences, talk, Settings())
    assert TranscriptStart.is_type(first.type) and TranscriptStop.is_type(stop.type)
    assert all(TranscriptChunk.is_type(x.type) for x in events)
    written = "".join(TranscriptChunk.from_event(x).text for x in events)
    text = Transcript.from_event(last).text
    assert text == "go to desk lamp" and (written == text or not text.startswith(written))


def test_a_partial_transcript_has_the_words_that_two_attempts_agree_on() -> None:
    text = PartialText()
    attempts = ["turn", "turn on", "turn on the", "turn off the lamp", "turn on the lamp"]
    assert [text.agree(x.split()) for x in attempts] == ["", "turn", " on", "", ""]
    assert text.add(["turn", "on", "the", "lamp"]) == " the lamp"
    assert text.add(["open", "the", "door"]) == ""


@pytest.mark.parametrize("everyone", [False, True])
def test_the_server_finds_the_end_of_speech_for_those_who_ask(
    general: pathlib.Path,
    sentences: pathlib.Path,
    speech: Samples,
    accepting: None,
    everyone: bool,
) -> None:
    settings = Settings(partial=False, quiet=0.7 if everyone else None)
    request = Transcribe(vad_sensitivity=None if everyone else "aggressive")
    quiet = np.zeros(16000, np.int16)

    async def talk(port: int) -> tuple[Event | None, str, bool]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(request.event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            for samples in (quiet, speech, quiet, quiet):
                await client.write_event(AudioChunk(16000, 2, 1, samples.tobytes()).event())
            answer = await client.read_event()
            # The next utterance of the client is one of its own.
            await client.write_event(AudioStop().event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            await client.write_event(AudioStop().event())
            empty = await client.read_event()
            await client.write_event(Describe().event())
            about = await client.read_event()
            assert empty is not None and about is not None
            (program,) = Info.from_event(about).asr
            return answer, Transcript.from_event(empty).text, program.requires_external_vad

    answer, empty, external = serve(general, sentences, talk, settings)
    assert Transcript.from_event(answer).text == "go to desk lamp"
    assert empty == "" and external is not everyone


def test_names_are_asked_for_while_a_client_speaks(
    general: pathlib.Path, sentences: pathlib.Path, speech: Samples, accepting: None
) -> None:
    answers: list[Home | HomeError] = [
        {"name": [Name("\u041a\u0443\u0445\u043d\u044f")]},
        HomeError("not there"),
        {"name": [Name("Toaster", domain="switch")]},
    ]
    asked: list[Home] = []

    async def names() -> Home:
        answer = answers.pop(0)
        if isinstance(answer, HomeError):
            raise answer
        asked.append(answer)
        return answer

    async def talk(port: int) -> list[str]:
        return [await ask(port, speech[:20000]) for _ in range(3)]

    texts = serve(general, sentences, talk, ask=names)
    assert texts[:2] == ["go to desk lamp"] * 2 and len(asked) == 2
    assert texts[2] in ("go to desk lamp", "go to toaster")


@pytest.mark.parametrize("sound", [(16000, 1, 1), (48000, 3, 2), (44100, 4, 1), (8000, 2, 6)])
def test_sound_of_any_format_is_the_same_sound(sound: tuple[int, int, int]) -> None:
    rate, width, channels = sound
    seconds = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * 440 * seconds) * 0.5
    values = np.round(wave * 2 ** (8 * width - 1)).astype("<i8") + (128 if width == 1 else 0)
    frames = values.view(np.uint8).reshape(-1, 8)[:, :width]
    data = np.repeat(frames[:, None], channels, axis=1).tobytes()
    heard = Pcm(*sound)
    blocks = [heard(data[start : start + 1001]) for start in range(0, len(data), 1001)]
    samples = np.concatenate([*blocks, heard(b"", last=True)])
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 0.5 * 32768
    assert samples.dtype == np.int16 and len(samples) == 16000
    assert np.abs(samples[200:-200] - expected[200:-200]).max() < (300 if width == 1 else 60)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bundle=digits"], "knows only its own commands"),
        (["--bundle=nowhere"], "nowhere"),
        (["--bundle={general}", "--home_assistant=http://127.0.0.1:1"], "belong together"),
        (
            [
                "--bundle={general}",
                "--home_assistant=http://127.0.0.1:1",
                f"--token_file={REPOSITORY / 'LICENSE'}",
            ],
            "http://127.0.0.1:1: ",
        ),
        (["--bundle={general}", "--uri=http://x"], "http://x: "),
        (["--bundle={general}", "--uri=tcp://127.0.0.1"], "port"),
        (["--bundle={general}", "--names=/nowhere.yaml"], "/nowhere.yaml: "),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    general: pathlib.Path, flags: list[str], message: str
) -> None:
    arguments = [flag.format(general=general) for flag in flags]
    done = run_module("firmware_sim.wyoming", *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_everything_else_imports_without_the_packages_of_the_server() -> None:
    folder = REPOSITORY / "firmware_sim"
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if path.stem not in ("__init__", "wyoming")
    ]
    code = (
        "import importlib, sys\n"
        "for name in ('aiohttp', 'wyoming', 'hassil', 'home_assistant_intents', "
        "'unicode_rbnf', 'zeroconf'):\n"
        "    sys.modules[name] = None\n"
        f"for name in {modules}:\n    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
