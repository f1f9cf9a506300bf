"""Each 8-bit file against its float32 twin, and the count of float tensors.

python -m benchmarks.size --int8=pretrained/digits --float32=runs/digits/bundle_float32
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import report
from tflite_convert.inspect import inspect_bundle

NEEDED_RATIO = 0.27


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "files": {}}
    rows = []
    try:
        small = inspect_bundle(Path(arguments.int8))
        large = {
            inspection.file: inspection for inspection in inspect_bundle(Path(arguments.float32))
        }
        for inspection in small:
            twin = large[inspection.file]
            ratio = inspection.bytes / twin.bytes
            floats = sum(n for dtype, n in inspection.dtypes.items() if dtype.startswith("float"))
            violations = inspection.violations()
            figures["files"][inspection.file] = {
                "int8_bytes": inspection.bytes,
                "float32_bytes": twin.bytes,
                "ratio": ratio,
                "float_tensors": floats,
                "violations": violations,
                "operators": inspection.operators,
            }
            rows.append(
                [
                    inspection.file,
                    f"{inspection.bytes:,}",
                    f"{twin.bytes:,}",
                    f"{ratio:.3f}",
                    report.verdict(ratio <= NEEDED_RATIO),
                    len(inspection.tensors),
                    floats,
                    report.verdict(not floats and not violations),
                ]
            )
        total = sum(p.stat().st_size for p in Path(arguments.int8).iterdir() if p.is_file())
        figures["bundle_bytes"] = total
        report.write_json(arguments.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading("Size in bytes", machine))
    ratio_needed = f"<= {NEEDED_RATIO}"
    header = ["file", "int8", "float32", "ratio", ratio_needed, "tensors", "of floats", "none"]
    print(report.table(header, rows))
    print(f"\nthe whole bundle: {total:,} bytes")
    return 0


def run() -> None:
    flags.DEFINE_string("int8", None, "Directory of the 8-bit bundle.", required=True)
    flags.DEFINE_string("float32", None, "Directory of its float32 twin.", required=True)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
