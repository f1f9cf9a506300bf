"""Writes a bundle for the C core: as C sources with TensorFlow Lite Micro, or as core.bin.

    python -m firmware_sim.export_c --bundle=DIR --out=DIR [--audio=FILE] [--beam=4]
    python -m firmware_sim.export_c --bundle=DIR --format=block --out=core.bin
    python -m firmware_sim.export_c --bundle=DIR --format=grammar --out=grammar.bin

`core.bin` is the block of parameters that the core reads at run time, see `speech_core.h`.
`grammar.bin` is only the bundle's grammar, for `speech_use` of a core that runs the same model.
`c/compiler/` makes the same of a grammar's text on the device.  Bundles with grammars over phones
have no other form yet.  The sources hold the block as a constant, beside the two flatbuffers:

| file | |
| --- | --- |
| `speech.h`, `.c` | audio in, events out: the way of use is at its top |
| `speech_example.c` | a program: a WAV file in, events out |
| `speech_stream`, `_pause`, `_detector`, `_features` | utterances of a stream, and their features |
| `speech_decoder`, `_result` | features in, text and commands out |
| `speech_search`, `_grammar`, `_align` | the beam of attention and CTC |
| `speech_phones`, `_sentence` | grammars over phones, for a general model |
| `speech_core.h`, `.c` | the block of parameters |
| `speech_bundle.h`, `.c` | this bundle: block, flatbuffers, arena sizes |
| `speech_operators.h`, `speech_tflm.h`, `.cc` | both models on TensorFlow Lite Micro, in C++ |
| `speech_self_test.h`, `.c`, `speech_golden.h` | the decoder on recorded features, byte for byte |
| `SHA256SUMS` | hashes of these files; a directory is replaced only if they fit |

`speech_features.h` and `speech_detector.h` name the sources of others that they need.

The self-test's features are those of --audio, or of noise without it.  It expects the bytes that
TensorFlow Lite Micro returns on this machine.  The same bundle and audio give the same sources.

The search finds the same texts as `firmware_sim.transcribe` without a language model.  A beam of
four takes up to four times the decoder steps and caches of one; --beam=1 is greedy.
"""

import hashlib
import pathlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from absl import flags

from firmware_sim import bundle as bundles
from firmware_sim.bundle import Bundle, BundleError
from firmware_sim.c import block, self_test, signature, source
from firmware_sim.c.signature import ExportError
from firmware_sim.command_line import tool
from firmware_sim.runtimes import runtime
from firmware_sim.search.options import BEAM
from firmware_sim.sound import audio

SUMS: Final = "SHA256SUMS"
_SUMS_HEAD: Final = "# Made by firmware_sim.export_c\n"
SOURCES: Final = pathlib.Path(__file__).parent / "c"


def export(bundle: Bundle, samples: npt.NDArray[np.int16], beam: int = BEAM) -> dict[str, str]:
    """The C sources of a bundle, by file name.

    Args:
      samples: int16 [samples], 16 kHz, which the self-test recognises.
      beam: hypotheses of the search.

    Raises:
      ExportError: if the bundle is not int8 or has tensors that the decoder loop does not know,
        if the samples do not fit the window, or if they have no text.
      BundleError: if TFLite Micro cannot load the bundle.
      ValueError: if TFLite Micro is not installed.
    """
    if bundle.phones is not None:
        raise ExportError(
            f"{bundle.path}: its grammars are over phones, and the self-test of the sources knows "
            "only the decoder; export its block (--format=block)."
        )
    content = block.block(bundle, signature.read(bundle), beam)
    encoder, step = (runtime.load("tflm", m) for m in (bundle.encoder, bundle.decoder_step))
    golden = self_test.golden(bundle, encoder, step, samples)
    files = {
        "speech_bundle.h": source.header(bundle, content, encoder, step),
        "speech_bundle.c": source.constants(bundle, content),
        "speech_operators.h": source.operators(bundle),
        "speech_golden.h": self_test.header(bundle, golden),
        **{path.name: path.read_text("ascii") for path in SOURCES.glob("speech*")},
    }
    name = re.sub(r"[^\w.-]", "_", bundle.preset, flags=re.ASCII)
    origin = (
        f'/* Made by firmware_sim.export_c from the bundle "{name}": export it again\n'
        " * instead of editing this file. SHA-256 of what it was made from:\n"
        f" *   {_digest(bundle.encoder.data)}  {bundle.encoder.file}\n"
        f" *   {_digest(bundle.decoder_step.data)}  {bundle.decoder_step.file}\n"
        " */\n"
        "/* SPDX-License-Identifier: Apache-2.0 */\n"
    )
    return {name: origin + files[name] for name in sorted(files)}


