"""Reads a TFLite flatbuffer, and checks every offset, vector and index on the way.

Runtimes trust a flatbuffer: a wrong offset in it makes them read foreign memory.  `read` follows
the layout of tables that TensorFlow's schema gives, and refuses all that the converter never
writes: further subgraphs, custom operators, sparse tensors, metadata, fields without a meaning.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ai_edge_litert import schema_py_generated as schema

IDENTIFIER: Final = b"TFL3"
_VERSION: Final = 3
_MOST_TABLES: Final = 100_000  # of one vector; the paper's largest encoder has 3,000 tensors
_MOST_RANK: Final = 6


class FlatbufferError(ValueError):
    """A flatbuffer that no runtime must get; the message says what is wrong with it."""


class Tensor(NamedTuple):
    """A tensor; `data` is None for an activation."""

    name: str
    type: int  # of schema.TensorType
    shape: tuple[int, ...]
    data: memoryview | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int  # that several scales belong to


class Operator(NamedTuple):
    """An operator; tensors by their positions, -1 for an input that is left out."""

    code: int  # of schema.BuiltinOperator
    options_type: int  # of schema.BuiltinOptions
    options: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Graph(NamedTuple):
    """The only subgraph, operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signature_inputs: dict[str, int]
    signature_outputs: dict[str, int]


class _Fields(NamedTuple):
    """What the tables with one vtable hold."""

    size: int  # bytes
    values: struct.Struct  # of all fields; of those elsewhere the offset
    names: tuple[str, ...]
    references: tuple[tuple[str, int, Callable[[int], Any]], ...]  # name, place, reader


Layout = dict[int, tuple[str, str]]  # by a field's number: its name and its kind
_INT32: Final = struct.Struct("<i")
_UINT32: Final = struct.Struct("<I")
_SCALARS: Final = {
    "bool": ("?", 1),
    "i8": ("b", 1),
    "u8": ("B", 1),
    "i32": ("i", 4),
    "u32": ("I", 4),
    "f32": ("f", 4),
}
_VECTORS: Final = {"[i32]": ("i", 4), "[f32]": ("f", 4), "[i64]": ("q", 8)}

