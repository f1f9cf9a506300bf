"""The browser's engine, in WebAssembly: the same module that the page runs, by Wasmtime.

Its bytes are those of LiteRT's reference kernels and of TFLite Micro; it is faster than either.
"""

import ctypes
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import wasmtime

from firmware_sim.runtimes import flatbuffer, lowering, plan
from firmware_sim.runtimes.model import BundleError, Model, TensorSpec
from firmware_sim.runtimes.runtime import ExecutionError, Tensors, check_tensor

MODULE: Final = pathlib.Path(__file__).parents[1] / "web" / "speech" / "speech.wasm"
_PAGE: Final = 1 << 16  # bytes by which memory grows
_ALIGNMENT: Final = 16


class Wasm:
    """A model on the engine."""

    name = "wasm"

    def __init__(self, model: Model, num_threads: int = 1) -> None:
        del num_threads  # the engine has one
        content = lowering.lower(model)
        _check(model)
        self._store = wasmtime.Store(_engine())
        linker = wasmtime.Linker(_engine())
        linker.define_unknown_imports_as_traps(_module())  # the recogniser's, which does not run
        instance = linker.instantiate(self._store, _module())
        self._exports = cast(Any, instance.exports(self._store))
        self._memory: wasmtime.Memory = self._exports["memory"]
        heap = self._exports["__heap_base"]
        self._plan = -(-int(heap.value(self._store)) // _ALIGNMENT) * _ALIGNMENT
        self._bytes = plan.memory(content)
        missing = self._plan + self._bytes - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE))
        self._memory.write(self._store, content, self._plan)
        if self._call("engine_open"):
            raise BundleError(
                f"{model.file}: the module {MODULE.name} is of another version than its plans; "
                "build it again with firmware_sim.web.build."
            )
        inputs, outputs = plan.tensors(content)
        self._inputs = [(x.name, *place) for x, place in zip(model.inputs, inputs, strict=True)]
        self._outputs = list(zip(model.outputs, outputs, strict=True))

    @property
    def arena_bytes(self) -> int | None:
        """Of the plan too: it keeps its weights in memory."""
        return self._bytes

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        address = ctypes.addressof(self._memory.data_ptr(self._store).contents) + self._plan
        for name, place, size in self._inputs:
            values = np.ascontiguousarray(inputs[name])
            if values.nbytes != size:
                raise ExecutionError(f"{name} has {values.nbytes} bytes, not {size}")
            ctypes.memmove(address + place, values.ctypes.data, size)
        self._call("engine_run")
        return {spec.name: _read(address, spec, *place) for spec, place in self._outputs}

    def _call(self, name: str) -> Any:
        try:
            return self._exports[name](self._store, self._plan)
        except wasmtime.WasmtimeError as error:
            raise ExecutionError(f"The engine failed: {' '.join(str(error).split())}") from error


def _read(address: int, spec: TensorSpec, place: int, size: int) -> npt.NDArray[Any]:
    content = bytearray(ctypes.string_at(address + place, size))
    return np.frombuffer(content, spec.dtype).reshape(spec.shape)


@functools.cache
def _engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@functools.cache
def _module() -> wasmtime.Module:
    return wasmtime.Module.from_file(_engine(), str(MODULE))


def _check(model: Model) -> None:
    graph = flatbuffer.read(model.data)
    for specs, indices in ((model.inputs, graph.inputs), (model.outputs, graph.outputs)):
        if len(specs) != len(indices):
            raise BundleError(
                f"{model.file}: has {len(indices)} inputs or outputs where the manifest lists "
                f"{len(specs)}; export the bundle again."
            )
        for spec, index in zip(specs, indices, strict=True):
            tensor = graph.tensors[index]
            check_tensor(model, spec, tensor.shape, np.int8, tensor.scales, tensor.zero_points)
