"""LiteRT (formerly TensorFlow Lite): optimised kernels with XNNPACK, and the reference kernels."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from ai_edge_litert import interpreter as litert

from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.runtimes.runtime import ExecutionError, Tensors, check_tensor, with_stderr


class LiteRt:
    """LiteRT as an Android app runs it on the CPU: XNNPACK, by default one thread."""

    name = "litert"
    _op_resolver = litert.OpResolverType.AUTO

    def __init__(self, model: Model, num_threads: int = 1) -> None:
        def build() -> litert.Interpreter:
            interpreter = litert.Interpreter(
                model_content=model.data,
                num_threads=num_threads,
                experimental_op_resolver_type=self._op_resolver,
            )
            interpreter.allocate_tensors()
            return interpreter

        try:
            self._interpreter, log = with_stderr(build)
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"{model.file}: LiteRT cannot load it ({error}); export the bundle again."
            ) from error
        for line in log.splitlines():
            if not line.startswith("INFO: "):  # LiteRT has no switch for these
                print(line, file=sys.stderr)
        self._inputs = _indices(model, model.inputs, self._interpreter.get_input_details())
        self._outputs = _indices(model, model.outputs, self._interpreter.get_output_details())

    @property
    def arena_bytes(self) -> int | None:
        return None

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        interpreter = self._interpreter
        for name, index in self._inputs.items():
            interpreter.set_tensor(index, inputs[name])
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ExecutionError(f"LiteRT failed: {' '.join(str(error).split())}") from error
        return {name: interpreter.get_tensor(index) for name, index in self._outputs.items()}


class LiteRtReference(LiteRt):
    """LiteRT's reference kernels: slow; TFLite Micro must equal them byte for byte."""

    name = "litert-reference"
    _op_resolver = litert.OpResolverType.BUILTIN_REF


def _indices(model: Model, specs: tuple[Any, ...], details: list[dict[str, Any]]) -> dict[str, int]:
    """Tensor index of each input or output by its name in the manifest."""
    if len(details) != len(specs):
        raise BundleError(
            f"{model.file}: has {len(details)} inputs or outputs where the manifest lists "
            f"{len(specs)}; export the bundle again."
        )
    for spec, detail in zip(specs, details, strict=True):
        parameters = detail["quantization_parameters"]
        check_tensor(
            model,
            spec,
            detail["shape"],
            detail["dtype"],
            parameters["scales"],
            parameters["zero_points"],
        )
    return {spec.name: detail["index"] for spec, detail in zip(specs, details, strict=True)}
