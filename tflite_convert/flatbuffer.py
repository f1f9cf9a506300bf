"""A model's two flatbuffers: conversion by TensorFlow Lite, then names and order put right."""

import copy
import re
import sys
from typing import Any, TypedDict

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from firmware_sim.runtimes.runtime import with_stderr
from tf_speech_transformer.model.blocks import CausalConvolution
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer
from tflite_convert.inspect import operator_code

DTYPES = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.INT8: "int8",
    schema.TensorType.INT32: "int32",
}
# Operators whose outputs need no name: they only move values.
MOVING = {
    schema.BuiltinOperator.PACK,
    schema.BuiltinOperator.RESHAPE,
    schema.BuiltinOperator.STRIDED_SLICE,
    schema.BuiltinOperator.TRANSPOSE,
    schema.BuiltinOperator.UNPACK,
}
WITH_BIAS = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}
# What the converter writes to standard error about itself; TensorFlow has no switch for it.
_NOISE = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl::")


class TensorSpec(TypedDict):
    """An input or output: `scale` and `zero_point` are None where nothing is quantized."""

    name: str
    shape: list[int]
    dtype: str
    scale: float | None
    zero_point: int | None


class Signature(TypedDict):
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


def convert_encoder(model: SpeechTransformer, frames: int) -> tuple[bytes, Signature]:
    """features [1, T, F], memory_mask [1, S] -> memory [1, S, D], and the outputs of the heads that
    the model has: ctc_logits [1, S, V], phone_logits [1, S, phones and blank]."""
    memory_frames = frames // TIME_REDUCTION
    inputs = {
        "features": tf.TensorSpec([1, frames, model.dims.feature_channels]),
        "memory_mask": tf.TensorSpec([1, memory_frames]),
    }

    def encoder(features, memory_mask):
        mask = tf.reshape(memory_mask, [1, 1, 1, memory_frames])
        memory, ctc = model.encode(features, mask)
        outputs = {"memory": memory}
        if ctc is not None:
            outputs["ctc_logits"] = ctc
        if model.phones is not None:
            outputs["phone_logits"] = model.phones(memory)
        return outputs

    return _convert(model, encoder, inputs)


def convert_decoder_step(
    model: SpeechTransformer, frames: int, max_tokens: int
) -> tuple[bytes, Signature]:
    """One-hot token, masks, memory, each layer's cache -> logits, and a new row of each cache.

    Where the decoder has convolutions or positions, also `window_0` and so on, the two rows before
    that each convolution reads -> `newest_0` and so on; and `position`, one-hot.
    """
    dims = model.dims
    memory_frames = frames // TIME_REDUCTION
    inputs = {
        "token": tf.TensorSpec([1, dims.vocabulary]),
        "self_mask": tf.TensorSpec([1, max_tokens + 1]),
        "memory_mask": tf.TensorSpec([1, memory_frames]),
        "memory": tf.TensorSpec([1, memory_frames, dims.d_model]),
    }
    for layer in range(dims.decoder_layers):
        inputs[f"cache_{layer}"] = tf.TensorSpec([1, max_tokens, dims.d_model])
    windows = [f"window_{i}" for i in range(len(dims.window_channels))]
    for window, channels in zip(windows, dims.window_channels, strict=True):
        inputs[window] = tf.TensorSpec([1, CausalConvolution.WIDTH - 1, channels])
    if dims.decoder_positions:
        inputs["position"] = tf.TensorSpec([1, max_tokens])

    def decoder_step(token, self_mask, memory_mask, memory, position=None, **kept):
        if position is not None:
            position = tf.reshape(position, [1, 1, max_tokens])
        logits, rows, newest = model.decode_step(
            tf.reshape(token, [1, 1, dims.vocabulary]),
            tf.reshape(self_mask, [1, 1, 1, max_tokens + 1]),
            tf.reshape(memory_mask, [1, 1, 1, memory_frames]),
            [kept[f"cache_{layer}"] for layer in range(dims.decoder_layers)],
            memory,
            [kept[window] for window in windows],
            position,
        )
        rows = {f"row_{layer}": row for layer, row in enumerate(rows)}
        return {"logits": logits, **rows, **{f"newest_{i}": row for i, row in enumerate(newest)}}

    return _convert(model, decoder_step, inputs)


def _convert(model, function, inputs: dict[str, tf.TensorSpec]) -> tuple[bytes, Signature]:
    named = {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{name}")
        for name, spec in inputs.items()
    }
    concrete = tf.function(function, autograph=False).get_concrete_function(**named)
    # A module of bare variables: handing over the model would save each of its layers first.
    holder = tf.Module()
    holder.variables_of_model = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    if model.quantized:
        # The ranges are those of the fake quantizers: there is no data to calibrate on.
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    content, log = with_stderr(converter.convert)
    for line in log.splitlines():
        if not _NOISE.match(line):
            print(line, file=sys.stderr)
    return tidy(content)


