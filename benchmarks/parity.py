"""All output bytes of encoder and decoder step, and the texts, against LiteRT's reference kernels.

    python -m benchmarks.parity --bundle=pretrained/digits --manifests=A.tsv,B.tsv --count=20

Takes `count` utterances of each manifest, spread over it.  Bytes are compared one utterance a
window, at every invocation of a greedy search; texts are those of the tools' default search.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm
from absl import app, flags

from benchmarks import report
from benchmarks.manifest import read_manifest
from firmware_sim import bundle as bundles
from firmware_sim import parity
from firmware_sim.recognizer import Recognizer, compute_features
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import audio

REFERENCE = "litert-reference"
SEARCH = DecodingOptions(Decoding.BEAM, ctc_weight=None)


def features_of(
    bundle: bundles.Bundle, files: Sequence[Path], title: str
) -> Iterator[npt.NDArray[np.int8]]:
    """int8 [frames, 40] of each recording that is long enough for a frame; windows are cut."""
    for file in tqdm.tqdm(files, f"{title}, bytes", unit="utt", file=sys.stderr, disable=None):
        samples = audio.read(file)[: bundle.window]
        features = compute_features(bundle, samples)
        if len(features):
            yield features


def texts_of(
    bundle: bundles.Bundle, files: Sequence[Path], runtime_name: str, title: str
) -> list[str]:
    """What a runtime hears in each recording."""
    recognizer = Recognizer(bundle, runtime_name, SEARCH)
    return [
        recognizer.transcribe(audio.read(file)).text
        for file in tqdm.tqdm(files, f"{title}, texts", unit="utt", file=sys.stderr, disable=None)
    ]


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "bundle": arguments.bundle, "sets": {}}
    rows = []
    try:
        bundle = bundles.load(arguments.bundle)
        for manifest in map(Path, arguments.manifests):
            name = manifest.parent.name
            lines = read_manifest(manifest)
            chosen = np.linspace(0, len(lines) - 1, min(arguments.count, len(lines)), dtype=int)
            files = [lines[i].audio for i in chosen]
            expected = texts_of(bundle, files, REFERENCE, f"{name}, {REFERENCE}")
            measured = figures["sets"][str(manifest)] = {}
            for runtime in arguments.runtimes:
                begin = time.monotonic()
                title = f"{name}, {runtime}"
                found = parity.compare_runtimes(
                    bundle, features_of(bundle, files, title), runtime, REFERENCE
                )
                texts = texts_of(bundle, files, runtime, title)
                same = sum(a == b for a, b in zip(texts, expected, strict=True))
                measured[runtime] = {
                    **dataclasses.asdict(found),
                    "texts": len(texts),
                    "texts_same": same,
                    "seconds": time.monotonic() - begin,
                }
                rows.append(
                    [
                        name,
                        runtime,
                        found.utterances,
                        found.invocations,
                        f"{found.bytes_compared:,}",
                        f"{found.bytes_different:,}",
                        f"{same} of {len(texts)}",
                        report.verdict(found.equal and same == len(texts)),
                    ]
                )
                if found.first_difference:
                    print(f"first difference: {found.first_difference}", file=sys.stderr)
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, audio.AudioError, bundles.BundleError, ExecutionError) as error:
        return report.fail(error)
    print(report.heading(f"against LiteRT's reference kernels, {arguments.bundle}", machine))
    header = ["set", "runtime", "utterances", "invocations", "bytes compared", "different"]
    print(report.table([*header, "same text", "equal"], rows))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_list("manifests", None, "Manifests of recordings.", required=True)
    flags.DEFINE_integer("count", 20, "Utterances of each.", lower_bound=1)
    flags.DEFINE_list(
        "runtimes", ["tflm", "wasm", "cortex-m55"], "What is compared with the reference kernels."
    )
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
