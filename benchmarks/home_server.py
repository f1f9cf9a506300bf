"""The server for Home Assistant as clients see it: time to answer, memory, and what it survives.

    python -m benchmarks.home speak --out=DIR
    python -m benchmarks.home_server --bundle=english --recordings=DIR --noise=DIR --json=OUT.json

It starts the server in a process of its own, with the home of `benchmarks.home`, and talks to it
over loopback by the package wyoming:

- seconds from the end of speech to the transcript, of audio that comes as fast as it is spoken;
- seconds until a name more counts, beside 10, 100 and 1,000 names of a request;
- 20 clients at once, whose transcripts have to be those of one client after the other;
- cut connections and wrong events, after which the same transcripts have to come;
- 1,000 requests with their processor time, and an hour of noise, sent as fast as it is taken;
- resident memory after each of these.
"""

import asyncio
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from absl import app, flags
from tqdm import tqdm
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error

from benchmarks import home, report
from firmware_sim.grammar.home import KINDS
from firmware_sim.sound import audio
from firmware_sim.sound.frontend import SAMPLE_RATE
from firmware_sim.wyoming import QUIET

CHUNK: Final = 1024  # samples, as a satellite sends them
CLIENTS: Final = 20
PIECE: Final = 30  # seconds of noise in a request
LATENCY_MS: Final = 150.0
MEGABYTES: Final = 120.0
NAME_SECONDS: Final = 1.0

Samples = npt.NDArray[np.int16]
Figures = dict[str, Any]


class Server:
    """The server in a process of its own."""

    def __init__(self, bundle: str, port: int, names: Path) -> None:
        command = [
            *(sys.executable, "-m", "firmware_sim.wyoming", f"--bundle={bundle}"),
            *(f"--names={names}", f"--uri=tcp://127.0.0.1:{port}"),
        ]
        begin = time.perf_counter()
        self.port = port
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("listening"):
            raise OSError(f"the server did not start: {' '.join(command)}")
        self.seconds = time.perf_counter() - begin

    def memory(self) -> float:
        """Resident memory, 10^6 bytes."""
        return 1.024e-3 * self._status("VmRSS")

    def peak(self) -> float:
        """The most that was resident, 10^6 bytes."""
        return 1.024e-3 * self._status("VmHWM")

    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith(f"{field}:"))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


async def ask(
    port: int, samples: Samples, names: Sequence[str] | None = None, live: bool = False
) -> tuple[str, float]:
    """A transcript, and the seconds from the end of the audio to it.

    Args:
      live: the audio comes as fast as it is spoken, with quiet after it.
    """
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Transcribe(transcript_names=list(names or ())).event())
        await client.write_event(AudioStart(SAMPLE_RATE, 2, 1).event())
        if live:
            samples = np.pad(samples, (0, round(QUIET["default"] * SAMPLE_RATE)))
        begin = time.perf_counter()
        for start in range(0, len(samples), CHUNK):
            chunk = samples[start : start + CHUNK]
            await client.write_event(AudioChunk(SAMPLE_RATE, 2, 1, chunk.tobytes()).event())
            if live:
                left = begin + (start + CHUNK) / SAMPLE_RATE - time.perf_counter()
                await asyncio.sleep(max(0.0, left))
        begin = time.perf_counter()
        await client.write_event(AudioStop().event())
        while event := await client.read_event():
            if Error.is_type(event.type):
                raise ValueError(f"the server refused a request: {Error.from_event(event).text}")
            if Transcript.is_type(event.type):
                return Transcript.from_event(event).text, time.perf_counter() - begin
    raise OSError("the server ended a connection")


async def latency(port: int, sounds: Sequence[Samples]) -> Figures:
    """Seconds from the end of speech to its transcript."""
    seconds = [(await ask(port, x, live=True))[1] for x in tqdm(sounds, "live", disable=None)]
    return {
        "utterances": len(seconds),
        "median_ms": 1000 * statistics.median(seconds),
        "p95_ms": 1000 * float(np.percentile(seconds, 95)),
    }