_LAYOUTS: Final[dict[str, Layout]] = {
    "Model": {
        0: ("version", "u32"),
        1: ("operator_codes", "[OperatorCode]"),
        2: ("subgraphs", "[SubGraph]"),
        3: ("description", "string"),
        4: ("buffers", "[Buffer]"),
        7: ("signatures", "[SignatureDef]"),
    },
    "OperatorCode": {0: ("old_code", "i8"), 2: ("version", "i32"), 3: ("code", "i32")},
    "SubGraph": {
        0: ("tensors", "[Tensor]"),
        1: ("inputs", "[i32]"),
        2: ("outputs", "[i32]"),
        3: ("operators", "[Operator]"),
        4: ("name", "string"),
    },
    "Tensor": {
        0: ("shape", "[i32]"),
        1: ("type", "i8"),
        2: ("buffer", "u32"),
        3: ("name", "string"),
        4: ("quantization", "Quantization"),
        8: ("has_rank", "bool"),
    },
    "Quantization": {2: ("scale", "[f32]"), 3: ("zero_point", "[i64]"), 6: ("axis", "i32")},
    "Operator": {
        0: ("code", "u32"),
        1: ("inputs", "[i32]"),
        2: ("outputs", "[i32]"),
        3: ("options_type", "u8"),
        4: ("options", "options"),
    },
    "Buffer": {0: ("data", "bytes")},
    "SignatureDef": {
        0: ("inputs", "[TensorMap]"),
        1: ("outputs", "[TensorMap]"),
        2: ("key", "string"),
        4: ("subgraph", "u32"),
    },
    "TensorMap": {0: ("name", "string"), 1: ("tensor", "u32")},
}
_OPTIONS: Final[dict[int, Layout]] = {
    schema.BuiltinOptions.AddOptions: {0: ("activation", "i8"), 1: ("pot_scale_int16", "bool")},
    schema.BuiltinOptions.SubOptions: {0: ("activation", "i8"), 1: ("pot_scale_int16", "bool")},
    schema.BuiltinOptions.MulOptions: {0: ("activation", "i8")},
    schema.BuiltinOptions.BatchMatMulOptions: {
        0: ("adj_x", "bool"),
        1: ("adj_y", "bool"),
        2: ("asymmetric_inputs", "bool"),
    },
    schema.BuiltinOptions.ConcatenationOptions: {0: ("axis", "i32"), 1: ("activation", "i8")},
    schema.BuiltinOptions.Conv2DOptions: {
        0: ("padding", "i8"),
        1: ("stride_w", "i32"),
        2: ("stride_h", "i32"),
        3: ("activation", "i8"),
        4: ("dilation_w", "i32"),
        5: ("dilation_h", "i32"),
    },
    schema.BuiltinOptions.DepthwiseConv2DOptions: {
        0: ("padding", "i8"),
        1: ("stride_w", "i32"),
        2: ("stride_h", "i32"),
        3: ("depth_multiplier", "i32"),
        4: ("activation", "i8"),
        5: ("dilation_w", "i32"),
        6: ("dilation_h", "i32"),
    },
    schema.BuiltinOptions.Pool2DOptions: {
        0: ("padding", "i8"),
        1: ("stride_w", "i32"),
        2: ("stride_h", "i32"),
        3: ("filter_w", "i32"),
        4: ("filter_h", "i32"),
        5: ("activation", "i8"),
    },
    schema.BuiltinOptions.FullyConnectedOptions: {
        0: ("activation", "i8"),
        1: ("weights_format", "i8"),
        2: ("keep_num_dims", "bool"),
        3: ("asymmetric_inputs", "bool"),
    },
    schema.BuiltinOptions.PackOptions: {0: ("count", "i32"), 1: ("axis", "i32")},
    schema.BuiltinOptions.UnpackOptions: {0: ("count", "i32"), 1: ("axis", "i32")},
    schema.BuiltinOptions.MaximumMinimumOptions: {},
    schema.BuiltinOptions.SoftmaxOptions: {0: ("beta", "f32")},
    schema.BuiltinOptions.StridedSliceOptions: {
        0: ("begin_mask", "i32"),
        1: ("end_mask", "i32"),
        2: ("ellipsis_mask", "i32"),
        3: ("new_axis_mask", "i32"),
        4: ("shrink_axis_mask", "i32"),
        5: ("offset", "bool"),
    },
}
# Of options without bytes in the file: 0 in the schema, but for these.
_DEFAULTS: Final = {"pot_scale_int16": True, "dilation_w": 1, "dilation_h": 1}
_OPTION_DEFAULTS: Final = {
    kind: {name: _DEFAULTS.get(name, 0) for name, _ in layout.values()}
    for kind, layout in _OPTIONS.items()
}


