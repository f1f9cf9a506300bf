"""The inspector finds all that is not integer or not portable, and nothing in a bundle that is."""

import pathlib

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from tflite_convert import inspect


@pytest.fixture
def encoder(digits_bundle: pathlib.Path) -> schema.ModelT:
    content = (digits_bundle / "encoder.tflite").read_bytes()
    return schema.ModelT.InitFromPackedBuf(content, 0)


def violations(model: schema.ModelT) -> list[str]:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return inspect.inspect("encoder.tflite", bytes(builder.Output())).violations()


def test_the_shipped_bundle_is_all_integer(digits_bundle: pathlib.Path) -> None:
    for inspection in inspect.inspect_bundle(digits_bundle):
        assert inspection.violations() == []
        assert set(inspection.dtypes) <= inspect.ALLOWED_DTYPES


def test_one_float_tensor_is_found_by_its_name(encoder: schema.ModelT) -> None:
    assert violations(encoder) == []
    tensor = encoder.subgraphs[0].tensors[encoder.subgraphs[0].inputs[0]]
    tensor.type = schema.TensorType.FLOAT32
    name = tensor.name.decode()
    assert violations(encoder) == [f"encoder.tflite: tensor {name} is float32"]


@pytest.mark.parametrize("kind", ["FLOAT16", "INT16", "INT64", "BOOL"])
def test_only_8_bit_values_and_32_bit_sums_are_allowed(encoder: schema.ModelT, kind: str) -> None:
    encoder.subgraphs[0].tensors[-1].type = getattr(schema.TensorType, kind)
    (found,) = violations(encoder)
    assert found.endswith(f"is {kind.lower()}")


def test_an_int8_tensor_without_a_scale_is_found(encoder: schema.ModelT) -> None:
    encoder.subgraphs[0].tensors[encoder.subgraphs[0].inputs[0]].quantization.scale = None
    (found,) = violations(encoder)
    assert "int8 without a scale" in found


@pytest.mark.parametrize("name", ["DEQUANTIZE", "CAST", "CUSTOM"])
def test_an_operator_of_floats_is_found(encoder: schema.ModelT, name: str) -> None:
    code = getattr(schema.BuiltinOperator, name)
    used = encoder.operatorCodes[encoder.subgraphs[0].operators[0].opcodeIndex]
    used.builtinCode = used.deprecatedBuiltinCode = code
    (found,) = violations(encoder)
    assert f"operator {name} does not belong" in found


def test_a_product_that_runtimes_round_differently_is_found(encoder: schema.ModelT) -> None:
    graph = encoder.subgraphs[0]
    multiply = next(
        operator
        for operator in graph.operators
        if inspect.operator_code(encoder, operator) == schema.BuiltinOperator.MUL
        and operator.inputs[0] != operator.inputs[1]
    )
    # Scales and zero points of a trained model, of which 10 of 65,536 products were ties.
    tensors = [graph.tensors[i] for i in (*multiply.inputs, *multiply.outputs)]
    found = (("0x1.02cp-2", -19), ("0x1.a7cp-10", -128), ("0x1.5ep-5", -28))
    for tensor, (scale, zero_point) in zip(tensors, found, strict=True):
        tensor.quantization.scale = [float.fromhex(scale)]
        tensor.quantization.zeroPoint = [zero_point]
    name = tensors[-1].name.decode()
    sentence = f"MUL {name} has ties that LiteRT and TFLite Micro round differently"
    assert f"encoder.tflite: {sentence}" in violations(encoder)


def test_a_missing_bundle_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"encoder\.tflite does not exist"):
        inspect.inspect_bundle(tmp_path)
