"""Tensor arena that TFLite Micro takes for the encoder and for the decoder step.

python -m benchmarks.arena --bundle=pretrained/digits
"""

from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim.runtimes import runtime

NEEDED_KIB = {"encoder": 384, "decoder_step": 64}


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "bundle": arguments.bundle, "arena_bytes": {}}
    rows = []
    try:
        bundle = bundles.load(arguments.bundle)
        for name, needed in NEEDED_KIB.items():
            model = getattr(bundle, name)
            taken = runtime.load("tflm", model).arena_bytes
            if taken is None:
                raise ValueError("this tflite-micro does not say how much arena it takes.")
            figures["arena_bytes"][model.file] = taken
            holds = report.verdict(taken <= needed * 1024)
            size = len(model.data) / 1024
            rows.append([model.file, f"{taken / 1024:.1f}", f"{size:.1f}", needed, holds])
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, bundles.BundleError) as error:
        return report.fail(error)
    print(report.heading(f"TFLite Micro memory, {arguments.bundle}", machine))
    header = ["model", "arena, KiB", "flatbuffer, KiB", "aimed at, KiB", "met"]
    print(report.table(header, rows))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