def read(data: bytes) -> Graph:
    """The graph of a flatbuffer.

    Raises:
      FlatbufferError: it is damaged, or holds something that the converter never writes.
    """
    return _Reader(data).graph()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self._view = memoryview(data)
        # A table's fields by its vtable and layout: most tables share a few.
        self._fields: dict[tuple[int, int], _Fields] = {}

    def graph(self) -> Graph:
        if self._size < 8 or self._data[4:8] != IDENTIFIER:
            raise FlatbufferError("not a TFLite flatbuffer")
        model = self._table(self._offset(0), _LAYOUTS["Model"])
        if model.get("version") != _VERSION:
            raise FlatbufferError(f"schema version {model.get('version')}, not {_VERSION}")
        subgraphs, signatures = model.get("subgraphs", ()), model.get("signatures", ())
        if len(subgraphs) != 1 or len(signatures) != 1:
            raise FlatbufferError(f"{len(subgraphs)} subgraphs and {len(signatures)} signatures")
        content, signature = subgraphs[0], signatures[0]
        if signature.get("subgraph", 0):
            raise FlatbufferError("its signature is of a subgraph that it does not have")
        buffers = [buffer.get("data") for buffer in model.get("buffers", ())]
        if buffers and buffers[0] is not None:
            raise FlatbufferError("its first buffer is not empty")
        tensors = tuple(
            self._tensor(i, tensor, buffers) for i, tensor in enumerate(content.get("tensors", ()))
        )
        codes = [_code(code) for code in model.get("operator_codes", ())]
        operators = tuple(
            _operator(i, operator, codes, len(tensors))
            for i, operator in enumerate(content.get("operators", ()))
        )
        inputs, outputs = content.get("inputs", ()), content.get("outputs", ())
        for index in (*inputs, *outputs):
            if not 0 <= index < len(tensors):
                raise FlatbufferError(f"an input or output is tensor {index} of {len(tensors)}")
        names = [
            {entry.get("name", ""): entry.get("tensor", 0) for entry in signature.get(side, ())}
            for side in ("inputs", "outputs")
        ]
        return Graph(tensors, operators, inputs, outputs, *names)

    def _tensor(
        self, index: int, content: dict[str, Any], buffers: list[memoryview | None]
    ) -> Tensor:
        shape, buffer = content.get("shape", ()), content.get("buffer", 0)
        if len(shape) > _MOST_RANK or any(size <= 0 for size in shape):
            raise FlatbufferError(f"tensor {index} has the shape {list(shape)[: _MOST_RANK + 1]}")
        if buffer >= len(buffers):
            raise FlatbufferError(f"tensor {index} has buffer {buffer} of {len(buffers)}")
        quantization = content.get("quantization", {})
        return Tensor(
            content.get("name", ""),
            content.get("type", 0),
            shape,
            buffers[buffer],
            quantization.get("scale", ()),
            quantization.get("zero_point", ()),
            quantization.get("axis", 0),
        )

    def _table(self, position: int, layout: Layout) -> dict[str, Any]:
        """The fields of a table by name, those that it has."""
        if position % 4 or position + 4 > self._size:
            raise FlatbufferError(f"a table at byte {position} of {self._size}")
        vtable = position - int(_INT32.unpack_from(self._data, position)[0])
        fields = self._fields.get((vtable, id(layout)))
        if fields is None:
            fields = self._fields[vtable, id(layout)] = self._vtable(vtable, layout)
        if position + fields.size > self._size:
            raise FlatbufferError(f"a table at byte {position} goes over the end")
        values = fields.values.unpack_from(self._data, position)
        content: dict[str, Any] = dict(zip(fields.names, values, strict=True))
        for name, offset, read_it in fields.references:
            target = position + offset + content[name]
            if not content[name] or target + 4 > self._size:
                raise FlatbufferError(f"an offset at byte {position + offset} leads to {target}")
            content[name] = read_it(target)
        if "options" in content:
            kind = content.get("options_type", 0)
            if kind not in _OPTIONS:
                raise FlatbufferError(
                    f"options of the kind {kind}, which the converter never writes"
                )
            content["options"] = self._table(content["options"], _OPTIONS[kind])
        return content

    def _vtable(self, vtable: int, layout: Layout) -> _Fields:
        """What the tables with this vtable hold."""
        if vtable < 0 or vtable % 2 or vtable + 4 > self._size:
            raise FlatbufferError(f"a table's layout at byte {vtable} of {self._size}")
        own, size = struct.unpack_from("<HH", self._data, vtable)
        if own < 4 or own % 2 or vtable + own > self._size or size < 4:
            raise FlatbufferError(f"a table's layout of {own} bytes at byte {vtable}")
        offsets = struct.unpack_from(f"<{(own - 4) // 2}H", self._data, vtable + 4)
        code, end = "<", 0
        names, references = [], []
        for offset, number in sorted((offset, i) for i, offset in enumerate(offsets) if offset):
            if number not in layout:
                raise FlatbufferError(f"a field that the converter never writes, at byte {vtable}")
            name, kind = layout[number]
            letter, width = _SCALARS.get(kind, ("I", 4))
            if offset < max(4, end) or offset % width or offset + width > size:
                raise FlatbufferError(f"{name} lies outside of its place, at byte {vtable}")
            code += f"{offset - end}x{letter}"
            end = offset + width
            names.append(name)
            if kind not in _SCALARS:
                references.append((name, offset, self._reader(kind)))
        return _Fields(size, struct.Struct(code), tuple(names), tuple(references))

    def _reader(self, kind: str) -> Callable[[int], Any]:
        """What reads a field that is not in its table but elsewhere."""
        if kind == "string":
            return self._string
        if kind == "bytes":
            return self._bytes
        if kind == "options":
            return lambda position: position  # its kind is another field
        if kind in _VECTORS:
            code, width = _VECTORS[kind]
            return lambda position: self._numbers(position, code, width)
        layout = _LAYOUTS[kind.strip("[]")]
        if kind.startswith("["):
            return lambda position: self._tables(position, layout)
        return lambda position: self._table(position, layout)

    def _offset(self, place: int) -> int:
        """What an offset points at."""
        target = place + int(_UINT32.unpack_from(self._data, place)[0])
        if target <= place or target + 4 > self._size:
            raise FlatbufferError(f"an offset at byte {place} leads to {target} of {self._size}")
        return target

    def _length(self, position: int, width: int) -> int:
        """Elements of a vector, all of them within the file."""
        if position % 4 or (width > 4 and (position + 4) % width):
            raise FlatbufferError(f"a vector at byte {position} is not aligned")
        length = int(_UINT32.unpack_from(self._data, position)[0])
        if position + 4 + length * width > self._size:
            raise FlatbufferError(f"a vector of {length} at byte {position} goes over the end")
        return length

    def _numbers(self, position: int, code: str, width: int) -> tuple[Any, ...]:
        length = self._length(position, width)
        if length > _MOST_TABLES:
            raise FlatbufferError(f"a vector of {length} numbers at byte {position}")
        return struct.unpack_from(f"<{length}{code}", self._data, position + 4)

    def _bytes(self, position: int) -> memoryview | None:
        length = self._length(position, 1)
        return self._view[position + 4 : position + 4 + length] if length else None

    def _string(self, position: int) -> str:
        length = self._length(position, 1)
        end = position + 4 + length
        if end >= self._size or self._data[end]:
            raise FlatbufferError(f"a text at byte {position} has no end")
        try:
            return self._data[position + 4 : end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise FlatbufferError(f"a text at byte {position} is not UTF-8") from error

    def _tables(self, position: int, layout: Layout) -> list[dict[str, Any]]:
        length = self._length(position, 4)
        if length > _MOST_TABLES:
            raise FlatbufferError(f"a vector of {length} tables at byte {position}")
        first = position + 4
        return [self._table(self._offset(first + 4 * i), layout) for i in range(length)]


def _code(content: dict[str, Any]) -> int:
    """The operator's number, which old programs read from another field."""
    code, old = content.get("code", 0), content.get("old_code", 0)
    if old != min(code, 127) or not 1 <= content.get("version", 1) <= 20:
        raise FlatbufferError(f"an operator has the codes {code} and {old}")
    return int(code)


def _operator(index: int, content: dict[str, Any], codes: list[int], tensors: int) -> Operator:
    code = content.get("code", 0)
    if code >= len(codes):
        raise FlatbufferError(f"operator {index} has code {code} of {len(codes)}")
    inputs, outputs = content.get("inputs", ()), content.get("outputs", ())
    if not all(-1 <= i < tensors for i in inputs) or not all(0 <= i < tensors for i in outputs):
        raise FlatbufferError(f"operator {index} has a tensor that does not exist")
    kind, options = content.get("options_type", 0), content.get("options")
    if (kind == 0) != (options is None):
        raise FlatbufferError(f"operator {index} has options without a kind, or none of its kind")
    return Operator(
        codes[code], kind, {**_OPTION_DEFAULTS.get(kind, {}), **(options or {})}, inputs, outputs
    )
