"""Verifies a model before a runtime gets it: its flatbuffer is one that the converter writes.

Runtimes do not check what they load, and a damaged flatbuffer ends the process.  So nothing runs
unless every tensor has its bytes, every value is written before it is read, every shape follows
from the others, and the signature is what the manifest says.
"""

import math
from typing import Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firmware_sim.runtimes import flatbuffer, operators
from firmware_sim.runtimes.flatbuffer import FlatbufferError, Graph, Tensor
from firmware_sim.runtimes.model import BundleError, Model, TensorSpec

_INT8: Final = schema.TensorType.INT8
_INT32: Final = schema.TensorType.INT32
_FLOAT32: Final = schema.TensorType.FLOAT32
_BYTES: Final = {_INT8: 1, _INT32: 4, _FLOAT32: 4}
_TYPE_NAMES: Final = {_INT8: "int8", _INT32: "int32", _FLOAT32: "float32"}
_LARGEST_TENSOR: Final = 1 << 26  # bytes of an activation; the paper's largest has 33 MB in float
SCALES: Final = (2.0**-30, 2.0**20)  # those of ours lie between 2^-21 and 2^6


def verify(model: Model) -> None:
    """Raises BundleError if a runtime must not get the model; the message says what is wrong."""
    kinds = {spec.dtype for spec in (*model.inputs, *model.outputs)}
    try:
        if len(kinds) != 1 or not kinds <= {"int8", "float32"}:
            raise FlatbufferError(f"inputs and outputs of the types {', '.join(sorted(kinds))}")
        graph = flatbuffer.read(model.data)
        _check_tensors(graph, _INT8 if kinds == {"int8"} else _FLOAT32)
        _check_operators(graph)
        _check_side(graph, graph.inputs, model.inputs, graph.signature_inputs)
        _check_side(graph, graph.outputs, model.outputs, graph.signature_outputs)
    except FlatbufferError as error:
        raise BundleError(
            f"{model.file}: {error}; no runtime can be trusted with it: copy or export the bundle "
            "again."
        ) from error


def _check_tensors(graph: Graph, activation: int) -> None:
    """Types, sizes and quantization."""
    for index, tensor in enumerate(graph.tensors):
        label = f"tensor {index} ({tensor.name:.60})" if tensor.name else f"tensor {index}"
        if tensor.type not in (activation, _INT32):
            raise FlatbufferError(f"{label} has type {tensor.type}")
        size = math.prod(tensor.shape) * _BYTES[tensor.type]
        if tensor.data is None:
            if tensor.type != activation or size > _LARGEST_TENSOR:
                raise FlatbufferError(f"{label} is an activation of {size} bytes")
        elif len(tensor.data) != size:
            raise FlatbufferError(f"{label} has {len(tensor.data)} bytes, its shape {size}")
        elif tensor.type == _FLOAT32 and not np.isfinite(np.frombuffer(tensor.data, "<f4")).all():
            raise FlatbufferError(f"{label} holds something else than numbers")
        _check_grid(tensor, label)


def _check_grid(tensor: Tensor, label: str) -> None:
    scales, zero_points = tensor.scales, tensor.zero_points
    low, high = SCALES
    if tensor.type == _FLOAT32 and scales:
        raise FlatbufferError(f"{label} is float32 with a scale")
    if tensor.type == _INT8:
        # Several scales belong to the channels of weights.
        channels = tensor.shape[tensor.axis] if 0 <= tensor.axis < len(tensor.shape) else 0
        several = tensor.data is not None and len(scales) == channels and not any(zero_points)
        if not (len(scales) == 1 or several):
            raise FlatbufferError(f"{label} has {len(scales)} scales")
        if len(zero_points) != len(scales) or not all(-128 <= z <= 127 for z in zero_points):
            raise FlatbufferError(f"{label} has zero points {list(zero_points)[:4]}")
        if not all(low <= scale <= high for scale in scales):
            raise FlatbufferError(f"{label} has the scale {min(scales)} or {max(scales)}")
    elif not all(0 < scale < high for scale in scales) or any(zero_points):
        raise FlatbufferError(f"{label} has a scale or a zero point that makes no sense")


def _check_operators(graph: Graph) -> None:
    """Every operator reads what is there already, writes what nothing else does, and fits."""
    tensors = graph.tensors
    written = [tensor.data is not None for tensor in tensors]
    for index in graph.inputs:
        if written[index]:
            raise FlatbufferError(f"input {index} is a constant, or there twice")
        written[index] = True
    for number, operator in enumerate(graph.operators):
        for index in operator.inputs:
            if index >= 0 and not written[index]:
                raise FlatbufferError(f"operator {number} reads tensor {index} before it is there")
        for index in operator.outputs:
            if written[index]:
                raise FlatbufferError(f"operator {number} writes tensor {index} again")
            written[index] = True
        inputs = [tensors[index] if index >= 0 else None for index in operator.inputs]
        outputs = [tensors[index] for index in operator.outputs]
        try:
            shapes = operators.output_shapes(operator, inputs, outputs)
        except FlatbufferError as error:
            name = outputs[0].name[:60] if outputs else ""
            raise FlatbufferError(f"operator {number} {name}: {error}") from error
        if shapes != [tensor.shape for tensor in outputs]:
            raise FlatbufferError(
                f"operator {number} makes {shapes}, its outputs are "
                f"{[tensor.shape for tensor in outputs]}"
            )
    if not all(written[index] for index in graph.outputs):
        raise FlatbufferError("nothing writes an output")


def _check_side(
    graph: Graph, indices: tuple[int, ...], specs: tuple[TensorSpec, ...], signature: dict[str, int]
) -> None:
    """The inputs or the outputs are those of the manifest, in its order."""
    if len(indices) != len(specs) or len(set(indices)) != len(indices):
        raise FlatbufferError(f"{len(indices)} inputs or outputs, the manifest lists {len(specs)}")
    named = {spec.name: index for spec, index in zip(specs, indices, strict=True)}
    if signature != named:
        raise FlatbufferError(
            f"inputs or outputs are {', '.join(signature)}, in the manifest {', '.join(named)}"
        )
    for spec, index in zip(specs, indices, strict=True):
        tensor = graph.tensors[index]
        same = tensor.shape == spec.shape and _TYPE_NAMES[tensor.type] == spec.dtype
        if same and spec.scale is not None:
            same = tensor.zero_points == (spec.zero_point,) and math.isclose(
                tensor.scales[0], spec.scale, rel_tol=1e-5
            )
        if not same:
            raise FlatbufferError(
                f"{spec.name} is {_TYPE_NAMES[tensor.type]} {list(tensor.shape)} with scale "
                f"{list(tensor.scales)} and zero point {list(tensor.zero_points)}, but the "
                f"manifest says {spec.dtype} {list(spec.shape)} with {spec.scale} and "
                f"{spec.zero_point}"
            )
