"""The C core as a library of this machine, for the tests of it, and the sources of others that it
needs."""

import ctypes
import dataclasses
import hashlib
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.bundle import Bundle
from firmware_sim.c import block, signature, third_party
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.recognizer import Recognizer as PythonRecognizer
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.model import Model
from firmware_sim.search import results
from tests.conftest import REPOSITORY, one_at_a_time

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
SOURCES = REPOSITORY / "firmware_sim" / "c"
CORE = (
    *("speech", "speech_align", "speech_core", "speech_decoder", "speech_detector"),
    *("speech_features", "speech_grammar", "speech_pause", "speech_phones"),
    *("speech_result", "speech_search", "speech_sentence", "speech_stream"),
)
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
OK, FRAMES, ENCODER, DECODER_STEP, MISMATCH, RUNTIME, BEAM, BLOCK, MEMORY = range(9)
EVENT_KINDS = ("", "speech_began", "early_text", "speech_ended", "text", "command", "rejected")
# Outputs of the encoder, or else of the decoder step, for its inputs; None: it failed.
Invoke = Callable[[bool, runtime.Tensors], runtime.Tensors | None]


def fetch(directory: pathlib.Path) -> ThirdParty:
    """The sources of others; without a package registry, the test is skipped."""
    try:
        return third_party.fetch(directory)
    except third_party.UnreachableError as error:
        pytest.skip(str(error))


def compile_third_party(sources: ThirdParty, c: str, cpp: str, *target: str) -> list[str]:
    """The objects of others that the core needs, for a machine; made once."""
    out = sources.microfrontend.parent / f"{c}-objects"
    out.mkdir(exist_ok=True)
    includes = [f"-I{path}" for path in sources.frontend_includes]
    jobs = [([cpp, "-std=c++17", *includes], source) for source in sources.frontend_sources]
    command = [c, "-std=gnu99", f"-I{sources.webrtc}"]
    jobs += [(command, source) for source in sources.detector_sources]
    options = [*target, "-O2", "-w", "-ffunction-sections", "-fdata-sections", "-c"]
    objects = []
    with one_at_a_time(out):
        for command, source in jobs:
            objects.append(str(out / f"{source.name}.o"))
            if not pathlib.Path(objects[-1]).exists():
                subprocess.run([*command, *options, str(source), "-o", objects[-1]], check=True)
    return objects


def includes(sources: ThirdParty) -> list[str]:
    """Options of a compiler: headers of others are not held to our warnings."""
    return [f"-isystem{sources.microfrontend}", f"-isystem{sources.webrtc}"]


def compile_core(
    sources: ThirdParty, compiler: str, out: pathlib.Path, options: Sequence[str] = ()
) -> list[str]:
    """The objects of the core's own sources, compiled without a warning."""
    objects = []
    for name in CORE:
        objects.append(str(out / f"{name}.o"))
        command = [compiler, "-std=c99", "-O2", *WARNINGS, *options, *includes(sources)]
        subprocess.run([*command, "-c", str(SOURCES / f"{name}.c"), "-o", objects[-1]], check=True)
    return objects


def build(sources: ThirdParty, out: pathlib.Path, options: Sequence[str] = ()) -> pathlib.Path:
    """The core as a shared library."""
    for compiler in ("gcc", "g++"):
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
    objects = compile_core(sources, "gcc", out, ["-fPIC", *options])
    objects += compile_third_party(sources, "gcc", "g++", "-fPIC")
    command = ["g++", "-shared", *options, *objects, "-o", str(out / "core.so")]
    subprocess.run(command, check=True)
    return out / "core.so"


class Slot(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_char_p),
        ("slot", ctypes.c_int32),
        ("confidence", ctypes.c_int32),
    )


class EventC(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("start", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("text", ctypes.c_char_p),
        ("confidence", ctypes.c_int32),
        ("intent", ctypes.c_char_p),
        ("intent_number", ctypes.c_int32),
        ("slots", ctypes.POINTER(Slot)),
        ("slot_count", ctypes.c_int32),
    )


_LISTENER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(EventC))
_POINTERS = ctypes.POINTER(ctypes.c_void_p)
_INVOKE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, _POINTERS, _POINTERS)


class ListenerC(ctypes.Structure):
    _fields_ = (("on_event", _LISTENER), ("context", ctypes.c_void_p))


class RuntimeC(ctypes.Structure):
    _fields_ = (("context", ctypes.c_void_p), ("encoder", _INVOKE), ("decoder_step", _INVOKE))


