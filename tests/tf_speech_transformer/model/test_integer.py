"""Every function of `integer` gives the bytes of LiteRT's reference kernel for its operator."""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from firmware_sim.runtimes.fixed_point import Grid
from tf_speech_transformer.model import integer, quantization
from tf_speech_transformer.model.integer import Quantized, Weights

CODES = schema.BuiltinOperator
SEEDS = range(4)


def tensor(
    shape: tuple[int, ...], dtype: int, scale: Any = None, zero_point: int = 0, axis: int = 0
) -> Any:
    """A tensor of a flatbuffer; several scales are those of channels of `axis`."""
    result = schema.TensorT()
    result.shape, result.type, result.buffer = list(shape), dtype, 0
    if scale is not None:
        result.quantization = schema.QuantizationParametersT()
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        result.quantization.scale = scales
        result.quantization.zeroPoint = np.full(len(scales), zero_point, np.int64)
        result.quantization.quantizedDimension = axis if len(scales) > 1 else 0
    return result


def run_operator(
    code: int,
    options: Any,
    inputs: list[Quantized],
    output_shape: tuple[int, ...],
    output: Grid,
    constants: tuple[tuple[npt.NDArray[Any], Any, int], ...] = (),
) -> npt.NDArray[np.int8]:
    """The output of a flatbuffer of one operator on LiteRT's reference kernels.

    `constants` (data, scale, axis of the scales) follow the inputs.
    """
    model = schema.ModelT()
    model.version = 3
    graph = schema.SubGraphT()
    model.subgraphs, model.buffers = [graph], [schema.BufferT()]
    graph.tensors = [
        tensor(tuple(x.shape), schema.TensorType.INT8, x.scale, x.zero_point) for x in inputs
    ]
    for data, scale, axis in constants:
        dtype = schema.TensorType.INT8 if data.dtype == np.int8 else schema.TensorType.INT32
        graph.tensors.append(tensor(data.shape, dtype, scale, axis=axis))
        graph.tensors[-1].buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(data.tobytes(), np.uint8)
    graph.tensors.append(tensor(output_shape, schema.TensorType.INT8, *output))
    operator = schema.OperatorT()
    operator.inputs = list(range(len(graph.tensors) - 1))
    operator.outputs = graph.outputs = [len(graph.tensors) - 1]
    graph.inputs = list(range(len(inputs)))
    if options is not None:
        operator.builtinOptions = options
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    graph.operators = [operator]
    name = schema.OperatorCodeT()
    name.builtinCode, name.deprecatedBuiltinCode, name.version = code, min(code, 127), 1
    model.operatorCodes = [name]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    interpreter = litert.Interpreter(
        model_content=bytes(builder.Output()),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    for index, x in zip(graph.inputs, inputs, strict=True):
        interpreter.set_tensor(index, x.stored.numpy())
    interpreter.invoke()
    return interpreter.get_tensor(graph.outputs[0])


def scale(rng: np.random.Generator, low: float, high: float) -> float:
    """A scale of 12 bits."""
    return float(quantization.rounded(tf.constant(rng.uniform(low, high), tf.float32)))


def activation(
    rng: np.random.Generator, shape: tuple[int, ...], zero_point: int | None = None
) -> Quantized:
    """Random values, the smallest and the largest among them."""
    stored = rng.integers(-128, 128, shape, np.int8)
    stored.flat[: min(4, stored.size)] = [-128, 127, 127, -128][: stored.size]
    if zero_point is None:
        zero_point = int(rng.choice([-128, 127, rng.integers(-60, 60)]))
    return Quantized(tf.constant(stored), scale(rng, 0.01, 0.1), zero_point)


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    return rng.integers(-127, 128, shape, np.int8)


def grid(rng: np.random.Generator, factors: float, terms: int) -> Grid:
    """Of a sum of products, such that some of them saturate."""
    step = factors * 5000 * np.sqrt(terms) / rng.uniform(50, 250)
    return Grid(scale(rng, step, 1.1 * step), int(rng.integers(-128, 128)))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_fully_connected(seed: int, relu: bool) -> None:
    rng = np.random.default_rng(seed)
    x, kernel, step = activation(rng, (3, 40, 480)), weights(rng, (480, 24)), scale(rng, 1e-3, 1e-2)
    output = grid(rng, x.scale * step, 480)
    bias = rng.normal(0, 100 * output.scale, 24).astype(np.float32)
    computed = integer.product(
        x, Weights(tf.constant(kernel), (step,)), output, bias=bias, relu=relu
    )
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims, options.fusedActivationFunction = True, int(relu)
    product = np.float32(x.scale) * np.float32(step)
    stored = np.rint(bias.astype(np.float64) / product).astype(np.int32)
    constants = ((kernel.T.copy(), step, 0), (stored, product, 0))
    expected = run_operator(CODES.FULLY_CONNECTED, options, [x], (3, 40, 24), output, constants)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_fully_connected_with_activations_as_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = activation(rng, (64, 32)), activation(rng, (128, 32), zero_point=0)
    output = grid(rng, left.scale * right.scale, 32)
    computed = integer.product(left, right, output, transpose_b=True)
    options = schema.FullyConnectedOptionsT()
    expected = run_operator(CODES.FULLY_CONNECTED, options, [left, right], (64, 128), output)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_batch_matmul(seed: int, transpose_b: bool, constant: bool) -> None:
    rng = np.random.default_rng(seed)
    left = activation(rng, (1, 4, 9, 32))
    shape = (1, 4, 65, 32) if transpose_b else (1, 4, 32, 65)
    right = activation(rng, shape, zero_point=0 if constant else None)
    output = grid(rng, left.scale * right.scale, 32)
    factor = Weights(right.stored, right.scales) if constant else right
    computed = integer.product(left, factor, output, transpose_b=transpose_b)
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = False, transpose_b
    inputs, constants = [left, right], ()
    if constant:
        inputs, constants = [left], ((right.stored.numpy(), right.scale, 0),)
    expected = run_operator(CODES.BATCH_MATMUL, options, inputs, (1, 4, 9, 65), output, constants)
    np.testing.assert_array_equal(computed.stored, expected)


def convolution_constants(
    layer: Any, kernel: np.ndarray, x_scale: float, scales: Any, axis: int
) -> tuple[tuple[np.ndarray, Any, int], ...]:
    """Kernel and bias as a flatbuffer stores them, with their scales and these's axis."""
    product = np.float32(x_scale) * np.float32(scales)
    bias = np.rint(layer.bias.numpy().astype(np.float64) / product).astype(np.int32)
    return (kernel.transpose(3, 0, 1, 2).copy(), scales, axis), (bias, product, 0)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_convolution_with_a_scale_for_each_channel(seed: int, strides: int) -> None:
    rng = np.random.default_rng(seed)
    x, kernel = activation(rng, (2, 18, 20, 5)), weights(rng, (3, 3, 5, 8))
    scales = tuple(scale(rng, 1e-3, 1e-2) for _ in range(8))
    output = grid(rng, x.scale * float(np.mean(scales)), 45)
    layer = tf.keras.layers.Conv2D(8, 3, strides, padding="same")
    layer.build(x.shape)
    layer.bias.assign(rng.normal(0, 50 * output.scale, 8))
    computed = integer.evaluate(layer, x, {"kernel": Weights(tf.constant(kernel), scales)}, output)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = strides
    constants = convolution_constants(layer, kernel, x.scale, scales, 0)
    shape = tuple(computed.shape)
    expected = run_operator(CODES.CONV_2D, options, [x], shape, output, constants)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_depthwise_convolution_with_relu(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, kernel, step = activation(rng, (2, 18, 20, 8)), weights(rng, (3, 3, 8, 1)), 0.009765625
    output = grid(rng, x.scale * step, 9)
    layer = tf.keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")
    layer.build(x.shape)
    layer.bias.assign(rng.normal(0, 50 * output.scale, 8))
    weight = Weights(tf.constant(kernel), (step,))
    computed = integer.evaluate(layer, x, {"depthwise_kernel": weight}, output)
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = options.depthMultiplier = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    constants = convolution_constants(layer, kernel, x.scale, step, 3)
    shape = tuple(computed.shape)
    expected = run_operator(CODES.DEPTHWISE_CONV_2D, options, [x], shape, output, constants)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize(
    ("kernel", "code", "options"),
    [
        (integer.add, CODES.ADD, schema.AddOptionsT),
        (integer.multiply, CODES.MUL, schema.MulOptionsT),
    ],
    ids=["add", "multiply"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_elementwise_operators_on_all_pairs_of_values(
    seed: int, kernel: Callable[..., Quantized], code: int, options: Callable[[], Any]
) -> None:
    """Broadcasting as LayerNorm does it: 256 values of one, 256 rows of the other."""
    rng = np.random.default_rng(seed)
    every = np.arange(-128, 128).astype(np.int8)
    points = rng.integers(-128, 128, 2).tolist()
    rows, column = np.tile(every, (1, 256, 1)), every[None, :, None]
    left, right = (
        Quantized(tf.constant(values), scale(rng, 0.01, 0.2), point)
        for values, point in zip((rows, column), points, strict=True)
    )
    step = left.scale * right.scale * 50 if code == CODES.MUL else left.scale + right.scale
    output = Grid(scale(rng, 0.6 * step, step), int(rng.integers(-128, 128)))
    computed = kernel(left, right, output)
    expected = run_operator(code, options(), [left, right], (1, 256, 256), output)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_reciprocal_root_of_all_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = np.arange(-128, 128).astype(np.int8)[None]
    x = Quantized(tf.constant(every), scale(rng, 1e-3, 7.0), -128)
    largest = rng.uniform(0.3, 1) / np.sqrt(x.scale)  # of the output: some values saturate
    output = Grid(scale(rng, largest / 255, largest / 255), int(rng.integers(-128, 0)))
    computed = integer.reciprocal_sqrt(x, output)
    expected = run_operator(CODES.RSQRT, None, [x], (1, 256), output)
    np.testing.assert_array_equal(computed.stored, expected)


@pytest.mark.parametrize("length", [2, 17, 128, 500])
@pytest.mark.parametrize("seed", SEEDS)
def test_softmax(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    step = scale(rng, 0.01, 0.3)
    near = rng.normal(0, [[3], [20], [60], [0]], (4, length)).round().clip(-128, 127)
    x = Quantized(tf.constant(near.astype(np.int8)), step, 5)
    output = Grid(1 / 256, -128)
    computed = integer.softmax(x, output)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    expected = run_operator(CODES.SOFTMAX, options, [x], (4, length), output)
    np.testing.assert_array_equal(computed.stored, expected)


def test_a_quantized_tensor_stands_for_its_real_values_and_is_moved_with_its_grid() -> None:
    x = Quantized(tf.constant([[-128, 0, 127]], tf.int8), 0.5, -8)
    np.testing.assert_array_equal(tf.convert_to_tensor(x), [[-60.0, 4.0, 67.5]])
    np.testing.assert_array_equal(tf.constant(1.0) + x, [[-59.0, 5.0, 68.5]])
    moved = tf.concat([tf.transpose(x), tf.reshape(x, [3, 1])[..., :1]], 0)
    assert moved.grid == x.grid
    np.testing.assert_array_equal(moved.stored[:, 0], [-128, 0, 127, -128, 0, 127])
    pooled = tf.keras.layers.MaxPooling2D(2)(tf.reshape(tf.concat([x] * 4, 0), [1, 2, 6, 1]))
    assert pooled.grid == x.grid
    np.testing.assert_array_equal(pooled.stored[0, 0, :, 0], [0, 127, 127])


def test_tensors_of_different_grids_are_not_joined() -> None:
    x = tf.zeros([1, 3], tf.int8)
    with pytest.raises(ValueError, match="one grid"):
        tf.concat([Quantized(x, 0.5, 0), Quantized(x, 0.25, 0)], 0)


def test_a_layer_without_integer_arithmetic_is_named() -> None:
    layer = quantization.in_eight_bits(tf.keras.layers.LeakyReLU(name="leaky"))
    layer(tf.ones([1, 2]), training=True)
    with quantization.exact(), pytest.raises(TypeError, match="LeakyReLU has no integer"):
        layer(Quantized(tf.zeros([1, 2], tf.int8), 0.5, 0))


def test_a_range_that_was_never_estimated_is_named() -> None:
    layer = quantization.in_eight_bits(tf.keras.layers.Softmax())
    layer(tf.ones([1, 2]))
    with quantization.exact(), pytest.raises(ValueError, match="never estimated"):
        layer(Quantized(tf.zeros([1, 2], tf.int8), 0.5, 0))
