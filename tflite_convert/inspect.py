"""Lists what a bundle's flatbuffers compute in, and fails on any float tensor, and on products that
runtimes round differently.

python -m tflite_convert.inspect --bundle=runs/digits/bundle [--tensors]
"""

import collections
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ai_edge_litert import schema_py_generated as schema

from firmware_sim.command_line import tool
from firmware_sim.runtimes.fixed_point import Grid, is_portable

ALLOWED_DTYPES = {"int8", "int32"}
# Operators that leave the integers, or that nobody can vouch for.
REFUSED_OPERATORS = {"DEQUANTIZE", "CAST", "FAKE_QUANT", "CUSTOM"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the graph; `low` and `high` are the real numbers its bytes can stand for."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    bytes: int
    scales: tuple[float, ...]
    zero_point: int | None

    @property
    def range(self) -> tuple[float, float] | None:
        if self.dtype != "int8" or not self.scales:
            return None
        scale, zero = max(self.scales), self.zero_point or 0
        return scale * (-128 - zero), scale * (127 - zero)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a flatbuffer holds."""

    file: str
    bytes: int
    operators: dict[str, int]
    tensors: list[Tensor]
    products: list[tuple[Tensor, ...]]  # of each MUL the factors, and what comes out

    @property
    def dtypes(self) -> dict[str, int]:
        return dict(collections.Counter(tensor.dtype for tensor in self.tensors))

    def violations(self) -> list[str]:
        """What keeps the flatbuffer from being all-integer and equal on all runtimes, a sentence
        each."""
        found = [
            f"{self.file}: tensor {tensor.name} is {tensor.dtype}"
            for tensor in self.tensors
            if tensor.dtype not in ALLOWED_DTYPES
        ]
        found += [
            f"{self.file}: tensor {tensor.name} is int8 without a scale"
            for tensor in self.tensors
            if tensor.dtype == "int8" and not tensor.scales
        ]
        found += [
            f"{self.file}: operator {name} does not belong into an all-integer graph"
            for name in self.operators
            if name in REFUSED_OPERATORS
        ]
        found += [
            f"{self.file}: MUL {product[-1].name} has ties that LiteRT and TFLite Micro round "
            "differently"
            for product in self.products
            if all(tensor.dtype == "int8" and tensor.scales for tensor in product)
            and not is_portable(*(Grid(x.scales[0], x.zero_point or 0) for x in product))
        ]
        return found


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


OPERATOR_NAMES = _names(schema.BuiltinOperator)
TYPE_NAMES = {value: name.lower() for value, name in _names(schema.TensorType).items()}


def operator_code(model: Any, operator: Any) -> int:
    """The builtin operator's number, from either of the places where versions keep it."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def inspect(name: str, content: bytes) -> Inspection:
    """Reads a flatbuffer; `name` is what violations call it."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    tensors: list[Tensor] = []
    operators: collections.Counter[str] = collections.Counter()
    products: list[tuple[Tensor, ...]] = []
    for graph in model.subgraphs:
        first = len(tensors)
        for tensor in graph.tensors:
            shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
            data = model.buffers[tensor.buffer].data
            quantization = tensor.quantization
            scales = quantization.scale if quantization is not None else None
            zero_points = quantization.zeroPoint if quantization is not None else None
            tensors.append(
                Tensor(
                    name=tensor.name.decode(),
                    shape=shape,
                    dtype=TYPE_NAMES[tensor.type],
                    constant=data is not None and len(data) > 0,
                    bytes=len(data) if data is not None else 0,
                    scales=() if scales is None else tuple(float(s) for s in scales),
                    zero_point=None if zero_points is None else int(np.ravel(zero_points)[0]),
                )
            )
        for operator in graph.operators:
            kind = OPERATOR_NAMES[operator_code(model, operator)]
            operators[kind] += 1
            if kind == "MUL":
                places = (*operator.inputs, *operator.outputs)
                products.append(tuple(tensors[first + i] for i in places))
    return Inspection(name, len(content), dict(operators.most_common()), tensors, products)


def inspect_bundle(directory: Path) -> list[Inspection]:
    """Inspections of the flatbuffers of a bundle, encoder first."""
    files = [directory / "encoder.tflite", directory / "decoder_step.tflite"]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist: --bundle must name a bundle directory")
    return [inspect(file.name, file.read_bytes()) for file in files]


def table(inspections: list[Inspection]) -> str:
    """Operators and data types, a line each."""
    lines = []
    for inspection in inspections:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in inspection.dtypes.items())
        lines.append(f"{inspection.file}: {inspection.bytes:,} bytes; tensors: {dtypes}")
        operators = inspection.operators.items()
        lines += [f"  {count:4d} {name}" for name, count in operators]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        inspections = inspect_bundle(Path(flags.FLAGS.bundle))
    except OSError as error:
        sys.exit(f"inspect: {error}")
    print(table(inspections))
    if flags.FLAGS.tensors:
        for inspection in inspections:
            for tensor in inspection.tensors:
                low_high = tensor.range
                shown = f"[{low_high[0]:.4g}, {low_high[1]:.4g}]" if low_high else ""
                kind = "constant" if tensor.constant else ""
                print(
                    f"{inspection.file}\t{tensor.name}\t{list(tensor.shape)}\t{tensor.dtype}"
                    f"\t{kind}\t{shown}"
                )
    violations = [line for inspection in inspections for line in inspection.violations()]
    if violations:
        sys.exit("\n".join(["not all-integer, or not on every runtime:", *violations]))
    print("all-integer: no float tensor, no DEQUANTIZE")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("bundle", None, "Bundle directory.")
    flags.DEFINE_bool("tensors", False, "List every tensor with its range.")
    flags.mark_flag_as_required("bundle")
    tool.run(main)


if __name__ == "__main__":
    run()
