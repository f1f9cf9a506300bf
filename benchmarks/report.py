"""What every benchmark prints: the machine, a table, and the same figures as JSON."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("ai-edge-litert", "tflite-micro", "pymicro-features", "numpy", "tensorflow")
DOT_PRODUCTS = {"AVX-VNNI": "avx_vnni", "AVX512-VNNI": "avx512_vnni"}  # and their cpuinfo flags


def machine() -> dict[str, Any]:
    """CPU model, its cores and integer dot-product instructions, date, package versions."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    found = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    instructions = set(found.group(1).split()) if found else set()
    return {
        "cpu": model.group(1).strip() if model else platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "dot_products": {name: flag in instructions for name, flag in DOT_PRODUCTS.items()},
        "avx2": "avx2" in instructions,
        "load_average": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def heading(title: str, found: Mapping[str, Any]) -> str:
    """The title, and the machine in two lines."""
    wide = ", ".join(f"{k} {'yes' if v else 'no'}" for k, v in found["dot_products"].items())
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{title}\n{found['cpu']}, {found['cores']} cores, AVX2 {'yes' if found['avx2'] else 'no'},"
        f" {wide}; load {found['load_average']:.1f}; {found['date']}\n"
        f"Python {found['python']}, {packages}\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns side by side, the first to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def write_json(path: str | None, figures: Mapping[str, Any]) -> None:
    """Writes the whole file or nothing; does nothing without a path."""
    if path is None:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def fail(error: Exception) -> int:
    """Says in a line what went wrong; returns the exit status."""
    print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
    return 1


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
