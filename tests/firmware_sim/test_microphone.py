"""Microphones of every kind, and what happens to them; PortAudio's part is played here."""

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.sound import audio, microphone

Sound = NDArray[np.int16]


class PortAudioError(Exception):
    pass


class Device:
    """An input device that delivers its sound at once, and then nothing more."""

    def __init__(self, sound: Sound, rates: set[int], channels: set[int]) -> None:
        self.sound, self.rates, self.channels = sound, rates, channels
        self.overflow_at: int | None = None  # block
        self.hangs_on_close = False
        self.opened: dict[str, Any] = {}

    def query(self, device: Any = None, kind: str | None = None) -> Any:
        entry = {
            "name": "USB headset",
            "max_input_channels": max(self.channels),
            "default_samplerate": float(max(self.rates)),
        }
        if kind is None:
            return [{**entry, "name": "Speakers", "max_input_channels": 0}, entry]
        if device not in (None, 1, "headset"):
            raise ValueError(f"No input device matching {device!r}")
        return entry

    def open(self, **options: Any) -> "Stream":
        if options["samplerate"] not in self.rates or options["channels"] not in self.channels:
            raise PortAudioError("Invalid sample rate or number of channels")
        self.opened = options
        return Stream(self)


class Stream:
    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> "Stream":
        self._deliver()
        return self

    def __exit__(self, *error: object) -> None:
        if self._device.hangs_on_close:
            threading.Event().wait()

    def _deliver(self) -> None:
        options, sound = self._device.opened, self._device.sound
        size = options["blocksize"]
        for number, start in enumerate(range(0, len(sound), size)):
            overflow = number == self._device.overflow_at
            status = types.SimpleNamespace(input_overflow=True) if overflow else None
            block = np.repeat(sound[start : start + size, np.newaxis], options["channels"], 1)
            options["callback"](block.tobytes(), len(block), None, status)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], None]:
    def plug(device: Device) -> None:
        module = types.ModuleType("sounddevice")
        module.PortAudioError = PortAudioError  # type: ignore[attr-defined]
        module.query_devices = device.query  # type: ignore[attr-defined]
        module.RawInputStream = device.open  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sounddevice", module)

    return plug


def hear(blocks: Iterator[Sound]) -> tuple[Sound, str]:
    """The sound until the stream ends, and what is said about its end."""
    heard = []
    with pytest.raises(audio.AudioError) as raised:
        for block in blocks:
            heard.append(block)
    return np.concatenate([np.zeros(0, np.int16), *heard]), str(raised.value)


def tone(rate: int, seconds: float = 1.0) -> Sound:
    time = np.arange(int(rate * seconds)) / rate
    return np.rint(9000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)


def test_a_microphone_that_is_unplugged_ends_the_stream(plug: Callable[[Device], None]) -> None:
    device = Device(tone(16000), {16000}, {1})
    plug(device)
    heard, message = hear(microphone.listen())
    np.testing.assert_array_equal(heard, device.sound)
    assert "unplugged, or it stalled" in message


def test_a_device_that_never_closes_is_left_behind(plug: Callable[[Device], None]) -> None:
    device = Device(tone(16000), {16000}, {1})
    device.hangs_on_close = True
    plug(device)
    assert "unplugged" in hear(microphone.listen())[1]


def test_sound_that_was_lost_ends_the_stream(plug: Callable[[Device], None]) -> None:
    device = Device(tone(16000), {16000}, {1})
    device.overflow_at = 30
    plug(device)
    heard, message = hear(microphone.listen())
    np.testing.assert_array_equal(heard, device.sound[: 30 * 160])
    assert "overflowed" in message


def test_recognition_that_lags_ends_the_stream(plug: Callable[[Device], None]) -> None:
    plug(Device(tone(16000, 7.0), {16000}, {1}))
    assert "5 s behind" in hear(microphone.listen())[1]


@pytest.mark.parametrize(
    ("rate", "channels"), [(48000, {1}), (44100, {2}), (16000, {2}), (8000, {8})]
)
def test_a_microphone_is_opened_as_it_is_and_resampled(
    rate: int, channels: set[int], plug: Callable[[Device], None]
) -> None:
    device = Device(tone(rate), {rate}, channels)
    plug(device)
    heard, _ = hear(microphone.listen())
    resample = audio.Resampler(rate)
    expected = resample(device.sound.astype(np.float32) / np.float32(32768))
    assert len(heard) > 14000
    np.testing.assert_array_equal(heard[:14000], expected[:14000])


def test_the_device_and_its_rate_are_chosen(plug: Callable[[Device], None]) -> None:
    device = Device(tone(48000), {16000, 48000}, {1})
    plug(device)
    for name, expected in (("1", 1), ("headset", "headset")):
        next(microphone.listen(name, 48000))
        assert (device.opened["device"], device.opened["samplerate"]) == (expected, 48000)


def test_what_cannot_be_opened_is_one_sentence(plug: Callable[[Device], None]) -> None:
    plug(Device(tone(16000), {16000}, {1}))
    _, message = hear(microphone.listen("violin"))
    assert (
        "no microphone violin" in message and "choose one with --device: 1 USB headset" in message
    )
    _, message = hear(microphone.listen(sample_rate=22050))
    assert "cannot be opened" in message and "--rate" in message
    _, message = hear(microphone.listen(sample_rate=1000))
    assert "rate is 1000 Hz" in message
