"""One page about a run: training, word error rates, parity, flatbuffers, quantization, attention.

    python -m tflite_convert.report --workdir=runs/digits

writes `report.html` into the workdir: one file, pictures included, that needs no network. The page
names what the run does not have yet.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from tflite_convert import bundle
from tflite_convert.sections import flatbuffers, layers, recognition, training
from tflite_convert.sections.markup import STYLE, escaped, missing
from tflite_convert.sections.run import MissingError, Run

PACKAGES = (
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "tflite-micro",
    "pymicro-features",
    "numpy",
)
SECTIONS: dict[str, Callable[[Run], str]] = {
    "Word error rates": recognition.word_error_rates,
    "Parity ladder": recognition.ladder,
    "Training": training.training,
    "Flatbuffers": flatbuffers.flatbuffers,
    "Memory": flatbuffers.memory,
    "Quantization error": layers.quantization_error,
    "Ranges": flatbuffers.tensor_ranges,
    "An example": layers.example,
}


def header(run: Run) -> str:
    """Preset, revision, date and machine."""
    preset = run.config.preset
    facts = [
        ("code", bundle.git_revision()),
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("processor", f"{processor()}, {os.cpu_count()} cores"),
        ("Python", platform.python_version()),
        ("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
    ]
    manifest = run.workdir / "bundle" / "manifest.json"
    if manifest.exists():
        content = json.loads(manifest.read_text())
        made = f"{content['precision']}, {content['created']}, code {content['git_revision']}"
        facts.insert(1, ("bundle", made))
    listed = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in facts)
    return f"<h1>Speech-Transformer in 8 bits: {escaped(preset)}</h1><dl>{listed}</dl>"


def processor() -> str:
    """The model of the CPU as the system names it."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def page(workdir: Path) -> str:
    """The whole report as HTML.  Raises MissingError if `workdir` is no training run."""
    run = Run(workdir)
    parts = [header(run)]
    for title, section in tqdm(SECTIONS.items(), "report", unit="section", disable=None):
        try:
            body = section(run)
        except (MissingError, ValueError, OSError, tf.errors.OpError) as error:
            body = missing(error)
        parts.append(f"<h2>{escaped(title)}</h2>{body}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(run.config.preset)}: report</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def write(workdir: Path) -> Path:
    """Writes `report.html` whole or not at all; returns its path."""
    out = workdir / "report.html"
    temporary = out.with_suffix(".tmp")
    content = page(workdir)
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        print(write(Path(flags.FLAGS.workdir)))
    except (MissingError, ValueError, OSError) as error:
        sys.exit(f"report: {error}")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("workdir", None, "Directory of the training run.")
    flags.mark_flag_as_required("workdir")
    tool.run(main)


if __name__ == "__main__":
    run()
