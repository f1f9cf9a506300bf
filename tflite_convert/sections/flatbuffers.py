"""The flatbuffers: sizes, operators, memory and ranges."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tflite_convert import inspect
from tflite_convert.sections.markup import escaped, kilobytes, missing, table
from tflite_convert.sections.run import MissingError, Run


def flatbuffers(run: Run) -> str:
    """Sizes, data types and operators of the int8 files beside their float32 twins."""
    inspections = inspections_of(run.workdir / "bundle")
    try:
        twins = inspections_of(run.workdir / "bundle_float32")
    except MissingError as error:
        twins, note = [], missing(error)
    else:
        note = ""
    violations = [line for inspection in inspections for line in inspection.violations()]
    verdict = (
        f'<p class="bad">Not all-integer: {escaped("; ".join(violations[:5]))}</p>'
        if violations
        else '<p class="good">All-integer: every tensor is int8 or int32, no DEQUANTIZE.</p>'
    )
    rows = []
    total, total_float = 0, 0
    for i, inspection in enumerate(inspections):
        large = twins[i].bytes if twins else 0
        total, total_float = total + inspection.bytes, total_float + large
        types = ", ".join(f"{n} {dtype}" for dtype, n in sorted(inspection.dtypes.items()))
        rows.append([inspection.file, types, *size_cells(inspection.bytes, large)])
    rows.append(["together", "", *size_cells(total, total_float)])
    parts = [
        verdict,
        table(["file", "tensors", "int8", "float32", "ratio"], rows, (2, 3, 4)),
        note,
    ]
    for i, inspection in enumerate(inspections):
        counts, twin = inspection.operators, twins[i].operators if twins else {}
        names = sorted({*counts, *twin}, key=lambda x: (-max(counts.get(x, 0), twin.get(x, 0)), x))
        operators = [
            [name, counts.get(name, 0), twin.get(name, 0) if twins else "-"] for name in names
        ]
        parts.append(
            f"<details><summary>{sum(counts.values())} operators in {escaped(inspection.file)}"
            "</summary>" + table(["operator", "int8", "float32"], operators, (1, 2)) + "</details>"
        )
    return "".join(parts)


def memory(run: Run) -> str:
    """Which tensor lies where in the arena while which operator runs, by the device side."""
    if not (run.workdir / "bundle").is_dir():
        raise MissingError(
            "No bundle yet: run python -m tflite_convert.convert with this --workdir."
        )
    with tempfile.TemporaryDirectory() as directory:
        drawing = Path(directory) / "arena.svg"
        command = [
            *(sys.executable, "-m", "firmware_sim.fit"),
            f"--bundle={run.workdir / 'bundle'}",
            "--device=pixel-7",  # large enough for all; the map is the same for every device
            f"--arena_map={drawing}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not drawing.exists():
            raise MissingError(f"firmware_sim.fit drew no map: {done.stderr.strip()[-300:]}")
        return (
            "<p>The tensor arenas as TFLite Micro plans them: operators to the right in the order"
            " in which they run, offsets upwards. What fills the map from floor to ceiling decides"
            f' on the size.</p><div class="scroll">{drawing.read_text(encoding="utf-8")}</div>'
        )


def inspections_of(directory: Path) -> list[inspect.Inspection]:
    try:
        return inspect.inspect_bundle(directory)
    except FileNotFoundError as error:
        option = " --float32" if directory.name.endswith("_float32") else ""
        raise MissingError(
            f"No {directory.name} yet: run python -m tflite_convert.convert{option}"
            " with this --workdir."
        ) from error


def size_cells(size: int, in_float: int) -> list[str]:
    if not in_float:
        return [kilobytes(size), "-", "-"]
    return [kilobytes(size), kilobytes(in_float), f"{in_float / size:.2f}"]


def tensor_ranges(run: Run) -> str:
    """Every int8 tensor of the bundle with the real numbers that it can hold."""
    rows = []
    for inspection in inspections_of(run.workdir / "bundle"):
        for tensor in inspection.tensors:
            if tensor.range is None or not tensor.name:
                continue
            low, high = tensor.range
            shape = " x ".join(map(str, tensor.shape))
            kind = "weight" if tensor.constant else "activation"
            model = inspection.file.removesuffix(".tflite")
            rows.append([model, tensor.name, kind, shape, f"{low:.4g}", f"{high:.4g}"])
    named = ["model", "tensor", "", "shape", "low", "high"]
    return (
        f"<details><summary>Ranges of {len(rows)} named int8 tensors</summary>"
        "<p>For weights with a scale for each channel, the widest.</p>"
        + table(named, rows, (4, 5))
        + "</details>"
    )
