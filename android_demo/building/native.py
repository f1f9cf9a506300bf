"""libspeech.so for Android: the C core, the compiler of grammars and their JNI, by clang and lld.

    python -m android_demo.building.native

Neither NDK nor C library is needed: the sources call only memory functions and divisions, which
`freestanding.c` has.  So the library asks nothing of the phone's libraries.  Pages are of 16 KB, as
Android 15 wants them.

The libraries go to `speech/src/main/jniLibs`, where Gradle and `building.apk` find them.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Final

from firmware_sim.c import third_party

ANDROID: Final = pathlib.Path(__file__).parents[1]
BUILD: Final = ANDROID / "build"
LIBRARIES: Final = ANDROID / "speech" / "src" / "main" / "jniLibs"
_C: Final = ANDROID / "speech" / "src" / "main" / "c"
_CORE: Final = ANDROID.parent / "firmware_sim" / "c"
_COMPILER: Final = _CORE / "compiler"
_NOT_CORE: Final = {"speech_example.c", "speech_self_test.c"}  # of firmwares
# ABI -> clang's name of the machine, with the lowest Android.
TARGETS: Final = {
    "arm64-v8a": "aarch64-linux-android24",
    "armeabi-v7a": "armv7a-linux-androideabi24",
    "x86": "i686-linux-android24",
    "x86_64": "x86_64-linux-android24",
}
# Headers of a C library that sources name; the compiler has those of numbers.
_HEADERS: Final = {
    "string.h": (
        '#pragma once\n#include <stddef.h>\n#ifdef __cplusplus\nextern "C" {\n#endif\n'
        "void *memcpy(void *__restrict, const void *__restrict, size_t);\n"
        "void *memmove(void *, const void *, size_t);\nvoid *memset(void *, int, size_t);\n"
        "int memcmp(const void *, const void *, size_t);\n"
        "#ifdef __cplusplus\n}\n#endif\n"
    ),
    "cstring": "#include <string.h>\n",
    "cstdint": "#include <stdint.h>\n",
    "stdlib.h": "#include <stddef.h>\n",
    "sys/types.h": "#include <stddef.h>\n",
    # Of the microfrontend's set-up, which is compiled with it and not linked.
    "math.h": (
        '#pragma once\nextern "C" {\ndouble cos(double);\ndouble floor(double);\n'
        "double sin(double);\ndouble sqrt(double);\n}\n"
    ),
    "assert.h": "#define assert(condition) ((void)0)\n",
    "stdio.h": "",
}
_OPTIONS: Final = (
    *("-Os", "-fPIC", "-ffreestanding", "-nostdinc", "-fno-builtin", "-fno-stack-protector"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-ffunction-sections"),
    *("-fno-exceptions", "-fno-rtti", "-fdata-sections"),
)
_LINKING: Final = (
    *("-nostdlib", "-shared", "-fuse-ld=lld-16", "-Wl,-soname,libspeech.so", "-Wl,-z,defs"),
    *("-Wl,-z,max-page-size=16384", "-Wl,-z,noexecstack", "-Wl,--hash-style=both"),
    *("-Wl,--gc-sections", "-Wl,--build-id=sha1", "-s"),
)
# The C interface too, for native callers.
INTERFACE: Final = tuple(
    name
    for header in (_CORE / "speech.h", _COMPILER / "speech_compiler.h")
    for name in re.findall(r"^[a-z][\w *]*?(speech_\w+)\(", header.read_text("ascii"), re.M)
)
_EXPORTS: Final = f"{{ global: Java_*; {'; '.join(INTERFACE)}; local: *; }};\n"


def build() -> list[pathlib.Path]:
    """Builds the library of each ABI; returns the files.

    Raises:
      RuntimeError: if a tool is missing or fails.
    """
    for tool in ("clang-16", "ld.lld-16", "java"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is missing: apt-get install clang-16 lld-16, and a JDK.")
    sources = third_party.fetch(BUILD / "third_party")
    return [_build(abi, sources) for abi in TARGETS]


def _build(abi: str, sources: third_party.ThirdParty) -> pathlib.Path:
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        objects = compile_sources(TARGETS[abi], sources, work)
        exports = work / "exports.map"
        exports.write_text(_EXPORTS)
        target = LIBRARIES / abi / "libspeech.so"
        target.parent.mkdir(parents=True, exist_ok=True)
        _run(
            *("clang-16", f"--target={TARGETS[abi]}", *_LINKING, *objects),
            *(f"-Wl,--version-script={exports}", "-o", work / target.name),
        )
        shutil.move(work / target.name, target)
    return target


def compile_sources(
    machine: str, sources: third_party.ThirdParty, work: pathlib.Path
) -> list[pathlib.Path]:
    """Compiles everything for a machine; returns the objects, in `work`."""
    headers = work / "include"
    write_headers(headers)
    compiler = pathlib.Path(_run("clang-16", "-print-resource-dir").strip(), "include")
    system = [f"-isystem{path}" for path in (headers, compiler)]
    jni = java_home() / "include"
    others = (sources.microfrontend, sources.webrtc, jni, jni / "linux")
    core = [f"-I{_CORE}", f"-I{_COMPILER}", *(f"-isystem{path}" for path in others)]
    core += ["-std=gnu99", "-Wall", "-Wextra"]
    frontend = [f"-I{path}" for path in sources.frontend_includes]
    ours = [x for x in sorted(_CORE.glob("speech*.c")) if x.name not in _NOT_CORE]
    ours += [*sorted(_COMPILER.glob("*.c")), *sorted(_C.glob("*.c"))]
    jobs = [(source, [*core, "-Werror"]) for source in ours]
    jobs += [(x, [*frontend, "-std=c++17", "-w"]) for x in sources.frontend_sources]
    detector = [f"-I{sources.webrtc}", "-std=gnu99", "-w", "-D__pnacl__"]  # no pthreads
    jobs += [(x, detector) for x in sources.detector_sources]
    objects = []
    for source, options in jobs:
        objects.append(work / f"{source.name}.o")
        command = ["clang-16", f"--target={machine}", *_OPTIONS, *system, *options]
        _run(*command, "-c", source, "-o", objects[-1])
    return objects


def write_headers(directory: pathlib.Path) -> None:
    """Writes the headers of a C library that the sources name."""
    for name, content in _HEADERS.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def java_home() -> pathlib.Path:
    """The JDK of the `java` command."""
    home = pathlib.Path(shutil.which("javac") or "/usr/bin/javac").resolve().parents[1]
    if not (home / "include" / "jni.h").exists():
        raise RuntimeError(f"{home}: no include/jni.h; install a JDK (openjdk-17-jdk-headless).")
    return home


def _run(*command: object) -> str:
    """Standard output of a command.

    Raises:
      RuntimeError: if it fails.
    """
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


def main() -> int:
    """Returns the exit status."""
    try:
        for path in build():
            print(f"{path.stat().st_size:6d}  {path.relative_to(ANDROID)}")
    except (RuntimeError, third_party.UnreachableError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
