"""The parity ladder: decodes one test set with every form of a model, and compares the texts.

    python -m tflite_convert.ladder --workdir=runs/digits --manifest=TEST.tsv [--limit=N] \
        [--slow_limit=20]

This process decodes with the Keras models, those of 8 bits in a device's integers
(`quantization.exact`). `firmware_sim.evaluate` decodes with the bundles, in processes of its own.

It prints a table and writes two files into the workdir: `ladder.json` has all figures and texts,
`wer.json` the word error rates as shares. Those also become the field `wer` of the manifests.
"""

import dataclasses
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.training import evaluate
from tflite_convert import bundle

BUNDLES = ("bundle", "bundle_ptq", "bundle_float32")


class LadderError(Exception):
    """A rung cannot be measured."""


@dataclasses.dataclass(frozen=True)
class Rung:
    """One form of the model.

    `above` is the key of the rung that it is compared with. A rung has a `stage` of training, which
    Keras decodes, or a `bundle` and a `runtime` of `firmware_sim`.
    """

    key: str
    name: str
    above: str | None
    stage: str | None = None
    bundle: str | None = None
    runtime: str | None = None
    slow: bool = False  # decodes only the first utterances
    main: bool = False  # a step from the float model to the device


RUNGS = (
    Rung("float", "float, Keras", None, stage="float", main=True),
    Rung("qat", "quantization-aware, Keras", "float", stage="qat", main=True),
    Rung(
        "litert_reference",
        "int8, LiteRT reference kernels",
        "qat",
        bundle="bundle",
        runtime="litert-reference",
        main=True,
    ),
    Rung(
        "litert",
        "int8, LiteRT XNNPACK",
        "litert_reference",
        bundle="bundle",
        runtime="litert",
        main=True,
    ),
    # It must equal the reference kernels, so they are above it, not XNNPACK.
    Rung(
        "tflm",
        "int8, TFLite Micro",
        "litert_reference",
        bundle="bundle",
        runtime="tflm",
        slow=True,
        main=True,
    ),
    Rung("ptq", "post-training, Keras", "float", stage="ptq"),
    Rung("ptq_litert", "post-training int8, LiteRT", "ptq", bundle="bundle_ptq", runtime="litert"),
    Rung("float_litert", "float32, LiteRT", "float", bundle="bundle_float32", runtime="litert"),
)

Results = list[dict[str, Any]]  # one an utterance: audio, reference, hypothesis, perhaps cut


def available(workdir: Path) -> list[Rung]:
    """The rungs whose checkpoints or bundles a run has, in the ladder's order.

    Raises:
        FileNotFoundError: a main rung lacks its bundle or its checkpoints.
    """
    found = []
    for rung in RUNGS:
        if rung.stage is not None:
            present = tf.train.latest_checkpoint(str(workdir / rung.stage)) is not None
            what, command = f"no checkpoint in {workdir / rung.stage}", "finish training"
        else:
            directory = workdir / str(rung.bundle)
            present = (directory / "manifest.json").exists()
            what, command = f"no bundle in {directory}", "run tflite_convert.convert"
        if present:
            found.append(rung)
        elif rung.main:
            raise FileNotFoundError(f"{what}: {command} first")
    return found


