"""An hour of live audio: features, memory, stretches lost or cut wrong, latency.

    python -m benchmarks.listen --bundle=pretrained/digits --manifests=PEOPLE/manifest.tsv

Recordings of the manifests in random order, 2 to 4 s of silence or soft noise between them, until
--minutes are full, through `stream.Listener` as fast as the machine allows.  A recording is lost
if no stretch covers its middle, split if two do that were not cut because of the window, joined if
its stretch has another one's middle too.
"""

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
import tqdm
from absl import app, flags

from benchmarks import manifest, report
from firmware_sim import audio, options, recognizer
from firmware_sim import bundle as bundles
from firmware_sim.frontend import SAMPLE_RATE, STEP_SAMPLES
from firmware_sim.stream import BLOCK_SECONDS, HANGOVER_BLOCKS, PAUSE_BLOCKS, Heard, Listener

NEEDED_MS = 50
GAP_SECONDS = (2.0, 4.0)
LOUDEST_NOISE = 20  # standard deviation, of 32768


class Checked(Listener):
    """A listener that compares its features with those of the whole stretch."""

    equal = unequal = 0

    def __init__(self, engine: recognizer.Recognizer) -> None:
        super().__init__(engine)
        self._heard_audio: list[npt.NDArray[np.int16]] = []

    def push(self, block: npt.NDArray[np.int16]) -> list[Heard]:
        self._heard_audio.append(block.copy())
        del self._heard_audio[: -4 * len(self._features)]
        return super().push(block)

    def _recognize(self, frames: int, cut: bool) -> Heard:
        if not self._was_cut:  # the frontend of what follows a cut began earlier
            whole = np.concatenate(self._heard_audio[self._start - self._blocks :])
            features = recognizer.compute_features(self._recognizer.bundle, whole)[:frames]
            same = np.array_equal(features, self._features[:frames])
            self.equal, self.unequal = self.equal + same, self.unequal + (not same)
        return super()._recognize(frames, cut)

    _was_cut = False

    def _begin(self) -> None:
        self._was_cut = False
        super()._begin()

    def _cut(self) -> list[Heard]:
        heard = super()._cut()
        self._was_cut = True
        return heard


