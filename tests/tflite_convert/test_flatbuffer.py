"""A flatbuffer's signature is what devices read, and its decoder says what the Keras model does."""

import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from firmware_sim import bundle as device_bundle
from firmware_sim.recognizer import Recognizer, encoder_inputs
from firmware_sim.runtimes import runtime
from firmware_sim.search.beam import Decoder
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import synthesise
from tf_speech_transformer.corpora.features import as_float, microfrontend
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import evaluate, runs
from tflite_convert import convert, flatbuffer
from tflite_convert.inspect import operator_code

TEXTS = ("one two", "three", "nine four")
Loaded = tuple[SpeechTransformer, Tokenizer, device_bundle.Bundle]


@pytest.fixture(scope="module", params=["qat", "float"])
def loaded(request: pytest.FixtureRequest, tiny_run: pathlib.Path) -> Loaded:
    """A stage's Keras model and the bundle made from it."""
    model, tokenizer, _ = runs.load(tiny_run, request.param)
    name = "bundle" if request.param == "qat" else "bundle_float32"
    return model, tokenizer, device_bundle.load(tiny_run / name)


def test_decoder_steps_on_a_device_give_the_logits_of_the_keras_decoder(loaded: Loaded) -> None:
    model, tokenizer, bundle = loaded
    features = microfrontend(synthesise("one two"))[: bundle.limits.frames]
    tokens = [tokenizer.start, *tokenizer.encode("one two")]

    padded = np.full((1, bundle.limits.frames, 40), -128, np.int8)
    padded[0, : len(features)] = features
    mask = model.memory_mask(tf.constant([len(features)]), bundle.limits.memory_frames)
    memory, _ = model.encode(tf.constant(as_float(padded)), mask)
    keras = model.decode(tf.constant([tokens]), memory, mask).numpy()[0]

    encoder, step = (
        runtime.load("litert-reference", x, 1) for x in (bundle.encoder, bundle.decoder_step)
    )
    decoder = Decoder(bundle, step, DecodingOptions())
    state = decoder.start(encoder.invoke(encoder_inputs(bundle, features)), len(features))
    spec = bundle.decoder_step.output("logits")
    device = []
    for position, token in enumerate(tokens):
        assert state.inputs["token"].argmax() == token
        outputs = step.invoke(state.inputs)
        device.append(spec.dequantize(outputs["logits"][0]))
        following = tokens[position + 1] if position + 1 < len(tokens) else 0
        decoder.advance(state, outputs, position, following)
    difference = np.abs(np.stack(device) - keras)
    if spec.scale is None:
        assert difference.max() < 1e-3 * np.ptp(keras)
    else:
        assert np.mean(difference < 3.5 * spec.scale) > 0.9
        assert difference.max() < 0.25 * np.ptp(keras)


def test_float_twin_says_what_the_float_model_says(tiny_run: pathlib.Path) -> None:
    model, tokenizer, config = runs.load(tiny_run, "float")
    spoken = [synthesise(text) for text in TEXTS]
    frames, tokens = config.limits.frames, config.limits.tokens
    features = [as_float(microfrontend(samples))[:frames] for samples in spoken]
    keras = evaluate.transcribe(model, tokenizer, features, frames, tokens)
    greedy = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    recognizer = Recognizer(device_bundle.load(tiny_run / "bundle_float32"), options=greedy)
    assert [recognizer.transcribe(samples).text for samples in spoken] == keras
    assert any(keras)


def test_names_of_layers_are_kept_and_those_of_operations_dropped() -> None:
    name = "model/encoder_0/attention/query/Tensordot/MatMul;model/encoder_0/BiasAdd"
    assert flatbuffer.short_name(name) == "model/encoder_0/attention/query"
    assert flatbuffer.short_name("MatMul") == ""


@pytest.mark.parametrize("file", ["encoder.tflite", "decoder_step.tflite"])
def test_transposed_copies_live_for_one_operator(digits_bundle: pathlib.Path, file: str) -> None:
    content = schema.ModelT.InitFromPackedBuf((digits_bundle / file).read_bytes(), 0)
    graph = content.subgraphs[0]
    copies = 0
    for operator, following in itertools.pairwise(graph.operators):
        if operator_code(content, operator) == schema.BuiltinOperator.TRANSPOSE:
            (copy,) = operator.outputs
            assert [x for x in graph.operators if copy in x.inputs] == [following]
            copies += 1
    assert copies >= 4
    assert min(graph.inputs) == len(graph.tensors) - len(graph.inputs)


def test_a_cache_of_another_scale_than_its_rows_is_refused() -> None:
    def spec(name: str, scale: float) -> flatbuffer.TensorSpec:
        return {"name": name, "shape": [1], "dtype": "int8", "scale": scale, "zero_point": 0}

    def models(scale: float) -> dict:
        inputs = [spec("cache_0", scale), spec("memory", 0.5)]
        return {
            "encoder": (b"", {"inputs": [], "outputs": [spec("memory", 0.5)]}),
            "decoder_step": (b"", {"inputs": inputs, "outputs": [spec("row_0", 0.25)]}),
        }

    convert.check_shared_scales(models(0.25))
    with pytest.raises(convert.ConversionError, match="cache_0 at another scale than row_0"):
        convert.check_shared_scales(models(0.26))