def on_device(rung: Rung, workdir: Path, manifest: Path, limit: int) -> Results:
    """Results of a bundle, by `firmware_sim.evaluate` in a process of its own.

    Raises:
        LadderError: it failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "figures.json"
        command = [
            *(sys.executable, "-m", "firmware_sim.evaluate"),
            f"--bundle={workdir / str(rung.bundle)}",
            f"--manifest={manifest}",
            f"--runtime={rung.runtime}",
            f"--json={out}",
            "--decoding=greedy",  # as Keras models are decoded
        ]
        if limit:
            command.append(f"--limit={limit}")
        status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        if status:
            raise LadderError(
                f"firmware_sim.evaluate ended with {status} for {rung.bundle} on {rung.runtime}:"
                " see its message above"
            )
        return json.loads(out.read_text())["results"]


def measure(
    workdir: Path, rungs: list[Rung], manifest: Path, limit: int, slow_limit: int
) -> dict[str, Results]:
    """Results of each rung by its key."""
    stages = [rung.stage for rung in rungs if rung.stage is not None]
    measured = {rung.stage: rung.key for rung in rungs if rung.stage is not None}
    keras = evaluate.evaluate(workdir, stages, manifest, limit)
    results: dict[str, Results] = {
        measured[stage]: figures["results"] for stage, figures in keras.items()
    }
    for rung in tqdm(
        [rung for rung in rungs if rung.bundle], "device rungs", unit="rung", disable=None
    ):
        most = min(limit or slow_limit, slow_limit) if rung.slow else limit
        results[rung.key] = on_device(rung, workdir, manifest, most)
    return results


def compare(rungs: list[Rung], results: dict[str, Results]) -> list[dict[str, Any]]:
    """The figures of each rung.

    - `wer` is a share of the reference words.
    - `compared` utterances are in this rung and in the one `above`.
    - `identical` is the share of these with the same text.
    - `too_long` others are in both, but longer than the encoder's window. A device cuts them and
      hears all pieces; a Keras model hears only their beginning.
    """
    figures = []
    for rung in rungs:
        rows = results[rung.key]
        texts = by_audio(rows)
        rows_above = results.get(rung.above or "", [])
        above = by_audio(rows_above)
        both = [audio for audio in texts if audio in above]
        too_long = cut(rows) ^ cut(rows_above)
        compared = [audio for audio in both if audio not in too_long]
        same = sum(texts[audio] == above[audio] for audio in compared)
        figures.append(
            {
                "key": rung.key,
                "name": rung.name,
                "main": rung.main,
                "above": rung.above if compared else None,
                "wer": evaluate.word_error_rate(
                    [row["reference"] for row in rows], [row["hypothesis"] for row in rows]
                ),
                "utterances": len(rows),
                "identical": same / len(compared) if compared else None,
                "compared": len(compared),
                "too_long": len(both) - len(compared),
            }
        )
    return figures


def by_audio(rows: Results) -> dict[str, str]:
    """Text by recording; its path is normalised."""
    return {str(Path(row["audio"])): row["hypothesis"] for row in rows}


def cut(rows: Results) -> set[str]:
    """The recordings whose end a Keras model did not hear, because its window is shorter."""
    return {str(Path(row["audio"])) for row in rows if row.get("cut")}


def table(figures: list[dict[str, Any]]) -> str:
    """The ladder as text: the main rungs, then the others."""
    names = {row["key"]: row["name"] for row in figures}
    width = max(map(len, names.values()))
    lines = [f"{'':{width}}  {'WER':>8}  utterances  same text as"]
    for main in (True, False):
        if not main:
            lines.append("")
        for row in figures:
            if row["main"] != main:
                continue
            same = f"{100 * row['identical']:6.2f} %  {names[row['above']]}" if row["above"] else ""
            if row["above"] and row["too_long"]:
                same += f" ({row['too_long']} beyond the window left out)"
            line = f"{row['name']:{width}}  {100 * row['wer']:6.2f} %  {row['utterances']:10d}"
            lines.append(f"{line}  {same}".rstrip())
    return "\n".join(lines).rstrip()


def word_error_rates(manifest: Path, figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Word error rates as shares, by rung, for the manifests of bundles."""
    rates: dict[str, Any] = {"test": manifest.name, "utterances": figures[0]["utterances"]}
    for row in figures:
        rates[row["key"]] = round(row["wer"], 6)
        if row["utterances"] != rates["utterances"]:
            rates[f"{row['key']}_utterances"] = row["utterances"]
    return rates


def write_json(path: Path, content: Any) -> None:
    """Writes the whole file, or leaves it as it was."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def climb(workdir: Path, manifest: Path, limit: int, slow_limit: int) -> list[dict[str, Any]]:
    """Measures all rungs of a run; writes `ladder.json`, `wer.json` and the bundles' manifests."""
    rungs = available(workdir)
    results = measure(workdir, rungs, manifest, limit, slow_limit)
    figures = compare(rungs, results)
    texts = {rung.key: by_audio(results[rung.key]) for rung in rungs}
    utterances = []
    for row in results[rungs[0].key]:
        audio = str(Path(row["audio"]))
        said = {key: texts[key][audio] for key in texts if audio in texts[key]}
        utterances.append({"audio": audio, "reference": row["reference"], "texts": said})
    content = {
        "manifest": str(manifest.resolve()),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "rungs": figures,
        "utterances": utterances,
    }
    rates = word_error_rates(manifest, figures)
    write_json(workdir / "ladder.json", content)
    write_json(workdir / "wer.json", rates)
    for name in BUNDLES:
        if (workdir / name / "manifest.json").exists():
            bundle.update_wer(workdir / name, rates)
    return figures


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    options = flags.FLAGS
    try:
        figures = climb(
            Path(options.workdir), Path(options.manifest), options.limit, options.slow_limit
        )
    except (ValueError, OSError, LadderError) as error:
        sys.exit(f"ladder: {error}")
    print(table(figures))


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("workdir", None, "Directory of the training run, with its bundle.")
    flags.DEFINE_string("manifest", None, "Tab-separated test set: audio, text, speaker.")
    flags.DEFINE_integer("limit", 0, "Only the first utterances; 0 takes all.", lower_bound=0)
    flags.DEFINE_integer(
        "slow_limit", 20, "Utterances for TFLite Micro on this computer.", lower_bound=1
    )
    flags.mark_flags_as_required(["workdir", "manifest"])
    tool.run(main)


if __name__ == "__main__":
    run()
