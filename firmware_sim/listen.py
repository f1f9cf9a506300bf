"""Listens to a stream and prints what it hears.

    python -m firmware_sim.listen --bundle=DIR                 # the microphone
    python -m firmware_sim.listen --bundle=DIR [--real_time] FILE
    arecord -f S16_LE -r 16000 -c 1 -t raw | python -m firmware_sim.listen --bundle=DIR -

`-` is raw 16-bit little-endian mono PCM of --rate.  A line for each stretch of speech: start and
end in seconds, how long recognition took after the end of speech, the text; `...` follows a stretch
that was cut in a pause because it was longer than the encoder's window.  With --json an object a
line: `start`, `end`, `latency` (seconds), `text`, `score`, `cut`.  The microphone needs
`pip install .[microphone]` and PortAudio.
"""

import dataclasses
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
from absl import app, flags

from firmware_sim import audio, options
from firmware_sim.bundle import BundleError
from firmware_sim.frontend import SAMPLE_RATE, STEP_SAMPLES
from firmware_sim.runtime import ExecutionError
from firmware_sim.stream import BLOCK_SECONDS, Heard, Listener

_LOWEST_RATE: Final = 8000  # Hz: below it there is no speech to recognise
_CLIPPED_SHARE: Final = 0.01  # of a second's samples
_OFFSET: Final = 3000  # of 32768


def blocks_of_file(path: str, real_time: bool) -> Iterator[npt.NDArray[np.int16]]:
    """A file in blocks int16 [160]; the last is filled up with zeros.

    Raises:
      AudioError: as `audio.read`.
    """
    samples = audio.read(path)
    begin = time.monotonic()
    for number, start in enumerate(range(0, len(samples), STEP_SAMPLES)):
        if real_time:
            time.sleep(max(0.0, begin + (number + 1) * BLOCK_SECONDS - time.monotonic()))
        block = samples[start : start + STEP_SAMPLES]
        yield np.pad(block, (0, STEP_SAMPLES - len(block)))


def blocks_of_pcm(stream: io.BufferedIOBase, rate: int) -> Iterator[npt.NDArray[np.int16]]:
    """Raw 16-bit PCM of `rate`, however it is handed over, in blocks int16 [160] at 16 kHz.

    Raises:
      AudioError: nothing came, or the stream ended within a sample.
    """
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="int16")
    held = b""  # bytes of a sample that is not whole
    ready = np.zeros(0, np.int16)
    came = 0
    while True:
        # what is there, at most 10 ms; an empty answer is the end
        data = stream.read1(2 * (rate // 100))
        came += len(data)
        held += data
        whole = len(held) // 2 * 2
        samples = np.frombuffer(held[:whole], "<i2").astype(np.int16)
        held = held[whole:]
        if rate != SAMPLE_RATE:
            samples = resampler.resample_chunk(samples, last=not data)
        ready = np.concatenate([ready, samples])
        while len(ready) >= STEP_SAMPLES:
            yield ready[:STEP_SAMPLES]
            ready = ready[STEP_SAMPLES:]
        if not data:
            break
    if len(ready):
        yield np.pad(ready, (0, STEP_SAMPLES - len(ready)))
    if not came:
        raise audio.AudioError(
            "standard input: no audio came in; send 16-bit little-endian PCM, mono."
        )
    if held:
        raise audio.AudioError(
            f"standard input: {came} bytes are no whole number of 16-bit samples; the last is cut "
            "off, or this is not 16-bit PCM."
        )


def blocks_of_microphone() -> Iterator[npt.NDArray[np.int16]]:
    """The default microphone in blocks int16 [160].

    Raises:
      AudioError: there is none, or the package sounddevice is missing.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, PortAudio is not
        raise audio.AudioError(
            f"The microphone needs PortAudio and `pip install .[microphone]` ({error}): install "
            "them, or name a file, or - for PCM on standard input."
        ) from error
    try:
        with sounddevice.RawInputStream(SAMPLE_RATE, STEP_SAMPLES, None, 1, "int16") as stream:
            while True:
                data, late = stream.read(STEP_SAMPLES)
                if late:
                    print("Audio was lost: this machine is too slow.", file=sys.stderr)
                yield np.frombuffer(data, np.int16)
    except sounddevice.PortAudioError as error:
        raise audio.AudioError(f"No microphone can be used ({error}).") from error


class Inspector:
    """Warns once of a microphone that is set wrongly."""

    def __init__(self) -> None:
        self._seconds: list[npt.NDArray[np.int16]] = []
        self._warned: set[str] = set()

    def push(self, block: npt.NDArray[np.int16]) -> str | None:
        """A sentence on what is wrong with the last second, the first time; else None."""
        self._seconds.append(block)
        if len(self._seconds) * BLOCK_SECONDS < 1.0:
            return None
        second = np.concatenate(self._seconds)
        self._seconds.clear()
        clipped = np.mean(np.abs(second.astype(np.int32)) >= 32767)
        faults = {
            "The audio is clipped: lower the microphone's gain.": clipped > _CLIPPED_SHARE,
            "The audio has a constant offset: check the microphone's bias or its driver.": (
                abs(float(np.mean(second))) > _OFFSET
            ),
        }
        for sentence, wrong in faults.items():
            if wrong and sentence not in self._warned:
                self._warned.add(sentence)
                return sentence
        return None


def show(heard: Heard, as_json: bool) -> str:
    """A line of output."""
    if as_json:
        return json.dumps({k: _rounded(v) for k, v in dataclasses.asdict(heard).items()})
    times = f"{heard.start:9.2f} {heard.end:9.2f} s  +{1000 * heard.latency:4.0f} ms"
    return f"{times}  {heard.text}{' ...' if heard.cut else ''}"


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 1 if the bundle, the runtime or the audio is of no use."""
    chosen = flags.FLAGS
    if len(argv) > 2:
        print("Name one file, or - for standard input, or nothing.", file=sys.stderr)
        return 1
    try:
        listener, inspector = Listener(options.recognizer()), Inspector()
        if len(argv) == 1:
            blocks = blocks_of_microphone()
        elif argv[1] == "-":
            assert isinstance(sys.stdin.buffer, io.BufferedIOBase)  # Python's own has read1
            blocks = blocks_of_pcm(sys.stdin.buffer, chosen.rate)
        else:
            blocks = blocks_of_file(argv[1], chosen.real_time)
        try:
            for block in blocks:
                if warning := inspector.push(block):
                    print(warning, file=sys.stderr, flush=True)
                for heard in listener.push(block):
                    print(show(heard, chosen.json), flush=True)
        except KeyboardInterrupt:
            pass
        finally:  # what was heard before the stream broke off is not lost
            for heard in listener.finish():
                print(show(heard, chosen.json), flush=True)
    except (BundleError, ExecutionError, ValueError, audio.AudioError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    # Defined here, not on import: other scripts have flags of the same names.
    flags.DEFINE_integer("rate", SAMPLE_RATE, "Of raw PCM, Hz.", lower_bound=_LOWEST_RATE)
    flags.DEFINE_boolean("real_time", False, "Play the file at its own speed.")
    flags.DEFINE_boolean("json", False, "Print a JSON object a line.")
    app.run(main)


if __name__ == "__main__":
    run()
