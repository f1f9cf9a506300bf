"""No damaged flatbuffer reaches a runtime, and every one that the converter writes does."""

import copy
import dataclasses
import pathlib
import random
import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from firmware_sim import bundle
from firmware_sim.runtimes import verifier
from firmware_sim.runtimes.model import BundleError, Model

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def models(digits_bundle: pathlib.Path) -> tuple[Model, Model]:
    loaded = bundle.load(digits_bundle)
    return loaded.encoder, loaded.decoder_step


def operators(model: Any, name: str) -> list[Any]:
    """The operators of that name in an unpacked flatbuffer."""
    number = getattr(schema.BuiltinOperator, name)
    codes = [code.builtinCode for code in model.operatorCodes]
    return [x for x in model.subgraphs[0].operators if codes[x.opcodeIndex] == number]


def tensors(model: Any, name: str, side: str = "outputs") -> list[Any]:
    """The tensors on a side of the first operator of that name."""
    graph = model.subgraphs[0]
    return [graph.tensors[i] for i in getattr(operators(model, name)[0], side)]


def packed(model: Model, change: Change) -> Model:
    """The model with a changed flatbuffer, written anew so that its structure is sound."""
    content = copy.deepcopy(schema.ModelT.InitFromPackedBuf(model.data, 0))
    change(content)
    builder = flatbuffers.Builder(len(model.data))
    builder.Finish(content.Pack(builder), b"TFL3")
    return dataclasses.replace(model, data=bytes(builder.Output()))


def numbers(model: Any, name: str, place: int) -> Any:
    """The buffer of an operator's constant input."""
    return model.buffers[tensors(model, name, "inputs")[place].buffer]


def set_numbers(name: str, place: int, values: list[int]) -> Change:
    def change(model: Any) -> None:
        numbers(model, name, place).data = np.frombuffer(
            struct.pack(f"<{len(values)}i", *values), np.uint8
        )

    return change


def set_field(find: Callable[[Any], Any], field: str, value: Any) -> Change:
    return lambda model: setattr(find(model), field, value)


def option(name: str, field: str, value: Any) -> Change:
    return set_field(lambda model: operators(model, name)[0].builtinOptions, field, value)


def grid(name: str, side: str, field: str, value: list[float]) -> Change:
    return set_field(lambda model: tensors(model, name, side)[0].quantization, field, value)


