"""libspeech.so for Android: four ABIs without NDK and C library."""

import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from android_demo.building import native
from firmware_sim import bundle
from firmware_sim.c import third_party
from tests.firmware_sim import core

MOST_BYTES = 100_000  # half of it compiles grammars
PAGE = 16_384


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, pathlib.Path]]:
    """The library of each ABI."""
    for tool in ("clang-16", "ld.lld-16", "javac"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    target = tmp_path_factory.mktemp("jniLibs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LIBRARIES", target)
        try:
            native.build()
        except third_party.UnreachableError as error:
            pytest.skip(str(error))
        yield {path.parent.name: path for path in target.glob("*/libspeech.so")}


def symbols(library: pathlib.Path) -> list[list[str]]:
    """Rows of the dynamic symbols."""
    listed = core.run_command("readelf", "--wide", "--dyn-syms", library)
    rows = [line.split() for line in listed.splitlines()]
    return [row for row in rows if len(row) == 8 and row[0][:-1].isdigit()]


def test_libraries_are_small_and_need_nothing_of_the_phone(
    libraries: dict[str, pathlib.Path],
) -> None:
    assert libraries.keys() == native.TARGETS.keys()
    for library in libraries.values():
        assert library.stat().st_size <= MOST_BYTES
        rows = symbols(library)
        assert not [row for row in rows if row[6] == "UND"]
        assert "NEEDED" not in core.run_command("readelf", "--dynamic", library)
        names = {row[7] for row in rows if not row[7].startswith("Java_")}
        assert names == set(native.INTERFACE)
        assert names >= {"speech_open", "speech_feed", "speech_use", "speech_compile"}


def test_segments_fit_pages_of_16_kb(libraries: dict[str, pathlib.Path]) -> None:
    for library in libraries.values():
        headers = core.run_command("readelf", "--wide", "--program-headers", library)
        loads = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
        assert loads
        for row in loads:
            assert int(row[-1], 16) == PAGE
            assert int(row[1], 16) % PAGE == int(row[2], 16) % PAGE


def test_every_native_method_of_kotlin_exists(libraries: dict[str, pathlib.Path]) -> None:
    methods = {
        f"Java_org_integerspeech_{source.stem}_{method}"
        for source in (native.ANDROID / "speech").rglob("main/kotlin/**/*.kt")
        for method in re.findall(r"external fun (\w+)", source.read_text(encoding="utf-8"))
    }
    assert len(methods) > 5
    for library in libraries.values():
        assert methods == {row[7] for row in symbols(library) if row[7].startswith("Java_")}


@pytest.mark.parametrize("abi", ["armeabi-v7a", "x86"])
def test_divisions_of_32_bit_machines_are_right(abi: str, tmp_path: pathlib.Path) -> None:
    emulator = {"armeabi-v7a": "qemu-arm", "x86": "qemu-i386"}[abi]
    for tool in ("clang-16", "ld.lld-16", emulator):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    c = native.ANDROID / "speech" / "src" / "main" / "c" / "freestanding.c"
    program = pathlib.Path(__file__).with_name("division.c")
    options = [f"--target={native.TARGETS[abi]}", "-Os", "-ffreestanding", "-fno-builtin"]
    options += ["-static", "-nostdlib", "-fuse-ld=lld-16", "-fno-stack-protector"]
    includes = tmp_path / "include"
    native.write_headers(includes)
    core.run_command("clang-16", *options, f"-I{includes}", program, c, "-o", tmp_path / "program")
    assert subprocess.run([emulator, tmp_path / "program"], check=False).returncode == 0


def test_the_library_of_this_machine_hears_what_python_hears(
    libraries: dict[str, pathlib.Path], digits_bundle: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    loaded = bundle.load(digits_bundle)
    invoke = core.remembered(loaded, "litert")
    audio = np.concatenate([np.zeros(8000, np.int16), speech, np.zeros(16000, np.int16)])
    models = core.Models(loaded, invoke)
    recognizer = core.Recognizer(libraries["x86_64"], core.block_of(loaded), models, early=True)
    expected = core.reference(loaded, invoke, audio, True)
    assert "one two three" in [event.text for event in expected]
    core.assert_same_events(recognizer.hear(audio), expected)
