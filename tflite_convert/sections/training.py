"""How training went: loss and accuracy over the stages."""

import json
import math

from tf_speech_transformer.training import runs
from tflite_convert.sections.markup import (
    BLUE,
    GREY,
    ORANGE,
    figure,
    percent,
    plain_axes,
    svg,
    table,
)
from tflite_convert.sections.run import STAGE_NAMES, MissingError, Run


def training(run: Run) -> str:
    """Curves of loss and token accuracy over the stages."""
    file = run.workdir / "metrics.jsonl"
    lines = [json.loads(x) for x in file.read_text().splitlines() if x] if file.exists() else []
    if not lines:
        raise MissingError("No metrics.jsonl yet: train first.")
    stages = [stage for stage in runs.STAGES if any(x["stage"] == stage for x in lines)]
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
