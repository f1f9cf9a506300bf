"""One page about a run: training, word error rates, parity, flatbuffers, quantization, attention.

    python -m tflite_convert.report --workdir=runs/digits

writes `report.html` into the workdir: one file, pictures included, that needs no network.  What the
run does not have yet is named in the page.
"""

import dataclasses
import datetime
import functools
import html
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import ml_collections
import numpy as np
import tensorflow as tf
from absl import app, flags
from matplotlib.figure import Figure
from tqdm import tqdm

from tf_speech_transformer import train
from tf_speech_transformer.corpora import audio, dataset
from tf_speech_transformer.corpora.features import (
    SAMPLE_RATE,
    STEP,
    as_float,
    frontend_of,
    microfrontend,
)
from tf_speech_transformer.model.transformer import TIME_REDUCTION, SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tflite_convert import bundle, inspect, layers

ERROR_UTTERANCES = 4  # for the quantization error
WORST_LAYERS = 8  # named under its chart
DISAGREEMENTS = 10  # utterances shown where float and int8 differ
FRAME_SECONDS = STEP / SAMPLE_RATE
PACKAGES = (
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "tflite-micro",
    "pymicro-features",
    "numpy",
)
BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2e7d4f", "#b3261e", "#8a8f98"
STAGE_NAMES = {"float": "float", "ptq": "ranges", "qat": "quantization-aware"}
PARTS = {"front end": BLUE, "encoder": GREEN, "decoder": ORANGE}

STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 980px; padding: 16px; background: #fff; color: #1b1e23;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4em 0 .2em; }
h2 { font-size: 1.2rem; margin: 2.2em 0 .5em; padding-top: .5em; border-top: 2px solid #e4e7eb; }
h3 { font-size: 1rem; margin: 1.2em 0 .3em; }
p { margin: .4em 0 .8em; max-width: 46em; }
code { font-size: .88em; background: #f3f5f7; padding: .1em .3em; border-radius: 3px;
  overflow-wrap: anywhere; }
small, .quiet { color: #5a616b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .4em 0 1em; font-size: .92rem; }
th, td { padding: .32em .9em .32em 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e4e7eb; }
th { font-weight: 600; color: #454b54; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.total td { font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 16px; }
.figures > div { flex: 1 1 320px; max-width: 470px; }
svg.plot, img.plot { width: 100%; height: auto; display: block; }
.missing { background: #fff6e5; border-left: 4px solid #d9730d; padding: .5em .8em; }
.good { color: #2e7d4f; font-weight: 600; } .bad { color: #b3261e; font-weight: 600; }
.ladder { max-width: 430px; margin: 1em 0; padding: 10px 0; border: solid #b58a5a;
  border-width: 0 9px; border-radius: 5px; }
.rung { display: flex; justify-content: space-between; align-items: baseline; gap: 12px;
  background: #f0e3d2; border-block: 2px solid #b58a5a; padding: .35em .8em; }
.rung b { white-space: nowrap; font-variant-numeric: tabular-nums; }
.between { padding: .5em .8em; text-align: center; font-size: .86rem; }
@media (max-width: 480px) { table { font-size: .82rem; } th, td { padding-right: .6em; } }
.bar { height: 5px; background: #f1d3d0; margin: 3px auto 0; width: 70%; }
.bar i { display: block; height: 5px; background: #2e7d4f; }
summary { cursor: pointer; font-weight: 600; padding: .3em 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; margin: .6em 0;
  font-size: .92rem; }
dt { color: #5a616b; } dd { margin: 0; overflow-wrap: anywhere; }
del { color: #b3261e; } ins { color: #2e7d4f; text-decoration: none; font-weight: 600; }
"""


class MissingError(Exception):
    """A part of the run that is not there yet; the message says what to do."""


# -------------------------------------------------------------------------------------- run


@dataclasses.dataclass(frozen=True)
class Speech:
    """An utterance of the run: its text, what the 8-bit Keras model heard in it, if known."""

    text: str
    heard: str | None
    source: Path | np.ndarray  # a file, or int8 features [T, F]

    def features(self, run: "Run") -> np.ndarray:
        """float32 [T, F], what the run's window holds of them; raises audio.AudioError."""
        stored = self.source
        if isinstance(stored, Path):
            stored = microfrontend(audio.load(stored), frontend_of(run.config))
        return as_float(stored[: run.frames])


@dataclasses.dataclass
class Run:
    """A training run; what is slow to read is read once."""

    workdir: Path

    @functools.cached_property
    def config(self) -> ml_collections.ConfigDict:
        file = self.workdir / "config.json"
        if not file.exists():
            raise MissingError(f"{file} does not exist: --workdir must name a training run")
        return ml_collections.ConfigDict(json.loads(file.read_text()))

    @functools.cached_property
    def ladder(self) -> dict[str, Any]:
        file = self.workdir / "ladder.json"
        if not file.exists():
            raise MissingError(
                "No ladder yet: run python -m tflite_convert.ladder with this --workdir and a"
                " --manifest, then this report again."
            )
        return json.loads(file.read_text())

    @functools.cached_property
    def model(self) -> tuple[str, SpeechTransformer, Tokenizer]:
        """The latest stage of training, its model and the tokenizer."""
        for stage in ("qat", "ptq", "float"):
            if tf.train.latest_checkpoint(str(self.workdir / stage)) is not None:
                model, tokenizer, _ = train.load(self.workdir, stage)
                return stage, model, tokenizer
        raise MissingError("No checkpoint yet: train first.")

    @functools.cached_property
    def speech(self) -> list[Speech]:
        """Utterances of the ladder's test set, or, without it, of the held-out corpus."""
        try:
            folder = Path(self.ladder["manifest"]).parent
            rows = self.ladder["utterances"]
        except MissingError:
            rows = []
        found = [
            Speech(row["reference"], row["texts"].get("qat"), folder / row["audio"])
            for row in rows
            if (folder / row["audio"]).is_file()
        ]
        if not found:
            for cache in sorted((self.workdir / "cache").glob("dev-*")):
                examples = dataset.load_cache(cache)
                pairs = zip(examples.texts, examples.features, strict=True)
                found += [Speech(text, None, features) for text, features in pairs]
        if not found:
            raise MissingError("No speech to show: run python -m tflite_convert.ladder first.")
        return found

    @property
    def frames(self) -> int:
        """The encoder's window."""
        return self.config.limits.frames

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, as many as a device decodes."""
        _, _, tokenizer = self.model
        return tokenizer.encode(text)[: self.config.limits.tokens]


# ------------------------------------------------------------------------------------- HTML


def escaped(value: Any) -> str:
    return html.escape(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    """A table; cells that are not `Markup` are escaped, columns in `numeric` stand right."""

    def row(cells: Sequence[Any], tag: str) -> str:
        parts = []
        for i, cell in enumerate(cells):
            kind = ' class="n"' if i in numeric else ""
            content = cell.html if isinstance(cell, Markup) else escaped(cell)
            parts.append(f"<{tag}{kind}>{content}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    head = f"<thead>{row(header, 'th')}</thead>" if any(header) else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


@dataclasses.dataclass(frozen=True)
class Markup:
    """HTML that is not to be escaped."""

    html: str


def missing(error: Exception | str) -> str:
    return f'<p class="missing">{escaped(error)}</p>'


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def kilobytes(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


# ---------------------------------------------------------------------------------- figures


def figure(width: float, height: float) -> Figure:
    """In inches; text is 9 points where 1 inch is 72 pixels of a phone's 360."""
    result = Figure(figsize=(width, height), layout="constrained")
    matplotlib.rcParams.update({"font.size": 9, "svg.fonttype": "path", "axes.linewidth": 0.6})
    return result


def svg(drawing: Figure, label: str) -> str:
    """The figure as inline SVG whose ids do not meet those of another figure."""
    out = io.StringIO()
    matplotlib.rcParams["svg.hashsalt"] = label
    drawing.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"\W+", "-", label)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", text)
    size = re.match(r'<svg[^>]*?viewBox="([^"]*)"', text, re.S)
    box = size.group(1) if size else "0 0 100 100"
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    opening = (
        f'<svg class="plot" role="img" aria-label="{escaped(label)}" viewBox="{box}"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)


def plain_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


# --------------------------------------------------------------------------------- sections


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


def training(run: Run) -> str:
    """Curves of loss and token accuracy over the stages."""
    file = run.workdir / "metrics.jsonl"
    lines = [json.loads(x) for x in file.read_text().splitlines() if x] if file.exists() else []
    if not lines:
        raise MissingError("No metrics.jsonl yet: train first.")
    stages = [stage for stage in train.STAGES if any(x["stage"] == stage for x in lines)]
    starts, total = {}, 0
    for stage in stages:
        starts[stage] = total
        total += max(x["step"] for x in lines if x["stage"] == stage)
    drawn = [
        curves(lines, stages, starts, total, metric, title)
        for metric, title in (("loss", "Loss"), ("accuracy", "Token accuracy"))
    ]
    last = {x["stage"]: x for x in lines if x["split"] == "dev"}
    rows = [
        [STAGE_NAMES[stage], x["step"], f"{x['loss']:.3f}", percent(x["accuracy"])]
        for stage, x in last.items()
    ]
    return (
        f'<div class="figures">{"".join(f"<div>{x}</div>" for x in drawn)}</div>'
        "<p>Lines: training batches (with augmentation, label smoothing and dropout). Points: held"
        " out examples. “Ranges” passes speech through the float weights to learn the ranges of"
        " the 8-bit quantizers; the weights then go on with quantization-aware training.</p>"
        + table(["stage", "steps", "held-out loss", "accuracy"], rows, (1, 2, 3))
    )


def curves(
    lines: list[dict],
    stages: list[str],
    starts: dict[str, int],
    total: int,
    metric: str,
    title: str,
) -> str:
    """One metric over all steps, stages side by side."""
    drawing = figure(4.8, 3.0)
    axes = drawing.subplots()
    plain_axes(axes)
    for stage, colour in zip(stages, (BLUE, GREY, ORANGE), strict=False):
        for split in ("train", "dev"):
            points = [
                (starts[stage] + x["step"], x[metric])
                for x in lines
                if x["stage"] == stage and x["split"] == split and math.isfinite(x[metric])
            ]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            if split == "train":
                axes.plot(steps, values, color=colour, linewidth=1.4, label=STAGE_NAMES[stage])
            else:
                axes.plot(steps, values, "o", color=colour, markersize=4, clip_on=False)
    for stage in stages[1:]:
        axes.axvline(starts[stage], color="#c3c8cf", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, total)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("step")
    axes.legend(frameon=False, fontsize=8)
    return svg(drawing, title)


def word_error_rates(run: Run) -> str:
    """The table of word error rates, and texts in which float and int8 differ."""
    ladder = run.ladder
    names = {row["key"]: row["name"] for row in ladder["rungs"]}
    rows = []
    kinds = ("float", "float_litert", "ptq", "ptq_litert")  # the quantization-aware ones follow
    for row in sorted(
        ladder["rungs"], key=lambda x: kinds.index(x["key"]) if x["key"] in kinds else len(kinds)
    ):
        same = f"{percent(row['identical'])} of {names[row['above']]}" if row["above"] else ""
        rows.append([row["name"], percent(row["wer"]), row["utterances"], same])
    parts = [
        f"<p>Test set <code>{escaped(Path(ladder['manifest']).name)}</code>, measured"
        f" {escaped(ladder['created'])}; greedy decoding.</p>",
        table(["model", "WER", "utterances", "same texts"], rows, (1, 2)),
    ]
    order = [key for key in ("float", "qat", "litert_reference", "litert") if key in names]
    device = order[-1]
    differ = [
        x
        for x in ladder["utterances"]
        if device in x["texts"] and x["texts"][device] != x["texts"].get("float")
    ]
    if differ:
        shown = [
            [x["reference"], marked(x, "float"), marked(x, device)] for x in differ[:DISAGREEMENTS]
        ]
        more = f" (here {len(shown)} of them)" if len(differ) > len(shown) else ""
        parts.append(
            f"<details><summary>{len(differ)} texts differ between float and 8 bits{more}"
            "</summary>" + table(["said", "float", "8 bits"], shown) + "</details>"
        )
    return "".join(parts)


def marked(utterance: dict[str, Any], key: str) -> Markup:
    """A text, green if right."""
    text = utterance["texts"].get(key, "")
    tag = "ins" if text == utterance["reference"] else "del"
    return Markup(f"<{tag}>{escaped(text) or '(nothing)'}</{tag}>")


def ladder(run: Run) -> str:
    """The rungs from the float model down to the device."""
    content = run.ladder
    names = {row["key"]: row["name"] for row in content["rungs"]}
    parts = []
    for row in content["rungs"]:
        if not row["main"]:
            continue
        fewer = row["utterances"] < content["rungs"][0]["utterances"]
        first = f"<br><small>first {row['utterances']} utterances</small>" if fewer else ""
        if row["above"]:
            share = row["identical"]
            parts.append(
                f'<div class="between">{percent(share)} of {row["compared"]} texts as'
                f' {escaped(names[row["above"]])}<div class="bar">'
                f'<i style="width:{100 * share:.2f}%"></i></div></div>'
            )
        parts.append(
            f'<div class="rung"><span>{escaped(row["name"])}{first}</span>'
            f"<b>WER {percent(row['wer'])}</b></div>"
        )
    return (
        "<p>Every step down must agree with the one above. XNNPACK is the fast path of phones,"
        " TFLite Micro that of microcontrollers; the latter is held against LiteRT's reference"
        f' kernels, which it has to equal.</p><div class="ladder">{"".join(parts)}</div>'
    )


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


def quantization_error(run: Run) -> str:
    """A bar for each quantized layer, and the worst ones by name."""
    stage, model, tokenizer = run.model
    if not model.quantized:
        raise MissingError("No quantization-aware checkpoint yet: finish training first.")
    speech = run.speech[:ERROR_UTTERANCES]
    tokens = [[tokenizer.start, *run.tokens(x.text)] for x in speech]
    errors = layers.layer_errors(
        model, [(x.features(run), ids) for x, ids in zip(speech, tokens, strict=True)]
    )
    finite = [x for x in errors if math.isfinite(x.sqnr_db)]
    worst = sorted(finite, key=lambda x: x.sqnr_db)[:WORST_LAYERS]
    drawing = figure(4.8, 3.4)
    axes = drawing.subplots()
    plain_axes(axes)
    for name, colour in PARTS.items():
        bars = [(i, x.sqnr_db) for i, x in enumerate(finite) if part(x.path) == name]
        if bars:
            places, heights = zip(*bars, strict=True)
            axes.bar(places, heights, width=0.85, color=colour, label=name)
    named = [i for i, x in enumerate(finite) if x in worst]
    axes.bar(named, [finite[i].sqnr_db for i in named], width=0.85, color=RED, label="the worst")
    axes.set_xlim(-1, len(finite))
    axes.set_xticks([])
    axes.set_xlabel(f"{len(finite)} layers in the order in which they run")
    axes.set_ylabel("signal to quantization noise, dB")
    drawing.legend(
        loc="outside upper left",
        ncols=4,
        frameon=False,
        handlelength=1,
        columnspacing=1.2,
        fontsize=8,
    )
    rows = [
        [Markup(f"<code>{escaped(x.path)}</code>"), f"{x.sqnr_db:.1f}", shown_range(x)]
        for x in worst
    ]
    every = [
        [Markup(f"<code>{escaped(x.path)}</code>"), f"{x.sqnr_db:.1f}", shown_range(x)]
        for x in errors
    ]
    return (
        f"<p>The {STAGE_NAMES[stage]} model beside itself in float, the same weights, on"
        f" {len(speech)} utterances. The noise adds up from layer to layer: 20 dB is a tenth of the"
        " signal, 40 dB a hundredth.</p>"
        f'<div class="figures"><div>{svg(drawing, "quantization error")}</div>'
        f"<div><h3>Most noise</h3>{table(['layer', 'dB', 'range'], rows, (1,))}</div></div>"
        f"<details><summary>All {len(errors)} layers</summary>"
        + table(["layer", "dB", "range"], every, (1,))
        + "</details>"
    )


def part(path: str) -> str:
    """What a layer belongs to, of `PARTS`."""
    if path.startswith(("decoder", "embedding", "logits")):
        return "decoder"
    return "encoder" if path.startswith(("encoder", "ctc")) else "front end"


def shown_range(layer: layers.LayerError) -> str:
    if layer.low is None or layer.high is None:
        return "of its source"
    return f"{layer.low:.3g} … {layer.high:.3g}"


def example(run: Run) -> str:
    """The features of an utterance, and where the decoder listens for each token."""
    stage, model, tokenizer = run.model
    right = (x for x in run.speech if x.heard == x.text and len(x.text.split()) >= 3)
    speech = next(right, run.speech[0])
    text = speech.text if speech.heard is None else speech.heard
    features, ids = speech.features(run), run.tokens(text)
    path = f"decoder.{model.dims.decoder_layers - 1}.cross.softmax"
    softmax = {path: model.decoder[-1].cross.softmax}
    outputs = layers.run(model, softmax, features, [tokenizer.start, *ids])
    memory_frames = -(-len(features) // TIME_REDUCTION)
    probabilities = outputs[path][0][0]  # [H * U, S]
    by_head = probabilities.reshape(model.dims.heads, -1, probabilities.shape[-1])
    weights = by_head.mean(axis=0)[:, :memory_frames]
    names = [tokenizer.tokens()[i] for i in [*ids, tokenizer.end]]
    names = ["␣" if name == "<space>" else name for name in names]
    seconds = len(features) * FRAME_SECONDS
    height = 0.135 * len(names) + 0.7
    drawing = figure(5.6, 1.7 + height)
    above, below = drawing.subplots(2, 1, sharex=True, height_ratios=[1.4, height])
    above.imshow(
        features.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, seconds, 0, features.shape[1]),
    )
    above.set_ylabel("channel")
    above.set_title("What the model hears", loc="left", fontsize=9, fontweight="bold")
    below.imshow(
        weights,
        aspect="auto",
        cmap="Blues",
        interpolation="nearest",
        extent=(0, memory_frames * TIME_REDUCTION * FRAME_SECONDS, len(names) - 0.5, -0.5),
    )
    below.set_xlim(0, seconds)
    below.set_yticks(range(len(names)), names, fontsize=7.5)
    below.tick_params(axis="y", length=0)
    below.set_xlabel("seconds")
    below.set_title("Where it listens for each token", loc="left", fontsize=9, fontweight="bold")
    heard = "" if speech.heard is None else f" Recognised: “{escaped(speech.heard)}”."
    return (
        f"<p>Said: “{escaped(speech.text)}”.{heard} Cross-attention of the last decoder layer of"
        f" the {STAGE_NAMES[stage]} model, mean of its {model.dims.heads} heads; one row for each"
        f' token that the decoder puts out.</p><div style="max-width:640px">'
        f"{svg(drawing, 'features and attention')}</div>"
    )


# ------------------------------------------------------------------------------------- page

SECTIONS: dict[str, Callable[[Run], str]] = {
    "Word error rates": word_error_rates,
    "Parity ladder": ladder,
    "Training": training,
    "Flatbuffers": flatbuffers,
    "Memory": memory,
    "Quantization error": quantization_error,
    "Ranges": tensor_ranges,
    "An example": example,
}


def page(workdir: Path) -> str:
    """The whole report as HTML.  Raises MissingError if `workdir` is no training run."""
    run = Run(workdir)
    parts = [header(run)]
    for title, section in tqdm(SECTIONS.items(), "report", unit="section"):
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
    app.run(main)


if __name__ == "__main__":
    run()
