"""Listens: recognises a stream, utterance by utterance.

    python -m firmware_sim.listen --bundle=DIR                    the microphone
    python -m firmware_sim.listen --bundle=DIR FILE               a file, as fast as it goes
    arecord -f S16_LE -r 16000 -c 1 -t raw | python -m firmware_sim.listen --bundle=DIR -

Each utterance is a line: start and end of speech in seconds of the stream, the latency, and the
text. `...` after it marks speech that was longer than the encoder's window and was cut in a pause.
--json prints an object a line instead:

    start, end   s, of speech
    text
    latency      s, from the end of speech to the text: the audio waited for, and `compute`
    compute      s, from the moment that the end was known to the text
    ending       pause, window (cut), stream (it ended), or early: see --early
    samples      [first, last + 1] of the recognised samples, in the stream at 16 kHz
    commands     of a bundle with a grammar: `intent`, `slots` and more, as by `transcribe --json`;
                 the text is empty if speech was no command

--early also prints a text at each pause in which speech may have ended, 20 ms and `compute` after
it. A later line with the same start replaces it. Without --json an early line begins with `?`.

The microphone needs the package `sounddevice`. --device names one, --rate sets its rate. If it has
no 16 kHz, it is resampled. If it is unplugged, stalls or loses sound, listening ends and says so.
Warnings and errors go to standard error; the exit status is 1 if there was no audio, or the bundle
could not be used.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from absl import flags

from firmware_sim.bundle import BundleError
from firmware_sim.command_line import options, tool
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.results import Segment
from firmware_sim.sound import audio, microphone
from firmware_sim.sound.frontend import SAMPLE_RATE
from firmware_sim.sound.stream import Ending, Piece

_CLIPPED: Final = 0.01  # share of an utterance's samples
_OFFSET: Final = 1000  # of 32768

Blocks = Iterator[npt.NDArray[np.int16]]


@dataclasses.dataclass(frozen=True)
class Utterance:
    """The speech between two pauses of a stream, or a piece of it if it exceeds the window."""

    start: int  # samples into the stream, of the first voiced or audible block
    end: int  # after the last voiced or audible block, or where it was cut
    ending: Ending
    decided: int  # samples into the stream when the end was known
    seconds: float  # of computing, from then to the text
    clipped: float  # share of samples at the ends of int16
    offset: int  # mean of the samples
    recognized: Segment  # its start and end include the pre-roll and the post-roll

    @property
    def latency(self) -> float:
        """Seconds from the end of speech to the text."""
        return (self.decided - self.end) / SAMPLE_RATE + self.seconds


class Listener:
    """Recognises a stream on a loaded bundle, utterance by utterance; its memory does not grow."""

    def __init__(self, recognizer: Recognizer, early: bool = False) -> None:
        """`early`: gives the text at each pause too, right after what may be the end of speech."""
        self._recognizer = recognizer
        self._endpointer = recognizer.endpointer(early)

    def feed(self, samples: npt.NDArray[np.int16]) -> list[Utterance]:
        """Takes the next samples; returns the utterances that they complete.

        Args:
          samples: int16 [samples], 16 kHz, as many as there are.

        Raises:
          ValueError: if they are of another type or shape.
        """
        changes = self._endpointer.feed(audio.checked(samples))
        return [self._recognize(piece) for piece in changes if isinstance(piece, Piece)]

    def finish(self) -> list[Utterance]:
        """Ends the stream; returns the last utterance if it is not complete."""
        return [self._recognize(piece) for piece in self._endpointer.finish()]

    def _recognize(self, piece: Piece) -> Utterance:
        begin = time.perf_counter()
        recognized = self._recognizer.recognize(piece.features, piece.first, piece.last)
        return Utterance(
            start=piece.start,
            end=piece.end,
            ending=piece.ending,
            decided=piece.decided,
            seconds=time.perf_counter() - begin,
            clipped=piece.clipped,
            offset=piece.offset,
            recognized=recognized,
        )


def at_own_speed(blocks: Blocks) -> Blocks:
    """Yields blocks at the speed at which they were spoken."""
    begin = time.monotonic()
    samples = 0
    for block in blocks:
        samples += len(block)
        time.sleep(max(0.0, begin + samples / SAMPLE_RATE - time.monotonic()))
        yield block


def utterances(listener: Listener, blocks: Iterable[npt.NDArray[np.int16]]) -> Iterator[Utterance]:
    """The utterances of a whole stream; the keyboard's interrupt ends it too."""
    try:
        for block in blocks:
            yield from listener.feed(block)
    except KeyboardInterrupt:
        pass
    except audio.AudioError:
        yield from listener.finish()
        raise
    yield from listener.finish()