async def new_names(server: Server) -> Figures:
    """Seconds until a name more counts, with so many names in each request."""
    figures: Figures = {}
    quiet = np.zeros(SAMPLE_RATE // 10, np.int16)
    for count in (10, 100, 1000):
        names = [x.text for x in home.further_names(count)]
        _, first = await ask(server.port, quiet, names)
        begin = server.processor()
        _, one_more = await ask(server.port, quiet, [*names, "Zeppelin lamp"])
        figures[str(count)] = {
            "all_seconds": first,
            "one_more_seconds": one_more,
            "one_more_processor": server.processor() - begin,
        }
    return figures


async def together(port: int, sounds: Sequence[Samples], expected: Sequence[str]) -> Figures:
    """Clients at once; their transcripts against those of one after the other."""
    chosen = list(itertools.islice(itertools.cycle(range(len(sounds))), CLIENTS))
    begin = time.perf_counter()
    answers = await asyncio.gather(*(ask(port, sounds[i]) for i in chosen))
    different = sum(text != expected[i] for i, (text, _) in zip(chosen, answers, strict=True))
    return {"clients": CLIENTS, "different": different, "seconds": time.perf_counter() - begin}


async def disturb(port: int, sound: Samples, count: int) -> None:
    """Connections that are cut in the middle, and bytes that are no events."""
    dice = random.Random(2)
    head = b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, '
    whole = head + b'"payload_length": %d}\n' % sound.nbytes + sound.tobytes()
    for _ in tqdm(range(count), "disturbances", disable=None):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        data = bytearray(whole[: dice.randrange(1, len(whole))])
        if dice.random() < 0.5:  # and not only cut
            for _ in range(dice.randrange(1, 20)):
                data[dice.randrange(min(len(data), 120))] = dice.randrange(256)
        writer.write(bytes(data))
        if dice.random() < 0.5:
            writer.transport.abort()
        writer.close()


def pieces(folder: Path, seconds: float) -> Iterator[Samples]:
    """The noise of a folder, again and again, in pieces."""
    files = sorted(x for x in folder.rglob("*") if x.suffix in home.SOUND)
    noise = np.concatenate([audio.read(x) for x in files])
    for number in range(round(seconds / PIECE)):
        start = number * PIECE * SAMPLE_RATE + np.arange(PIECE * SAMPLE_RATE)
        yield noise.take(start, mode="wrap")


async def measure(server: Server, chosen: Any) -> Figures:
    """All figures."""
    port, figures = server.port, {}
    memory = {"start": server.memory()}
    sounds = [x for *_, x in home.recordings(Path(chosen.recordings) / "sentences")]
    few = sounds[:CLIENTS]
    expected = [(await ask(port, x))[0] for x in few]

    async def step(name: str, work: Awaitable[Any]) -> Any:
        result = await work
        memory[name] = server.memory()
        return result

    figures["latency"] = await step("live", latency(port, sounds[: chosen.live]))
    figures["together"] = await step("20 clients", together(port, few, expected))
    await step("disturbances", disturb(port, few[0], chosen.disturbances))
    figures["after"] = await together(port, few, expected)

    async def many(count: int) -> None:
        for i in tqdm(range(count), "requests", disable=None):
            await ask(port, few[i % len(few)])

    await step("100 requests", many(100))
    begin = server.processor()
    await step(f"{chosen.requests} requests", many(chosen.requests - 100))
    figures["processor_ms"] = 1000 * (server.processor() - begin) / (chosen.requests - 100)

    async def noise() -> int:
        total = round(3600 * chosen.hours / PIECE)
        sent = tqdm(pieces(Path(chosen.noise), 3600 * chosen.hours), "noise", total, disable=None)
        return sum([bool((await ask(port, x))[0]) for x in sent])

    if chosen.noise:
        figures["noise"] = {"requests": round(3600 * chosen.hours / PIECE)}
        figures["noise"]["taken"] = await step("noise", noise())
    figures["names"] = await step("1000 names", new_names(server))
    return {**figures, "memory": {**memory, "peak": server.peak()}, "start": server.seconds}


def rows(figures: Figures) -> list[list[str]]:
    """Lines of the table: what was measured, its figure, whether it is enough."""
    found, memory = figures["latency"], figures["memory"]
    good: Callable[[bool], str] = report.verdict
    lines = [
        ["start of the server", f"{figures['start']:.1f} s", ""],
        [
            f"end of speech to transcript, median of {found['utterances']}",
            f"{found['median_ms']:.0f} ms",
            good(found["median_ms"] <= LATENCY_MS),
        ],
        ["  95 of 100 within", f"{found['p95_ms']:.0f} ms", ""],
        ["processor time of a request", f"{figures['processor_ms']:.0f} ms", ""],
    ]
    for count, x in figures["names"].items():
        enough = good(x["one_more_seconds"] <= NAME_SECONDS)
        lines.append([f"{count} names, first time", f"{x['all_seconds']:.2f} s", ""])
        lines.append([f"{count} names, one more", f"{x['one_more_seconds']:.2f} s", enough])
        lines.append(["  processor time", f"{x['one_more_processor']:.2f} s", ""])
    for name, what in (("together", "clients at once"), ("after", "the same, after disturbances")):
        x = figures[name]
        lines.append([f"{x['clients']} {what}", f"{x['seconds']:.1f} s", ""])
        lines.append(["  other transcripts", str(x["different"]), good(not x["different"])])
    if "noise" in figures:
        x = figures["noise"]
        lines.append([f"{x['requests']} requests of noise, taken", str(x["taken"]), ""])
    for name, megabytes in memory.items():
        enough = "" if name in ("1000 names", "peak") else good(megabytes <= MEGABYTES)
        lines.append([f"memory, {name}", f"{megabytes:.0f} MB", enough])
    return lines


def names_file(folder: Path) -> Path:
    """The home as a file of names."""
    kinds = {kind: field for field, kind in KINDS.items()}
    lines = [
        f"{kinds[kind]}: ["
        + ", ".join(f'{{name: "{x.text}", domain: "{x.domain}"}}' for x in names)
        + "]\n"
        for kind, names in home.HOME.items()
    ]
    path = folder / "home.yaml"
    path.write_text("".join(lines))
    return path


def main(argv: Sequence[str]) -> int:
    chosen: Any = flags.FLAGS
    figures: Figures = {"machine": report.machine()}
    try:
        with tempfile.TemporaryDirectory() as folder:
            server = Server(chosen.bundle, chosen.port, names_file(Path(folder)))
            try:
                figures |= asyncio.run(measure(server, chosen))
            finally:
                server.stop()
        report.write_json(chosen.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading(f"{chosen.bundle}, served", figures["machine"]))
    print(report.table(["line", "figure", "enough"], rows(figures)))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", "english", "A general bundle: name, directory or .zip.")
    flags.DEFINE_string("recordings", None, "What `benchmarks.home speak` wrote.", required=True)
    flags.DEFINE_string("noise", None, "Directory with recordings of noise.")
    flags.DEFINE_float("hours", 1.0, "Hours of noise.")
    flags.DEFINE_integer("live", 30, "Recordings that are sent as fast as they are spoken.")
    flags.DEFINE_integer("requests", 1000, "Requests one after the other.", lower_bound=101)
    flags.DEFINE_integer("disturbances", 500, "Cut connections and wrong events.")
    flags.DEFINE_integer("port", 10399, "Port of the server.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
