"""The exported C, compiled for this machine or a Cortex-M55, for the tests of it."""

import ctypes
import dataclasses
import json
import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.grammar import automaton as grammar
from tests.firmware_sim.core import (
    OK,
    WARNINGS,
    Invoke,
    compile_third_party,
    copied,
    includes,
)

# Compilers of C and C++, and the flag of the machine that they compile for.
HOST = ("gcc", "g++", "-fPIC")
CORTEX_M55 = ("arm-none-eabi-gcc", "arm-none-eabi-g++", "-mcpu=cortex-m55")
FIRMWARE = pathlib.Path(__file__).parent / "firmware"


class Command(ctypes.Structure):
    _fields_ = (
        ("intent", ctypes.c_int32),
        ("first", ctypes.c_int32),
        ("last", ctypes.c_int32),
        ("confidence", ctypes.c_int32),
    )


class Mismatch(ctypes.Structure):
    _fields_ = (
        ("tensor", ctypes.c_char_p),
        ("step", ctypes.c_int32),
        ("index", ctypes.c_size_t),
        ("expected", ctypes.c_int32),
        ("found", ctypes.c_int32),
    )


def compile_sources(
    c: str,
    cpp: str,
    target: str,
    directory: pathlib.Path,
    out: pathlib.Path,
    third_party: ThirdParty,
) -> list[str]:
    """Compiles all exported sources for a machine; returns the objects."""
    for compiler in (c, cpp):
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
    objects = []
    for source in sorted([*directory.glob("*.c"), *directory.glob("*.cc")]):
        language = [c, "-std=c99"]
        if source.suffix == ".cc":
            language = [cpp, "-std=c++17", f"-I{FIRMWARE}", f"-I{directory}"]
        objects.append(str(out / f"{source.name}.o"))
        options = [target, "-fdata-sections", "-ffunction-sections"]
        if source.suffix == ".c":
            options += [*WARNINGS, *includes(third_party)]
        else:
            options += [x for x in WARNINGS if x != "-Wconversion"]  # the stub's headers
        subprocess.run([*language, *options, "-c", source, "-o", objects[-1]], check=True)
    return objects + compile_third_party(third_party, c, cpp, target)


class Firmware:
    """The exported sources as a library of this machine, with models that `invoke` runs."""

    def __init__(self, library: pathlib.Path, loaded: bundle.Bundle, invoke: Invoke) -> None:
        self._models = (loaded.decoder_step, loaded.encoder)
        self._library = ctypes.CDLL(str(library))
        self.invoke = invoke
        pointers = ctypes.POINTER(ctypes.c_void_p)
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, pointers, pointers)
        self._callback = prototype(self._invoke)  # kept: C has only its address
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        ctypes.c_void_p.in_dll(self._library, "stub_invoke").value = address
        assert self._library.firmware_start() == OK

    def _invoke(self, encoder: int, inputs: list[int], outputs: list[int]) -> int:
        model = self._models[encoder]
        found = self.invoke(bool(encoder), copied(model, inputs))
        if found is None:
            return 1
        for spec, address in zip(model.outputs, outputs, strict=False):
            ctypes.memmove(address, found[spec.name].ctypes.data, found[spec.name].nbytes)
        return 0

    def decode(
        self, features: NDArray[np.int8], frames: int | None = None, beam: int = 0
    ) -> tuple[int, str]:
        """Status and text; `beam` 0: as many hypotheses as there are."""
        text = ctypes.create_string_buffer(4096)
        count = len(features) if frames is None else frames
        address = ctypes.c_void_p(features.ctypes.data)
        status = self._library.firmware_decode(address, count, beam, text)
        return status, text.value.decode()

    @property
    def result(self) -> tuple[int, bool]:
        """Number of tokens, and whether the text ended."""
        return self._library.firmware_token_count(), bool(self._library.firmware_ended())

    def commands(self) -> list[tuple[str, dict[str, str], float]]:
        """Intent, slots and confidence of each command."""
        library, value, found = self._library, ctypes.create_string_buffer(4096), []
        library.firmware_command.restype = ctypes.POINTER(Command)
        library.firmware_intent.restype = ctypes.c_char_p
        library.firmware_slot.restype = ctypes.c_char_p
        confidence = ctypes.c_int32()
        for number in range(library.firmware_command_count()):
            command = library.firmware_command(number).contents
            slots: dict[str, str] = {}
            while (
                name := library.firmware_slot(number, len(slots), value, ctypes.byref(confidence))
            ) is not None:
                slots[name.decode()] = value.value.decode()
            intent = library.firmware_intent(command.intent).decode()
            found.append((intent, slots, command.confidence / 65536))
        return found

    @property
    def operators(self) -> int:
        return self._library.firmware_operators()

    def self_test(self) -> tuple[int, Mismatch]:
        found = Mismatch()
        return self._library.firmware_self_test(ctypes.byref(found)), found

    def array(self, name: str, size: int) -> tuple[bytes, int]:
        """Bytes and address of an exported array."""
        address = ctypes.addressof(ctypes.c_char.in_dll(self._library, name))
        return ctypes.string_at(address, size), address


def build(
    exported: pathlib.Path,
    loaded: bundle.Bundle,
    invoke: Invoke,
    out: pathlib.Path,
    third_party: ThirdParty,
) -> Firmware:
    objects = compile_sources(*HOST, exported, out, third_party)
    command = ["g++", "-std=c++17", "-fPIC", "-shared", f"-I{exported}", f"-I{FIRMWARE}"]
    subprocess.run([*command, FIRMWARE / "host.cc", *objects, "-o", out / "f.so"], check=True)
    return Firmware(out / "f.so", loaded, invoke)


def run_on_cortex_m55(
    exported: pathlib.Path, objects: list[str], out: pathlib.Path
) -> tuple[int, str]:
    """Exit status and output of the self-test on the emulator."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    compiler, _, target = CORTEX_M55
    options = [target, "-std=c99", *WARNINGS, f"-I{exported}", "-nostartfiles", "-Wl,--gc-sections"]
    script = ["-T", FIRMWARE / "cortex_m55.ld", "--specs=nano.specs"]
    program = [FIRMWARE / "cortex_m55.c", *(name for name in objects if name.endswith(".c.o"))]
    elf = out / "firmware.elf"
    subprocess.run([compiler, *options, *script, *program, "-o", elf], check=True)
    emulator = ["qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-semihosting"]
    ran = subprocess.run(
        [*emulator, "-kernel", elf], capture_output=True, text=True, timeout=60, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def held_to(loaded: bundle.Bundle, content: dict[str, Any]) -> bundle.Bundle:
    """The bundle with a grammar."""
    found = grammar.load(json.dumps(content).encode(), len(loaded.tokenizer.tokens), (0, 1, 30))
    return dataclasses.replace(loaded, grammar=found)
