"""The compiler of grammars in C as a library of this machine, and Python's for comparison."""

import ctypes
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import yaml

from firmware_sim.bundle import Bundle
from firmware_sim.c import block
from firmware_sim.grammar import automaton
from firmware_sim.grammar.lexicon import Lexicon
from firmware_sim.grammar.phones import PHONES
from firmware_sim.grammar.pronunciation import ENGLISH, Pronunciations
from firmware_sim.grammar.source import Grammar
from firmware_sim.runtimes.model import TensorSpec
from firmware_sim.search.speech_model import Phones
from tests.firmware_sim import core

SOURCES = core.SOURCES / "compiler"
OK, BLOCK, MEMORY, LEXICON, GRAMMAR = 0, 7, 8, 9, 10
FAULTS = (
    *("sound", "form", "syntax", "word", "slot", "silence", "ambiguity", "phones", "size"),
)  # in the order of speech_compiler.h
PHONE_SCALE = 0.1  # nats of a unit of the logits
_LEAST = 1 << 14


class Error(ctypes.Structure):
    _fields_ = (
        ("fault", ctypes.c_int),
        ("position", ctypes.c_uint32),
        ("line", ctypes.c_uint32),
        ("message", ctypes.c_char * 320),
    )


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a text; without an error the fault is "sound"."""

    status: int
    block: bytes | None
    fault: str
    position: int
    line: int
    message: str
    room: int  # bytes of the buffer that was large enough


def general(loaded: Bundle) -> Bundle:
    """The bundle of digits, with an output of phones that its encoder does not have."""
    shape = (1, loaded.limits.memory_frames, len(PHONES) + 1)
    output = TensorSpec("phone_logits", shape, "int8", PHONE_SCALE, 3)
    encoder = dataclasses.replace(loaded.encoder, outputs=(*loaded.encoder.outputs, output))
    return dataclasses.replace(loaded, encoder=encoder, phones=Phones(PHONES))


def sources() -> list[pathlib.Path]:
    return sorted(SOURCES.glob("*.c"))


def includes() -> list[str]:
    return [f"-I{core.SOURCES}", f"-I{SOURCES}"]


def build(out: pathlib.Path, options: Sequence[str] = ()) -> pathlib.Path:
    """The compiler as a shared library, compiled without a warning."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = out / "compiler.so"
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", *core.WARNINGS, *options, *includes()]
    core.run_command("gcc", *flags, *sources(), core.SOURCES / "speech_core.c", "-o", library)
    return library


class Compiler:
    """The compiler for the bundle of digits, with the lexicon of general bundles."""

    def __init__(self, library: pathlib.Path, bundle: Bundle) -> None:
        self._compile = ctypes.CDLL(str(library)).speech_compile
        self.bundle = bundle
        self.block, self.lexicon = core.block_of(bundle), ENGLISH.read_bytes()
        self._pronunciations = Pronunciations(Lexicon(self.lexicon))

    def compile(self, text: str | bytes, room: int = 0) -> Compiled:
        """Compiles a text, in a buffer that doubles until it is large enough, if none is given."""
        size = room or _LEAST
        while True:
            result = self._try(text.encode() if isinstance(text, str) else text, size)
            if result.status != MEMORY or room:
                return result
            size *= 2

    def _try(self, text: bytes, room: int) -> Compiled:
        # Exactly as large as said; what lies behind it must stay as it is.
        buffer = np.full(room // 8 + 1, -1, np.int64)
        size, error = ctypes.c_size_t(), Error()
        content, lexicon = core.aligned(self.block), core.aligned(self.lexicon)
        status = self._compile(
            *(core.address(content), ctypes.c_size_t(len(self.block))),
            *(core.address(lexicon), ctypes.c_size_t(len(self.lexicon))),
            *(text, ctypes.c_size_t(len(text)), core.address(buffer), ctypes.c_size_t(room)),
            *(ctypes.byref(size), ctypes.byref(error)),
        )
        assert buffer[-1] == -1
        made = buffer.tobytes()[: size.value] if status == OK else None
        fault = FAULTS[error.fault]
        where = error.position, error.line
        return Compiled(status, made, fault, *where, error.message.decode(), room)

    def python(self, content: Any, directory: pathlib.Path) -> bytes:
        """What Python makes of the same.

        Args:
          content: of a grammar's file.

        Raises:
          ValueError: it is no grammar.
        """
        path = directory / "grammar.yaml"
        path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        compiled = Grammar.read(path).compile_phones(self._pronunciations.of)
        grammar = automaton.build(compiled, len(PHONES), ())
        return block.grammar_block(grammar, self.bundle)


def host_reads(path: pathlib.Path) -> Any:
    """A file as a host's YAML parser gives it: all of it texts."""
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)
