"""How much of the signal each layer of the quantization-aware model loses to 8 bits.

The model runs beside a float twin of the same weights, on the same speech, and each layer's
output is held against its twin's; the decoder is fed the given text.  Eager, utterance by
utterance.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tqdm import tqdm

from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.quantization import FixedRange
from tf_speech_transformer.model.transformer import FLOAT_MASK_VALUE, SpeechTransformer
from tf_speech_transformer.training import weights

Wrapper = tfmot.quantization.keras.QuantizeWrapperV2


@dataclasses.dataclass(frozen=True)
class LayerError:
    """A layer's signal-to-quantization-noise ratio, and the range that its 8 bits cover.

    `low` and `high` are None for a layer that keeps the scale of its source.
    """

    path: str
    sqnr_db: float
    low: float | None
    high: float | None


def walk(layer: keras.layers.Layer, path: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Path (attributes joined by dots) and layer of all that has no layers in it, or is wrapped."""
    children: list[tuple[str, Any]] = []
    if not isinstance(layer, Wrapper):
        for name, value in vars(layer).items():
            if name.startswith("_"):
                continue
            if isinstance(value, keras.layers.Layer):
                children.append((name, value))
            elif isinstance(value, list):
                children += [(f"{name}.{i}", x) for i, x in enumerate(value)]
    children = [(name, x) for name, x in children if isinstance(x, keras.layers.Layer)]
    if not children:
        yield path, layer
    for name, child in children:
        yield from walk(child, f"{path}.{name}" if path else name)


@contextlib.contextmanager
def captured(
    layers: dict[str, keras.layers.Layer],
) -> Iterator[dict[str, list[np.ndarray]]]:
    """Collects what the layers return while the context lasts, by path, in the order of calls."""
    outputs: dict[str, list[np.ndarray]] = {}

    def recording(path: str, call):
        def record(*args, **kwargs):
            output = call(*args, **kwargs)
            outputs.setdefault(path, []).append(output.numpy())
            return output

        return record

    try:
        for path, layer in layers.items():
            # Past Keras's __setattr__, which would track it.
            vars(layer)["call"] = recording(path, layer.call)
        yield outputs
    finally:
        for layer in layers.values():
            vars(layer).pop("call", None)


def run(
    model: SpeechTransformer,
    layers: dict[str, keras.layers.Layer],
    features: np.ndarray,
    tokens: list[int],
) -> dict[str, list[np.ndarray]]:
    """Outputs of some layers for one utterance.

    Args:
        features: float32 [T, F].
        tokens: ids that the decoder is fed, beginning with the start token.
    """
    length = -(-len(features) // (4 * TIME_REDUCTION)) * 4 * TIME_REDUCTION
    padded = np.zeros([1, length, features.shape[1]], np.float32)
    padded[0, : len(features)] = features
    inputs = {
        "features": tf.constant(padded),
        "frames": tf.constant([len(features)]),
        "tokens": tf.constant([tokens], tf.int32),
    }
    with captured(layers) as outputs:
        model(inputs)
    return outputs


def float_twin(quantized: SpeechTransformer) -> SpeechTransformer:
    """A float model with the weights of the quantization-aware one."""
    twin = transformer.build(quantized.dims, quantized=False)
    values = weights.by_path(quantized)
    for name, variable in weights.by_path(twin).items():
        variable.assign(values[name])
    return twin


def layer_errors(
    quantized: SpeechTransformer, utterances: Iterable[tuple[np.ndarray, list[int]]]
) -> list[LayerError]:
    """Errors of all quantized layers, in the order in which they run.

    Args:
        utterances: features float32 [T, F], and token ids beginning with the start token.
    """
    return compare(float_twin(quantized), quantized, utterances)


def compare(
    in_float: SpeechTransformer,
    quantized: SpeechTransformer,
    utterances: Iterable[tuple[np.ndarray, list[int]]],
) -> list[LayerError]:
    """Errors of the quantized layers against the layers of the same paths in a float model."""
    wrapped = {path: x for path, x in walk(quantized) if isinstance(x, Wrapper)}
    plain = {path: x for path, x in walk(in_float) if path in wrapped}
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for features, tokens in tqdm(list(utterances), "quantization error", unit="utt", disable=None):
        expected = run(in_float, plain, features, tokens)
        actual = run(quantized, wrapped, features, tokens)
        for path, outputs in actual.items():
            for clean, noisy in zip(expected[path], outputs, strict=True):
                heard = clean > FLOAT_MASK_VALUE / 2  # masked scores mean nothing
                clean, noisy = clean[heard].astype(np.float64), noisy[heard]
                signal[path] = signal.get(path, 0.0) + float(np.sum(clean**2))
                noise[path] = noise.get(path, 0.0) + float(np.sum((clean - noisy) ** 2))
    return [
        LayerError(path, decibel(signal[path], noise[path]), *output_range(wrapped[path]))
        for path in signal
        if signal[path] > 0  # the mask has no signal
    ]


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise."""
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def output_range(wrapper: keras.layers.Layer) -> tuple[float | None, float | None]:
    """The smallest and the largest output of a wrapped layer."""
    if not wrapper._output_quantizers:
        return None, None
    quantizer = wrapper._output_quantizers[0]
    if isinstance(quantizer, FixedRange):
        return quantizer.low, quantizer.high
    variables = wrapper._output_quantizer_vars
    return float(variables["min"]), float(variables["max"])
