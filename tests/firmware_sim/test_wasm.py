"""The engine of the browser computes TensorFlow Lite's bytes, from plans that it understands."""

import importlib.util
import itertools
import pathlib
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from firmware_sim import bundle, parity, recognizer
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.runtimes import fixed_point, lowering, plan, runtime
from firmware_sim.runtimes.model import BundleError
from tests.conftest import REPOSITORY
from tests.firmware_sim.test_verifier import Change, operators, packed, tensors


@pytest.mark.parametrize("name", ["digits", "barista"])
def test_the_engine_equals_tflite_micro(name: str, speech: NDArray[np.int16]) -> None:
    loaded = bundle.load(REPOSITORY / "pretrained" / name)
    features = recognizer.compute_features(loaded, speech)
    found = parity.compare_runtimes(loaded, [features], "wasm", "tflm")
    assert found.first_difference is None
    assert found.equal
    assert found.invocations > 3


def test_every_value_of_an_input_has_its_effect(loaded: bundle.Bundle) -> None:
    """Noise of the full range reaches values that speech does not."""
    noise = np.random.default_rng(0).integers(-128, 128, (loaded.limits.frames, 40), np.int8)
    assert parity.compare_runtimes(loaded, [noise], "wasm", "tflm").equal


def renamed(model: Any) -> None:
    """MUL becomes MAXIMUM, which the verifier knows, and the engine does not."""
    number = schema.BuiltinOperator
    for code in model.operatorCodes:
        if code.builtinCode == number.MUL:
            code.builtinCode = code.deprecatedBuiltinCode = number.MAXIMUM
    for operator in operators(model, "MAXIMUM"):
        operator.builtinOptionsType, operator.builtinOptions = 0, None


def not_transposed(model: Any) -> None:
    operators(model, "BATCH_MATMUL")[0].builtinOptions.adjY = False


def with_a_stride(model: Any) -> None:
    operators(model, "DEPTHWISE_CONV_2D")[0].builtinOptions.strideH = 2


def with_a_part(model: Any) -> None:
    tensors(model, "STRIDED_SLICE")[0].shape[1] -= 1


def in_float(model: Any) -> None:
    tensors(model, "MUL")[0].type = schema.TensorType.FLOAT32


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        ("encoder", renamed, "it has no operator MAXIMUM, which .* needs"),
        ("decoder_step", not_transposed, "whose right side is not transposed"),
        ("encoder", with_a_stride, "with a window or a stride"),
        ("encoder", with_a_part, "STRIDED_SLICE takes a part"),
        ("encoder", in_float, "is no int8 tensor"),
    ],
)
def test_what_the_engine_does_not_know_is_refused(
    side: str, change: Change, message: str, loaded: bundle.Bundle
) -> None:
    changed = packed(getattr(loaded, side), change)
    with pytest.raises(BundleError, match=rf"{side}\.tflite: the browser's engine .*{message}"):
        lowering.lower(changed)


def test_a_plan_says_where_inputs_and_outputs_are(loaded: bundle.Bundle) -> None:
    content = lowering.lower(loaded.decoder_step)
    inputs, outputs = plan.tensors(content)
    sides = (inputs, loaded.decoder_step.inputs), (outputs, loaded.decoder_step.outputs)
    for places, specs in sides:
        assert [size for _, size in places] == [spec.bytes for spec in specs]
        for place, size in places:
            assert len(content) <= place
            assert place + size <= plan.memory(content)
    spans = sorted((place, place + size) for place, size in inputs)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_a_plan_of_another_version_is_refused(
    loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(lowering.lower(loaded.decoder_step))
    content[4] += 1
    monkeypatch.setattr(lowering, "lower", lambda model: bytes(content))
    with pytest.raises(BundleError, match="of another version than its plans"):
        runtime.load("wasm", loaded.decoder_step)


def test_fixed_point_is_near_the_real_functions() -> None:
    powers = fixed_point.exponentials(0.05) / 2**31
    np.testing.assert_allclose(powers, np.exp(-0.05 * np.arange(256)), atol=1e-6)
    table = fixed_point.reciprocal_root_table(0.01, -128, 0.05, -128)
    roots = 1 / np.sqrt(0.01 * np.arange(20, 256)) / 0.05 - 128
    np.testing.assert_allclose(table[20:], roots, atol=1)
    assert table[0] == 127


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang, the compiler, is not installed"
)
def test_the_module_is_built_from_these_sources(
    third_party: ThirdParty, tmp_path: pathlib.Path
) -> None:
    from firmware_sim.web import build

    build.build(third_party, tmp_path)
    modules = (build.MODULE, build.COMPILER)
    same = all((tmp_path / x.name).read_bytes() == x.read_bytes() for x in modules)
    assert same, "build it again: python -m firmware_sim.web.build"
