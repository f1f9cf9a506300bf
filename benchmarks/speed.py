"""Speed of the 8-bit models against their float32 twins, LiteRT with XNNPACK, one thread.

    python -m benchmarks.speed --int8=pretrained/digits --float32=runs/digits/bundle_float32 \
        [--manifest=runs/wer/people_100/manifest.tsv]

Both run in turns in the same process; of each, the median and the shortest time.  Then every
operator by itself.  With --manifest, the real-time factor of whole utterances in 8 bits: reading
the file, features, encoder, decoding and all of Python.  What is needed of the paper's own size is
`--needed_speed_up=2.5 --needed_rtf=0.15 --greedy`.
"""

import collections
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from benchmarks import operators, report
from benchmarks.manifest import read_manifest
from firmware_sim import bundle as bundles
from firmware_sim.recognizer import Recognizer, encoder_inputs
from firmware_sim.runtimes import runtime
from firmware_sim.search.beam import Decoder
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import audio

PERCENTILES = (50, 90, 99, 100)


class Timed:
    """A bundle's encoder and decoder step on LiteRT, with inputs that fill the window."""

    def __init__(self, bundle: bundles.Bundle) -> None:
        frames = bundle.limits.frames
        rng = np.random.default_rng(0)
        channels = bundle.encoder.input("features").shape[-1]
        features = rng.integers(-128, 60, (frames, channels)).astype(np.int8)
        self.models = {
            "encoder": runtime.load("litert", bundle.encoder),
            "decoder_step": runtime.load("litert", bundle.decoder_step),
        }
        inputs = encoder_inputs(bundle, features)
        encoded = self.models["encoder"].invoke(inputs)
        decoder = Decoder(bundle, self.models["decoder_step"], DecodingOptions())
        self.inputs = {
            "encoder": inputs,
            "decoder_step": decoder.start(encoded, frames).inputs,
        }

    def seconds(self, model: str) -> float:
        """Of one invocation; copying inputs and outputs is part of it."""
        begin = time.perf_counter()
        self.models[model].invoke(self.inputs[model])
        return time.perf_counter() - begin


def in_turns(bundles_: Mapping[str, bundles.Bundle], rounds: int) -> dict[str, Any]:
    """Milliseconds of each model of each bundle."""
    timed = {name: Timed(bundle) for name, bundle in bundles_.items()}
    found: dict[str, Any] = {}
    for model in ("encoder", "decoder_step"):
        seconds: dict[str, list[float]] = collections.defaultdict(list)
        for _ in tqdm.trange(rounds, desc=model, file=sys.stderr, disable=None):
            for name, one in timed.items():
                seconds[name].append(one.seconds(model))
        figures = {
            name: {"median": float(np.median(v)) * 1000, "min": min(v) * 1000}
            for name, v in seconds.items()
        }
        found[model] = {
            **figures,
            **{
                f"speed_up_{key}": figures["float32"][key] / figures["int8"][key]
                for key in ("median", "min")
            },
        }
    return found


def profile(bundles_: Mapping[str, bundles.Bundle], rounds: int) -> dict[str, Any]:
    """Milliseconds of the encoders' operators by themselves."""
    parts = {name: operators.take_apart(b.encoder.data) for name, b in bundles_.items()}
    operators.measure(list(parts.values()), rounds)
    return {
        name: [
            {
                "operator": part.kind[0],
                "inputs": [list(shape) for shape in part.kind[1]],
                "count": part.count,
                "milliseconds": part.milliseconds,
                "total": part.total,
            }
            for part in sorted(own, key=lambda part: -part.total)
        ]
        for name, own in parts.items()
    }


def profile_tables(found: Mapping[str, Any], longest: int) -> str:
    """All operators by name side by side, then the shapes that take most of the time."""
    totals: dict[str, collections.Counter] = {}
    counts: dict[str, collections.Counter] = {}
    for name, parts in found.items():
        totals[name], counts[name] = collections.Counter(), collections.Counter()
        for part in parts:
            totals[name][part["operator"]] += part["total"]
            counts[name][part["operator"]] += part["count"]
    names = sorted({n for c in totals.values() for n in c}, key=lambda n: -totals["int8"][n])
    rows = [
        [n, *(cell for k in found for cell in (counts[k][n], f"{totals[k][n]:.3f}"))] for n in names
    ]
    rows.append(["sum", *(c for k in found for c in ("", f"{sum(totals[k].values()):.3f}"))])
    header = ["operator", *(cell for k in found for cell in ("count", f"{k}, ms"))]
    text = "Encoder, each operator by itself\n" + report.table(header, rows)
    for name, parts in found.items():
        rows = [
            [
                f"{p['operator']} {' '.join('x'.join(map(str, s)) or '()' for s in p['inputs'])}",
                p["count"],
                f"{p['milliseconds']:.4f}",
                f"{p['total']:.3f}",
            ]
            for p in parts[:longest]
        ]
        text += f"\n\nEncoder, {name}, longest\n"
        text += report.table(["operator and inputs", "count", "ms each", "ms together"], rows)
    return text


