"""Converted models are all-integer, and every runtime computes what the Keras model does."""

import pathlib
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from firmware_sim import bundle as device_bundle
from firmware_sim import parity
from firmware_sim.recognizer import Recognizer
from tests.conftest import REPOSITORY, TINY_MODEL, synthesise
from tf_speech_transformer.features import as_float, microfrontend
from tf_speech_transformer.model import Dimensions, SpeechTransformer
from tf_speech_transformer.tokenizer import CharacterTokenizer
from tf_speech_transformer.train import build
from tflite_convert import convert, inspect

FRAMES, TOKENS = 128, 16
CONFIG = ml_collections.ConfigDict(
    {"preset": "tiny", "limits": {"frames": FRAMES, "tokens": TOKENS}}
)


def tiny(quantized: bool) -> SpeechTransformer:
    tf.keras.utils.set_random_seed(5)
    dims = Dimensions(vocabulary=CharacterTokenizer().size, **TINY_MODEL)
    model = build(dims, quantized)
    features = as_float(microfrontend(synthesise("one two")))[None, :FRAMES]
    features = np.pad(features, [(0, 0), (0, FRAMES - features.shape[1]), (0, 0)])
    inputs = {
        "features": tf.constant(features),
        "frames": tf.constant([FRAMES]),
        "tokens": tf.constant([[0, 5, 9, 2, 7]]),
    }
    for _ in range(3):
        model(inputs, training=True)
    return model


@pytest.fixture(scope="module")
def quantized() -> SpeechTransformer:
    return tiny(quantized=True)


@pytest.fixture(scope="module")
def bundles(quantized: SpeechTransformer, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("bundles")
    convert.write(quantized, CharacterTokenizer(), CONFIG, directory / "int8", {})
    convert.write(tiny(False), CharacterTokenizer(), CONFIG, directory / "float32", {})
    return directory


def test_bundle_is_all_integer_without_a_change_of_scale(bundles: pathlib.Path) -> None:
    for inspection in inspect.inspect_bundle(bundles / "int8"):
        assert set(inspection.dtypes) == {"int8", "int32"}
        assert inspection.violations() == []
        assert not {"QUANTIZE", "DEQUANTIZE"} & set(inspection.operators)


def test_softmax_has_the_scale_that_kernels_expect(bundles: pathlib.Path) -> None:
    encoder, _ = inspect.inspect_bundle(bundles / "int8")
    softmax = [t for t in encoder.tensors if t.name.endswith("softmax")]
    assert softmax
    assert all(t.scales == (1 / 256,) and t.zero_point == -128 for t in softmax)


def test_what_stands_in_the_place_of_weights_is_symmetric(bundles: pathlib.Path) -> None:
    loaded = device_bundle.load(bundles / "int8")
    for spec in loaded.decoder_step.inputs:
        if spec.name.startswith(("memory", "cache_")) and spec.name != "memory_mask":
            assert spec.zero_point == 0, spec.name


def test_inspector_names_a_float_tensor(bundles: pathlib.Path) -> None:
    command = [sys.executable, "-m", "tflite_convert.inspect", f"--bundle={bundles / 'float32'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode != 0
    assert "encoder.tflite: tensor features is float32" in done.stderr


def test_inspector_passes_the_int8_bundle(bundles: pathlib.Path) -> None:
    command = [sys.executable, "-m", "tflite_convert.inspect", f"--bundle={bundles / 'int8'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "all-integer" in done.stdout


def test_tflite_micro_equals_litert_reference_in_every_byte(bundles: pathlib.Path) -> None:
    loaded = device_bundle.load(bundles / "int8")
    features = [microfrontend(synthesise(text))[:FRAMES] for text in ("three", "nine four")]
    result = parity.compare_runtimes(loaded, features, "tflm", "litert-reference")
    assert result.bytes_compared > 4_000
    assert result.equal, result


def test_litert_reference_computes_what_the_keras_model_does(
    quantized: SpeechTransformer, bundles: pathlib.Path
) -> None:
    from firmware_sim import runtime

    loaded = device_bundle.load(bundles / "int8")
    features = microfrontend(synthesise("seven"))[:FRAMES]
    padded = np.full((1, FRAMES, 40), -128, np.int8)
    padded[0, : len(features)] = features
    frames = tf.constant([len(features)])
    memory_mask = quantized.memory_mask(frames, FRAMES // 4)
    keras = quantized.encode(tf.constant(as_float(padded)), memory_mask)[1].numpy()
    spec = loaded.encoder.output("ctc_logits")
    mask = loaded.encoder.input("memory_mask").quantize(memory_mask.numpy()[:, 0, 0])
    engine = runtime.load("litert-reference", loaded.encoder, 1)
    device = engine.invoke({"features": padded, "memory_mask": mask})["ctc_logits"]
    steps = np.abs(spec.dequantize(device) - keras) / spec.scale
    assert np.mean(steps < 2.5) > 0.9


def test_float_twin_recognises_as_the_float_model(bundles: pathlib.Path) -> None:
    text = Recognizer(device_bundle.load(bundles / "float32")).transcribe(synthesise("two")).text
    assert isinstance(text, str)
