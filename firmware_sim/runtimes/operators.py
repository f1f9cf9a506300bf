"""The operators that the converter writes: what each takes, and the shape of what it returns.

Kernels trust their operands: a shape that does not follow from the inputs makes them write beyond
their memory.  So each rule computes the shapes of the outputs from inputs and options.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ai_edge_litert import schema_py_generated as schema

from firmware_sim.runtimes.flatbuffer import FlatbufferError, Operator, Tensor

Shape = tuple[int, ...]
Rule = Callable[[dict[str, Any], Sequence[Tensor | None], Sequence[Tensor]], list[Shape]]

_ACTIVATIONS: Final = (
    schema.ActivationFunctionType.NONE,
    schema.ActivationFunctionType.RELU,
)
_LARGEST_STRIDE: Final = 64
_SAME: Final = schema.Padding.SAME
_INT8: Final = schema.TensorType.INT8
_SOFTMAX_SCALE: Final = 1 / 256


class Kind(NamedTuple):
    """An operator: its options in the schema, and its rule."""

    name: str
    options_type: int
    inputs: tuple[int, int]  # fewest and most
    rule: Rule
    integers: tuple[int, ...] = ()  # inputs that are no values: biases, and lists of numbers
    moves: bool = False  # values without changing them, so inputs and outputs are quantized alike


def kind(operator: Operator) -> Kind:
    """The kind of an operator; raises FlatbufferError for one that the converter never writes."""
    known = _KINDS.get(operator.code)
    if known is None:
        raise FlatbufferError(f"it has code {operator.code}, which the converter never writes")
    if operator.options_type not in (known.options_type, 0):
        raise FlatbufferError(f"{known.name} has options of another operator")
    return known


def output_shapes(
    operator: Operator, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
) -> list[Shape]:
    """What an operator makes of its inputs; `None` is one that is left out.

    Raises:
      FlatbufferError: options or inputs that no kernel must get.
    """
    known = kind(operator)
    fewest, most = known.inputs
    if not fewest <= len(inputs) <= most:
        raise FlatbufferError(f"{known.name} has {len(inputs)} inputs")
    if operator.options.get("activation", 0) not in _ACTIVATIONS:
        raise FlatbufferError(f"{known.name} has activation {operator.options['activation']}")
    if any(tensor is None for tensor in inputs[:2]) or not outputs:
        raise FlatbufferError(f"{known.name} lacks an input or an output")
    for place, tensor in enumerate((*inputs, *outputs)):
        values = place not in known.integers or place >= len(inputs)
        if tensor is not None and values and tensor.type != outputs[0].type:
            raise FlatbufferError(f"{known.name} has values of several types")
    shapes = known.rule(operator.options, inputs, outputs)
    if known.moves:
        first = inputs[0]
        assert first is not None
        for other in (*inputs, *outputs):
            if other is not None and other.type == _INT8 and _grid(other) != _grid(first):
                raise FlatbufferError(f"{known.name} changes a scale")
    return shapes


def _grid(tensor: Tensor) -> tuple[tuple[float, ...], tuple[int, ...]]:
    return tensor.scales, tensor.zero_points


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FlatbufferError(what)


def _tensors(inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The inputs, none left out."""
    tensors = [tensor for tensor in inputs if tensor is not None]
    _require(len(tensors) == len(inputs), "an input is left out")
    return tensors


def _integers(tensor: Tensor) -> Shape:
    """The values of an int32 constant [n]."""
    _require(
        tensor.type == schema.TensorType.INT32 and len(tensor.shape) == 1,
        "a list of numbers is no int32 vector",
    )
    _require(tensor.data is not None, "a list of numbers is not constant")
    assert tensor.data is not None
    return struct.unpack(f"<{tensor.shape[0]}i", tensor.data)


def _axis(axis: int, rank: int) -> int:
    _require(-rank <= axis < rank, f"axis {axis} of {rank}")
    return axis % rank


def broadcast(left: Shape, right: Shape) -> Shape:
    """The shape of an elementwise operation; sizes are equal, or one of them is 1."""
    rank = max(len(left), len(right))
    one = (1,) * (rank - len(left)) + left
    other = (1,) * (rank - len(right)) + right
    pairs = list(zip(one, other, strict=True))
    _require(all(a == b or 1 in (a, b) for a, b in pairs), f"{left} does not fit {right}")
    return tuple(max(pair) for pair in pairs)


