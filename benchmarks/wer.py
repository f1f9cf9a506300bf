"""Word error rate of a bundle on synthesised and on real speech, and what quantization costs.

    python -m benchmarks.wer --bundle=pretrained/digits --out=runs/wer \
        [--workdir=RUN] [--spoken_digits=DIR_OR_TAR] [--speechocean=DIR_OR_TAR]

--workdir, the training run that the bundle comes from, adds the Keras models: the float one, for
the difference, and the quantization-aware one, for the share of identical transcripts.  Each part
runs in a process of its own and leaves its transcripts in --out, where a second run finds them.
"""

import collections
import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import soundfile
from absl import app, flags

from benchmarks import people, report
from benchmarks.manifest import read_manifest
from firmware_sim import bundle as bundles
from firmware_sim.sound import frontend

COUNT = 1000  # strings of the synthesised set
PER_SPEAKER = 100
SYNTHESISED, PEOPLE, CHILDREN = "synthesised", "people", "children"
GREEDY = "--decoding=greedy"
NEEDED = {SYNTHESISED: 0.03, PEOPLE: 0.10}  # highest WER
NEEDED_DIFFERENCE = 0.003  # of the WER in 8 bits and in float
NEEDED_IDENTICAL = 0.99


def call(module: str, *arguments: str) -> None:
    """Runs a tool of the project; raises CalledProcessError if it fails."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=sys.stderr)


def test_sets(arguments: Any, out: Path) -> dict[str, Path]:
    """Manifests by the name of the set; writes what is not there yet."""
    directory = out / f"synthesised_{arguments.count}"
    if not (directory / "manifest.tsv").exists():
        call(
            "tf_speech_transformer.synthesise",
            f"--out={directory}",
            f"--digits={arguments.count}",
        )
    sets = {SYNTHESISED: directory / "manifest.tsv"}
    if arguments.spoken_digits:
        count = arguments.per_speaker
        sets[PEOPLE] = people.write_joined(
            Path(arguments.spoken_digits), out / f"people_{count}", count
        )
    if arguments.speechocean:
        sets[CHILDREN] = people.write_children(Path(arguments.speechocean), out / "children")
    return sets


def transcribe(
    out: Path, name: str, manifest: Path, bundle: Path, runtime: str, limit: int, *decoding: str
) -> dict[str, Any]:
    """What `firmware_sim.evaluate` measures, or measured before with these very files.

    `decoding`: flags of the search; none for the default one.
    """
    key = digest(bundle / "manifest.json" if bundle.is_dir() else bundle, manifest)
    file = out / f"{manifest.parent.name}_{runtime}{''.join(decoding)}_{limit or 'all'}_{key}.json"
    if not file.exists():
        print(f"{name}, {runtime}", file=sys.stderr)
        limits = [f"--limit={limit}"] if limit else []
        call(
            "firmware_sim.evaluate",
            f"--bundle={bundle}",
            f"--manifest={manifest}",
            f"--runtime={runtime}",
            f"--json={file}",
            *limits,
            *decoding,
        )
    return json.loads(file.read_text())


def transcribe_in_keras(
    out: Path, name: str, manifest: Path, workdir: Path, limit: int
) -> dict[str, Any]:
    """`wer` and `results` of the float and the quantization-aware Keras model."""
    stages = [workdir / stage / "checkpoint" for stage in ("float", "qat")]
    key = digest(workdir / "config.json", *stages, manifest)
    file = out / f"{manifest.parent.name}_keras_{limit or 'all'}_{key}.json"
    if not file.exists():
        print(f"{name}, Keras", file=sys.stderr)
        call(
            "tf_speech_transformer.training.evaluate",
            f"--workdir={workdir}",
            f"--manifest={manifest}",
            "--stages=float,qat",
            f"--limit={limit}",
            f"--json={file}",
        )
    return json.loads(file.read_text())


def digest(*files: Path) -> str:
    """Eight characters that change with the content of any of the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def longer_than_window(manifest: Path, bundle: Path) -> set[str]:
    """Names of the recordings whose end the Keras models do not hear (a device cuts them up)."""
    window = bundles.load(bundle).window / frontend.SAMPLE_RATE
    files = (line.audio for line in read_manifest(manifest))
    return {file.name for file in files if soundfile.info(file).duration > window}


def error_rate(results: Sequence[dict[str, str]], but: set[str]) -> float:
    """WER of all results but those of the recordings named."""
    kept = [row for row in results if _key(row) not in but]
    return jiwer.wer([r["reference"] for r in kept], [r["hypothesis"] for r in kept])


def identical(a: Sequence[dict[str, str]], b: Sequence[dict[str, str]]) -> tuple[float, int]:
    """Share of utterances in both that have the same text, and how many they are."""
    texts = {_key(row): row["hypothesis"] for row in b}
    pairs = [(row["hypothesis"], texts[_key(row)]) for row in a if _key(row) in texts]
    return sum(x == y for x, y in pairs) / max(1, len(pairs)), len(pairs)


def _key(row: dict[str, str]) -> str:
    return Path(row["audio"]).name