def strings(
    lines: Sequence[manifest.Line], samples: int
) -> Iterator[tuple[npt.NDArray[np.int16], str | None]]:
    """Gaps (text None) and recordings in turns, until there are so many samples."""
    rng = np.random.default_rng(0)
    made = 0
    while made < samples:
        for i in rng.permutation(len(lines)):
            noise = rng.choice([0, LOUDEST_NOISE / 4, LOUDEST_NOISE])
            gap = rng.normal(0, noise, int(SAMPLE_RATE * rng.uniform(*GAP_SECONDS)))
            yield np.rint(gap).astype(np.int16), None
            recording = audio.read(lines[i].audio)
            yield recording, lines[i].text
            made += len(gap) + len(recording)
            if made >= samples:
                return


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    try:
        lines = [x for m in arguments.manifests for x in manifest.read_manifest(Path(m))]
        engine = options.recognizer()
        listener, heard, spoken, memory = Checked(engine), [], [], []
        rest, position = np.zeros(0, np.int16), 0
        wanted = arguments.minutes * 60 * SAMPLE_RATE
        with tqdm.tqdm(total=arguments.minutes, unit="min", desc="listening") as bar:
            for samples, text in strings(lines, wanted):
                if text is not None:
                    spoken.append((position, position + len(samples), text))
                position += len(samples)
                rest = np.concatenate([rest, samples])
                for start in range(0, len(rest) - STEP_SAMPLES + 1, STEP_SAMPLES):
                    heard += listener.push(rest[start : start + STEP_SAMPLES])
                rest = rest[len(rest) // STEP_SAMPLES * STEP_SAMPLES :]
                while bar.n < position // (60 * SAMPLE_RATE):
                    bar.update(1)
                    memory.append(peak_kib())
            heard += listener.finish()
    except (OSError, ValueError, audio.AudioError, bundles.BundleError) as error:
        return report.fail(error)
    figures = figures_of(heard, spoken, engine, lines) | {
        "machine": machine,
        "minutes": position / SAMPLE_RATE / 60,
        "features_equal": listener.equal,
        "features_unequal": listener.unequal,
        "peak_kib_by_minute": memory,
    }
    report.write_json(arguments.json, figures)
    print(report.heading(f"Live audio, {figures['minutes']:.0f} minutes", machine))
    print(report.table(["figure", "measured", "needed", "met"], rows_of(figures)))
    return 0


def figures_of(
    heard: Sequence[Heard],
    spoken: Sequence[tuple[int, int, str]],
    engine: recognizer.Recognizer,
    lines: Sequence[manifest.Line],
) -> dict[str, Any]:
    """Counts of recordings, word error rates, and latencies in seconds."""
    lost = split = joined = cut = 0
    streamed, whole = [], []
    texts = {line.text: engine.transcribe(audio.read(line.audio)).text for line in lines}
    middles = [(start + end) / 2 / SAMPLE_RATE for start, end, _ in spoken]
    for (start, end, text), middle in zip(spoken, middles, strict=True):
        within = [h for h in heard if h.start < end / SAMPLE_RATE and h.end > start / SAMPLE_RATE]
        lost += not any(h.start < middle < h.end for h in within)
        cut += any(h.cut for h in within)
        split += len(within) > 1 and not any(h.cut for h in within)
        joined += any(sum(h.start < m < h.end for m in middles) > 1 for h in within)
        streamed.append(" ".join(h.text for h in within))
        whole.append(texts[text])
    references = [text for _, _, text in spoken]
    latencies = [h.latency for h in heard]
    return {
        "recordings": len(spoken),
        "lost": lost,
        "split": split,
        "joined": joined,
        "cut": cut,
        "wer_streamed": jiwer.wer(references, streamed),
        "wer_whole": jiwer.wer(references, whole),
        "latency_median": float(np.median(latencies)),
        "latency_95": float(np.quantile(latencies, 0.95)),
    }


def rows_of(figures: dict[str, Any]) -> list[list[Any]]:
    memory = figures["peak_kib_by_minute"]
    settled = memory[min(9, len(memory) // 2) :]
    growth = settled[-1] - settled[0]
    wrong = [figures[name] for name in ("lost", "split", "joined")]
    pause, hangover = (1000 * BLOCK_SECONDS * n for n in (PAUSE_BLOCKS, HANGOVER_BLOCKS))
    median, late = (1000 * figures[f"latency_{name}"] for name in ("median", "95"))
    return [
        [
            "features in the stream, stretches equal / not",
            f"{figures['features_equal']} / {figures['features_unequal']}",
            "all",
            report.verdict(not figures["features_unequal"]),
        ],
        ["growth of memory after 10 minutes, KiB", growth, "none", report.verdict(growth < 1024)],
        [
            f"of {figures['recordings']} recordings lost / split / joined",
            " / ".join(map(str, wrong)),
            "none",
            report.verdict(not any(wrong)),
        ],
        ["longer than the window, cut in a pause", figures["cut"], "", ""],
        [
            "WER streamed / as whole files",
            f"{100 * figures['wer_streamed']:.2f} / {100 * figures['wer_whole']:.2f} %",
            "",
            "",
        ],
        [
            "end of speech to text, median / 95 %, ms of computing",
            f"{median:.0f} / {late:.0f}",
            NEEDED_MS,
            report.verdict(median <= NEEDED_MS),
        ],
        [
            f"it begins {pause:.0f} ms after speech, and is final after, ms",
            f"{hangover:.0f}",
            "",
            "",
        ],
    ]


def run() -> None:
    flags.DEFINE_list("manifests", None, "Recordings of speech.", required=True)
    flags.DEFINE_float("minutes", 60, "Length of the stream.", lower_bound=0.5)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