def line(utterance: Utterance) -> str:
    start, end = utterance.start / SAMPLE_RATE, utterance.end / SAMPLE_RATE
    goes_on = " ..." if utterance.ending is Ending.WINDOW else ""
    early = "? " if utterance.ending is Ending.EARLY else ""
    times = f"{start:.2f}-{end:.2f} +{utterance.latency:.2f}"
    return f"{early}{times} {utterance.recognized.text}{goes_on}"


def as_json(utterance: Utterance) -> str:
    recognized = utterance.recognized
    return json.dumps(
        {
            "start": round(utterance.start / SAMPLE_RATE, 3),
            "end": round(utterance.end / SAMPLE_RATE, 3),
            "text": recognized.text,
            "latency": round(utterance.latency, 4),
            "compute": round(utterance.seconds, 4),
            "ending": utterance.ending.value,
            "samples": [recognized.start, recognized.end],
            "commands": [command.fields() for command in recognized.commands],
        },
        ensure_ascii=False,
    )


def warning(utterance: Utterance) -> str | None:
    """A sentence on a fault of the sound, or None."""
    if utterance.clipped > _CLIPPED:
        return f"{utterance.clipped:.0%} of the samples are clipped: turn the input down."
    if abs(utterance.offset) > _OFFSET:
        return f"The audio has an offset of {utterance.offset} of 32768: check the microphone."
    return None


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    paths = argv[1:]
    if len(paths) > 1:
        print("One stream at a time: name one file, or - for standard input.", file=sys.stderr)
        return 1
    try:
        listener = Listener(options.recognizer(), flags.FLAGS.early)
    except (BundleError, ExecutionError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1

    warned = False
    try:
        recording = _recording(paths)
        blocks = iter(recording)
        if arguments.own_speed:
            blocks = at_own_speed(blocks)
        for utterance in utterances(listener, blocks):
            print(as_json(utterance) if arguments.json else line(utterance), flush=True)
            if not warned and (message := warning(utterance)):
                warned = True
                print(message, file=sys.stderr)
        if not warned and recording.warning:
            print(recording.warning, file=sys.stderr)
    except (audio.AudioError, ExecutionError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _recording(paths: Sequence[str]) -> audio.Recording:
    """The file, standard input or microphone that the command line names."""
    arguments: Any = flags.FLAGS
    if not paths:
        return audio.Recording(microphone.listen(arguments.device, arguments.rate), "microphone")
    if paths[0] != "-":
        return audio.open_file(paths[0], live=True)
    rate = arguments.rate or SAMPLE_RATE
    return audio.Recording(audio.read_pcm_blocks(sys.stdin.buffer, rate), "standard input")


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_integer(
        "rate",
        None,
        "Hz of raw PCM on standard input (default: 16000), or of the microphone (default: 16000, "
        "or its own).",
        lower_bound=audio.LOWEST_RATE,
        upper_bound=audio.HIGHEST_RATE,
    )
    flags.DEFINE_string("device", None, "Number of the microphone, or part of its name.")
    flags.DEFINE_bool("own_speed", False, "Play a file at the speed at which it was spoken.")
    flags.DEFINE_bool("early", False, "Print texts before they are final too.")
    flags.DEFINE_bool("json", False, "Print JSON, an object a line.")
    tool.run(main)


if __name__ == "__main__":
    run()
