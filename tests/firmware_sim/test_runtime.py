import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, recognizer
from firmware_sim.bundle import BundleError
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.beam import Decoder
from firmware_sim.search.options import DecodingOptions
from tests.conftest import needs_cortex_m55
from tests.firmware_sim.test_verifier import packed

RUNTIMES = [
    pytest.param(name, marks=needs_cortex_m55 if name == "cortex-m55" else ())
    for name in runtime.RUNTIMES
]


@pytest.mark.parametrize("name", RUNTIMES)
def test_outputs_have_the_manifests_shapes_and_are_the_callers_own(
    name: str, loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    encoder = runtime.load("litert", loaded.encoder)
    encoded = encoder.invoke(recognizer.encoder_inputs(loaded, features))
    step = runtime.load(name, loaded.decoder_step)
    inputs = Decoder(loaded, step, DecodingOptions()).start(encoded, len(features)).inputs
    first = step.invoke(inputs)
    kept = {key: value.copy() for key, value in first.items()}
    step.invoke({key: np.zeros_like(value) for key, value in inputs.items()})
    for spec in loaded.decoder_step.outputs:
        assert first[spec.name].shape == spec.shape
        assert first[spec.name].dtype == np.dtype(spec.dtype)
        np.testing.assert_array_equal(first[spec.name], kept[spec.name])
    again = step.invoke(inputs)
    for key, value in kept.items():
        np.testing.assert_array_equal(again[key], value)


def test_tflite_micro_reports_its_arena(loaded: bundle.Bundle) -> None:
    arena = runtime.load("tflm", loaded.decoder_step).arena_bytes
    assert arena is not None
    smallest = sum(int(np.prod(spec.shape)) for spec in loaded.decoder_step.inputs)
    assert smallest < arena <= 64 * 1024


def test_an_unknown_runtime_is_refused(loaded: bundle.Bundle) -> None:
    with pytest.raises(ValueError, match=r"'onnx'; choose one of litert"):
        runtime.load("onnx", loaded.encoder)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_flatbuffer_with_another_signature_is_refused(name: str, loaded: bundle.Bundle) -> None:
    swapped = dataclasses.replace(loaded.encoder, data=loaded.decoder_step.data)
    with pytest.raises(BundleError, match=r"encoder\.tflite"):
        runtime.load(name, swapped)


@pytest.mark.parametrize("name", RUNTIMES)
def test_another_scale_in_the_flatbuffer_is_refused(name: str, loaded: bundle.Bundle) -> None:
    first, *others = loaded.encoder.outputs
    other = dataclasses.replace(first, scale=12.5, zero_point=3)
    changed = dataclasses.replace(loaded.encoder, outputs=(other, *others))
    with pytest.raises(BundleError, match=f"{first.name} is .* but the manifest says"):
        runtime.load(name, changed)


@pytest.mark.parametrize("name", ["litert", "litert-reference"])
def test_bytes_that_are_no_model_are_refused(name: str, loaded: bundle.Bundle) -> None:
    broken = dataclasses.replace(loaded.encoder, data=b"\x1c\0\0\0TFL3" + bytes(64))
    with pytest.raises(BundleError, match=r"encoder\.tflite: LiteRT cannot load it"):
        runtime.load(name, broken)


@pytest.mark.parametrize("name", ["litert", "litert-reference"])
def test_a_kernel_that_fails_says_so(name: str, loaded: bundle.Bundle) -> None:
    """A value that no operator has written, in a model that was not verified."""
    lacking = packed(loaded.encoder, lambda model: model.subgraphs[0].operators.pop(0))
    encoder = runtime.load(name, lacking)
    with pytest.raises(ExecutionError, match="LiteRT failed"):
        encoder.invoke(recognizer.encoder_inputs(loaded, np.zeros((100, 40), np.int8)))
