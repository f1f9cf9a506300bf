"""Device profiles: what a device has, one JSON file each in `devices/`.

    {"title": ..., "core": "Cortex-M7", "clock_mhz": 480, "flash_kib": 2048,
     "ram_kib": {"AXI SRAM": 512, "DTCM": 128}, "accelerator": null, "sources": [...]}

`ram_kib` names each stretch of memory that data can lie in, the fastest first; a buffer has to fit
into one.  `accelerator` is {"name": ..., "system": ...}, an Ethos-U and the system around it by
Vela's names.  `sources` are the documents that the figures come from.  A new file is a new device.
"""

import dataclasses
import json
import pathlib
from typing import Final

_DIRECTORY: Final = pathlib.Path(__file__).parent / "devices"


@dataclasses.dataclass(frozen=True)
class Memory:
    """A stretch of RAM without a hole."""

    name: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """An Ethos-U as Vela knows it."""

    name: str  # --accelerator-config: ethos-u55-256
    system: str  # --system-config: clock and bandwidths of the memories


@dataclasses.dataclass(frozen=True)
class Device:
    """What a device has."""

    name: str
    title: str
    core: str
    clock_mhz: float  # of the core
    flash: int  # bytes
    ram: tuple[Memory, ...]  # the fastest first
    accelerator: Accelerator | None
    sources: tuple[str, ...]


def names() -> list[str]:
    """The devices that there are."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.json"))


def load(name: str) -> Device:
    """The device of that name.  Raises ValueError if there is none."""
    if name not in names():
        raise ValueError(
            f"No device is called {name!r}; there are {', '.join(names())}. A profile in "
            "firmware_sim/devices adds one."
        )
    content = json.loads((_DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    accelerator = content["accelerator"]
    return Device(
        name=name,
        title=content["title"],
        core=content["core"],
        clock_mhz=content["clock_mhz"],
        flash=content["flash_kib"] * 1024,
        ram=tuple(Memory(part, kib * 1024) for part, kib in content["ram_kib"].items()),
        accelerator=accelerator and Accelerator(**accelerator),
        sources=tuple(content["sources"]),
    )
