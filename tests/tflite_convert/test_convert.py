"""Converted models are all-integer, and every runtime computes what the Keras model does."""

import pathlib
import subprocess
import sys
from typing import Any

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from firmware_sim import bundle as device_bundle
from firmware_sim import parity
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.beam import one_hot
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound.frontend import sample_count
from tests.conftest import REPOSITORY, TINY_MODEL, ended, synthesise
from tests.tflite_convert.conftest import CONFIG
from tf_speech_transformer.corpora.features import PAPER, WHEEL, as_float, microfrontend
from tf_speech_transformer.model import integer, quantization
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.model.integer import Quantized
from tf_speech_transformer.model.transformer import SpeechTransformer, build
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tf_speech_transformer.training import evaluate, runs
from tflite_convert import convert, flatbuffer, inspect

FRAMES, TOKENS = CONFIG.limits.frames, CONFIG.limits.tokens


def tiny(**baseline: Any) -> SpeechTransformer:
    runs.set_seed(5)
    dims = Dimensions(vocabulary=CharacterTokenizer().size, **{**TINY_MODEL, **baseline})
    model = build(dims, quantized=True)
    parameters = PAPER if dims.feature_channels == PAPER.num_channels else WHEEL
    features = as_float(microfrontend(synthesise("one two"), parameters))[None, :FRAMES]
    features = np.pad(features, [(0, 0), (0, FRAMES - features.shape[1]), (0, 0)])
    inputs = {
        "features": tf.constant(features),
        "frames": tf.constant([FRAMES]),
        "tokens": tf.constant([[0, 5, 9, 2, 7]]),
    }
    model(inputs, training=True)  # the ranges
    model.settle()
    return model


@pytest.fixture(scope="module")
def quantized(tiny_run: pathlib.Path) -> SpeechTransformer:
    return runs.load(tiny_run, "qat")[0]


def test_bundle_is_all_integer_without_a_change_of_scale(tiny_run: pathlib.Path) -> None:
    for inspection in inspect.inspect_bundle(tiny_run / "bundle"):
        assert set(inspection.dtypes) == {"int8", "int32"}
        assert inspection.violations() == []
        assert not {"QUANTIZE", "DEQUANTIZE"} & set(inspection.operators)


def test_softmax_has_the_scale_that_kernels_expect(tiny_run: pathlib.Path) -> None:
    encoder, _ = inspect.inspect_bundle(tiny_run / "bundle")
    softmax = [t for t in encoder.tensors if t.name.endswith("softmax")]
    assert softmax
    assert all(t.scales == (1 / 256,) and t.zero_point == -128 for t in softmax)


def test_what_stands_in_the_place_of_weights_is_symmetric(tiny_run: pathlib.Path) -> None:
    loaded = device_bundle.load(tiny_run / "bundle")
    for spec in loaded.decoder_step.inputs:
        if spec.name.startswith(("memory", "cache_")) and spec.name != "memory_mask":
            assert spec.zero_point == 0, spec.name


def test_inspector_names_a_float_tensor(tiny_run: pathlib.Path) -> None:
    said = ended(inspect, bundle=str(tiny_run / "bundle_float32"), tensors=False)
    assert "encoder.tflite: tensor features is float32" in said


