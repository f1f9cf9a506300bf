"""Texts by the library of arm64 phones and ARM's kernels, in an emulator, against Python's.

    python -m android_demo.building.arm64 GOLDEN [GOLDEN ...]

A GOLDEN is what `building.golden` writes.  `libspeech.so` is the one of the APK.  TensorFlow Lite
is a build for arm64 Linux with its own kernels, as on a phone: it hands no int8 model to XNNPACK.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from typing import Final

from android_demo.building.native import ANDROID, BUILD, LIBRARIES

_LEAST: Final = 0.98  # of texts, the same
_COMPILER: Final = "aarch64-linux-gnu-gcc"
_EMULATOR: Final = "qemu-aarch64"
_SYSROOT: Final = "/usr/aarch64-linux-gnu"
_LITE: Final = "org/bytedeco/tensorflowlite/linux-arm64/libjnitensorflowlite.so"


def _program() -> list[str]:
    """The command that recognises; recordings follow."""
    folder = BUILD / "arm64"
    folder.mkdir(parents=True, exist_ok=True)
    (jar,) = (BUILD / "tools" / "arm64").glob("tensorflow-lite-*-linux-arm64.jar")
    library = folder / pathlib.Path(_LITE).name
    if not library.exists():
        with zipfile.ZipFile(jar) as content:
            library.write_bytes(content.read(_LITE))
    source = ANDROID / "speech" / "src" / "test" / "c" / "emulated.c"
    core = ANDROID.parent / "firmware_sim" / "c"
    program = folder / "emulated"
    command = [_COMPILER, "-O2", "-Wall", "-Wextra", "-Werror", f"-I{core}", f"-I{core}/compiler"]
    subprocess.run([*command, str(source), "-ldl", "-o", str(program)], check=True)
    speech = LIBRARIES / "arm64-v8a" / "libspeech.so"
    return [_EMULATOR, "-L", _SYSROOT, str(program), str(speech), str(library)]


def compare(golden: pathlib.Path, program: Sequence[str]) -> tuple[int, int]:
    """How many texts of whole recordings are Python's, of how many."""
    rows = json.loads((golden / "expected.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if "text" in row]
    files = [str(golden / row["file"]) for row in rows]
    ran = subprocess.run(
        [*program, str(golden / "bundle"), *files], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"The emulated program failed:\n{ran.stderr}")
    texts = ran.stdout.splitlines()
    for row, text in zip(rows, texts, strict=True):
        if text != row["text"]:
            print(f"{row['source']}: {text!r}, Python: {row['text']!r}")
    return sum(x == row["text"] for row, x in zip(rows, texts, strict=True)), len(rows)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    for tool, package in ((_COMPILER, "gcc-aarch64-linux-gnu"), (_EMULATOR, "qemu-user")):
        if shutil.which(tool) is None:
            print(f"arm64 is not tested: {tool} is missing; apt-get install {package}.")
            return 0
    program = _program()
    status = 0
    for golden in map(pathlib.Path, arguments):
        same, count = compare(golden, program)
        print(f"arm64, {golden.name}: {same} of {count} texts as Python's")
        if not count or same < _LEAST * count:
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
