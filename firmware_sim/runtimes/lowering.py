"""Lowers a flatbuffer to a plan: each operator becomes a record of the browser's engine.

Operators that only give values another shape leave no record.  All rounding of scales happens here,
as TensorFlow Lite's kernels do it before their first run.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from firmware_sim.runtimes import fixed_point, flatbuffer, operators
from firmware_sim.runtimes.fixed_point import multiplier
from firmware_sim.runtimes.flatbuffer import FlatbufferError, Graph, Operator, Tensor
from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.runtimes.plan import COLUMNS, Plan, rounded

_RELU: Final = schema.ActivationFunctionType.RELU
_SAME: Final = schema.Padding.SAME
_AXES: Final = 4  # of moves and elementwise operators
_VECTORS: Final = 5  # int32 that scale a column
_LARGEST_SHIFT: Final = 30
_ADD_BITS: Final = 20  # that ADD gives its inputs more


def lower(model: Model) -> bytes:
    """The plan of a model.

    Raises:
      BundleError: the flatbuffer is damaged, or has something that the engine does not know.
    """
    try:
        graph = flatbuffer.read(model.data)
        lowering = _Lowering(graph)
        for operator in graph.operators:
            lowering.lower(operator)
        return lowering.plan.content()
    except FlatbufferError as error:
        raise BundleError(
            f"{model.file}: the browser's engine cannot run it ({error}); use another runtime, or "
            "convert the model again."
        ) from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FlatbufferError(what)


def _grid(tensor: Tensor) -> tuple[float, int]:
    one = tensor.type == schema.TensorType.INT8 and len(tensor.scales) == 1
    _require(one, f"{tensor.name} is no int8 tensor with one scale")
    return tensor.scales[0], tensor.zero_points[0]


def _lowest(operator: Operator, zero_point: int) -> int:
    return max(-128, zero_point) if operator.options.get("activation") == _RELU else -128


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _loop(sizes: Sequence[int], *strides: Sequence[int]) -> list[list[int]]:
    """Sizes and strides of the same loop over four axes; those without a gap are joined."""
    axes: list[list[int]] = []
    for size, *steps in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if axes and all(a == b * size for a, b in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = [axes[-1][0] * size, *steps]
        else:
            axes.append([size, *steps])
    _require(len(axes) <= _AXES, f"more than {_AXES} dimensions")
    first = [[1, *[0] * len(strides)]] * (_AXES - len(axes))
    return [list(column) for column in zip(*first, *axes, strict=True)]


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.plan = Plan(graph)
        self._tensors = graph.tensors
        self._lowered: dict[str, Callable[[Operator], None]] = {
            "ADD": self._elementwise,
            "BATCH_MATMUL": self._batch_matmul,
            "CONCATENATION": self._join,
            "CONV_2D": self._convolution,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "FULLY_CONNECTED": self._fully_connected,
            "MUL": self._elementwise,
            "PACK": self._join,
            "RESHAPE": self._reshape,
            "RSQRT": self._reciprocal_root,
            "SOFTMAX": self._softmax,
            "STRIDED_SLICE": self._slice,
            "TRANSPOSE": self._transpose,
            "UNPACK": self._unpack,
        }

    def lower(self, operator: Operator) -> None:
        name = operators.kind(operator).name
        output = self._tensors[operator.outputs[0]]
        _require(name in self._lowered, f"it has no operator {name}, which {output.name} needs")
        self._lowered[name](operator)

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return self._tensors[tensor].shape

    def _reshape(self, operator: Operator) -> None:
        self.plan.view(operator.outputs[0], operator.inputs[0])

    def _slice(self, operator: Operator) -> None:
        source, output = operator.inputs[0], operator.outputs[0]
        _require(self._shape(source) == self._shape(output), "STRIDED_SLICE takes a part")
        self.plan.view(output, source)

    def _unpack(self, operator: Operator) -> None:
        _require(operator.options["axis"] == 0, "UNPACK is not along the first dimension")
        for number, output in enumerate(operator.outputs):
            offset = number * math.prod(self._shape(output))
            self.plan.view(output, operator.inputs[0], offset)

    def _transpose(self, operator: Operator) -> None:
        source, output = operator.inputs[0], operator.outputs[0]
        order = self._tensors[operator.inputs[1]].data
        assert order is not None  # the verifier has seen it
        strides = _strides(self._shape(source))
        moved = [strides[axis] for axis in np.frombuffer(order, "<i4")]
        shape = self._shape(output)
        self._move(source, output, _loop(shape, moved, _strides(shape)))

    def _join(self, operator: Operator) -> None:
        """PACK and CONCATENATION."""
        output = operator.outputs[0]
        shape = self._shape(output)
        axis = operator.options["axis"] % len(shape)
        before, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        offset = 0
        for source in operator.inputs:
            part = math.prod(self._shape(source)) // before
            self._move(source, output, _loop([before, part], [part, 1], [row, 1]), offset)
            offset += part

    def _move(self, source: int, output: int, loop: list[list[int]], offset: int = 0) -> None:
        sizes, source_strides, output_strides = loop
        self.plan.add(
            "MOVE",
            "engine_move",
            (source, output),
            input=self.plan.place(source),
            output=self.plan.place(output).plus(offset),
            sizes=sizes,
            input_strides=source_strides,
            output_strides=output_strides,
        )

    def _elementwise(self, operator: Operator) -> None:
        """ADD and MUL."""
        add = operators.kind(operator).name == "ADD"
        left, right = operator.inputs
        if add and _grid(self._tensors[left])[0] < _grid(self._tensors[right])[0]:
            left, right = right, left
        output = operator.outputs[0]
        grids = (_grid(self._tensors[i]) for i in (left, right, output))
        (left_scale, left_zero), (right_scale, right_zero), (scale, zero) = grids
        if add:
            larger = 2 * left_scale
            right_real, real = right_scale / larger, larger / (2**_ADD_BITS * scale)
        else:
            scales = [np.float32(x) for x in (left_scale, right_scale, scale)]
            right_real, real = 1.0, float(scales[0] * scales[1] / scales[2])
        shape = self._shape(output)
        strides = [self._broadcast(i, shape) for i in (left, right)]
        sizes, left_strides, right_strides = _loop(shape, *strides)
        near = {left_strides[3], right_strides[3]} <= {0, 1}
        _require(near, "a broadcast that is not along whole dimensions")
        right_by, by = multiplier(right_real), multiplier(real)
        self.plan.add(
            "ADD" if add else "MULTIPLY",
            "engine_elementwise",
            (left, right, output),
            left=self.plan.place(left),
            right=self.plan.place(right),
            output=self.plan.place(output),
            sizes=sizes,
            left_strides=left_strides,
            right_strides=right_strides,
            left_zero=left_zero,
            right_zero=right_zero,
            right_mantissa=right_by.mantissa,
            right_shift=right_by.shift,
            mantissa=by.mantissa,
            shift=by.shift,
            zero=zero,
            lowest=_lowest(operator, zero),
            table=self.plan.prepare(1 << 16),
        )

    def _broadcast(self, tensor: int, shape: Sequence[int]) -> list[int]:
        """Strides of a tensor in a loop over `shape`."""
        own = (1,) * (len(shape) - len(self._shape(tensor))) + self._shape(tensor)
        return [0 if size == 1 else step for size, step in zip(own, _strides(own), strict=True)]

    def _fully_connected(self, operator: Operator) -> None:
        columns, depth = self._shape(operator.inputs[1])
        rows = math.prod(self._shape(operator.inputs[0])) // depth
        self._product(operator, (1, rows, depth, columns), (False, False))

    def _batch_matmul(self, operator: Operator) -> None:
        options = operator.options
        plain = options["adj_y"] and not options["adj_x"]
        _require(plain, "BATCH_MATMUL whose right side is not transposed")
        (*one, rows, depth), (*other, columns, _) = map(self._shape, operator.inputs)
        counts = math.prod(one), math.prod(other)
        alike = [size for size in one if size > 1] == [size for size in other if size > 1]
        _require(1 in counts or alike, f"BATCH_MATMUL of {one} by {other} matrices")
        steps = counts[0] > 1, counts[1] > 1
        self._product(operator, (max(counts), rows, depth, columns), steps)

    def _product(
        self, operator: Operator, shape: tuple[int, int, int, int], steps: tuple[bool, bool]
    ) -> None:
        """shape: batches, rows, depth, columns.  steps: whether each side has all batches."""
        plan, (batches, rows, depth, columns) = self.plan, shape
        left, right, output = *operator.inputs[:2], operator.outputs[0]
        grids = (_grid(self._tensors[i]) for i in (left, right, output))
        (left_scale, left_zero), (right_scale, right_zero), (scale, _) = grids
        # The kernel multiplies these in single precision.
        real = float(np.float32(left_scale) * np.float32(right_scale)) / scale
        even = rounded(depth, 2)
        wide_bytes, packed_bytes = 2 * rows * even, 2 * even * rounded(columns, COLUMNS)
        constant = plan.place(right).region == "constants"
        if constant:
            packed = plan.prepare(packed_bytes * (batches if steps[1] else 1))
            (wide,) = plan.borrow(wide_bytes)
        else:
            packed, wide = plan.borrow(packed_bytes, wide_bytes)
        plan.add(
            "PRODUCT",
            "engine_product",
            (left, right, output),
            **self._scaling(operator, columns, [real]),
            batches=batches,
            rows=rows,
            depth=depth,
            left=plan.place(left),
            left_step=rows * depth if steps[0] else 0,
            left_zero=left_zero,
            right=plan.place(right),
            right_step=columns * depth if steps[1] else 0,
            right_zero=right_zero,
            constant=constant,
            packed=packed,
            wide=wide,
            output=plan.place(output),
        )

    def _scaling(self, operator: Operator, columns: int, reals: Sequence[float]) -> dict[str, Any]:
        """reals: multipliers of the sums, for all columns or for each of them."""
        _, zero = _grid(self._tensors[operator.outputs[0]])
        pairs = [multiplier(real) for real in reals]
        near = all(abs(pair.shift) <= _LARGEST_SHIFT for pair in pairs)
        _require(near, "scales of inputs and output are too far apart")
        one = len(pairs) == 1 and pairs[0].shift <= 0
        every = pairs * columns if len(pairs) == 1 else pairs
        bias = self._bias(operator)
        return {
            "columns": columns,
            "bias": 0 if bias is None else self.plan.constant(bias),
            "multipliers": 0 if one else self.plan.constant(np.array(every, "<i4").tobytes()),
            "mantissa": pairs[0].mantissa,
            "shift": pairs[0].shift,
            "vectors": self.plan.prepare(4 * _VECTORS * rounded(columns, COLUMNS)),
            "zero": zero,
            "lowest": _lowest(operator, zero),
        }

    def _bias(self, operator: Operator) -> bytes | None:
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return None
        data = self._tensors[operator.inputs[2]].data
        return None if data is None else bytes(data)

    def _convolution(self, operator: Operator) -> None:
        plan, options = self.plan, operator.options
        source, kernel, output = *operator.inputs[:2], operator.outputs[0]
        batch, height, width, channels = self._shape(source)
        columns, window_height, window_width, _ = self._shape(kernel)
        _, output_height, output_width, _ = self._shape(output)
        _require(batch == 1, f"CONV_2D of {batch} images")
        (scale, zero), (output_scale, _) = (_grid(self._tensors[i]) for i in (source, output))
        reals = [scale * weight / output_scale for weight in self._tensors[kernel].scales]
        even = rounded(window_height * window_width * channels, 2)
        excess = (
            (output_height - 1) * options["stride_h"] + window_height - height,
            (output_width - 1) * options["stride_w"] + window_width - width,
        )
        pads = [max(x, 0) // 2 if options["padding"] == _SAME else 0 for x in excess]
        (wide,) = plan.borrow(2 * output_width * even)
        plan.add(
            "CONVOLUTION",
            "engine_convolution",
            (source, output),
            **self._scaling(operator, columns, reals),
            input=plan.place(source),
            input_zero=zero,
            height=height,
            width=width,
            channels=channels,
            window_height=window_height,
            window_width=window_width,
            stride_height=options["stride_h"],
            stride_width=options["stride_w"],
            pad_top=pads[0],
            pad_left=pads[1],
            output_height=output_height,
            output_width=output_width,
            weights=plan.place(kernel),
            packed=plan.prepare(2 * even * rounded(columns, COLUMNS)),
            wide=wide,
            output=plan.place(output),
        )

    def _depthwise(self, operator: Operator) -> None:
        """With a window of 1 x 1 an output depends on one value."""
        options, kernel = operator.options, self._tensors[operator.inputs[1]]
        whole = kernel.shape[1:3] == (1, 1) and options["stride_h"] == options["stride_w"] == 1
        _require(whole, "DEPTHWISE_CONV_2D with a window or a stride")
        ends = (self._tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        (scale, zero), (output_scale, output_zero) = map(_grid, ends)
        bias = self._bias(operator)
        assert kernel.data is not None and bias is not None  # the verifier has seen them
        weights = np.frombuffer(kernel.data, np.int8).astype(np.int64)[:, None]
        sums = (np.arange(-128, 128) - zero) * weights + np.frombuffer(bias, "<i4")[:, None]
        reals = np.broadcast_to(np.array(kernel.scales) * scale / output_scale, len(sums))
        table = np.stack(
            [
                fixed_point.multiplied(row, multiplier(float(real)))
                for row, real in zip(sums, reals, strict=True)
            ]
        )
        lowest = _lowest(operator, output_zero)
        self._lookup(operator, np.clip(table + output_zero, lowest, 127).astype(np.int8))

    def _reciprocal_root(self, operator: Operator) -> None:
        source, output = (self._tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
        table = fixed_point.reciprocal_root_table(*_grid(source), *_grid(output))
        self._lookup(operator, table[None])

    def _lookup(self, operator: Operator, table: npt.NDArray[np.int8]) -> None:
        """table: int8 [channels, 256]."""
        source, output = operator.inputs[0], operator.outputs[0]
        self.plan.add(
            "LOOKUP",
            "engine_lookup",
            (source, output),
            input=self.plan.place(source),
            rows=math.prod(self._shape(source)) // len(table),
            channels=len(table),
            table=self.plan.constant(table.tobytes()),
            output=self.plan.place(output),
        )

    def _softmax(self, operator: Operator) -> None:
        source, output = operator.inputs[0], operator.outputs[0]
        columns = self._shape(source)[-1]
        (exponentials,) = self.plan.borrow(4 * rounded(columns))
        table = fixed_point.exponentials(_grid(self._tensors[source])[0])
        self.plan.add(
            "SOFTMAX",
            "engine_softmax",
            (source, output),
            input=self.plan.place(source),
            rows=math.prod(self._shape(source)) // columns,
            columns=columns,
            table=self.plan.constant(table.astype("<i4").tobytes()),
            exponentials=exponentials,
            output=self.plan.place(output),
        )