def real_time_factor(
    bundle: bundles.Bundle, manifest: Path, limit: int, greedy: bool
) -> dict[str, Any]:
    """Seconds of work for a second of audio, and its percentiles over utterances."""
    decoding = DecodingOptions(Decoding.BEAM, ctc_weight=None)  # the tools' default
    if greedy:
        decoding = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    recognizer = Recognizer(bundle, "litert", decoding)
    lines = read_manifest(manifest)[: limit or None]
    recognizer.transcribe(audio.read(lines[0].audio))  # the first time, memory is got
    lengths, whole, parts = [], [], []
    for line in tqdm.tqdm(lines, "utterances", unit="utt", file=sys.stderr, disable=None):
        begin = time.perf_counter()
        done = recognizer.transcribe(audio.read(line.audio))
        whole.append(time.perf_counter() - begin)
        lengths.append(done.audio_seconds)
        parts.append(
            (
                sum(s.frontend_seconds for s in done.segments),
                sum(s.encoder_seconds for s in done.segments),
                sum(sum(s.step_seconds) for s in done.segments),
            )
        )
    factors = np.array(whole) / np.array(lengths)
    shares = np.sum(parts, axis=0) / sum(lengths)
    return {
        "utterances": len(lines),
        "audio_seconds": sum(lengths),
        "rtf": sum(whole) / sum(lengths),
        "percentiles": {f"p{p}": float(np.percentile(factors, p)) for p in PERCENTILES},
        "milliseconds_percentiles": {
            f"p{p}": float(np.percentile(whole, p)) * 1000 for p in PERCENTILES
        },
        "parts": {
            "frontend": shares[0],
            "encoder": shares[1],
            "decoder_steps": shares[2],
            "reading and the rest": (sum(whole) - np.sum(parts)) / sum(lengths),
        },
    }


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine}
    try:
        both = {
            "int8": bundles.load(arguments.int8),
            "float32": bundles.load(arguments.float32),
        }
        figures["models"] = in_turns(both, arguments.rounds)
        figures["operators"] = profile(both, max(1, arguments.rounds // 5))
        if arguments.manifest:
            figures["utterances"] = real_time_factor(
                both["int8"], Path(arguments.manifest), arguments.limit, arguments.greedy
            )
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, audio.AudioError, bundles.BundleError) as error:
        return report.fail(error)

    print(report.heading("Speed, LiteRT with XNNPACK, 1 thread", machine))
    rows = []
    for model, found in figures["models"].items():
        for key in ("median", "min"):
            up, needed = found[f"speed_up_{key}"], arguments.needed_speed_up
            bound = model == "encoder"
            rows.append(
                [
                    f"{model}, {key} of {arguments.rounds}",
                    *(f"{found[name][key]:.3f}" for name in both),
                    f"{up:.2f}",
                    f">= {needed}" if bound else "",
                    report.verdict(up >= needed) if bound else "",
                ]
            )
    header = ["model", *(f"{name}, ms" for name in both), "times faster", "needed", "holds"]
    print(report.table(header, rows), "\n")
    print(profile_tables(figures["operators"], arguments.longest))
    if "utterances" in figures:
        found = figures["utterances"]
        rtf, needed = found["rtf"], arguments.needed_rtf
        print(f"\n{found['utterances']} utterances, {found['audio_seconds']:.0f} s of audio, int8")
        bound = [f"<= {needed}", report.verdict(rtf <= needed)]
        rows = [["real-time factor, all", f"{rtf:.4f}", *bound]]
        rows += [[f"  {k}", f"{v:.4f}", "", ""] for k, v in found["percentiles"].items()]
        rows += [[f"  {k}", f"{v:.4f}", "", ""] for k, v in found["parts"].items()]
        times = found["milliseconds_percentiles"].items()
        rows += [[f"an utterance, ms, {k}", f"{v:.1f}", "", ""] for k, v in times]
        print(report.table(["figure", "measured", "needed", "holds"], rows))
    return 0


def run() -> None:
    flags.DEFINE_string("int8", None, "The 8-bit bundle, directory or .zip.", required=True)
    flags.DEFINE_string("float32", None, "Its float32 twin.", required=True)
    flags.DEFINE_string("manifest", None, "Recordings for the real-time factor.")
    flags.DEFINE_integer("limit", 0, "Only the first of them; 0 takes all.")
    flags.DEFINE_bool("greedy", False, "Decode greedily instead of by the joint search.")
    flags.DEFINE_float("needed_speed_up", 1.5, "Of the encoder.")
    flags.DEFINE_float("needed_rtf", 0.02, "Highest real-time factor.")
    flags.DEFINE_integer("rounds", 200, "Invocations of each model.", lower_bound=1)
    flags.DEFINE_integer("longest", 12, "Operators listed by shape.", lower_bound=0)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