def confusions(results: Sequence[dict[str, str]]) -> dict[str, collections.Counter]:
    """How often each reference word was heard as which word; "" stands for no word."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    words = jiwer.process_words(
        [row["reference"] for row in results], [row["hypothesis"] for row in results]
    )
    for reference, hypothesis, chunks in zip(
        words.references, words.hypotheses, words.alignments, strict=True
    ):
        for chunk in chunks:
            said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            length = max(len(said), len(heard))  # they differ where one side is empty
            for a, b in zip(said or [""] * length, heard or [""] * length, strict=True):
                counts[a][b] += 1
    return counts


def confusion_table(counts: dict[str, collections.Counter]) -> str:
    """Rows: what was said; columns: what was heard. Words that are no digits share a column."""
    rows = []
    for said in (*people.WORDS, ""):
        heard = counts.get(said, collections.Counter())
        other = sum(n for word, n in heard.items() if word not in people.WORDS and word)
        cells = [heard[word] for word in people.WORDS] + [other, heard[""] if said else 0]
        rows.append([said or "(nothing)", *(n or "." for n in cells)])
    return report.table(["said \\ heard", *people.WORDS, "other", "(nothing)"], rows)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


Rows = list[list[str]]


def against_keras(name: str, manifest: Path, arguments: Any) -> tuple[dict[str, Any], Rows]:
    """Figures and rows of the bundle beside the Keras models of its run, all decoded greedily."""
    out, bundle, limit = Path(arguments.out), Path(arguments.bundle), arguments.limit
    keras = transcribe_in_keras(out, name, manifest, Path(arguments.workdir), limit)
    reference_limit = min(filter(None, (limit, arguments.reference_limit)), default=0)
    reference = transcribe(out, name, manifest, bundle, "litert-reference", reference_limit, GREEDY)
    greedy = transcribe(out, name, manifest, bundle, "litert", limit, GREEDY)
    long = longer_than_window(manifest, bundle)
    fitting = error_rate(greedy["results"], long)
    in_float, in_qat = (error_rate(keras[stage]["results"], long) for stage in ("float", "qat"))
    difference = fitting - in_float
    kept = [row for row in keras["qat"]["results"] if _key(row) not in long]
    share, compared = identical(kept, reference["results"])
    same, _ = identical(greedy["results"], reference["results"])
    figures = {
        "longer_than_window": len(long),
        "int8_wer_fitting": fitting,
        "float_wer": in_float,
        "qat_wer": in_qat,
        "int8_minus_float": difference,
        "identical_qat_and_reference": share,
        "identical_xnnpack_and_reference": same,
        "compared": compared,
    }
    bounds, identical_cells = ["", ""], ["", ""]
    if NEEDED.get(name):
        bounds = _at_most(difference, NEEDED_DIFFERENCE)
        identical_cells = [
            f">= {percent(NEEDED_IDENTICAL)}",
            report.verdict(share >= NEEDED_IDENTICAL),
        ]
    reference_row = f"  same text, QAT Keras and LiteRT reference, {compared} strings"
    return figures, [
        [f"  int8 greedy, without {len(long)} beyond the window", percent(fitting), "", ""],
        ["  float Keras, the same", percent(in_float), "", ""],
        ["  QAT Keras, the same", percent(in_qat), "", ""],
        ["  int8 - float, points", percent(difference), *bounds],
        [reference_row, percent(share), *identical_cells],
        ["  same text, XNNPACK and LiteRT reference", percent(same), "", ""],
    ]


def measure(name: str, manifest: Path, arguments: Any) -> tuple[dict[str, Any], Rows, str]:
    """Figures and rows of a test set, and the confusions of its digits."""
    out, bundle = Path(arguments.out), Path(arguments.bundle)
    device = transcribe(out, name, manifest, bundle, "litert", arguments.limit)
    figures = {k: device[k] for k in ("wer", "cer", "words", "utterances", "wer_by_speaker")}
    label = f"int8 WER, {name}, {device['utterances']} strings"
    rows = [[label, percent(device["wer"]), *_at_most(device["wer"], NEEDED.get(name))]]
    if arguments.workdir:
        beside_keras, more = against_keras(name, manifest, arguments)
        figures |= beside_keras
        rows += more
    if name == SYNTHESISED:
        return figures, rows, ""
    by_speaker = device["wer_by_speaker"].items()
    rows += [[f"  {speaker}", percent(wer), "", ""] for speaker, wer in by_speaker]
    counts = confusions(device["results"])
    figures["confusions"] = {a: dict(b) for a, b in counts.items()}
    return figures, rows, f"\nDigits, {name}\n{confusion_table(counts)}"


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    out, bundle = Path(arguments.out), Path(arguments.bundle)
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "bundle": str(bundle), "sets": {}}
    rows: Rows = []
    details = []
    try:
        bundles.load(bundle)  # says what is wrong before anything lengthy
        out.mkdir(parents=True, exist_ok=True)
        for name, manifest in test_sets(arguments, out).items():
            figures["sets"][name], more, detail = measure(name, manifest, arguments)
            rows += more
            details += [detail] if detail else []
        report.write_json(arguments.json, figures)
    except (
        OSError,
        ValueError,
        bundles.BundleError,
        tarfile.TarError,
        subprocess.CalledProcessError,
    ) as error:
        return report.fail(error)
    print(report.heading(f"Word error rate of {bundle}", machine))
    print(report.table(["figure", "measured", "needed", "holds"], rows))
    print("\n".join(details))
    return 0


def _at_most(value: float, bound: float | None) -> list[str]:
    """The cells "needed" and "holds"."""
    if bound is None:
        return ["", ""]
    return [f"<= {percent(bound)}", report.verdict(value <= bound)]


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("out", None, "Directory of test sets and transcripts.", required=True)
    flags.DEFINE_string("workdir", None, "The bundle's training run.")
    flags.DEFINE_string("spoken_digits", None, "Directory or tar: isolated digits of people.")
    flags.DEFINE_string("speechocean", None, "Directory or tar: speechocean762_test, children.")
    flags.DEFINE_integer("count", COUNT, "Strings of the synthesised set.", lower_bound=1)
    flags.DEFINE_integer("per_speaker", PER_SPEAKER, "Strings of each person.", lower_bound=1)
    flags.DEFINE_integer("limit", 0, "Only the first strings of each set; 0 takes all.")
    flags.DEFINE_integer("reference_limit", 0, "The same, for LiteRT's slow reference kernels.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
