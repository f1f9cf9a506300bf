"""The table of Bie et al. (arXiv 1911.03604) beside what this pipeline builds.

    python -m tf_speech_transformer.paper_table [--runs=runs/paper]

Builds the model of every row of `configs/paper.py` at full size and counts its parameters.  Bytes
and word error rates are those of the bundles and of `wer.json` in RUNS/ROW, where a row has been
trained and converted; "-" where not.
"""

import json
import sys
from pathlib import Path
from typing import Any

import tf_keras as keras
from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.configs import paper
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import Dimensions

VOCABULARY = 5_004  # of the paper: 5,000 pieces and the four tokens of fairseq's dictionary
# Millions of parameters, and WER in % on dev-clean, dev-other, test-clean, test-other, as printed.
PAPER = {
    "conv_context_large": (138, (5.6, 14.5, 5.7, 15.3)),
    "conv_context": (52, (5.3, 14.9, 5.7, 14.8)),
    "proposed": (51, (5.6, 14.2, 5.5, 14.8)),
    "proposed_positions": (51, (6.0, 14.6, 6.0, 14.5)),
}
# The proposed model in 8 bits: what it is, its bundle, its WER in `wer.json`, and the paper's.
EIGHT_BITS = (
    ("proposed, 8 bits after training", "bundle_ptq", "ptq_litert", (5.6, 14.6, 5.6, 15.1)),
    ("proposed, quantization-aware", "bundle", "litert", (5.4, 14.5, 5.5, 15.2)),
)


def parameters(row: str) -> int:
    """Trained weights of a row's model, built at full size."""
    config = paper.get_config(row)
    model = transformer.build(Dimensions(VOCABULARY, **config.model.to_dict()), quantized=False)
    count = sum(variable.shape.num_elements() for variable in model.trained_variables)
    del model
    keras.backend.clear_session()
    return count


def flatbuffer_bytes(bundle: Path) -> int | None:
    """Of a bundle's two flatbuffers; None without a bundle."""
    manifest = bundle / "manifest.json"
    if not manifest.exists():
        return None
    files = json.loads(manifest.read_text())["files"]
    return sum(file["bytes"] for name, file in files.items() if name.endswith(".tflite"))


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.2f}"


def percent(rates: dict[str, Any], name: str) -> str:
    return f"{100 * rates[name]:.1f}" if name in rates else "-"


def table(runs: Path | None) -> list[list[str]]:
    """Header and rows."""
    header = ["row", "parameters", "the paper's", "float32 MB", "int8 MB", "WER %"]
    rows = [[*header, "the paper's WER %"]]

    def add(label: str, cells: list[str], printed: tuple[float, ...]) -> None:
        rows.append([label, *cells, " / ".join(map(str, printed))])

    for row, (printed, printed_wer) in tqdm(
        PAPER.items(), "building", unit="row", leave=False, disable=None
    ):
        counts = [f"{parameters(row) / 1e6:.2f}M", f"{printed}M"]
        run = (runs or Path()) / row
        wer = run / "wer.json"
        rates = json.loads(wer.read_text()) if runs and wer.exists() else {}

        def size(bundle: str, run: Path = run) -> str:
            return megabytes(flatbuffer_bytes(run / bundle) if runs else None)

        wers = percent(rates, "float")
        add(row, [*counts, size("bundle_float32"), size("bundle"), wers], printed_wer)
        if row == "proposed":
            for label, bundle, name, printed_wer in EIGHT_BITS:
                add(label, [*counts, "", size(bundle), percent(rates, name)], printed_wer)
    return rows


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    runs = Path(flags.FLAGS.runs) if flags.FLAGS.runs else None
    if runs is not None and not runs.is_dir():
        sys.exit(f"paper_table: {runs} is no directory: name the one that holds a run for each row")
    try:
        rows = table(runs)
    except (ValueError, OSError, KeyError) as error:
        sys.exit(f"paper_table: {error}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("runs", None, "Directory of trained runs, one a row.")
    tool.run(main)


if __name__ == "__main__":
    run()
