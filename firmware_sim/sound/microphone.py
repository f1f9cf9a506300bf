"""The microphone: blocks of 16 kHz mono from any input device that PortAudio opens."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from firmware_sim.sound.audio import BLOCKS_PER_SECOND, AudioError, Resampler, Samples
from firmware_sim.sound.frontend import SAMPLE_RATE

_QUEUED_BLOCKS: Final = 500  # 5 s may wait while an utterance is recognised
_STALLED_SECONDS: Final = 1.0  # without a block
_CLOSING_SECONDS: Final = 0.5  # closing a device that is gone may never return


def listen(device: str | None = None, sample_rate: int | None = None) -> Iterator[Samples]:
    """Blocks of a microphone until the keyboard's interrupt.

    A device that has no 16 kHz, or no single channel, is opened as it is: its channels are
    averaged, and its rate is resampled.

    Args:
      device: number, or part of the name; None: the default one.
      sample_rate: Hz to open it with; None: 16 kHz, or the device's own rate.

    Yields:
      int16 [samples], 16 kHz; about 160 of them.

    Raises:
      AudioError: `sounddevice` or the microphone is missing, or it was unplugged, overflowed or
        stalled, or recognition lags 5 s behind.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError(
            "The microphone needs the package sounddevice: pip install "
            "'integer-speech-transformer[microphone]', or name a file."
        ) from error
    except OSError as error:
        raise AudioError(f"sounddevice cannot be loaded: {error}; install it.") from error
    chosen = int(device) if device is not None and device.isdecimal() else device
    try:
        offered = sounddevice.query_devices(chosen, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        raise AudioError(_no_device(device, error, sounddevice)) from error
    rates = [sample_rate] if sample_rate else [SAMPLE_RATE, round(offered["default_samplerate"])]
    channels = sorted({1, min(2, offered["max_input_channels"]), offered["max_input_channels"]})
    refusal: Exception | None = None
    for rate in dict.fromkeys(rates):
        resample = Resampler(rate, f"microphone {offered['name']}")
        for count in channels:
            blocks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_BLOCKS)
            with contextlib.ExitStack() as stack:
                try:
                    stream = sounddevice.RawInputStream(
                        samplerate=rate,
                        blocksize=rate // BLOCKS_PER_SECOND,
                        device=chosen,
                        channels=count,
                        dtype="int16",
                        callback=_receiver(blocks),
                    )
                    stack.callback(_close, stream)
                    stream.__enter__()
                except sounddevice.PortAudioError as error:
                    refusal = error
                    continue
                yield from _mono(blocks, count, resample)
    raise AudioError(f"The microphone cannot be opened: {refusal}; try --device or --rate.")


def _receiver(blocks: "queue.Queue[bytes | None]") -> Any:
    """Takes blocks from PortAudio's thread; None stands for lost ones."""

    def receive(data: Any, frames: int, when: Any, status: Any) -> None:
        with contextlib.suppress(queue.Full):  # noticed on the other side
            if status and status.input_overflow:
                blocks.put_nowait(None)
            blocks.put_nowait(bytes(data))

    return receive


def _mono(
    blocks: "queue.Queue[bytes | None]", channels: int, resample: Resampler
) -> Iterator[Samples]:
    while not blocks.full():
        try:
            data = blocks.get(timeout=_STALLED_SECONDS)
        except queue.Empty as error:
            raise AudioError(
                "The microphone delivers nothing any more: it was unplugged, or it stalled; plug "
                "it in and start again."
            ) from error
        if data is None:
            raise AudioError(
                "The microphone's buffer overflowed and sound was lost; close other programs and "
                "start again."
            )
        values = np.frombuffer(data, np.int16).reshape(-1, channels).mean(axis=1, dtype=np.float32)
        yield resample(values / np.float32(32768))
    raise AudioError("Recognition is 5 s behind the microphone; audio would be lost.")


def _close(stream: Any) -> None:
    def close() -> None:
        with contextlib.suppress(Exception):  # nothing can be done about it
            stream.__exit__(None, None, None)

    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(_CLOSING_SECONDS)


def _no_device(device: str | None, error: Exception, sounddevice: Any) -> str:
    """Why a device was not found, and which there are."""
    names = []
    with contextlib.suppress(Exception):
        names = [
            f"{number} {entry['name']}"
            for number, entry in enumerate(sounddevice.query_devices())
            if entry["max_input_channels"] > 0
        ]
    which = "No microphone can be opened" if device is None else f"There is no microphone {device}"
    reason = " ".join(str(error).split())
    there = f"choose one with --device: {', '.join(names)}" if names else "connect one"
    return f"{which} ({reason}); {there}."
