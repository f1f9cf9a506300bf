"""A model: one flatbuffer, and the inputs and outputs that its manifest lists."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "int8": np.int8,
    "int32": np.int32,
    "float32": np.float32,
}


class BundleError(Exception):
    """A bundle that cannot be used; the message says which file, what is wrong and what to do."""


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model; real = (stored - zero_point) * scale."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # int8, int32 or float32
    scale: float | None  # None: the values are not quantized
    zero_point: int | None

    @property
    def numpy_dtype(self) -> type[np.generic]:
        return DTYPES[self.dtype]

    @property
    def bytes(self) -> int:
        """Size of the tensor."""
        return math.prod(self.shape) * np.dtype(self.numpy_dtype).itemsize

    def quantize(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        """Real values of any shape -> the values stored in the tensor, rounded and clipped."""
        real = np.asarray(values, np.float64)
        if self.scale is None or self.zero_point is None:
            return real.astype(self.numpy_dtype)
        limits = np.iinfo(self.dtype)
        stored = np.rint(real / self.scale) + self.zero_point
        return np.clip(stored, limits.min, limits.max).astype(self.numpy_dtype)

    def dequantize(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Stored values of any shape -> real values."""
        if self.scale is None or self.zero_point is None:
            return stored.astype(np.float32)
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclasses.dataclass(frozen=True)
class Model:
    """One flatbuffer and its signature, in the flatbuffer's own order."""

    file: str
    data: bytes = dataclasses.field(repr=False)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """The input of that name.  Raises BundleError if there is none."""
        return self._named(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        """The output of that name.  Raises BundleError if there is none."""
        return self._named(self.outputs, name, "output")

    def _named(self, specs: tuple[TensorSpec, ...], name: str, kind: str) -> TensorSpec:
        for spec in specs:
            if spec.name == name:
                return spec
        raise BundleError(
            f"manifest.json: {self.file} has no {kind} {name!r}; copy or export the bundle again."
        )
