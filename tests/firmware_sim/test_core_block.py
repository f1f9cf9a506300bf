"""The C core: its block, features and memory, and the rules that it keeps."""

import ctypes
import dataclasses
import json
import pathlib
import re
import shutil
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, fit
from firmware_sim.c import block, microfrontend, signature
from firmware_sim.c.signature import ExportError
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.fitting import device
from firmware_sim.grammar import automaton
from firmware_sim.search.options import DecodingOptions
from firmware_sim.sound import frontend, segment
from tests.conftest import digit_grammar, run_module
from tests.firmware_sim import core
from tests.firmware_sim.conftest import DIGITS

SECOND = 16000
FIRMWARE = pathlib.Path(__file__).parent / "firmware"


@pytest.fixture(scope="module")
def models(loaded: bundle.Bundle) -> core.Models:
    """Models that nothing runs."""
    return core.Models(loaded, lambda encoder, inputs: None)


def test_features_are_those_of_the_wheel(
    core_library: pathlib.Path, content: bytes, speech: NDArray[np.int16]
) -> None:
    library = ctypes.CDLL(str(core_library))
    library.speech_features_lay.restype = ctypes.c_void_p
    parsed, words = (ctypes.c_uint64 * 128)(), core.aligned(content)
    size = ctypes.c_size_t(len(content))
    assert library.speech_core_read(parsed, core.address(words), size) == core.OK
    memory = np.zeros(1 << 12, np.int64)
    laid = (ctypes.c_uint64 * 2)(memory.ctypes.data, 0)
    features = ctypes.c_void_p(library.speech_features_lay(parsed, laid))
    assert laid[1] < memory.nbytes
    noise = np.random.default_rng(0)
    sounds = [speech, np.zeros(8000, np.int16), np.full(8000, -32768, np.int16)]
    sounds += [noise.integers(-(2**bits), 2**bits, 8000).astype(np.int16) for bits in range(16)]
    frame = np.zeros(40, np.uint16)
    for sound in sounds:
        library.speech_features_reset(features, parsed)
        frames = []
        for start in range(0, len(sound) - 159, 160):
            step = np.ascontiguousarray(sound[start : start + 160])
            if library.speech_features_step(features, core.address(step), core.address(frame)):
                frames.append(frame.copy())
        np.testing.assert_array_equal(frames, frontend.microfrontend(sound))


def test_the_tables_are_those_of_the_microfrontends_own_set_up(
    third_party: ThirdParty, tmp_path: pathlib.Path
) -> None:
    sources = third_party.library
    names = ("frontend", "window", "fft", "filterbank", "noise_reduction")
    files = [sources / f"{name}_util.cc" for name in (*names, "pcan_gain_control", "log_scale")]
    includes = [f"-I{path}" for path in third_party.frontend_includes]
    flags = ["-std=c++17", "-O2", "-w", "-shared", "-fPIC", *includes]
    objects = core.compile_third_party(third_party, "gcc", "g++", "-fPIC")
    library = tmp_path / "set_up.so"
    program = FIRMWARE / "microfrontend.cc"
    core.run_command("g++", *flags, program, *files, *objects, "-o", library)
    set_up = ctypes.CDLL(str(library))
    set_up.table.restype = ctypes.c_void_p
    filters, gains = microfrontend.filterbank(), microfrontend.gains()
    fft, twiddles, real_twiddles = microfrontend.fft()
    written = np.flatnonzero((np.arange(len(gains)) < 2) | (np.arange(len(gains)) % 4 != 1))
    tables: tuple[NDArray[Any], ...] = (
        *(microfrontend.window(), filters.frequency_starts, filters.weight_starts),
        *(filters.widths, filters.weights, filters.unweights, gains),
        *(fft[: 2 + 2 * np.count_nonzero(fft[2::2])], twiddles, real_twiddles),
    )
    for number, expected in enumerate(tables):
        data = ctypes.string_at(set_up.table(number), expected.nbytes)
        found = np.frombuffer(data, expected.dtype).reshape(expected.shape)
        if expected is gains:  # the set-up leaves every fourth entry as it is
            found, expected = found[written], gains[written]
        np.testing.assert_array_equal(found, expected, err_msg=str(number))
    numbers = {
        **microfrontend.numbers(),
        "first_bin": filters.first_bin,
        "end_bin": filters.end_bin,
    }
    order: tuple[str, ...] = (
        "window",
        "step",
        "fft",
        "channels",
        "first_bin",
        "end_bin",
        "smoothing_bits",
    )
    order += ("even_smoothing", "odd_smoothing", "least_signal", "snr_shift", "log_shift")
    assert [set_up.number(i) for i in range(len(order))] == [numbers[name] for name in order]


