"""What happens inside the model: quantization error by layer, and attention on an example."""

import math

import numpy as np
from matplotlib.figure import Figure

from tf_speech_transformer.corpora.features import SAMPLE_RATE, STEP
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tflite_convert import layers
from tflite_convert.sections.markup import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Markup,
    escaped,
    figure,
    plain_axes,
    svg,
    table,
)
from tflite_convert.sections.run import STAGE_NAMES, MissingError, Run

ERROR_UTTERANCES = 4  # for the quantization error
WORST_LAYERS = 8  # named under its chart
FRAME_SECONDS = STEP / SAMPLE_RATE
PARTS = {"front end": BLUE, "encoder": GREEN, "decoder": ORANGE}


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
    right = (x for x in run.speech if x.hypothesis == x.text and len(x.text.split()) >= 3)
    speech = next(right, run.speech[0])
    text = speech.text if speech.hypothesis is None else speech.hypothesis
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
    drawing = heard_and_attended(features, weights, names)
    recognised = (
        "" if speech.hypothesis is None else f" Recognised: “{escaped(speech.hypothesis)}”."
    )
    return (
        f"<p>Said: “{escaped(speech.text)}”.{recognised} Cross-attention of the last decoder layer"
        f" of the {STAGE_NAMES[stage]} model, mean of its {model.dims.heads} heads; one row for"
        f' each token that the decoder puts out.</p><div style="max-width:640px">'
        f"{svg(drawing, 'features and attention')}</div>"
    )


def heard_and_attended(features: np.ndarray, weights: np.ndarray, names: list[str]) -> Figure:
    """Features [T, F] above the attention weights [U, S] of the tokens `names`."""
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
        extent=(0, weights.shape[1] * TIME_REDUCTION * FRAME_SECONDS, len(names) - 0.5, -0.5),
    )
    below.set_xlim(0, seconds)
    below.set_yticks(range(len(names)), names, fontsize=7.5)
    below.tick_params(axis="y", length=0)
    below.set_xlabel("seconds")
    below.set_title("Where it listens for each token", loc="left", fontsize=9, fontweight="bold")
    return drawing