class Settings(ctypes.Structure):
    _fields_ = (("beam", ctypes.c_int32), ("early", ctypes.c_int32))


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of the core, with confidences from 0 to 1; None: there is none."""

    kind: str
    start: int
    end: int
    text: str
    confidence: float | None
    intent: str | None
    slots: dict[str, tuple[str, float]]  # value and confidence


def remembered(loaded: Bundle, name: str = "litert-reference") -> Invoke:
    """Both models on a runtime; the same inputs are run once."""
    models = [runtime.load(name, m) for m in (loaded.decoder_step, loaded.encoder)]
    known: dict[bytes, runtime.Tensors] = {}

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors:
        content = b"".join(inputs[key].tobytes() for key in sorted(inputs))
        key = hashlib.sha256(bytes([encoder]) + content).digest()
        if key not in known:
            known[key] = models[encoder].invoke(inputs)
        return known[key]

    return invoke


def copied(model: Model, addresses: Any) -> runtime.Tensors:
    """The inputs of a model, from where C has them."""
    given = {spec.name: np.empty(spec.shape, spec.dtype) for spec in model.inputs}
    for i, values in enumerate(given.values()):
        ctypes.memmove(values.ctypes.data, addresses[i], values.nbytes)
    return given


class Models:
    """The two models of a bundle, as the core calls them."""

    def __init__(self, loaded: Bundle, invoke: Invoke) -> None:
        self.invoke = invoke
        self._models = (loaded.decoder_step, loaded.encoder)
        self._outputs: list[dict[str, NDArray[Any]]] = [{}, {}]  # C has only their addresses
        self.runtime = RuntimeC(
            None,
            _INVOKE(lambda _, inputs, outputs: self._run(1, inputs, outputs)),
            _INVOKE(lambda _, inputs, outputs: self._run(0, inputs, outputs)),
        )

    def _run(self, encoder: int, inputs: Any, outputs: Any) -> int:
        model = self._models[encoder]
        found = self.invoke(bool(encoder), copied(model, inputs))
        if found is None:
            return 1
        self._outputs[encoder] = {name: x.copy() for name, x in found.items()}
        for i, spec in enumerate(model.outputs):
            outputs[i] = self._outputs[encoder][spec.name].ctypes.data
        return 0


class Recognizer:
    """A recogniser of the core."""

    def __init__(
        self,
        library: pathlib.Path,
        block: bytes,
        models: Models,
        beam: int = 0,
        early: bool = False,
        grammar: bytes | None = None,
    ) -> None:
        """`grammar`: the largest that it will use."""
        self._library = ctypes.CDLL(str(library))
        self._models = models
        self._block = aligned(block)
        self._settings = Settings(beam, early)
        self._listener = ListenerC(_LISTENER(self._on_event), None)
        self._library.speech_said.restype = ctypes.c_char_p
        self.events: list[Event] = []
        self.said: list[dict[str, str]] = []  # of each event's slots
        size = ctypes.c_size_t()
        given = (address(self._block), ctypes.c_size_t(len(block)), ctypes.byref(self._settings))
        largest = self._grammar_of(grammar)
        self._check(self._library.speech_size_with(*given, *largest, ctypes.byref(size)))
        self.bytes = size.value
        self._memory = np.full(self.bytes // 8 + 1, -1, np.int64)  # the core clears what it needs
        self._handle = ctypes.c_void_p()
        runtime_listener = (ctypes.byref(models.runtime), ctypes.byref(self._listener))
        status = self._library.speech_open(
            *(ctypes.byref(self._handle), address(self._memory), size, *given, *runtime_listener)
        )
        self._check(status)

    def feed(self, samples: NDArray[np.int16]) -> int:
        samples = np.ascontiguousarray(samples)
        return int(
            self._library.speech_feed(self._handle, address(samples), ctypes.c_size_t(len(samples)))
        )

    def finish(self) -> int:
        return int(self._library.speech_finish(self._handle))

    def use(self, grammar: bytes | None) -> None:
        self._check(self._library.speech_use(self._handle, *self._grammar_of(grammar)))

    def _grammar_of(self, grammar: bytes | None) -> tuple[Any, ctypes.c_size_t]:
        if grammar is None:
            return None, ctypes.c_size_t(0)
        self._grammar = aligned(grammar)  # C reads it in place
        return address(self._grammar), ctypes.c_size_t(len(grammar))

    def go_on(self, samples: NDArray[np.int16]) -> list[Event]:
        """The events of a part of a stream."""
        self.events = []
        self._check(self.feed(samples))
        return self.events

    def hear(self, samples: NDArray[np.int16], block: int = 160) -> list[Event]:
        """The events of a whole stream, in blocks of a size."""
        self.events = []
        for start in range(0, len(samples), block):
            self._check(self.feed(samples[start : start + block]))
        self._check(self.finish())
        return self.events

    def transcribe(self, samples: NDArray[np.int16]) -> list[Event]:
        """The result of a whole recording."""
        self.events = []
        samples = np.ascontiguousarray(samples)
        given = address(samples), ctypes.c_size_t(len(samples))
        self._check(self._library.speech_transcribe(self._handle, *given))
        return self.events

    @property
    def is_intact(self) -> bool:
        """Whether nothing was written beyond the memory that the core asked for."""
        return bool(self._memory[-1] == -1)

    def _on_event(self, _: Any, event: Any) -> None:
        x = event.contents
        found = [x.slots[i] for i in range(x.slot_count)]
        said = (self._library.speech_said(self._handle, ctypes.byref(slot)) for slot in found)
        self.said.append(
            {s.name.decode(): how.decode() for s, how in zip(found, said, strict=True)}
        )
        self.events.append(
            Event(
                kind=EVENT_KINDS[x.kind],
                start=x.start,
                end=x.end,
                text=x.text.decode(),
                confidence=None if x.confidence < 0 else x.confidence / 65536,
                intent=x.intent and x.intent.decode(),
                slots={s.name.decode(): (s.value.decode(), s.confidence / 65536) for s in found},
            )
        )

    @staticmethod
    def _check(status: int) -> None:
        if status != OK:
            raise RuntimeError(status)


def aligned(block: bytes) -> NDArray[np.uint32]:
    """The bytes at an address that is a multiple of 4."""
    return np.frombuffer(block + bytes(-len(block) % 4), np.uint32)


def address(values: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def block_of(loaded: Bundle, beam: int = 4) -> bytes:
    return block.block(loaded, signature.read(loaded), beam)


class Remembered:
    """One of the two models as a runtime."""

    name = "remembered"
    arena_bytes = None

    def __init__(self, invoke: Invoke, encoder: bool) -> None:
        self._invoke, self._encoder = invoke, encoder

    def invoke(self, inputs: Any) -> runtime.Tensors:
        outputs = self._invoke(self._encoder, dict(inputs))
        assert outputs is not None
        return {name: values.copy() for name, values in outputs.items()}


def reference(loaded: Bundle, invoke: Invoke, audio: NDArray[np.int16], early: bool) -> list[Event]:
    """The events of Python."""
    listener = python_recognizer(loaded, invoke)
    return [converted(event) for event in listener.listen([audio], early)]


def python_recognizer(loaded: Bundle, invoke: Invoke) -> PythonRecognizer:
    """Python's recogniser on the same models."""

    def load(name: str, model: Model, num_threads: int) -> Remembered:
        return Remembered(invoke, model is loaded.encoder)

    with mock.patch.object(runtime, "load", load):
        return PythonRecognizer(loaded)


