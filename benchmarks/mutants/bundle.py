"""Bundles whose files are damaged, and whose hashes are right all the same."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.mutants.mutation import mutate
from firmware_sim import bundle
from firmware_sim.runtimes import flatbuffer, runtime
from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.runtimes.runtime import ExecutionError

_RUNTIMES: Final = ("litert", "litert-reference", "tflm")
_WORDS: Final = (0, 1, 2, 3, 4, 8, 16, 127, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_VALUES: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 1, 2**31, 10**30, 10**400, 1e-30, 1e300, -0.5, "", "x", "\n", [], [1], {},
    {"a": 1}, "cache_0", "memory", "../x",
)  # fmt: skip
_ADDED: Final = (-256, -8, -4, -2, -1, 1, 2, 4, 8, 256)


class Bundle:
    """Four of five have a damaged flatbuffer, where it is no weights; others a damaged manifest."""

    refusals = (BundleError, ExecutionError)

    def __init__(self) -> None:
        self._files = [
            {file.name: file.read_bytes() for file in path.iterdir()}
            for path in bundle.shipped().values()
        ]
        self._places = [
            {name: _structure(data) for name, data in files.items() if name.endswith(".tflite")}
            for files in self._files
        ]

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        chosen = int(rng.integers(len(self._files)))
        files = dict(self._files[chosen])
        manifest = json.loads(files["manifest.json"])
        if rng.random() < 0.8:
            name, places = list(self._places[chosen].items())[rng.integers(2)]
            files[name] = _damaged(files[name], places, rng)
        elif rng.random() < 0.5:
            _damage(manifest, rng)
        else:
            name = str(rng.choice([name for name in files if not name.endswith(".tflite")]))
            files[name] = mutate(files[name], rng)
        if isinstance(manifest.get("files"), dict):
            for name, entry in manifest["files"].items():
                if isinstance(entry, dict) and name in files:
                    entry["sha256"] = hashlib.sha256(files[name]).hexdigest()
                    entry["bytes"] = len(files[name])
        if files["manifest.json"] == self._files[chosen]["manifest.json"]:
            files["manifest.json"] = json.dumps(manifest).encode()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder

    def use(self, path: Path) -> None:
        loaded = bundle.load(path)
        for model in (loaded.encoder, loaded.decoder_step):
            if (path / model.file).read_bytes() not in (x.get(model.file) for x in self._files):
                for name in _RUNTIMES:
                    runtime.load(name, model).invoke(_inputs(model))


def _inputs(model: Model) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.integers(-128, 128, spec.shape).astype(spec.numpy_dtype)
        for spec in model.inputs
    }


def _structure(data: bytes) -> np.ndarray:
    """The places of a flatbuffer's bytes that are no weights."""
    kept = np.ones(len(data), bool)
    begin = np.frombuffer(data, np.uint8).ctypes.data
    for tensor in flatbuffer.read(data).tensors:
        if tensor.data is not None and len(tensor.data) > 64:
            first = np.frombuffer(tensor.data, np.uint8).ctypes.data - begin
            kept[first : first + len(tensor.data)] = False
    return np.flatnonzero(kept)


def _damaged(data: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)

    def word() -> int:
        return int(places[rng.integers(len(places))]) // 4 * 4

    for _ in range(rng.integers(1, 5)):
        place, size = word(), len(damaged)
        number = int.from_bytes(damaged[place : place + 4], "little")
        match int(rng.integers(6)):
            case 0:
                damaged[min(place + int(rng.integers(4)), size - 1)] ^= 1 << int(rng.integers(8))
            case 1:
                number = int(rng.choice(_WORDS))
            case 2:
                number += int(rng.choice(_ADDED))
            case 3:
                damaged[place : place + 16] = damaged[(other := word()) : other + 16]
            case 4:
                value = np.float32(rng.choice([0, -1, 1e-30, 1e30, np.nan, np.inf, rng.random()]))
                number = int(value.view(np.uint32))
            case 5 if rng.random() < 0.1:
                del damaged[place:]
        if place + 4 <= len(damaged) and number >= 0:
            changed = (number % (1 << 32)).to_bytes(4, "little")
            if changed != data[place : place + 4]:
                damaged[place : place + 4] = changed
    return bytes(damaged)


def _damage(content: Any, rng: np.random.Generator) -> None:
    """Changes a value somewhere in a JSON object."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        inner = content[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.9:
            content = inner
            continue
        if rng.random() < 0.1:
            del content[key]
        else:
            content[key] = _VALUES[rng.integers(len(_VALUES))]
        return
