"""Transcribes audio files with a bundle.

    python -m firmware_sim.transcribe --bundle=DIR FILE...
    arecord -f S16_LE -r 16000 -c 1 -t raw -d 5 | python -m firmware_sim.transcribe --bundle=DIR -

One file: its text. Several: a line `path<TAB>text` for each. `-` is raw 16 kHz 16-bit mono PCM (or
an audio file) on standard input. A bad file is reported on standard error, the others are still
transcribed, and the exit status is 1.
"""

import sys
from collections.abc import Sequence

from absl import app

from firmware_sim import audio, options
from firmware_sim.bundle import BundleError


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 1 if the bundle or any file could not be used."""
    paths = argv[1:]
    if not paths:
        print("No audio given: name audio files, or - for standard input.", file=sys.stderr)
        return 1
    try:
        recognizer = options.recognizer()
    except (BundleError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1

    status = 0
    for path in paths:
        try:
            samples = audio.read_stream(sys.stdin.buffer) if path == "-" else audio.read(path)
        except audio.AudioError as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        text = recognizer.transcribe(samples).text
        print(text if len(paths) == 1 else f"{path}\t{text}", flush=True)
    return status


def run() -> None:
    """Entry point of the console script."""
    app.run(main)


if __name__ == "__main__":
    run()