def tidy(content: bytes) -> tuple[bytes, Signature]:
    """Names inputs and outputs as the signature does, and every tensor by only its layer.

    The converter joins the names of all the nodes that it fused; of those the most telling one is
    kept, so that the inspector and a device's error messages can point at a layer, and the file
    does not carry tens of kilobytes of names.  What a reshape or the like moves stays unnamed.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    transpose_late(model)
    inputs_last(model)
    share_buffers(model)
    round_scales(model)
    moved = {
        output
        for operator in graph.operators
        if operator_code(model, operator) in MOVING
        for output in operator.outputs
    }
    for index, tensor in enumerate(graph.tensors):
        tensor.name = "" if index in moved else short_name(tensor.name.decode())
        if tensor.quantization is not None:
            tensor.quantization.min = tensor.quantization.max = None  # no kernel reads them
    for side in (signature.inputs, signature.outputs):
        for entry in side:
            name = entry.name.decode().removeprefix("input_")
            entry.name = name
            graph.tensors[entry.tensorIndex].name = name
    model.description = "speech transformer"
    model.metadata = None
    result: Signature = {
        "inputs": [_spec(graph.tensors[i]) for i in graph.inputs],
        "outputs": [_spec(graph.tensors[i]) for i in graph.outputs],
    }
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), result


def transpose_late(model: Any) -> None:
    """A TRANSPOSE for each operator that reads its output, and directly before it.

    The converter makes one for all, where the first might come: the copy that all decoder layers'
    cross-attention shares would lie in the arena from the first to the last of them.
    """
    graph = model.subgraphs[0]
    transposes = {
        operator.outputs[0]: operator
        for operator in graph.operators
        if operator_code(model, operator) == schema.BuiltinOperator.TRANSPOSE
        and operator.outputs[0] not in graph.outputs
    }
    operators: list[Any] = []
    placed: set[int] = set()
    for operator in graph.operators:
        if operator in transposes.values():
            continue
        operator.inputs = list(operator.inputs)
        for place, index in enumerate(operator.inputs):
            if index not in transposes:
                continue
            transpose = copy.copy(transposes[index])
            if index in placed:
                graph.tensors.append(copy.deepcopy(graph.tensors[index]))
                operator.inputs[place] = len(graph.tensors) - 1
                transpose.outputs = [operator.inputs[place]]
            placed.add(index)
            operators.append(transpose)
        operators.append(operator)
    graph.operators = operators


def inputs_last(model: Any) -> None:
    """Numbers the inputs of the graph after all other tensors.

    TFLite Micro places large tensors before small ones, and of two of one size the one of the
    higher number: the inputs, which live longest, then lie at the bottom of the arena, and what
    comes and goes above them leaves no gap.
    """
    graph = model.subgraphs[0]
    order = sorted(range(len(graph.tensors)), key=lambda index: index in graph.inputs)
    place = {old: new for new, old in enumerate(order)} | {-1: -1}  # -1: an input left out
    graph.tensors = [graph.tensors[index] for index in order]
    for part in (graph, *graph.operators):
        part.inputs = [place[index] for index in part.inputs]
        part.outputs = [place[index] for index in part.outputs]
    signature = model.signatureDefs[0]
    for entry in (*signature.inputs, *signature.outputs):
        entry.tensorIndex = place[entry.tensorIndex]


def round_scales(model: Any) -> None:
    """Scales of 12 significant bits, so that the product of two is exact in float32.

    LiteRT multiplies the scales of input and weights in single precision, TFLite Micro in double:
    with longer scales their requantization differs in one value of a hundred thousand.  A scale
    moves by at most one part in 4096.
    """
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            mantissa, exponent = np.frexp(np.asarray(tensor.quantization.scale, np.float64))
            rounded = np.ldexp(np.rint(mantissa * 4096) / 4096, exponent)
            tensor.quantization.scale = rounded.astype(np.float32)
    for operator in graph.operators:
        if operator_code(model, operator) in WITH_BIAS and len(operator.inputs) > 2:
            source, weights, bias = operator.inputs[:3]
            if bias < 0 or graph.tensors[bias].type != schema.TensorType.INT32:
                continue
            scales = [graph.tensors[i].quantization.scale for i in (source, weights)]
            graph.tensors[bias].quantization.scale = (scales[0] * scales[1]).astype(np.float32)


def share_buffers(model: Any) -> None:
    """One empty buffer for all activations, and one buffer for equal constants."""
    empty = schema.BufferT()
    buffers, places = [empty], {b"": 0}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        key = b"" if data is None else bytes(data)
        if key not in places:
            places[key] = len(buffers)
            buffers.append(model.buffers[tensor.buffer])
        tensor.buffer = places[key]
    model.buffers = buffers


def short_name(name: str) -> str:
    """The layer path in a converter's name: 'a/b/c/Tensordot/MatMul;x' -> 'a/b/c'."""
    drop = re.compile(
        r"(MatMul|Tensordot|BiasAdd|Relu|Conv2D|FakeQuant|AddV2|Add|Sub|Mul|Rsqrt|Reshape|Softmax"
        r"|ReadVariableOp|transpose|stack|unstack|depthwise|strided_slice|add|concat)"
    )
    paths = []
    for part in name.split(";"):
        pieces = [piece for piece in part.split("/") if piece and not drop.match(piece)]
        if pieces:
            paths.append("/".join(pieces))
    return max(paths, key=lambda p: (p.count("/"), -len(p)), default="")


def _spec(tensor: Any) -> TensorSpec:
    quantization = tensor.quantization
    quantized = quantization is not None and quantization.scale is not None
    name = tensor.name if isinstance(tensor.name, str) else tensor.name.decode()
    return {
        "name": name,
        "shape": [int(size) for size in tensor.shape],
        "dtype": DTYPES[tensor.type],
        "scale": float(np.float32(quantization.scale[0])) if quantized else None,
        "zero_point": int(quantization.zeroPoint[0]) if quantized else None,
    }
