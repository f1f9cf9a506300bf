"""Transcribes audio files with a bundle.

    python -m firmware_sim.transcribe --bundle=DIR FILE...
    arecord -f S16_LE -r 16000 -c 1 -t raw -d 5 | python -m firmware_sim.transcribe --bundle=DIR -

One file: its text. Several: a line `path<TAB>text` for each. `-` is raw 16 kHz 16-bit mono PCM (or
an audio file) on standard input. A bad file is reported on standard error, the others are still
transcribed, and the exit status is 1. A warning there says what is suspicious about the sound:
clipping, for example, or channels that cancel each other.

With --json each line is a JSON object: `audio`, `text`, `intent`, `slots`, `confidence` (0 to 1,
see `search.results`), `slot_confidence` by slot, `start` and `end` of the speech in seconds. A
bundle with a grammar gives a line for each command in a file. Another bundle gives a line for each
piece of the file that fits its window, with `intent` null and no slots. A file without a command
has one line: CTC's own text, `intent` null, and the confidence of the best rejected command. If
there is no speech, `start`, `end` and `confidence` are null.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from firmware_sim.bundle import BundleError
from firmware_sim.command_line import options, tool
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.results import Transcription
from firmware_sim.sound import audio


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
    for path in paths:
        try:
            stdin = path == "-"
            recording = audio.open_stream(sys.stdin.buffer) if stdin else audio.open_file(path)
            result = recognizer.transcribe(recording)
        except audio.AudioError as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        except ExecutionError as error:
            print(error, file=sys.stderr)
            return 1
        if result.warning:
            print(result.warning, file=sys.stderr)
        if flags.FLAGS.json:
            for line in objects(path, result):
                print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(result.text if len(paths) == 1 else f"{path}\t{result.text}", flush=True)
    return status


def objects(path: str, result: Transcription) -> list[dict[str, Any]]:
    """The objects that --json prints for a file."""
    if result.commands:
        return [{"audio": path, **command.fields()} for command in result.commands]
    pieces = [
        _no_command(path, x.text, x.confidence, x.speech)
        for x in result.segments
        if x.text and x.free_text is None
    ]
    if pieces:
        return pieces
    text = " ".join(x.free_text for x in result.segments if x.free_text)
    confidences = [x.confidence for x in result.segments if x.confidence is not None]
    seconds = [second for x in result.segments if x.speech is not None for second in x.speech]
    speech = (seconds[0], seconds[-1]) if seconds else None
    return [_no_command(path, text, max(confidences, default=None), speech)]


def _no_command(
    path: str, text: str, confidence: float | None, speech: tuple[float, float] | None
) -> dict[str, Any]:
    start, end = (None, None) if speech is None else (round(second, 2) for second in speech)
    return {
        "audio": path,
        "text": text,
        "intent": None,
        "slots": {},
        "confidence": None if confidence is None else round(confidence, 4),
        "slot_confidence": {},
        "start": start,
        "end": end,
    }


def run() -> None:
    """Entry point of the console script."""
    # Defined here, not on import: another tool has a flag of this name.
    flags.DEFINE_bool("json", False, "Print a JSON object for each command.")
    tool.run(main)


if __name__ == "__main__":
    run()