def converted(event: results.Event) -> Event:
    command, slots = event.command, {}
    if command is not None:
        slots = {k: (v, command.slot_confidence[k]) for k, v in command.slots.items()}
    intent = command.intent if command else None
    place = event.start, event.end
    return Event(event.kind.value, *place, event.text, event.confidence, intent, slots)


def without_confidence(event: Event) -> Event:
    slots = {name: (value, 0.0) for name, (value, _) in event.slots.items()}
    return dataclasses.replace(event, confidence=None, slots=slots)


def assert_same_events(found: list[Event], expected: list[Event]) -> None:
    """Equal in everything; confidences within 0.001."""
    assert [*map(without_confidence, found)] == [*map(without_confidence, expected)]
    for x, y in zip(found, expected, strict=True):
        assert (x.confidence is None) == (y.confidence is None)
        assert x.confidence == pytest.approx(y.confidence, abs=0.001)
        for name, (_, confidence) in x.slots.items():
            assert confidence == pytest.approx(y.slots[name][1], abs=0.001)


def fuzz(program: pathlib.Path, block: bytes, directory: pathlib.Path, copies: int = 200) -> None:
    """Gives the core damaged copies of a block; sanitizers see what it does."""
    (directory / "core.bin").write_bytes(block)
    printed = run_command(program, directory / "core.bin", copies, 1)
    accepted, results = map(int, printed.split())
    assert copies / 6 < accepted < copies and results > copies / 4


def run_command(*command: object, cwd: pathlib.Path | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
