"""Builds the WebAssembly modules of the browser.

    pip install 'integer-speech-transformer[wasm-build]'
    python -m firmware_sim.web.build [--out=DIR]

`speech.wasm` is the engine, and the C core with what it needs.  `compiler.wasm` compiles grammars.

It downloads what the core needs of others, see `c/third_party.py`.  The same sources and
compiler give the same bytes.  Run it after each change of the engine or the core.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Final

from absl import flags

from firmware_sim.c import third_party
from firmware_sim.c.third_party import ThirdParty, UnreachableError
from firmware_sim.command_line import tool

HERE: Final = pathlib.Path(__file__).parent
MODULE: Final = HERE / "speech" / "speech.wasm"
COMPILER: Final = HERE / "speech" / "compiler.wasm"
_ENGINE: Final = HERE / "engine"
_CORE: Final = HERE.parent / "c"
_GRAMMARS: Final = _CORE / "compiler"
_NOT_CORE: Final = ("speech_example", "speech_self_test")
_TARGET: Final = ("--target=wasm32-wasi", "-mcpu=baseline+simd128+bulk_memory", "-O3")
_WARNINGS: Final = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
# The microfrontend's sources are C in files of C++: these headers are all that it needs of a C++
# library.
_HEADERS: Final = ("cmath", "cstdint", "cstdio", "cstdlib", "cstring")
_NOT_OURS: Final = ("-w", "-ffunction-sections", "-fdata-sections")
# WebRTC's type headers have to be told that this is a little-endian machine of 32 bits.
_WEBRTC: Final = ("-DWEBRTC_POSIX", "-D__pnacl__")
_LINK: Final = (
    *("-nostdlib", "-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,--strip-all"),
    *("-Wl,--export=__heap_base", "-Wl,-z,stack-size=65536"),
)


def build(sources: ThirdParty, out: pathlib.Path) -> None:
    """Compiles and links the modules, into a directory.

    Raises:
      subprocess.CalledProcessError: the compiler failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        built = pathlib.Path(scratch)
        for module, jobs in ((MODULE, _speech(sources, built)), (COMPILER, _grammars())):
            objects = []
            for path, options in jobs:
                objects.append(built / f"{path.name}.o")
                _compiler(scratch, *_TARGET, *options, "-c", path, "-o", objects[-1])
            linked = built / module.name
            _compiler(scratch, *_TARGET, *_LINK, *objects, "-o", linked)
            (out / module.name).write_bytes(linked.read_bytes())


_Jobs = list[tuple[pathlib.Path, list[str]]]  # sources, and their options


def _grammars() -> _Jobs:
    """The compiler of grammars: small code, because a page waits for it to load."""
    options = ["-Oz", f"-I{_CORE}", f"-I{_GRAMMARS}", *_WARNINGS]
    memory = ["-std=gnu11", "-fno-builtin", *_WARNINGS]
    jobs = [(path, ["-std=c99", *options]) for path in sorted(_GRAMMARS.glob("*.c"))]
    jobs += [(_CORE / "speech_core.c", ["-std=c99", *options])]
    jobs += [(_ENGINE / "compiler.c", ["-std=gnu11", *options])]
    return [*jobs, (_ENGINE / "memory.c", memory)]


def _speech(sources: ThirdParty, scratch: pathlib.Path) -> _Jobs:
    """The engine and the core; a few headers are written to `scratch`."""
    headers = scratch / "headers"
    headers.mkdir()
    for name in _HEADERS:
        (headers / name).write_text(f"#include <{name[1:]}.h>\n", "ascii")
    headers_of_others = [f"-isystem{sources.microfrontend}", f"-isystem{sources.webrtc}"]
    own = [f"-I{_CORE}", *headers_of_others, *_WEBRTC, *_WARNINGS]
    frontend = ["-xc++", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", *_NOT_OURS]
    frontend += [f"-I{path}" for path in (headers, *sources.frontend_includes)]
    detector = ["-std=gnu99", *_WEBRTC, *_NOT_OURS, f"-I{sources.webrtc}"]
    core = [path for path in sorted(_CORE.glob("speech*.c")) if path.stem not in _NOT_CORE]
    jobs = [(path, frontend) for path in sources.frontend_sources]
    jobs += [(path, detector) for path in sources.detector_sources]
    jobs += [(path, ["-std=c99", *own]) for path in core]
    engine = [path for path in sorted(_ENGINE.glob("*.c")) if path.stem != "compiler"]
    return [*jobs, *((path, ["-std=gnu11", "-fno-builtin", *own]) for path in engine)]


def _compiler(scratch: os.PathLike[str] | str, *arguments: Any) -> None:
    cache = {"ZIG_LOCAL_CACHE_DIR": str(pathlib.Path(scratch, "cache"))}
    command = [sys.executable, "-m", "ziglang", "cc", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, **cache})


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    del argv
    out = pathlib.Path(flags.FLAGS.out)
    try:
        with tempfile.TemporaryDirectory() as directory:
            build(third_party.fetch(pathlib.Path(directory)), out)
    except (UnreachableError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"The compiler ended with {error.returncode}; see above.", file=sys.stderr)
        return 1
    for module in (MODULE, COMPILER):
        print(f"{out / module.name}: {(out / module.name).stat().st_size:,} bytes")
    return 0


def run() -> None:
    flags.DEFINE_string("out", str(MODULE.parent), "Directory to write to.")
    tool.run(main)


if __name__ == "__main__":
    run()