def test_a_flatbuffer_that_is_written_anew_is_sound(models: tuple[Model, Model]) -> None:
    for model in models:
        verifier.verify(packed(model, lambda _: None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field(lambda m: m, "version", 4), "schema version 4"),
        (lambda m: m.subgraphs.append(m.subgraphs[0]), "2 subgraphs"),
        (lambda m: m.signatureDefs.clear(), "0 signatures"),
        (set_field(lambda m: m.buffers[0], "data", b"1234"), "first buffer"),
        (set_field(lambda m: m.subgraphs[0].tensors[0], "shape", [0, 5]), "has the shape"),
        (set_field(lambda m: m.subgraphs[0].tensors[0], "shape", [-1]), "has the shape"),
        (set_field(lambda m: m.subgraphs[0].tensors[0], "buffer", 9999), "buffer 9999"),
        (set_field(lambda m: m.subgraphs[0].tensors[0], "type", 4), "type 4"),
        (set_field(lambda m: m.subgraphs[0].tensors[0], "isVariable", True), "never writes"),
        (set_field(lambda m: m.subgraphs[0], "inputs", [0, 7000]), "is tensor 7000"),
        (set_field(lambda m: m.subgraphs[0], "inputs", []), "reads tensor"),
        (lambda m: m.subgraphs[0].operators.reverse(), "before it is there"),
        (lambda m: m.subgraphs[0].operators.pop(0), "reads tensor"),
        (lambda m: m.subgraphs[0].operators.append(m.subgraphs[0].operators[0]), "again"),
        (set_field(lambda m: m.operatorCodes[0], "builtinCode", 32), "codes 32"),
        (set_field(lambda m: operators(m, "ADD")[0], "opcodeIndex", 77), "code 77"),
        (set_field(lambda m: operators(m, "ADD")[0], "builtinOptionsType", 21), "another operator"),
        (set_field(lambda m: operators(m, "ADD")[0], "inputs", [-1, 0]), "lacks an input"),
        (option("ADD", "fusedActivationFunction", 9), "activation 9"),
        (option("CONV_2D", "strideW", 0), "a stride of 0"),
        (option("CONV_2D", "padding", 7), "padding 7"),
        (option("CONV_2D", "dilationHFactor", 3), "a dilation"),
        (option("UNPACK", "num", 400), "a count of 400"),
        (option("UNPACK", "axis", 5), "axis 5"),
        (option("PACK", "axis", -9), "axis -9"),
        (option("SOFTMAX", "beta", float("nan")), "beta is nan"),
        (option("STRIDED_SLICE", "beginMask", 1 << 20), "other masks"),
        (
            lambda m: setattr(
                operators(m, "ADD")[0],
                "inputs",
                [operators(m, "ADD")[0].inputs[0], operators(m, "CONV_2D")[0].inputs[2]],
            ),
            "several types",
        ),
        (set_numbers("TRANSPOSE", 1, [0, 1, 2, 9]), "axes"),
        (set_numbers("TRANSPOSE", 1, [0, 1, 2]), "bytes, its shape"),
        (set_numbers("RESHAPE", 1, [1, 1, 1, 1]), "the shape"),
        (set_numbers("STRIDED_SLICE", 3, [1, 0, 1, 1]), "a stride of 0"),
        (set_field(lambda m: tensors(m, "FULLY_CONNECTED")[0], "shape", [3, 3]), "makes"),
        (grid("MUL", "outputs", "scale", [1e-12]), "has the scale"),
        (grid("MUL", "outputs", "scale", [float("nan")]), "has the scale"),
        (grid("MUL", "outputs", "scale", []), "has 0 scales"),
        (grid("MUL", "outputs", "zeroPoint", [300]), "zero points"),
        (grid("RSQRT", "inputs", "zeroPoint", [0]), "negative"),
        (grid("SOFTMAX", "outputs", "scale", [0.5]), "1/256"),
        (set_field(lambda m: m.signatureDefs[0].inputs[0], "name", "other"), "are other"),
        (set_field(lambda m: m.signatureDefs[0].inputs[0], "tensorIndex", 5), "in the manifest"),
    ],
)
def test_a_graph_that_the_converter_never_writes_is_refused(
    models: tuple[Model, Model], change: Change, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as raised:
        verifier.verify(packed(models[0], change))
    assert str(raised.value).startswith("encoder.tflite: ")
    assert "\n" not in str(raised.value)


def test_a_flatbuffer_that_ends_anywhere_is_refused(models: tuple[Model, Model]) -> None:
    for model in models:
        for size in (0, 3, 8, 12, 100, len(model.data) // 2, len(model.data) - 1):
            with pytest.raises(BundleError, match="no runtime can be trusted"):
                verifier.verify(dataclasses.replace(model, data=model.data[:size]))


def test_changed_offsets_are_refused_or_harmless(models: tuple[Model, Model]) -> None:
    """Words of the flatbuffer's end, where vectors and tables lie, become others."""
    rng = random.Random(3)
    model = models[1]
    refused = 0
    for _ in range(150):
        data = bytearray(model.data)
        place = 4 * rng.randrange(len(data) // 4 - 5000, len(data) // 4)
        struct.pack_into("<I", data, place, rng.choice([0, 1, 4, 2**31, 2**32 - 1, len(data)]))
        try:
            verifier.verify(dataclasses.replace(model, data=bytes(data)))
        except BundleError:
            refused += 1
    assert refused > 50


def test_a_signature_that_the_manifest_does_not_say_is_refused(
    models: tuple[Model, Model],
) -> None:
    for model in models:
        first, *others = model.outputs
        assert first.scale is not None
        for changed in (
            dataclasses.replace(first, scale=first.scale * 1.01),
            dataclasses.replace(first, name="other"),
            dataclasses.replace(first, shape=(*first.shape, 1)),
        ):
            with pytest.raises(BundleError, match="manifest"):
                verifier.verify(dataclasses.replace(model, outputs=(changed, *others)))
