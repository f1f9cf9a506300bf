"""Tensor arena that TFLite Micro takes for the encoder and for the decoder step.

python -m benchmarks.arena --bundle=pretrained/digits
"""

from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim import runtime

NEEDED_KIB = 512


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "bundle": arguments.bundle, "arena_bytes": {}}
    rows = []
    try:
        bundle = bundles.load(arguments.bundle)
        for model in (bundle.encoder, bundle.decoder_step):
            taken = runtime.load("tflm", model).arena_bytes
            if taken is None:
                raise ValueError("this tflite-micro does not say how much arena it takes.")
            figures["arena_bytes"][model.file] = taken
            holds = report.verdict(taken <= NEEDED_KIB * 1024)
            rows.append([model.file, f"{taken / 1024:.1f}", f"{len(model.data) / 1024:.1f}", holds])
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, bundles.BundleError) as error:
        return report.fail(error)
    print(report.heading(f"TFLite Micro memory, {arguments.bundle}", machine))
    header = ["model", "arena, KiB", "flatbuffer, KiB", f"arena <= {NEEDED_KIB} KiB"]
    print(report.table(header, rows))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
