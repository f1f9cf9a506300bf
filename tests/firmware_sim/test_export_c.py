"""The exported C, compiled for a Cortex-M55 and for this machine, and run on this one.

No package carries the headers of a TensorFlow Lite Micro of today.  `firmware/tensorflow` declares
what `speech_tflm.cc` uses of them, and its interpreter hands every invocation to LiteRT's
reference kernels: the loop and its binding are the exported ones and the models are real, but
TFLite Micro's own C++ is not there.
"""

import ctypes
import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tflite_micro import runtime as tflite_micro

from firmware_sim import bundle, export_c, fit, recognizer
from firmware_sim.c import self_test
from firmware_sim.export_c import ExportError
from firmware_sim.fitting import device
from firmware_sim.grammar import automaton as grammar
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes import runtime
from firmware_sim.search import options as search_options
from firmware_sim.search import speech_model
from firmware_sim.search.beam import Decoder
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import digit_grammar, run_module, synthesise

_run = functools.partial(run_module, "firmware_sim.export_c")

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
# Compilers of C and C++, and the flag of the machine that they compile for.
HOST = ("gcc", "g++", "-fPIC")
CORTEX_M55 = ("arm-none-eabi-gcc", "arm-none-eabi-g++", "-mcpu=cortex-m55")
DIGITS = """
call: ["$digit:first $digit:second $digit:third"]
code: ["$pair:pair $digit:last $digit:check"]
"""
FIRMWARE = pathlib.Path(__file__).parent / "firmware"
OK, FRAMES, ENCODER, DECODER_STEP, MISMATCH, RUNTIME, BEAM = range(7)
# Outputs of the encoder, or else of the decoder step, for its inputs; None: it failed.
Invoke = Callable[[bool, runtime.Tensors], runtime.Tensors | None]


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


@pytest.fixture(scope="module")
def loaded(digits_bundle: pathlib.Path) -> bundle.Bundle:
    return bundle.load(digits_bundle)


