"""Writes a bundle as C sources, for a firmware with TensorFlow Lite Micro.

    python -m firmware_sim.export_c --bundle=DIR --out=DIR [--audio=FILE] [--beam=1]

| file | |
| --- | --- |
| `speech_parameters.h` | shapes, scales, token ids, limits, frontend, arena sizes |
| `speech_model.h`, `.c` | the two flatbuffers, the token table, which tensor goes where |
| `speech_decoder.h`, `.c` | the decoder loop in C99: features in, text out |
| `speech_search.h`, `.c` | the beam of hypotheses, by attention and CTC, in integers |
| `speech_grammar.h`, `.c` | of a bundle with a grammar: commands, their slots and confidence |
| `speech_frontend.h` | settings of the audio microfrontend |
| `speech_operators.h`, `speech_tflm.h`, `.cc` | both models on TensorFlow Lite Micro, in C++ |
| `speech_self_test.h`, `.c`, `speech_golden.h` | the loop on recorded features, byte for byte |
| `SHA256SUMS` | hashes of these files; a directory is replaced only if they fit |

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
from absl import app, flags

from firmware_sim import bundle as bundles
from firmware_sim.bundle import Bundle, BundleError
from firmware_sim.c import self_test, source
from firmware_sim.c.source import ExportError
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
      beam: hypotheses that there is memory for.

    Raises:
      ExportError: if the bundle is not int8 or has tensors that the decoder loop does not know,
        if the samples do not fit the window, or if they have no text.
      BundleError: if TFLite Micro cannot load the bundle.
      ValueError: if TFLite Micro is not installed.
    """
    caches, crossings = source.check(bundle)
    encoder, step = (runtime.load("tflm", m) for m in (bundle.encoder, bundle.decoder_step))
    golden = self_test.golden(bundle, encoder, step, samples)
    files = {
        "speech_parameters.h": source.parameters(
            bundle, caches, crossings, source.arena(encoder), source.arena(step), beam
        ),
        "speech_model.c": source.model_source(bundle, caches, crossings),
        "speech_operators.h": source.operators(bundle),
        "speech_golden.h": self_test.header(bundle, golden),
        **{
            path.name: path.read_text("ascii")
            for path in SOURCES.glob("speech_*")
            if bundle.grammar or path.stem != "speech_grammar"
        },
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


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    try:
        if len(argv) > 1:
            raise ExportError(f"Unexpected argument {argv[1]!r}; name the directory by --out.")
        loaded = bundles.load(flags.FLAGS.bundle)
        speech = audio.read(flags.FLAGS.audio) if flags.FLAGS.audio else self_test.noise()
        write(export(loaded, speech, flags.FLAGS.beam), pathlib.Path(flags.FLAGS.out))
    except (ExportError, BundleError, audio.AudioError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_string("out", None, "Directory to write.", required=True)
    flags.DEFINE_integer("beam", BEAM, "Hypotheses that are kept.", 1)
    flags.DEFINE_string("audio", None, "Speech for the self-test, at most one window long.")
    app.run(main)


if __name__ == "__main__":
    run()