def test_windows_are_cut_where_python_cuts_them(core_library: pathlib.Path) -> None:
    library = ctypes.CDLL(str(core_library))
    chance = np.random.default_rng(1)
    for _ in range(500):
        blocks = int(chance.integers(5, 600))
        variances = np.exp(chance.normal(8, chance.choice([0.1, 2, 6]), blocks))
        start = int(chance.integers(0, blocks))
        variances[start : start + int(chance.integers(0, 60))] /= chance.choice([1, 30, 3000])
        variances = np.minimum(variances, 2**30).astype(np.uint32)
        found = library.speech_pause(core.address(variances), blocks)
        assert found == segment.find_pause(variances)


def test_sections_of_other_kinds_are_skipped(
    core_library: pathlib.Path, content: bytes, models: core.Models
) -> None:
    count = struct.unpack_from("<I", content, 12)[0]
    table = content[16 : 16 + 12 * count]
    moved = b"".join(
        struct.pack("<HHII", kind, version, offset + 12, size)
        for kind, version, offset, size in struct.iter_unpack("<HHII", table)
    )
    moved += struct.pack("<HHII", 99, 7, len(content) + 12, 4)
    head = content[:8] + struct.pack("<II", len(content) + 16, count + 1)
    more = head + moved + content[16 + 12 * count :] + b"more"
    assert core.Recognizer(core_library, more, models).bytes > 0


def test_a_block_that_is_cut_off_or_another_file_is_refused(
    core_library: pathlib.Path, content: bytes, models: core.Models
) -> None:
    wrong = (b"", content[:12], content[:100], content[:-4], b"SPEX" + content[4:], bytes(9999))
    for data in wrong:
        with pytest.raises(RuntimeError, match=str(core.BLOCK)):
            core.Recognizer(core_library, data, models)


