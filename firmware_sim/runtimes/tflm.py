"""TFLite Micro on this machine: the interpreter of microcontrollers, with its reference kernels.

Its bytes are what a firmware computes; its speed is not (a firmware has optimised kernels).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tflite_micro import runtime as tflite_micro

from firmware_sim.runtimes import graph
from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.runtimes.runtime import ExecutionError, Tensors, check_tensor, with_stderr

_SMALLEST_ARENA: Final = 1 << 16  # bytes
_LARGEST_ARENA: Final = 1 << 30
_MISSING_OPERATOR: Final = re.compile(r"Didn't find op for builtin opcode '(\w+)'")
_ARENA_TOTAL: Final = re.compile(r"Arena allocation total (\d+) bytes")


class TfliteMicro:
    """TFLite Micro; the arena grows until the model fits, and `arena_bytes` is what it uses."""

    name = "tflm"

    def __init__(self, model: Model, num_threads: int = 1) -> None:
        del num_threads  # there are no threads on a microcontroller
        self._interpreter = _load(model)
        self._arena_bytes: int | None = None
        for position, spec in enumerate(model.inputs):
            _check(model, spec, self._interpreter.get_input_details, position)
        for position, spec in enumerate(model.outputs):
            _check(model, spec, self._interpreter.get_output_details, position)
        self._inputs = [spec.name for spec in model.inputs]
        self._outputs = [spec.name for spec in model.outputs]

    @property
    def arena_bytes(self) -> int | None:
        if self._arena_bytes is None:
            _, log = with_stderr(self._interpreter.print_allocations)
            total = _ARENA_TOTAL.search(log)
            self._arena_bytes = int(total.group(1)) if total else None
        return self._arena_bytes

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        interpreter = self._interpreter
        for position, name in enumerate(self._inputs):
            interpreter.set_input(inputs[name], position)
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ExecutionError(f"TFLite Micro failed: {' '.join(str(error).split())}") from error
        return {name: interpreter.get_output(i) for i, name in enumerate(self._outputs)}


def _load(model: Model) -> tflite_micro.Interpreter:
    """The interpreter with the first arena, doubling from 64 KiB, that the model fits into."""
    arena = _SMALLEST_ARENA
    while True:

        def build(size: int = arena) -> tflite_micro.Interpreter | Exception:
            try:
                return tflite_micro.Interpreter.from_bytes(model.data, arena_size=size)
            except (RuntimeError, ValueError, MemoryError) as error:
                return error

        built, log = with_stderr(build)
        if not isinstance(built, Exception):
            return built
        arena *= 2
        missing_operator = _MISSING_OPERATOR.search(log)
        if missing_operator is not None or arena > _LARGEST_ARENA:
            reason = " ".join(log.split())[:300] or str(built)
            if missing_operator is not None:
                name, content = missing_operator.group(1), graph.read(model.data)
                layers = [content.layer(op) for op in content.operators if op.name == name]
                reason = f"it has no operator {name}, which {' and '.join(layers[:2])} need"
                reason += f" and {len(layers) - 2} more layers" if len(layers) > 2 else ""
            raise BundleError(
                f"{model.file}: TFLite Micro cannot load it ({reason}); use another runtime or "
                "export the bundle with operators that TFLite Micro has."
            )


def _check(
    model: Model, spec: Any, details: Callable[[int], Mapping[str, Any]], position: int
) -> None:
    try:
        detail = details(position)
    except (RuntimeError, IndexError) as error:
        raise BundleError(
            f"{model.file}: has no tensor for {spec.name!r} ({error}); export the bundle again."
        ) from error
    parameters = detail["quantization_parameters"]
    shape = detail["shape"] if len(np.atleast_1d(detail["shape"])) else ()
    check_tensor(
        model, spec, shape, detail["dtype"], parameters["scales"], parameters["zero_points"]
    )
