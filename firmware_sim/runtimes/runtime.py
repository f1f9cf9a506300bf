"""The runtime: it executes a flatbuffer.

A runtime is a class in a file of its own, with the methods of `Runtime`; a line in `RUNTIMES`
gives it the name that command lines use.  Its module is imported lazily.
"""

import contextlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from firmware_sim.runtimes.model import BundleError, Model, TensorSpec

T = TypeVar("T")
Tensors = dict[str, npt.NDArray[Any]]

_STDERR: Final = threading.Lock()

RUNTIMES: Final[Mapping[str, tuple[str, str]]] = {
    "litert": ("firmware_sim.runtimes.litert", "LiteRt"),
    "litert-reference": ("firmware_sim.runtimes.litert", "LiteRtReference"),
    "tflm": ("firmware_sim.runtimes.tflm", "TfliteMicro"),
    "wasm": ("firmware_sim.runtimes.wasm", "Wasm"),
    "cortex-m55": ("firmware_sim.runtimes.cortex_m55", "CortexM55"),
}


class ExecutionError(Exception):
    """A runtime failed; the message says how."""


class Runtime(Protocol):
    """One model, ready to run."""

    name: str

    def __init__(self, model: Model, num_threads: int = 1) -> None:
        """Loads the model.

        Args:
          model: the flatbuffer, and the signature that it must have.
          num_threads: threads of one invocation; runtimes for microcontrollers ignore it.

        Raises:
          BundleError: if the flatbuffer cannot be loaded or has another signature.
        """

    @property
    def arena_bytes(self) -> int | None:
        """Memory in bytes that the model's tensors take, where the runtime knows it."""

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """Runs the model once.

        Args:
          inputs: every input by its name in the manifest, in its shape and dtype.

        Returns:
          every output by its name; the arrays are the caller's own.

        Raises:
          ExecutionError: if the runtime fails.
        """


def load(name: str, model: Model, num_threads: int = 1) -> Runtime:
    """A model on the runtime of that name.

    Raises:
      ValueError: if there is no such runtime, or it is not installed.
      BundleError: if the runtime cannot load the model.
      ExecutionError: if the runtime fails.
    """
    if name not in RUNTIMES:
        raise ValueError(f"No runtime is called {name!r}; choose one of {', '.join(RUNTIMES)}.")
    module, class_name = RUNTIMES[name]
    try:
        runtime = getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The runtime {name!r} needs the Python package {error.name!r}: pip install "
            f"'integer-speech-transformer[{'wasm' if name == 'wasm' else 'tflm'}]'."
        ) from error
    return runtime(model, num_threads=num_threads)


def check_tensor(
    model: Model,
    spec: TensorSpec,
    shape: npt.ArrayLike,
    dtype: type[np.generic],
    scales: npt.ArrayLike,
    zero_points: npt.ArrayLike,
) -> None:
    """Raises BundleError if a tensor of the flatbuffer is not what the manifest says."""
    found_shape = tuple(int(n) for n in np.asarray(shape))
    found_scale = [float(s) for s in np.atleast_1d(np.asarray(scales))]
    found_zero_point = [int(z) for z in np.atleast_1d(np.asarray(zero_points))]
    same = found_shape == spec.shape and np.dtype(dtype) == np.dtype(spec.numpy_dtype)
    if same and spec.scale is not None:
        same = found_zero_point == [spec.zero_point] and bool(
            np.allclose(found_scale, [spec.scale], rtol=1e-5, atol=0.0)
        )
    if not same:
        raise BundleError(
            f"{model.file}: {spec.name} is {np.dtype(dtype)} {list(found_shape)} with scale "
            f"{found_scale} and zero point {found_zero_point} in the flatbuffer, but the manifest "
            f"says {spec.dtype} {list(spec.shape)} with {spec.scale} and {spec.zero_point}; "
            "export the bundle again."
        )


def with_stderr(call: Callable[[], T]) -> tuple[T, str]:
    """The result of `call`, and what C++ wrote to file descriptor 2 meanwhile."""
    with _STDERR:  # two threads would restore each other's file
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # a process without standard error
            return call(), ""
        try:
            with tempfile.TemporaryFile() as log:
                os.dup2(log.fileno(), 2)
                try:
                    result = call()
                finally:
                    os.dup2(saved, 2)
                log.seek(0)
                return result, log.read().decode("utf-8", "replace")
        finally:
            os.close(saved)