@pytest.fixture(scope="module")
def sources(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> dict[str, str]:
    return export_c.export(loaded, speech)


@pytest.fixture(scope="module")
def exported(
    sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pathlib.Path]:
    path = tmp_path_factory.mktemp("export") / "speech"
    export_c.write(sources, path)
    yield path


def _compile(
    c: str, cpp: str, target: str, directory: pathlib.Path, out: pathlib.Path
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
        options = [target, *WARNINGS, "-fdata-sections", "-c", source, "-o", objects[-1]]
        subprocess.run([*language, *options], check=True)
    return objects


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
        given = {}
        for spec, address in zip(model.inputs, inputs, strict=False):
            values = np.empty(spec.shape, spec.dtype)
            ctypes.memmove(values.ctypes.data, address, values.nbytes)
            given[spec.name] = values
        found = self.invoke(bool(encoder), given)
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
        library, text, found = self._library, ctypes.create_string_buffer(4096), []
        library.firmware_command.restype = ctypes.POINTER(Command)
        library.firmware_intent.restype = ctypes.c_char_p
        library.firmware_slot_name.restype = ctypes.c_char_p
        for number in range(library.firmware_command_count()):
            command = library.firmware_command(number).contents
            slots, slot = {}, 0
            while (name := library.firmware_slot_name(slot)) is not None:
                if library.firmware_slot_text(number, slot, text):
                    slots[name.decode()] = text.value.decode()
                slot += 1
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


@pytest.fixture(scope="module")
def reference(loaded: bundle.Bundle) -> Invoke:
    """Both models on LiteRT's reference kernels."""
    models = [runtime.load("litert-reference", m) for m in (loaded.decoder_step, loaded.encoder)]
    return lambda encoder, inputs: models[encoder].invoke(inputs)


@pytest.fixture(scope="module")
def started(
    exported: pathlib.Path,
    loaded: bundle.Bundle,
    reference: Invoke,
    tmp_path_factory: pytest.TempPathFactory,
) -> Firmware:
    return build(exported, loaded, reference, tmp_path_factory.mktemp("host"))


def build(
    exported: pathlib.Path, loaded: bundle.Bundle, invoke: Invoke, out: pathlib.Path
) -> Firmware:
    objects = _compile(*HOST, exported, out)
    command = ["g++", "-std=c++17", "-fPIC", "-shared", f"-I{exported}", f"-I{FIRMWARE}"]
    subprocess.run([*command, FIRMWARE / "host.cc", *objects, "-o", out / "f.so"], check=True)
    return Firmware(out / "f.so", loaded, invoke)


@pytest.fixture
def firmware(started: Firmware, reference: Invoke) -> Firmware:
    started.invoke = reference
    return started


@pytest.fixture(scope="module")
def cortex_m55_objects(
    exported: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    return _compile(*CORTEX_M55, exported, tmp_path_factory.mktemp("cortex_m55"))


def test_every_source_compiles_for_a_cortex_m55_without_a_warning(
    cortex_m55_objects: list[str],
) -> None:
    assert all(pathlib.Path(name).stat().st_size for name in cortex_m55_objects)


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


def test_the_self_test_runs_on_a_cortex_m55(
    cortex_m55_objects: list[str], exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert run_on_cortex_m55(exported, cortex_m55_objects, tmp_path) == (OK, "one two three")


def held_to(loaded: bundle.Bundle, content: dict[str, Any]) -> bundle.Bundle:
    """The bundle with a grammar."""
    found = grammar.load(json.dumps(content).encode(), len(loaded.tokenizer.tokens), (0, 1, 30))
    return dataclasses.replace(loaded, grammar=found)


def test_a_command_is_heard_on_a_cortex_m55(loaded: bundle.Bundle, tmp_path: pathlib.Path) -> None:
    held = held_to(loaded, digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5))
    sources = export_c.export(held, synthesise("five six seven", "en-us+m3"))
    assert "#define SPEECH_GOLDEN_COMMANDS 1" in sources["speech_golden.h"]
    export_c.write(sources, tmp_path / "c")
    objects = _compile(*CORTEX_M55, tmp_path / "c", tmp_path)
    assert run_on_cortex_m55(tmp_path / "c", objects, tmp_path) == (OK, "five six seven")


@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize(
    ("text", "voice", "noise"),
    [
        ("one two three", "en-us+m3", 0),
        ("nine four zero seven", "en-us+f2", 0),
        ("nine four zero seven", "en-us+f2", 3000),
        ("six", "en-us+f4", 2000),
        ("eight eight eight five", "en+m7", 2000),
    ],
)
def test_c_finds_the_text_of_the_decoder(
    text: str,
    voice: str,
    noise: int,
    beam: int,
    firmware: Firmware,
    loaded: bundle.Bundle,
    reference: Invoke,
) -> None:
    audio = synthesise(text, voice)
    chance = np.random.default_rng(noise)
    audio = (audio // 2 + chance.normal(0, noise, len(audio))).astype(np.int16)
    features = recognizer.compute_features(loaded, audio)
    encoded = reference(True, recognizer.encoder_inputs(loaded, features))
    assert encoded is not None
    step = runtime.load("litert-reference", loaded.decoder_step)
    greedy = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    options = greedy if beam == 1 else DecodingOptions(Decoding.BEAM, beam)
    expected = Decoder(loaded, step, options).decode(encoded, len(features))
    assert expected.tokens
    assert firmware.decode(features, beam=beam) == (OK, loaded.tokenizer.text(expected.tokens))
    assert firmware.result == (len(expected.tokens), expected.ended)
    steps = 0

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        nonlocal steps
        steps += not encoder
        return reference(encoder, inputs)

    firmware.invoke = invoke
    firmware.decode(features, beam=beam)
    # A text that has ended ends those in C, too, that are less likely and not yet whole.
    assert len(expected.tokens) < steps <= len(expected.step_seconds)


@pytest.mark.parametrize("frames", [1, 4, 5, 511, 512])
def test_both_models_start_with_the_inputs_that_python_gives_them(
    frames: int, firmware: Firmware, loaded: bundle.Bundle, reference: Invoke
) -> None:
    features = np.random.default_rng(frames).integers(-128, 128, (frames, 40), np.int8)
    given: dict[bool, runtime.Tensors] = {}

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        given.setdefault(encoder, inputs)
        return reference(encoder, inputs) if encoder else None

    firmware.invoke = invoke
    assert firmware.decode(features)[0] == DECODER_STEP
    encoder_inputs = recognizer.encoder_inputs(loaded, features)
    encoded = reference(True, encoder_inputs)
    assert encoded is not None
    step = runtime.load("litert-reference", loaded.decoder_step)
    state = Decoder(loaded, step, DecodingOptions()).start(encoded, frames)
    for expected, found in ((encoder_inputs, given[True]), (state.inputs, given[False])):
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_an_utterance_leaves_nothing_to_the_next(
    firmware: Firmware, loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    first = firmware.decode(features)
    firmware.decode(np.full((loaded.limits.frames, 40), 127, np.int8))
    assert firmware.decode(features) == first


def test_the_self_test_passes_on_the_reference_kernels(firmware: Firmware) -> None:
    status, found = firmware.self_test()
    assert (status, found.tensor) == (OK, None)


def test_the_self_test_names_the_first_byte_that_differs_in_the_encoder(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke
) -> None:
    wrong = loaded.encoder.outputs[1].name

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if encoder and outputs is not None:
            outputs[wrong].reshape(-1)[17] ^= 1
        return outputs

    firmware.invoke = invoke
    status, found = firmware.self_test()
    assert status == MISMATCH
    assert (found.tensor.decode(), found.step, found.index) == (wrong, -1, 17)
    assert found.expected ^ found.found == 1


def test_the_self_test_names_the_first_byte_that_differs_in_a_step(
    firmware: Firmware, reference: Invoke
) -> None:
    steps = 0

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        nonlocal steps
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            if steps == 3:
                outputs["row_0"][0, 0, 5] ^= 1
            steps += 1
        return outputs

    firmware.invoke = invoke
    status, found = firmware.self_test()
    assert status == MISMATCH
    assert (found.tensor, found.step, found.index) == (b"row_0", 3, 5)


def test_a_text_that_does_not_end_is_cut_off_at_the_limit(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    letter = loaded.tokenizer.tokens.index("e")

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = 0
            outputs["logits"][0, [letter, loaded.tokenizer.blank, loaded.tokenizer.start]] = 1
        return outputs

    firmware.invoke = invoke
    features = recognizer.compute_features(loaded, speech)
    assert firmware.decode(features, beam=1) == (OK, "e" * loaded.limits.tokens)
    assert firmware.result == (loaded.limits.tokens, False)


def test_a_text_has_no_spaces_around_it(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    pieces = ["<space>", "<space>", "e", "<space>", "a", "<space>"]
    tokens = [*map(loaded.tokenizer.tokens.index, pieces), loaded.tokenizer.end]

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = 0
            outputs["logits"][0, tokens.pop(0)] = 1
        return outputs

    firmware.invoke = invoke
    assert firmware.decode(recognizer.compute_features(loaded, speech), beam=1) == (OK, "e a")


@pytest.mark.parametrize("apart", [True, False])
def test_c_finds_the_commands_of_the_decoder(
    apart: bool, loaded: bundle.Bundle, reference: Invoke, tmp_path: pathlib.Path
) -> None:
    """Of up to three spoken commands, a half, noise; or, with nothing between, of few letters."""
    content = digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5)
    if not apart:
        e, i, n, o = map(loaded.tokenizer.tokens.index, "eino")
        content |= {"states": 6, "intents": ["all"], "slots": ["x", "y"], "between": []}
        content |= {"finals": [[3, 0], [4, 0]], "reject_below": 0.0}
        # "n" is of one slot or of the other, and "nene" one command rather than two.
        arcs = [[0, n, 1, 0], [0, n, 2, 1], [1, e, 3, 0], [2, o, 4, 1], [2, i, 4, -1]]
        content |= {"arcs": [*arcs, [3, n, 5, 0], [5, e, 4, 0]]}
    held = held_to(loaded, content)
    texts = ["five six seven", "one two eight nine", "two two eight", "nine zero three four five"]
    spoken = [synthesise(text, "en-us+m3") for text in texts]
    noise = np.random.default_rng(1).integers(-3000, 3000, 30_000).astype(np.int16)
    utterances = [*spoken, np.concatenate(spoken[1:3]), np.concatenate([spoken[0]] * 3)]
    utterances += [spoken[0][:9_000], noise]
    export_c.write(export_c.export(held, spoken[0]), tmp_path / "c")
    firmware = build(tmp_path / "c", held, reference, tmp_path)
    listeners = {
        1: Recognizer(held, "litert-reference", DecodingOptions(Decoding.GREEDY)),
        4: Recognizer(held, "litert-reference"),
    }
    counts = set()
    for audio, (beam, listener) in itertools.product(utterances, listeners.items()):
        features = recognizer.compute_features(held, audio[: held.window])
        expected = listener.recognize(features, 0, len(audio)).commands
        assert firmware.decode(features, beam=beam)[0] == OK
        heard = firmware.commands()
        assert [x[:2] for x in heard] == [(x.intent, x.slots) for x in expected]
        for (*_, confidence), command in zip(heard, expected, strict=True):
            assert confidence == pytest.approx(command.confidence, abs=0.002)
        counts.add(len(heard))
    assert firmware.self_test()[0] == OK
    assert counts >= ({0, 1, 2} if apart else {2})


def test_fit_counts_what_the_sources_of_a_grammar_take(
    loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    held = held_to(loaded, digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5))
    assert held.grammar is not None
    export_c.write(export_c.export(held, speech), tmp_path / "c")
    build(tmp_path / "c", held, reference, tmp_path)
    command = ["nm", "--print-size", "--demangle", tmp_path / "f.so"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    sizes = {x[3]: int(x[1], 16) for x in map(str.split, lines) if len(x) == 4}
    options = DecodingOptions(Decoding.BEAM, ctc_weight=None)
    counted = fit.fit(held, device.load("stm32h743"), options)
    (flash,) = (need.bytes for need in counted.flash if need.what == "grammar")
    tables = ("speech_arcs", "speech_first_arcs", "speech_finals")
    names = sum(len(name) + 1 for name in (*held.grammar.intents, *held.grammar.slots))
    assert flash == names + sum(sizes[table] for table in tables)
    elsewhere = ("tensor arena", "encoder outputs", "audio")
    ram = sum(need.bytes for need in counted.ram if not need.what.startswith(elsewhere))
    assert ram < sizes["decoder"] < ram + 2_000  # masks, logits, candidates, commands


def test_pieces_of_any_script_are_in_the_token_table(
    loaded: bundle.Bundle, speech: NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    pieces = [f"{speech_model.WORD_START}größe", "語", '"\\', "??/", "%d\t", "9"]
    tokens = (*loaded.tokenizer.tokens[: -len(pieces) - 1], *pieces, "<blank>")
    changed = dataclasses.replace(loaded.tokenizer, kind="sentencepiece", tokens=tokens)
    odd = dataclasses.replace(loaded, tokenizer=changed, preset="größe */ x")
    export_c.write(export_c.export(odd, speech), tmp_path / "out")
    source = tmp_path / "out" / "speech_model.c"
    before_the_models = source.read_text().partition("#if defined(__GNUC__)")[0]
    source.write_text(before_the_models)  # the compiler is quicker without them
    command = ["gcc", "-std=c99", *WARNINGS, "-fPIC", "-shared", source]
    subprocess.run([*command, "-o", tmp_path / "tokens.so"], check=True)
    table = (ctypes.c_char_p * len(tokens)).in_dll(
        ctypes.CDLL(str(tmp_path / "tokens.so")), "speech_tokens"
    )
    text = b"".join(table[-len(pieces) - 1 :]).decode()
    assert text.strip() == changed.text(range(len(tokens) - len(pieces) - 1, len(tokens)))


def test_the_first_of_equal_logits_wins(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    assert loaded.tokenizer.end == min(set(range(31)) - {loaded.tokenizer.start})

    def invoke(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = reference(encoder, inputs)
        if not encoder and outputs is not None:
            outputs["logits"][:] = -128
        return outputs

    firmware.invoke = invoke
    assert firmware.decode(recognizer.compute_features(loaded, speech), beam=1) == (OK, "")


def test_errors_have_a_status_of_their_own(
    firmware: Firmware, loaded: bundle.Bundle, reference: Invoke, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    for frames in (-1, 0, loaded.limits.frames + 1):
        assert firmware.decode(features, frames)[0] == FRAMES
    for beam in (-1, search_options.BEAM + 1):
        assert firmware.decode(features, beam=beam)[0] == BEAM
    assert firmware.decode(features)[0] == OK
    assert firmware.result[0] > 0
    firmware.invoke = lambda encoder, inputs: None
    assert firmware.decode(features)[0] == ENCODER
    assert firmware.result == (0, False)  # nothing of the utterance before
    assert firmware.self_test()[0] == ENCODER
    firmware.invoke = lambda encoder, inputs: reference(True, inputs) if encoder else None
    assert firmware.decode(features)[0] == DECODER_STEP


def test_the_flatbuffers_are_in_flash_byte_for_byte_and_aligned(
    firmware: Firmware, loaded: bundle.Bundle
) -> None:
    for name, model in (("encoder", loaded.encoder), ("decoder_step", loaded.decoder_step)):
        data, address = firmware.array(f"speech_{name}_model", len(model.data))
        assert data == model.data
        assert address % 16 == 0


def test_features_are_quantized_as_in_python(firmware: Firmware, loaded: bundle.Bundle) -> None:
    function = firmware._library.speech_feature
    function.argtypes, function.restype = [ctypes.c_uint16], ctypes.c_int8
    values = np.arange(1 << 16, dtype=np.uint16)
    found = np.array([function(int(value)) for value in values], np.int8)
    expected = recognizer.frontend.quantize(
        values, loaded.features.numerator, loaded.features.denominator, loaded.features.zero_point
    )
    np.testing.assert_array_equal(found, expected)


def test_the_resolver_has_room_for_exactly_its_operators(
    firmware: Firmware, sources: dict[str, str]
) -> None:
    assert f"MicroMutableOpResolver<{firmware.operators}>" in sources["speech_operators.h"]
    assert firmware.operators == sources["speech_operators.h"].count("resolver.Add") > 0


def test_tflite_micro_loads_both_models_into_the_stated_arenas(
    loaded: bundle.Bundle, sources: dict[str, str]
) -> None:
    for name, model in (("ENCODER", loaded.encoder), ("DECODER_STEP", loaded.decoder_step)):
        size = re.search(rf"SPEECH_{name}_ARENA_BYTES (\d+)", sources["speech_parameters.h"])
        assert size is not None
        arena = int(size.group(1))
        assert arena % 1024 == 0
        tflite_micro.Interpreter.from_bytes(model.data, arena_size=arena)


def test_the_same_bundle_and_audio_give_the_same_bytes(
    loaded: bundle.Bundle, speech: NDArray[np.int16], sources: dict[str, str]
) -> None:
    assert export_c.export(loaded, speech) == sources


def test_every_file_names_the_flatbuffers_that_it_was_made_from(
    loaded: bundle.Bundle, sources: dict[str, str]
) -> None:
    for content in sources.values():
        for model in (loaded.encoder, loaded.decoder_step):
            assert hashlib.sha256(model.data).hexdigest() in content


def test_nothing_allocates(sources: dict[str, str]) -> None:
    for name, content in sources.items():
        code = re.sub(r"/\*.*?\*/", "", content, flags=re.DOTALL)
        assert not re.search(r"\b(malloc|calloc|realloc|new)\b", code), name


def test_an_earlier_export_is_replaced(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "out"
    export_c.write({"a.h": "1\n", "b.h": "2\n"}, target)
    export_c.write({"a.h": "3\n"}, target)
    assert sorted(path.name for path in target.iterdir()) == ["SHA256SUMS", "a.h"]
    assert (target / "a.h").read_text() == "3\n"
    assert list(tmp_path.iterdir()) == [target]


def test_what_an_export_did_not_write_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "out"
    files = {"a.h": "1\n"}
    export_c.write(files, target)
    (target / "a.h").write_text("mine\n")
    with pytest.raises(ExportError, match=r"a\.h: differs from what an export wrote"):
        export_c.write(files, target)
    assert (target / "a.h").read_text() == "mine\n"

    (target / "a.h").write_text("1\n")
    (target / "main.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(ExportError, match=r"main\.c: differs from what an export wrote"):
        export_c.write(files, target)
    assert (target / "main.c").exists()

    (target / "main.c").unlink()
    (target / "SHA256SUMS").write_text(f"{hashlib.sha256(b'1').hexdigest()}  a.h\n")
    (target / "a.h").write_text("1")
    with pytest.raises(ExportError, match="SHA256SUMS: differs from what an export wrote"):
        export_c.write(files, target)

    with pytest.raises(ExportError, match="is a file"):
        export_c.write(files, target / "a.h")
    with pytest.raises(ExportError, match="create it first"):
        export_c.write(files, tmp_path / "no" / "out")
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_earlier_export(
    sources: dict[str, str], small_disk: pathlib.Path
) -> None:
    target = small_disk / "out"
    export_c.write({"a.h": "1\n"}, target)
    with pytest.raises(ExportError, match="No space left on device"):
        export_c.write({**sources, "b.h": "2\n" * 1_000_000}, target)
    assert (target / "a.h").read_text() == "1\n"
    assert list(small_disk.iterdir()) == [target]


def test_a_bundle_in_float_is_refused(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> None:
    with pytest.raises(ExportError, match="its precision is float32"):
        export_c.export(dataclasses.replace(loaded, precision="float32"), speech)


def test_an_input_that_nothing_fills_is_refused(
    loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    """Here the decoder step reads what the encoder writes in another scale."""
    outputs = tuple(dataclasses.replace(s, scale=0.5) for s in loaded.encoder.outputs)
    changed = dataclasses.replace(loaded.encoder, outputs=outputs)
    with pytest.raises(ExportError, match="writes nothing of that name, shape and scale"):
        export_c.export(dataclasses.replace(loaded, encoder=changed), speech)


def test_audio_that_tests_nothing_is_refused(loaded: bundle.Bundle) -> None:
    for samples in (0, 100, 16000 * 6):
        with pytest.raises(ExportError, match=r"s long; name one of 0\.03 to 5\.1"):
            export_c.export(loaded, np.zeros(samples, np.int16))


def test_the_command_needs_a_bundle_and_a_directory_alone(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, loaded: bundle.Bundle
) -> None:
    out = tmp_path / "out"
    result = _run(f"--bundle={digits_bundle}", f"--out={out}")
    assert (result.returncode, result.stdout) == (0, "")
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    assert checked.returncode == 0
    assert {path.name for path in out.iterdir()} == {
        "SHA256SUMS",
        *export_c.export(loaded, self_test.noise()),
    }


def test_the_self_test_can_be_of_ones_own_speech(
    digits_bundle: pathlib.Path,
    tmp_path: pathlib.Path,
    speech: NDArray[np.int16],
    sources: dict[str, str],
) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    out = tmp_path / "out"
    _run(f"--bundle={digits_bundle}", f"--out={out}", f"--audio={tmp_path / 'a.wav'}")
    assert (out / "speech_golden.h").read_text() == sources["speech_golden.h"]
    assert "one two three" in sources["speech_golden.h"]


def test_a_damaged_bundle_is_one_sentence_and_writes_nothing(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(digits_bundle, damaged)
    data = bytearray((damaged / "encoder.tflite").read_bytes())
    data[5000] ^= 1
    (damaged / "encoder.tflite").write_bytes(data)
    result = _run(f"--bundle={damaged}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"{damaged}/encoder.tflite: its sha256 differs from the manifest's, so the file was "
        "changed or damaged; copy or export the bundle again."
    )
    assert list(tmp_path.iterdir()) == [damaged]