def _elementwise(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    one, other = _tensors(inputs)
    _require(max(len(one.shape), len(other.shape)) <= 4, "more than four dimensions")
    if one.type == _INT8:
        # Kernels abort if a factor between scales is no number below 1 in their fixed point.
        for tensor in (one, other):
            _require(tensor.scales[0] < 2**18 * outputs[0].scales[0], "scales too far apart")
    return [broadcast(one.shape, other.shape)]


def _unary(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    (source,) = _tensors(inputs)
    return [source.shape]


def _root(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    (source,) = _tensors(inputs)
    _require(
        source.type != _INT8 or source.zero_points[0] == -128,
        "a root's input may be negative",
    )
    return [source.shape]


def _softmax(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    (source,) = _tensors(inputs)
    _require(options["beta"] == 1.0, f"beta is {options['beta']}")
    if source.type == _INT8:
        _require(
            outputs[0].scales == (_SOFTMAX_SCALE,) and outputs[0].zero_points == (-128,),
            "a softmax's output is not in steps of 1/256 from 0 on",
        )
        _require(source.scales[0] > 2**-25, "a softmax's scale is too small")
    return [source.shape]


def _reshape(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, shape = _tensors(inputs)
    wanted = list(_integers(shape))
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        _require(rest > 0, f"the shape {wanted}")
        wanted[wanted.index(-1)] = math.prod(source.shape) // rest
    _require(
        all(size > 0 for size in wanted) and math.prod(wanted) == math.prod(source.shape),
        f"the shape {wanted} for {list(source.shape)}",
    )
    return [tuple(wanted)]


def _transpose(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, order = _tensors(inputs)
    axes = _integers(order)
    _require(sorted(axes) == list(range(len(source.shape))), f"axes {axes}")
    return [tuple(source.shape[axis] for axis in axes)]


def _fully_connected(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, weights, *bias = inputs
    assert source is not None and weights is not None
    _require(not options["weights_format"] and not options["asymmetric_inputs"], "other weights")
    _require(len(weights.shape) == 2 and len(source.shape) >= 2, "weights are not [out, in]")
    channels, depth = weights.shape
    _require(source.shape[-1] == depth, f"{depth} weights for {source.shape[-1]} values")
    _require(len(weights.scales) <= 1, "a scale for each channel")
    _check_bias(bias, channels, source, weights)
    if options["keep_num_dims"]:
        return [(*source.shape[:-1], channels)]
    return [(math.prod(source.shape[:-1]), channels)]


def _check_bias(
    bias: Sequence[Tensor | None], channels: int, source: Tensor, weights: Tensor
) -> None:
    if not bias or bias[0] is None:
        return
    tensor = bias[0]
    wanted = schema.TensorType.INT32 if source.type == _INT8 else schema.TensorType.FLOAT32
    _require(
        tensor.type == wanted and tensor.shape == (channels,) and tensor.data is not None,
        f"a bias that is no constant [{channels}]",
    )
    if source.type == _INT8:
        _require(len(tensor.scales) == len(weights.scales), "scales of bias and weights differ")
        for scale, weight in zip(tensor.scales, weights.scales, strict=True):
            product = source.scales[0] * weight
            _require(abs(scale - product) <= 1e-3 * product, "a bias on another scale")


def _batch_matmul(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    left, right = _tensors(inputs)
    _require(not options["asymmetric_inputs"], "other inputs")
    _require(all(2 <= len(x.shape) <= 4 for x in (left, right)), "not two to four dimensions")
    (*batch, rows, depth), (*other_batch, depth_too, columns) = left.shape, right.shape
    if options["adj_x"]:
        rows, depth = depth, rows
    if options["adj_y"]:
        depth_too, columns = columns, depth_too
    _require(depth == depth_too, f"{depth} values by {depth_too}")
    return [(*broadcast(tuple(batch), tuple(other_batch)), rows, columns)]


def _windows(size: int, window: int, stride: int, padding: int) -> int:
    """Places of a window along a dimension."""
    _require(0 < stride <= _LARGEST_STRIDE, f"a stride of {stride}")
    if padding == _SAME:
        return -(-size // stride)
    _require(padding == schema.Padding.VALID, f"padding {padding}")
    _require(size >= window, f"a window of {window} on {size}")
    return (size - window) // stride + 1


def _images(options: Any, source: Tensor, height: int, width: int) -> tuple[int, int, int]:
    """Batch, height and width of the output of a convolution or a pooling."""
    _require(len(source.shape) == 4, "an image without four dimensions")
    _require(options.get("dilation_w", 1) == 1 and options.get("dilation_h", 1) == 1, "a dilation")
    batch, rows, columns, _ = source.shape
    return (
        batch,
        _windows(rows, height, options["stride_h"], options["padding"]),
        _windows(columns, width, options["stride_w"], options["padding"]),
    )


def _conv_2d(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, weights, *bias = _tensors(inputs)
    _require(len(weights.shape) == 4 and weights.data is not None, "weights are no constant")
    channels, height, width, depth = weights.shape
    size = _images(options, source, height, width)
    _require(source.shape[3] == depth, f"weights for {depth} channels")
    _check_channels(weights, channels, 0)
    _check_bias(bias, channels, source, weights)
    return [(*size, channels)]


def _depthwise_conv_2d(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, weights, *bias = _tensors(inputs)
    _require(len(weights.shape) == 4 and weights.data is not None, "weights are no constant")
    one, height, width, channels = weights.shape
    size = _images(options, source, height, width)
    _require(
        one == 1 and options["depth_multiplier"] == 1 and channels == source.shape[3],
        f"weights for {channels} channels",
    )
    _check_channels(weights, channels, 3)
    _check_bias(bias, channels, source, weights)
    return [(*size, channels)]


def _check_channels(weights: Tensor, channels: int, axis: int) -> None:
    if weights.type == _INT8:
        _require(not any(weights.zero_points), "weights with a zero point")
        _require(
            len(weights.scales) == 1 or (len(weights.scales), weights.axis) == (channels, axis),
            f"{len(weights.scales)} scales for {channels} channels",
        )


def _max_pool_2d(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    (source,) = _tensors(inputs)
    height, width = options["filter_h"], options["filter_w"]
    _require(0 < height <= _LARGEST_STRIDE and 0 < width <= _LARGEST_STRIDE, "a window")
    size = _images(options, source, height, width)
    return [(*size, source.shape[3])]


def _concatenation(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    sources = _tensors(inputs)
    first = sources[0].shape
    axis = _axis(options["axis"], len(first))
    _require(not options["activation"], "an activation")
    total = 0
    for source in sources:
        _require(len(source.shape) == len(first), "other ranks")
        _require(
            all(
                a == b
                for i, (a, b) in enumerate(zip(source.shape, first, strict=True))
                if i != axis
            ),
            f"{source.shape} beside {first}",
        )
        total += source.shape[axis]
    return [(*first[:axis], total, *first[axis + 1 :])]


def _pack(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    sources = _tensors(inputs)
    first = sources[0].shape
    axis = _axis(options["axis"], len(first) + 1)
    _require(options["count"] == len(sources), f"a count of {options['count']}")
    _require(all(source.shape == first for source in sources), "other shapes")
    return [(*first[:axis], len(sources), *first[axis:])]


def _unpack(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    (source,) = _tensors(inputs)
    _require(len(source.shape) > 0, "a single number")
    axis = _axis(options["axis"], len(source.shape))
    _require(options["count"] == source.shape[axis], f"a count of {options['count']}")
    return [source.shape[:axis] + source.shape[axis + 1 :]] * source.shape[axis]


def _strided_slice(options: Any, inputs: Sequence[Tensor | None], outputs: Any) -> list[Shape]:
    source, *places = _tensors(inputs)
    begin, end, stride = (_integers(place) for place in places)
    rank = len(source.shape)
    _require(rank <= 4, "more than four dimensions")
    _require({len(begin), len(end), len(stride)} == {rank}, f"places for other than {rank}")
    masks = [options[f"{name}_mask"] for name in ("begin", "end", "shrink_axis")]
    _require(
        not (options["ellipsis_mask"] or options["new_axis_mask"] or options["offset"])
        and all(0 <= mask < 2**rank for mask in masks),
        "other masks",
    )
    shape = []
    for axis, size in enumerate(source.shape):
        bit = 1 << axis
        _require(0 < stride[axis] <= 2**16, f"a stride of {stride[axis]}")
        if masks[2] & bit:
            _require(0 <= begin[axis] < size and not masks[0] & bit, "a place outside")
            _require(stride[axis] == 1, "a stride of one place")
            continue
        chosen = slice(
            None if masks[0] & bit else begin[axis],
            None if masks[1] & bit else end[axis],
            stride[axis],
        )
        count = len(range(*chosen.indices(size)))
        _require(count > 0, "nothing is taken")
        shape.append(count)
    return [tuple(shape)]


_O: Final = schema.BuiltinOptions
_KINDS: Final[dict[int, Kind]] = {
    getattr(schema.BuiltinOperator, known.name): known
    for known in (
        Kind("ADD", _O.AddOptions, (2, 2), _elementwise),
        Kind("MUL", _O.MulOptions, (2, 2), _elementwise),
        Kind("SUB", _O.SubOptions, (2, 2), _elementwise),
        Kind("MAXIMUM", _O.MaximumMinimumOptions, (2, 2), _elementwise),
        Kind("MINIMUM", _O.MaximumMinimumOptions, (2, 2), _elementwise),
        Kind("RSQRT", _O.NONE, (1, 1), _root),
        Kind("SOFTMAX", _O.SoftmaxOptions, (1, 1), _softmax),
        Kind("RESHAPE", _O.NONE, (2, 2), _reshape, (1,), moves=True),
        Kind("TRANSPOSE", _O.NONE, (2, 2), _transpose, (1,), moves=True),
        Kind("FULLY_CONNECTED", _O.FullyConnectedOptions, (2, 3), _fully_connected, (2,)),
        Kind("BATCH_MATMUL", _O.BatchMatMulOptions, (2, 2), _batch_matmul),
        Kind("CONV_2D", _O.Conv2DOptions, (3, 3), _conv_2d, (2,)),
        Kind("DEPTHWISE_CONV_2D", _O.DepthwiseConv2DOptions, (3, 3), _depthwise_conv_2d, (2,)),
        Kind("MAX_POOL_2D", _O.Pool2DOptions, (1, 1), _max_pool_2d, moves=True),
        Kind("CONCATENATION", _O.ConcatenationOptions, (1, 64), _concatenation, moves=True),
        Kind("PACK", _O.PackOptions, (1, 256), _pack, moves=True),
        Kind("UNPACK", _O.UnpackOptions, (1, 1), _unpack, moves=True),
        Kind(
            "STRIDED_SLICE", _O.StridedSliceOptions, (4, 4), _strided_slice, (1, 2, 3), moves=True
        ),
    )
}
