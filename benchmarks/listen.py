"""A stream against whole files: bytes of the features, an hour of speech, time to the text.

    python -m benchmarks.listen --bundle=pretrained/digits --manifests=A.tsv,B.tsv [--json=FILE]

The hour is drawn from all manifests in turn, each string after a gap of 1 to 4 s of digital silence
or soft noise, and is recognised as fast as the machine can.
"""

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
from absl import app, flags
from tqdm import tqdm

from benchmarks import report
from benchmarks.manifest import Line, read_manifest
from firmware_sim import bundle
from firmware_sim.command_line import options
from firmware_sim.listen import Listener, Utterance
from firmware_sim.recognizer import Recognizer, compute_features
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.search.results import Segment
from firmware_sim.sound import audio
from firmware_sim.sound.frontend import SAMPLE_RATE, MicroFrontendStream
from firmware_sim.sound.stream import BLOCK_SAMPLES, HANGOVER_BLOCKS, Ending

GAP = (1.0, 4.0)  # seconds
LOUDEST_NOISE = 10.0  # standard deviation, of 32768; half of the gaps are digital silence
WARM_SECONDS = 600  # memory is compared from here on
NEEDED_COMPUTE = 0.050  # seconds, median
NEEDED_GROWTH = 0.5  # MiB; pages of the heap come and go


@dataclasses.dataclass
class Spoken:
    """A string in the stream."""

    line: Line
    source: str  # name of its test set
    start: int  # samples
    end: int
    heard: list[Utterance] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(u.recognized.text for u in self.heard if u.recognized.text)


class Recording(Recognizer):
    """Keeps the features that it is given."""

    features: list[tuple[npt.NDArray[np.int8], int, int]]

    def recognize(
        self, features: npt.NDArray[np.int8], start: int, end: int, complete: bool = True
    ) -> Segment:
        self.features.append((features.copy(), start, end))
        return super().recognize(features, start, end, complete)


def draw(manifests: Sequence[Path], seed: int) -> Iterator[tuple[Line, str]]:
    """Strings of all test sets in turn, each set shuffled; again when one is through."""
    sets = []
    for number, path in enumerate(manifests):
        lines = read_manifest(path)
        order = np.random.default_rng([seed, number]).permutation(len(lines))
        sets.append([(lines[i], path.parent.name) for i in order])
    for together in zip(*map(itertools.cycle, sets), strict=True):
        yield from together