def test_inspector_passes_the_int8_bundle(tiny_run: pathlib.Path) -> None:
    command = [sys.executable, "-m", "tflite_convert.inspect", f"--bundle={tiny_run / 'bundle'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all-integer" in done.stdout


def test_tflite_micro_equals_litert_reference_in_every_byte(tiny_run: pathlib.Path) -> None:
    loaded = device_bundle.load(tiny_run / "bundle")
    features = [microfrontend(synthesise(text))[:FRAMES] for text in ("three", "nine four", "six")]
    result = parity.compare_runtimes(loaded, features, "tflm", "litert-reference")
    assert result.bytes_compared > 4_000
    assert result.equal, result


def test_litert_reference_computes_nearly_what_training_simulates(
    quantized: SpeechTransformer, tiny_run: pathlib.Path
) -> None:
    from firmware_sim.runtimes import runtime

    loaded = device_bundle.load(tiny_run / "bundle")
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
    assert np.mean(steps < 4.5) > 0.9


def operator_outputs(content: bytes, inputs: dict[str, np.ndarray]) -> list[tuple[str, Quantized]]:
    """What each operator that computes returns on LiteRT's reference kernels, with its name."""
    interpreter = litert.Interpreter(
        model_content=content,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    moving = {*flatbuffer.MOVING, schema.BuiltinOperator.CONCATENATION}
    outputs = []
    for operator in model.subgraphs[0].operators:
        if inspect.operator_code(model, operator) not in moving:
            (index,) = operator.outputs
            stored = tf.constant(interpreter.get_tensor(index))
            grid = details[index]["quantization"]
            outputs.append((details[index]["name"], Quantized(stored, *grid)))
    return outputs


def stored(x: np.ndarray, spec: device_bundle.TensorSpec) -> np.ndarray:
    """Real values as the bytes of a device's input."""
    return spec.quantize(np.asarray(x, np.float32)).reshape(spec.shape)


def test_litert_reference_computes_every_byte_of_the_keras_model_in_integers(
    quantized: SpeechTransformer, tiny_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loaded = quantized, device_bundle.load(tiny_run / "bundle")
    in_keras: list[Quantized] = []

    def recording(*args: Any) -> Quantized:
        in_keras.append(evaluate(*args))
        return in_keras[-1]

    evaluate = integer.evaluate
    monkeypatch.setattr(integer, "evaluate", recording)
    rng = np.random.default_rng(3)
    features = as_float(microfrontend(synthesise("seven")))[:FRAMES]
    features = np.pad(features, [(0, FRAMES - len(features)), (0, 0)])[None]
    memory_mask = model.memory_mask(tf.constant([90]), FRAMES // 4)
    self_mask = np.where(rng.random((1, 1, 1, TOKENS + 1)) < 0.5, 0, model.mask_value)
    cache = rng.integers(-128, 128, loaded.decoder_step.input("cache_0").shape, np.int8)
    with quantization.exact():
        memory, _ = model.encode(tf.constant(features), memory_mask)
        past = [tf.constant(loaded.decoder_step.input("cache_0").dequantize(cache))]
        mask = tf.constant(self_mask, tf.float32)
        token = tf.one_hot([[5]], model.dims.vocabulary)
        model.decode_step(token, mask, memory_mask, past, memory)

    encoder, step = loaded.encoder, loaded.decoder_step
    inputs = {
        "features": stored(features, encoder.input("features")),
        "memory_mask": stored(memory_mask, encoder.input("memory_mask")),
    }
    in_litert = operator_outputs(encoder.data, inputs)
    inputs |= {
        "token": one_hot(step.input("token"), 5),
        "self_mask": stored(self_mask, step.input("self_mask")),
        "memory": memory.stored.numpy(),
        "cache_0": cache,
    }
    in_litert += operator_outputs(step.data, inputs)
    assert len(in_litert) > 80
    for name, x in in_litert:  # perhaps a head of the layer's tensor
        peers = [y.stored.numpy().tobytes() for y in in_keras if y.grid == x.grid]
        assert any(x.stored.numpy().tobytes() in peer for peer in peers), name


def test_exact_arithmetic_ends_with_its_context(quantized: SpeechTransformer) -> None:
    features, mask = tf.zeros([1, FRAMES, 40]), quantized.memory_mask(tf.constant([9]), FRAMES // 4)
    with pytest.raises(ZeroDivisionError), quantization.exact():
        assert isinstance(quantized.encode(features, mask)[0], Quantized)
        raise ZeroDivisionError
    assert isinstance(quantized.encode(features, mask)[0], tf.Tensor)


def test_float_twin_recognises_as_the_float_model(tiny_run: pathlib.Path) -> None:
    recognizer = Recognizer(device_bundle.load(tiny_run / "bundle_float32"))
    assert isinstance(recognizer.transcribe(synthesise("two")).text, str)


def test_the_paper_s_baseline_is_the_same_on_a_device(
    tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its features, and a decoder with convolutions and positions, in rotated streams."""
    tokenizer = CharacterTokenizer()
    model = tiny(
        feature_channels=80,
        decoder_convolutions=(8, 12),
        d_embedding=6,
        decoder_positions=True,
        rotated=True,
    )
    config = ml_collections.ConfigDict({**CONFIG.to_dict(), "features": "paper"})
    convert.write(model, tokenizer, config, tmp_path / "baseline", {})
    assert capfd.readouterr().err == ""
    loaded = device_bundle.load(tmp_path / "baseline")
    assert loaded.decoder_convolutions == 2
    audio = synthesise("nine four")[: sample_count(FRAMES, loaded.frontend.window)]
    features = microfrontend(audio, PAPER)
    result = parity.compare_runtimes(loaded, [features], "tflm", "litert-reference")
    assert result.equal, result
    with quantization.exact():
        (text,) = evaluate.transcribe(model, tokenizer, [as_float(features)], FRAMES, TOKENS)
    greedy = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    (device,) = Recognizer(loaded, "litert-reference", greedy).transcribe(audio).segments
    assert len(device.step_seconds) > 3  # so many rows went through the windows
    assert device.text == text
