"""The rows of a preset side by side: word and letter errors in float and in 8 bits.

    python -m benchmarks.ablations --runs=runs/speechocean --manifest=TEST/transcripts.tsv \
        --out=runs/ablations [--rows=proposed,positions,conv_context]

Each row is a run in RUNS/ROW, converted with `--ptq --float32`.  Every bundle decodes the whole
test set on LiteRT in three ways: greedily by attention, as the paper's ablations compare models; by
the joint search; and by that with the bundle's language model, if it carries one.  `cost` is the
word error rate of the quantization-aware model in 8 bits less that of its float model.  Transcripts
stay in --out, where a second run finds them.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import report, wer
from firmware_sim import bundle as bundles

NEEDED_COST = 0.003  # of the WER
FORMS = {"bundle_float32": "float32", "bundle_ptq": "post-training int8", "bundle": "int8"}
LANGUAGE = "joint beam, language model"  # of bundles that carry one
DECODINGS = {"greedy": ("--decoding=greedy",), "joint beam": ("--language_weight=0",), LANGUAGE: ()}


def measure(run: Path, manifest: Path, out: Path, limit: int) -> dict[str, Any]:
    """WER and CER of each form of a row, by each decoding, and its bytes."""
    found: dict[str, Any] = {}
    for form in FORMS:
        with_language = bundles.load(run / form).language is not None
        for title, decoding in DECODINGS.items():
            if title == LANGUAGE and not with_language:
                continue
            figures = wer.transcribe(
                out, f"{run.name} {form}", manifest, run / form, "litert", limit, *decoding
            )
            keys = ("wer", "cer", "model_bytes", "rtf", "utterances")
            found[f"{form}, {title}"] = {key: figures[key] for key in keys}
    return found


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    runs, out = Path(arguments.runs), Path(arguments.out)
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "rows": {}}
    try:
        for row in arguments.rows:
            for form in FORMS:
                bundles.load(runs / row / form)  # all are there before the work begins
        for row in arguments.rows:
            (out / row).mkdir(parents=True, exist_ok=True)
            figures["rows"][row] = measure(
                runs / row, Path(arguments.manifest), out / row, arguments.limit
            )
        report.write_json(arguments.json, figures)
    except (OSError, ValueError, bundles.BundleError, subprocess.CalledProcessError) as error:
        return report.fail(error)
    print(report.heading("Rows, WER / CER in %", machine))
    lines = []
    for row, found in figures["rows"].items():
        for title in (x for x in DECODINGS if f"bundle, {x}" in found):
            rates = [found[f"{form}, {title}"] for form in FORMS]
            cells = [f"{100 * x['wer']:.2f} / {100 * x['cer']:.2f}" for x in rates]
            cost = rates[-1]["wer"] - rates[0]["wer"]
            holds = report.verdict(cost <= NEEDED_COST)
            lines.append([row, title, *cells, f"{100 * cost:+.2f}", holds])
    cost_needed = f"<= {100 * NEEDED_COST:.1f}"
    print(report.table(["row", "decoding", *FORMS.values(), "cost", cost_needed], lines))
    return 0


def run() -> None:
    flags.DEFINE_string("runs", None, "Directory of the runs, one a row.", required=True)
    flags.DEFINE_string("manifest", None, "The test set.", required=True)
    flags.DEFINE_string("out", None, "Directory of transcripts.", required=True)
    flags.DEFINE_list("rows", ["proposed", "positions", "conv_context"], "Which rows.")
    flags.DEFINE_integer("limit", 0, "Only the first utterances; 0 takes all.", lower_bound=0)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
