"""Transcribes audio files with a bundle.

    python -m firmware_sim.transcribe --bundle=DIR FILE...
    arecord -f S16_LE -r 16000 -c 1 -t raw -d 5 | python -m firmware_sim.transcribe --bundle=DIR -

One file: its text. Several: a line `path<TAB>text` for each. `-` is raw 16 kHz 16-bit mono PCM (or
an audio file) on standard input. A bad file is reported on standard error, the others are still
transcribed, and the exit status is 1.
"""

import sys
from collections.abc import Sequence

import tqdm
from absl import app

from firmware_sim import audio, options
from firmware_sim.bundle import BundleError
from firmware_sim.runtime import ExecutionError


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 1 if the bundle, the runtime or any file could not be used."""
    paths = argv[1:]
    if not paths:
        print("No audio given: name audio files, or - for standard input.", file=sys.stderr)
        return 1
    try:
        recognizer = options.recognizer()
    except (BundleError, ExecutionError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1

    status = 0
    bar = tqdm.tqdm(
        paths,
        unit="file",
        leave=False,
        file=sys.stderr,
        disable=None if len(paths) > 1 else True,  # None: shown on terminals alone
    )
    for path in bar:
        try:
            samples = audio.read_stream(sys.stdin.buffer) if path == "-" else audio.read(path)
            text = recognizer.transcribe(samples).text
        except audio.AudioError as error:
            with bar.external_write_mode(sys.stderr):
                print(error, file=sys.stderr)
            status = 1
            continue
        except ExecutionError as error:
            bar.close()
            print(error, file=sys.stderr)
            return 1
        with bar.external_write_mode(sys.stdout):
            print(text if len(paths) == 1 else f"{path}\t{text}", flush=True)
    return status


def run() -> None:
    """Entry point of the console script."""
    app.run(main)


if __name__ == "__main__":
    run()