def write(files: Mapping[str, str], target: pathlib.Path) -> None:
    """Makes the directory `target`, whole or not at all; an earlier export there is replaced.

    Raises:
      ExportError: if `target` holds anything but an unchanged export, or cannot be written.
    """
    target = target.resolve()
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent}: no such directory; create it first.")
    _check_replaceable(target)
    sums = "".join(f"{_digest(files[n].encode('ascii'))}  {n}\n" for n in sorted(files))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            new, old = pathlib.Path(scratch, "new"), pathlib.Path(scratch, "old")
            new.mkdir()
            for name, content in {**files, SUMS: _SUMS_HEAD + sums}.items():
                (new / name).write_text(content, "ascii", newline="\n")
            if target.exists():
                target.replace(old)
            try:
                new.replace(target)
            except OSError:
                old.replace(target)
                raise
    except OSError as error:
        raise ExportError(
            f"{target}: cannot be written ({error.strerror}); free some space or choose another "
            "--out."
        ) from error


def _check_replaceable(target: pathlib.Path) -> None:
    """Refuses a target that holds what `write` did not write."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target}: is a file; choose another --out.")
    existing = {path.name: path for path in target.iterdir()}
    if not existing:
        return
    try:
        head, *lines = (target / SUMS).read_text("ascii").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError, ValueError):
        head, lines = "", []
    sums = {name.strip(): digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, path in sorted(existing.items()):
        if name == SUMS and head == _SUMS_HEAD:
            continue
        if (
            head != _SUMS_HEAD
            or name not in sums
            or not path.is_file()
            or _digest(path.read_bytes()) != sums[name]
        ):
            raise ExportError(
                f"{path}: differs from what an export wrote, and would be lost; move it elsewhere "
                "or choose another --out."
            )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_block(content: bytes, target: pathlib.Path) -> None:
    """Writes the file `target`, whole or not at all.

    Raises:
      ExportError: if it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        raise ExportError(
            f"{target}: cannot be written ({error.strerror}); choose another --out."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values = flags.FLAGS
    out = pathlib.Path(values.out)
    try:
        if len(argv) > 1:
            raise ExportError(f"Unexpected argument {argv[1]!r}; name the output by --out.")
        loaded = bundles.load(values.bundle)
        if values.format == "block":
            write_block(block.block(loaded, signature.read(loaded), values.beam), out)
        elif values.format == "grammar":
            if loaded.grammar is None:
                raise ExportError(
                    f"{loaded.path} has no grammar; give it one (firmware_sim.compile)."
                )
            write_block(block.grammar_block(loaded.grammar, loaded), out)
        else:
            speech = audio.read(values.audio) if values.audio else self_test.noise()
            write(export(loaded, speech, values.beam), out)
    except (ExportError, BundleError, audio.AudioError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_string("out", None, "Directory or file to write.", required=True)
    flags.DEFINE_enum(
        "format",
        "sources",
        ["sources", "block", "grammar"],
        "C sources, or only the block of parameters, or of the grammar.",
    )
    flags.DEFINE_integer("beam", BEAM, "Hypotheses that are kept.", 1)
    flags.DEFINE_string("audio", None, "Speech for the self-test, at most one window long.")
    tool.run(main)


if __name__ == "__main__":
    run()