def test_memory_that_is_too_small_or_crooked_is_refused(
    core_library: pathlib.Path, content: bytes
) -> None:
    library, words = ctypes.CDLL(str(core_library)), core.aligned(content)
    given = (core.address(words), ctypes.c_size_t(len(content)), None)
    size, opened = ctypes.c_size_t(), ctypes.c_void_p()
    assert library.speech_size(*given, ctypes.byref(size)) == core.OK
    memory = np.zeros(size.value // 8 + 2, np.int64)
    listener = ctypes.byref(core.ListenerC())
    for offset, less in ((0, 1), (4, 0)):
        at = ctypes.c_void_p(memory.ctypes.data + offset)
        taken = (ctypes.byref(opened), at, ctypes.c_size_t(size.value - less))
        assert library.speech_open(*taken, *given, None, listener) == core.MEMORY
    with_beam = (*given[:2], ctypes.byref(core.Settings(-1, 0)))
    assert library.speech_size(*with_beam, ctypes.byref(size)) == core.BEAM


def test_a_smaller_beam_takes_less_memory(
    core_library: pathlib.Path, loaded: bundle.Bundle, content: bytes, models: core.Models
) -> None:
    sizes = [core.Recognizer(core_library, content, models, beam=n).bytes for n in (1, 2, 4, 0)]
    caches = sum(cache.input.bytes for cache in signature.read(loaded).caches)
    assert sizes[1] - sizes[0] > caches
    assert sizes[3] == sizes[2]
    assert core.Recognizer(core_library, core.block_of(loaded, 2), models).bytes == sizes[1]


def test_fit_counts_what_the_decoder_takes(core_library: pathlib.Path, held: bundle.Bundle) -> None:
    library, content = ctypes.CDLL(str(core_library)), core.block_of(held)
    size, words = ctypes.c_size_t(), core.aligned(content)
    given = (core.address(words), ctypes.c_size_t(len(content)), 4, ctypes.byref(size))
    assert library.speech_decoder_size(*given) == core.OK
    counted = fit.fit(held, device.load("stm32h743"), DecodingOptions())
    elsewhere = ("tensor arena", "encoder outputs", "audio")
    ram = sum(need.bytes for need in counted.ram if not need.what.startswith(elsewhere))
    assert ram < size.value < ram + 8_000  # masks, candidates, commands, the texts of the beam


def test_the_core_calls_nothing_but_memory_functions_and_computes_in_integers(
    third_party: ThirdParty, tmp_path: pathlib.Path
) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    # Without a floating-point unit, every operation on floats is a call.
    target = ["-mcpu=cortex-m55+nofp", "-mfloat-abi=soft", "-Os"]
    objects = core.compile_core(third_party, "arm-none-eabi-gcc", tmp_path, target)
    listed = core.run_command("arm-none-eabi-nm", *objects)
    rows = [line.split() for line in listed.splitlines() if " " in line]
    undefined = {row[1] for row in rows if row[0] == "U"}
    assert {name for name in undefined if not name.startswith("speech_")} <= {
        *("memcpy", "memset", "memmove"),
        *(
            "__aeabi_ldivmod",
            "__aeabi_uldivmod",
            "__aeabi_lmul",
            "__aeabi_llsl",
        ),  # of 64-bit integers
        *("FrontendProcessSamples", "FrontendReset"),
        *("WebRtcVad_InitCore", "WebRtcVad_set_mode_core", "WebRtcVad_CalcVad16khz"),
    }
    assert not [row for row in rows if len(row) == 3 and row[1] in "bBdDcC"]  # nothing static


def test_no_function_of_the_core_calls_itself() -> None:
    for path in core.SOURCES.glob("speech*.c"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text("ascii"), flags=re.DOTALL)
        for found in re.finditer(r"^[a-z][\w *]*?(\w+)\([^;]*?\) \{\n(.*?)^\}", text, re.M | re.S):
            assert not re.search(rf"(?<!->)\b{found[1]}\(", found[2]), (path.name, found[1])


def test_damaged_blocks_do_no_harm_under_sanitizers(
    fuzz: pathlib.Path, held: bundle.Bundle, tmp_path: pathlib.Path
) -> None:
    core.fuzz(fuzz, core.block_of(held), tmp_path)


def test_too_many_sets_of_states_are_refused(
    loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(block, "_MOST_SETS", 3)
    data = json.dumps(digit_grammar(tmp_path / "digits.yaml", DIGITS, 0.5)).encode()
    grammar = automaton.load(data, len(loaded.tokenizer.tokens), (0, 1, 30))
    with pytest.raises(ExportError, match="more than 3 sets of states: give alternatives"):
        core.block_of(dataclasses.replace(loaded, grammar=grammar))


def test_the_command_writes_a_block(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, content: bytes
) -> None:
    out = tmp_path / "core.bin"
    arguments = (f"--bundle={digits_bundle}", "--format=block", f"--out={out}")
    result = run_module("firmware_sim.export_c", *arguments)
    assert (result.returncode, result.stdout) == (0, "")
    assert out.read_bytes() == content
    result = run_module("firmware_sim.export_c", *arguments[:2], f"--out={tmp_path}/no/core.bin")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "cannot be written" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["core.bin"]