def gap(rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Digital silence or soft noise."""
    samples = int(rng.uniform(*GAP) * SAMPLE_RATE)
    level = rng.uniform(0, LOUDEST_NOISE) * rng.integers(0, 2)
    return np.rint(rng.normal(0, level, samples)).astype(np.int16)


def equal_features(manifests: Sequence[Path], count: int, seed: int) -> dict[str, Any]:
    """Share of files, and of utterances in their stream, whose features are equal bytes."""
    recognizer = Recording(
        bundle.load(options.BUNDLE.value), "litert", DecodingOptions(Decoding.GREEDY)
    )
    recognizer.features = []
    listener = Listener(recognizer)
    rng = np.random.default_rng(seed)
    files, stream = [], []
    for line, _ in itertools.islice(draw(manifests, seed), count):
        samples = audio.read(line.audio)
        stream += [gap(rng), samples]
        frontend = MicroFrontendStream()
        at, parts = 0, []
        while at < len(samples):
            size = int(rng.integers(1, 3 * BLOCK_SAMPLES))
            parts.append(
                recognizer.bundle.features.quantize(frontend.process(samples[at : at + size]))
            )
            at += size
        whole = compute_features(recognizer.bundle, samples)
        files.append(np.concatenate(parts).tobytes() == whole.tobytes())
    joined = np.concatenate(stream)
    for _ in itertools.chain(listener.feed(joined), listener.finish()):
        pass
    utterances = [
        compute_features(recognizer.bundle, joined[start:end]).tobytes() == features.tobytes()
        for features, start, end in recognizer.features
    ]
    return {
        "files": len(files),
        "files_equal": float(np.mean(files)),
        "utterances": len(utterances),
        "utterances_equal": float(np.mean(utterances)),
    }


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(
    recognizer: Recognizer, manifests: Sequence[Path], seconds: int, seed: int
) -> dict[str, float]:
    """MiB after 10 minutes and after so many seconds, with nothing kept of what was heard.

    10 minutes of the stream are played over and over, so that the audio takes no new memory.
    """
    rng = np.random.default_rng(seed)
    pieces: list[npt.NDArray[np.int16]] = []
    lines = draw(manifests, seed)
    while sum(map(len, pieces)) < WARM_SECONDS * SAMPLE_RATE:
        pieces += [gap(rng), audio.read(next(lines)[0].audio)]
    warm = np.concatenate(pieces)
    listener = Listener(recognizer)
    found = []
    for _ in range(max(2, round(seconds / WARM_SECONDS))):
        listener.feed(warm)
        found.append(resident())
    return {"rss_warm": found[0], "rss_end": found[-1]}


def hour(
    recognizer: Recognizer, manifests: Sequence[Path], seconds: int, seed: int
) -> tuple[list[Spoken], list[Utterance], dict[str, float]]:
    """Streams so many seconds: what was said, what was heard, and the seconds of both."""
    rng = np.random.default_rng(seed)
    listener = Listener(recognizer, early=True)
    spoken: list[Spoken] = []
    heard: list[Utterance] = []
    position = 0
    begin = time.perf_counter()
    bar = tqdm(total=seconds, desc="listening", unit="s", file=sys.stderr, disable=None)
    for line, source in draw(manifests, seed):
        silence, samples = gap(rng), audio.read(line.audio)
        start = position + len(silence)
        spoken.append(Spoken(line, source, start, start + len(samples)))
        for piece in (silence, samples):
            heard += listener.feed(piece)
        bar.update((spoken[-1].end - position) / SAMPLE_RATE)
        position = spoken[-1].end
        if position >= seconds * SAMPLE_RATE:
            break
    heard += listener.feed(np.zeros(SAMPLE_RATE, np.int16))
    heard += listener.finish()
    bar.close()
    durations = {
        "audio": position / SAMPLE_RATE,
        "took": time.perf_counter() - begin,
    }
    return spoken, heard, durations


def final(heard: Sequence[Utterance]) -> list[Utterance]:
    """Without the texts that others replace."""
    return [utterance for utterance in heard if utterance.ending is not Ending.EARLY]


def assign(spoken: Sequence[Spoken], heard: Sequence[Utterance], window: int) -> dict[str, int]:
    """Gives each string the utterances that overlap it; counts what does not fit.

    `window`: samples that the encoder takes.
    """
    joined = false = 0
    for utterance in heard:
        own = [s for s in spoken if utterance.start < s.end and utterance.end > s.start]
        for string in own:
            string.heard.append(utterance)
        joined += len(own) > 1
        false += not own
    pieces = [s for s in spoken if len(s.heard) > 1]
    cut = [s for s in pieces if s.heard[0].ending is Ending.WINDOW]
    return {
        "strings": len(spoken),
        "utterances": len(heard),
        "missed": sum(not s.heard for s in spoken),
        "split": len(pieces) - len(cut),
        "cut": len(cut),
        "cut_though_short": sum(s.end - s.start <= window for s in cut),
        "joined": joined,
        "false": false,
    }


def word_errors(recognizer: Recognizer, spoken: Sequence[Spoken]) -> dict[str, dict[str, float]]:
    """WER of the stream and of whole files, by test set, and the share of equal texts."""
    whole: dict[Path, str] = {}
    for string in tqdm(spoken, "whole files", unit="file", file=sys.stderr, disable=None):
        if string.line.audio not in whole:
            whole[string.line.audio] = recognizer.transcribe(audio.read(string.line.audio)).text
    figures = {}
    for source in sorted({s.source for s in spoken}):
        own = [s for s in spoken if s.source == source]
        truth = [s.line.text for s in own]
        figures[source] = {
            "strings": len(own),
            "wer_stream": jiwer.wer(truth, [s.text for s in own]),
            "wer_whole": jiwer.wer(truth, [whole[s.line.audio] for s in own]),
            "equal": float(np.mean([s.text == whole[s.line.audio] for s in own])),
        }
    return figures


def times(heard: Sequence[Utterance]) -> dict[str, float]:
    """Seconds from the end of speech to the text."""
    compute = [u.seconds for u in final(heard)]
    ended = [u for u in heard if u.ending is Ending.PAUSE]
    latency = [u.latency for u in ended]
    # The last text before the end was known: of the same speech.
    early = {(u.start, u.end): u for u in heard if u.ending is Ending.EARLY}
    pairs = [(early[u.start, u.end], u) for u in ended if (u.start, u.end) in early]
    return {
        "early": len(pairs) / len(ended),
        "early_p50": float(np.percentile([e.latency for e, _ in pairs], 50)),
        "early_p95": float(np.percentile([e.latency for e, _ in pairs], 95)),
        "early_equal": float(np.mean([e.recognized.text == u.recognized.text for e, u in pairs])),
        "early_runs": sum(u.ending is Ending.EARLY for u in heard) / len(ended),
        "compute_p50": float(np.percentile(compute, 50)),
        "compute_p95": float(np.percentile(compute, 95)),
        "hangover": HANGOVER_BLOCKS * BLOCK_SAMPLES / SAMPLE_RATE,
        "latency_p50": float(np.percentile(latency, 50)),
        "latency_p95": float(np.percentile(latency, 95)),
    }


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    manifests = [Path(path) for path in arguments.manifests]
    try:
        equal = equal_features(manifests, arguments.files, arguments.seed)
        recognizer = options.recognizer()
        rss = memory(recognizer, manifests, arguments.seconds, arguments.seed)
        spoken, heard, durations = hour(recognizer, manifests, arguments.seconds, arguments.seed)
        window = recognizer.bundle.window
        segments = assign(spoken, final(heard), window)
        errors = word_errors(recognizer, spoken)
        figures = {
            "machine": machine,
            "features": equal,
            "memory": rss,
            "seconds": durations,
            "segments": segments,
            "words": errors,
            "times": times(heard),
        }
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, audio.AudioError, bundle.BundleError) as error:
        return report.fail(error)

    print(report.heading("Streaming, LiteRT, 1 thread", machine))
    rows = [*stream_rows(figures), *time_rows(figures["times"])]
    print(report.table(["figure", "measured", "needed", "holds"], rows))
    return 0


def stream_rows(figures: dict[str, Any]) -> list[list[str]]:
    """Cells of features, memory, segments and word error rates."""
    rss, durations, segments = (figures[name] for name in ("memory", "seconds", "segments"))
    equal = figures["features"]
    growth = rss["rss_end"] - rss["rss_warm"]
    rows: list[list[str]] = []
    for kind in ("files", "utterances"):
        share = equal[f"{kind}_equal"]
        name = f"equal bytes of features, {equal[kind]} {kind}"
        rows.append([name, f"{share:.2%}", "100 %", report.verdict(share == 1)])
    rows.append(["audio streamed, s", f"{durations['audio']:.0f}", "", ""])
    rows.append(["that took, s", f"{durations['took']:.0f}", "", ""])
    rows.append(["memory after 10 minutes, MiB", f"{rss['rss_warm']:.1f}", "", ""])
    bound = [f"+ {NEEDED_GROWTH}", report.verdict(growth <= NEEDED_GROWTH)]
    rows.append(["memory at the end, MiB", f"{rss['rss_end']:.1f}", *bound])
    for name in ("strings", "utterances"):
        rows.append([name, str(segments[name]), "", ""])
    for name in ("missed", "split", "joined"):
        rows.append([f"  {name}", str(segments[name]), "0", report.verdict(not segments[name])])
    rows.append(["  cut where the window was full", str(segments["cut"]), "", ""])
    short = "  of them, files that would fit it"
    rows.append([short, str(segments["cut_though_short"]), "", ""])
    rows.append(["  without a string", str(segments["false"]), "", ""])
    for name, own in figures["words"].items():
        rows.append([f"WER of the stream, {name}", f"{own['wer_stream']:.2%}", "", ""])
        rows.append(["  of whole files", f"{own['wer_whole']:.2%}", "", ""])
        rows.append(["  equal texts", f"{own['equal']:.1%}", "", ""])
    return rows


def time_rows(measured: dict[str, float]) -> list[list[str]]:
    """Cells of `times`."""
    rows: list[list[str]] = []
    median = measured["compute_p50"]
    bound = [f"<= {NEEDED_COMPUTE * 1000:.0f}", report.verdict(median <= NEEDED_COMPUTE)]
    rows.append(["end-point to text, ms, p50", f"{median * 1000:.1f}", *bound])
    rows.append(["  p95", f"{measured['compute_p95'] * 1000:.1f}", "", ""])
    rows.append(["hangover, ms", f"{measured['hangover'] * 1000:.0f}", "", ""])
    rows.append(
        ["end of speech to final text, ms, p50", f"{measured['latency_p50'] * 1000:.1f}", "", ""]
    )
    rows.append(["  p95", f"{measured['latency_p95'] * 1000:.1f}", "", ""])
    median = measured["early_p50"]
    bound = [f"<= {NEEDED_COMPUTE * 1000:.0f}", report.verdict(median <= NEEDED_COMPUTE)]
    rows.append(["end of speech to early text, ms, p50", f"{median * 1000:.1f}", *bound])
    rows.append(["  p95", f"{measured['early_p95'] * 1000:.1f}", "", ""])
    rows.append(["  utterances that have one", f"{measured['early']:.1%}", "", ""])
    rows.append(["  equal to the final text", f"{measured['early_equal']:.1%}", "", ""])
    rows.append(["  early texts for an utterance", f"{measured['early_runs']:.1f}", "", ""])
    return rows


def run() -> None:
    flags.DEFINE_list("manifests", None, "Recordings to stream, by commas.", required=True)
    flags.DEFINE_integer("seconds", 3600, "Audio streamed.", lower_bound=1)
    flags.DEFINE_integer("files", 100, "Files whose features are compared.", lower_bound=1)
    flags.DEFINE_integer("seed", 2003, "Another seed draws another stream.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
