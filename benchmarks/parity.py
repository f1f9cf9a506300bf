"""All output bytes of encoder and decoder step, TFLite Micro against LiteRT's reference kernels.

    python -m benchmarks.parity --bundle=pretrained/digits --manifests=A.tsv,B.tsv --count=20

Takes `count` utterances of each manifest, spread over it.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tqdm
from absl import app, flags

from benchmarks import report
from benchmarks.manifest import read_manifest
from firmware_sim import audio, frontend, parity
from firmware_sim import bundle as bundles
from firmware_sim.recognizer import compute_features


def features_of(
    bundle: bundles.Bundle, files: Sequence[Path], title: str
) -> Iterator[npt.NDArray[np.int8]]:
    """int8 [frames, 40] of each recording that is long enough for a frame; windows are cut."""
    for file in tqdm.tqdm(files, title, unit="utt", file=sys.stderr):
        samples = audio.read(file)[: frontend.sample_count(bundle.limits.frames)]
        features = compute_features(bundle, samples)
        if len(features):
            yield features


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "bundle": arguments.bundle, "sets": {}}
    rows = []
    try:
        bundle = bundles.load(arguments.bundle)
        for manifest in map(Path, arguments.manifests):
            lines = read_manifest(manifest)
            chosen = np.linspace(0, len(lines) - 1, min(arguments.count, len(lines)), dtype=int)
            files = [lines[i].audio for i in chosen]
            found = parity.compare_runtimes(
                bundle,
                features_of(bundle, files, manifest.parent.name),
                arguments.runtime,
                "litert-reference",
            )
            figures["sets"][str(manifest)] = dataclasses.asdict(found)
            rows.append(
                [
                    manifest.parent.name,
                    found.utterances,
                    found.invocations,
                    f"{found.bytes_compared:,}",
                    f"{found.bytes_different:,}",
                    report.verdict(found.equal),
                ]
            )
            if found.first_difference:
                print(f"first difference: {found.first_difference}", file=sys.stderr)
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, audio.AudioError, bundles.BundleError) as error:
        return report.fail(error)
    title = f"{arguments.runtime} against LiteRT reference, {arguments.bundle}"
    print(report.heading(title, machine))
    header = ["set", "utterances", "invocations", "bytes compared", "different", "equal"]
    print(report.table(header, rows))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_list("manifests", None, "Manifests of recordings.", required=True)
    flags.DEFINE_integer("count", 20, "Utterances of each.", lower_bound=1)
    flags.DEFINE_string("runtime", "tflm", "What is compared with LiteRT's reference kernels.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
