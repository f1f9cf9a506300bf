"""Vela, Arm's compiler for the Ethos-U: the operators that the NPU runs, and estimated cycles.

Vela is in the extra `firmware`.  Cycles come from its model of NPU and memories; nothing is
measured.
"""

import csv
import dataclasses
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Final

from firmware_sim.fitting.device import Accelerator
from firmware_sim.runtimes import graph
from firmware_sim.runtimes.model import BundleError, Model

VERSION: Final = "5.2.0"
_MEMORY_MODE: Final = "Shared_Sram"  # weights in flash, all else in SRAM
_NPU: Final = "ethos-u"  # the operator that a compiled file has in the place of all that it runs
_SOFTMAX_PART: Final = re.compile(r"_softmax_\d+(_broadcasted)?$")
_UNNAMED: Final = re.compile(r"#\d+|/.*")  # what Vela calls a tensor that has no name
_REASON: Final = re.compile(r"operator: \S+ ofm: '([^']*)'\s*\n\s*(?:Reason|-)[:\s]*(.*)")


@dataclasses.dataclass(frozen=True)
class LayerCycles:
    """Cycles of an operator; if Vela splits one into many, their sum."""

    operator: str
    layer: str  # empty where values are only moved
    on_npu: bool
    cycles: int


@dataclasses.dataclass(frozen=True)
class OnCpu:
    """An operator that Vela leaves to the processor."""

    operator: str
    layer: str
    reason: str  # Vela's


@dataclasses.dataclass(frozen=True)
class Compilation:
    """A model compiled for an Ethos-U."""

    file_bytes: int  # of the compiled flatbuffer: weights and command stream
    arena_bytes: int  # of SRAM, for what the NPU runs
    cycles: int  # of what the NPU runs in one inference, estimated
    clock: float  # Hz
    operators: int  # of the model
    on_cpu: tuple[OnCpu, ...]
    layers: tuple[LayerCycles, ...]  # in the order in which they run


def compile_model(model: Model, accelerator: Accelerator) -> Compilation:
    """Compiles a model.

    Raises:
      ValueError: if Vela is not installed, or in another version.
      BundleError: if Vela cannot compile the model.
    """
    _check_installed()
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, model.file)
        source.write_bytes(model.data)
        command = [sys.executable, "-m", "ethosu.vela", str(source)]
        command += ["--accelerator-config", accelerator.name]
        command += ["--config", "Arm/vela.ini", "--system-config", accelerator.system]
        command += ["--memory-mode", _MEMORY_MODE, "--optimise", "Performance"]
        command += ["--verbose-performance", "--output-dir", directory]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
        log = run.stdout + run.stderr
        if run.returncode != 0:
            raise BundleError(
                f"{model.file}: Vela cannot compile it for {accelerator.name} "
                f"({' '.join(log.split())[-300:]})."
            )
        compiled = source.with_name(f"{source.stem}_vela.tflite").read_bytes()
        (summary,) = _table(source.with_name(f"{source.stem}_summary_{accelerator.system}.csv"))
        rows = _table(source.with_name(f"{source.stem}_per-layer.csv"))
    return Compilation(
        file_bytes=len(compiled),
        arena_bytes=round(float(summary["sram_memory_used"]) * 1024),
        cycles=int(summary["cycles_total"]),
        clock=float(summary["core_clock"]),
        operators=len(graph.read(model.data).operators),
        on_cpu=_on_cpu(compiled, log),
        layers=_layers(rows),
    )


def _table(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _check_installed() -> None:
    install = "pip install 'integer-speech-transformer[firmware]'"
    try:
        version = importlib.metadata.version("ethos-u-vela")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"An Ethos-U needs Vela to compile its models: {install}.") from error
    if version != VERSION:
        raise ValueError(f"Vela {version} is installed, but {VERSION} is needed: {install}.")


def _on_cpu(compiled: bytes, log: str) -> tuple[OnCpu, ...]:
    content = graph.read(compiled)
    # Without the tensor that some reasons end in: one reason for all operators of a kind.
    reasons = {name: re.sub(r" \(.*\)$", "", why.strip()) for name, why in _REASON.findall(log)}
    return tuple(
        OnCpu(
            operator.name,
            content.layer(operator),
            reasons.get(content.tensors[operator.outputs[0]].name, "Vela gives no reason"),
        )
        for operator in content.operators
        if operator.name != _NPU
    )


def _layers(rows: list[dict[str, str]]) -> tuple[LayerCycles, ...]:
    cycles: dict[tuple[str, str, bool], int] = {}
    softmax = ""
    for row in reversed(rows):
        operator, layer = row["Original Operator"].strip(), row["Name"].strip()
        if operator == "Softmax":  # the last of its parts has its name
            layer = softmax = softmax if _SOFTMAX_PART.search(layer) else layer
        elif _UNNAMED.fullmatch(layer):
            layer = ""
        key = (operator, layer, row["Target"].strip() == "NPU")
        cycles[key] = cycles.get(key, 0) + int(row["Op Cycles"])
    layers = tuple(LayerCycles(*key, count) for key, count in cycles.items())
    return layers[::-1]
