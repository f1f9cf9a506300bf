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
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.server import AsyncTcpServer

from firmware_sim import bundle as bundles
from firmware_sim.grammar.home import Name
from firmware_sim.grammar.source import Grammar
from firmware_sim.recognizer import Recognizer
from firmware_sim.wyoming import Handler, Homes, Sound
from tests.conftest import REPOSITORY, run_module

Samples = npt.NDArray[np.int16]
SENTENCES = "intents: {Go: {data: [{sentences: ['go to {name}']}]}}\n"
LIGHT = {"name": [Name("Desk lamp")]}


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
    general: pathlib.Path, sentences: pathlib.Path, talk: Callable[[int], Awaitable[Any]]
) -> Any:
    """What clients hear of a server at a free port."""

    async def session() -> Any:
        known = Homes(Recognizer(bundles.load(general)), sentences, LIGHT)
        server = AsyncTcpServer("127.0.0.1", 0)
        await server.start(lambda reader, writer: Handler(reader, writer, known))
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
    general: pathlib.Path, sentences: pathlib.Path, speech: Samples
) -> None:
    async def talk(port: int) -> list[str]:
        silence = np.zeros(16000, np.int16)
        return [await ask(port, x, ["Kitchen"]) for x in (speech[:20000], silence, silence[:0])]

    assert serve(general, sentences, talk) == ["", "", ""]


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


@pytest.mark.parametrize("sound", [(16000, 1, 1), (48000, 3, 2), (44100, 4, 1), (8000, 2, 6)])
def test_sound_of_any_format_is_the_same_sound(sound: tuple[int, int, int]) -> None:
    rate, width, channels = sound
    seconds = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * 440 * seconds) * 0.5
    values = np.round(wave * 2 ** (8 * width - 1)).astype("<i8") + (128 if width == 1 else 0)
    frames = values.view(np.uint8).reshape(-1, 8)[:, :width]
    data = np.repeat(frames[:, None], channels, axis=1).tobytes()
    heard = Sound(*sound)
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
        "for name in ('wyoming', 'hassil', 'home_assistant_intents', 'unicode_rbnf', 'zeroconf'):\n"
        "    sys.modules[name] = None\n"
        f"for name in {modules}:\n    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
