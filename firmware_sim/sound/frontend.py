"""Features: 16 kHz audio -> the channels of TFLite's audio microfrontend -> int8.

The package `pymicro-features` holds the C code that microcontrollers run, with its parameters
compiled in.  TensorFlow's op of the same name is built from the same code, but fills two tables in
double precision, `pymicro-features` in single.  One window coefficient and one filterbank weight
differ, and with them about 0.2 % of the int8 features.  So training uses `pymicro-features` too.
Features without noise reduction and gain control come from `log_mel`, with any parameters.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Protocol

import micro_features_cpp
import numpy as np
import numpy.typing as npt

from firmware_sim.sound.log_mel import LogMel

SAMPLE_RATE: Final = 16000  # Hz
WINDOW_SAMPLES: Final = 480  # 30 ms
STEP_SAMPLES: Final = 160  # 10 ms
CHANNELS: Final = 40

# What pymicro-features 2.0.2 compiles in (src/micro_features.cpp of its source distribution),
# under the names of TensorFlow's `audio_microfrontend` op.
MICROFRONTEND_PARAMETERS: Final[Mapping[str, int | float | bool]] = {
    "sample_rate": SAMPLE_RATE,  # Hz
    "window_size": 30,  # ms
    "window_step": 10,  # ms
    "num_channels": CHANNELS,
    "upper_band_limit": 7500.0,  # Hz
    "lower_band_limit": 125.0,  # Hz
    "smoothing_bits": 10,
    "even_smoothing": 0.025,
    "odd_smoothing": 0.06,
    "min_signal_remaining": 0.05,
    "enable_pcan": True,
    "pcan_strength": 0.95,
    "pcan_offset": 80.0,
    "gain_bits": 21,
    "enable_log": True,
    "scale_shift": 6,
}
# Shorter names that a manifest may use for the same parameters.
_ALIASES: Final = {
    "window_ms": "window_size",
    "step_ms": "window_step",
    "channels": "num_channels",
}
# What `LogMel` computes: Hz, ms, bits.
_LOG_MEL_LIMITS: Final = {
    "sample_rate": (SAMPLE_RATE, SAMPLE_RATE),
    "window_size": (5, 64),
    "num_channels": (1, 128),
    "lower_band_limit": (0, SAMPLE_RATE // 2),
    "upper_band_limit": (0, SAMPLE_RATE // 2),
    "scale_shift": (0, 12),
}
# pymicro-features multiplies each uint16 value by float32 5/128. The product is exact, and so is
# the way back.
_VALUES_PER_UNIT: Final = 128 / 5


def parameter_mismatch(parameters: Mapping[str, object]) -> str | None:
    """Why the microfrontend cannot compute a bundle's features; None if it can.

    Args:
      parameters: the manifest's `frontend`: names as in `MICROFRONTEND_PARAMETERS`; `window_ms`,
        `step_ms` and `channels` stand for `window_size`, `window_step` and `num_channels`.
    """
    named = {_ALIASES.get(name, name): value for name, value in parameters.items()}
    for name in ("sample_rate", "window_size", "window_step", "num_channels"):
        if name not in named:
            return f"{name} is missing"
    for name, value in named.items():
        if name not in MICROFRONTEND_PARAMETERS:
            return f"{name} is not a parameter of the audio microfrontend"
        expected = MICROFRONTEND_PARAMETERS[name]
        if not isinstance(value, (int, float)) or not expected - 1e-6 <= value <= expected + 1e-6:
            return f"{name} is {value!r:.60}, but this frontend has {expected!r} compiled in"
    return None


def frame_count(samples: int, window: int = WINDOW_SAMPLES) -> int:
    """Number of whole feature frames in `samples` of 16 kHz audio."""
    return 0 if samples < window else 1 + (samples - window) // STEP_SAMPLES


def sample_count(frames: int, window: int = WINDOW_SAMPLES) -> int:
    """Most samples of 16 kHz audio that give no more than `frames` feature frames."""
    return window + frames * STEP_SAMPLES - 1


@dataclasses.dataclass(frozen=True)
class FeatureQuantization:
    """From the microfrontend's values to the model's inputs.

    stored = value * numerator / denominator + zero_point, real = (stored - zero_point) * scale.
    """

    numerator: int
    denominator: int
    scale: float
    zero_point: int

    def quantize(self, values: npt.NDArray[np.uint16]) -> npt.NDArray[np.int8]:
        """uint16 [frames, channels] of a frontend -> int8 [frames, channels]."""
        return quantize(values, self.numerator, self.denominator, self.zero_point)


class FrontendStream(Protocol):
    """The features of one utterance, block by block; see `MicroFrontendStream.process`."""

    def process(self, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]: ...


class Frontend(Protocol):
    """Computes a bundle's features."""

    @property
    def channels(self) -> int: ...

    @property
    def window(self) -> int:
        """Samples of a frame."""
        ...

    def stream(self) -> FrontendStream:
        """For one utterance, from the reset state."""
        ...


@dataclasses.dataclass(frozen=True)
class MicroFrontend:
    """TFLite's audio microfrontend with `MICROFRONTEND_PARAMETERS`."""

    channels: int = CHANNELS
    window: int = WINDOW_SAMPLES

    def stream(self) -> FrontendStream:
        return MicroFrontendStream()


def find(parameters: Mapping[str, Any]) -> Frontend:
    """The frontend with a manifest's parameters.

    Raises:
      ValueError: no frontend computes them; the message names the parameter that differs.
    """
    adaptive = parameters.get("enable_pcan") is not False or (
        parameters.get("min_signal_remaining") != 1.0
    )
    if (
        not adaptive
        and parameters.get("enable_log") is True
        and parameters.get("window_step") == 10
    ):
        for name, (low, high) in _LOG_MEL_LIMITS.items():
            if name not in parameters:
                raise ValueError(f"{name} is missing")
            value = parameters[name]
            kind = (int, float) if name.endswith("_limit") else int
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r:.60}, not a number from {low} to {high}")
        if not parameters["lower_band_limit"] < parameters["upper_band_limit"]:
            raise ValueError("lower_band_limit is not below upper_band_limit")
        return LogMel(
            window=SAMPLE_RATE * parameters["window_size"] // 1000,
            channels=parameters["num_channels"],
            lowest=float(parameters["lower_band_limit"]),
            highest=float(parameters["upper_band_limit"]),
            scale_shift=parameters["scale_shift"],
        )
    mismatch = parameter_mismatch(parameters)
    if mismatch:
        raise ValueError(mismatch)
    return MicroFrontend()


class MicroFrontendStream:
    """The microfrontend of one utterance, from its reset state, fed block by block."""

    def __init__(self) -> None:
        self._state = micro_features_cpp.create_frontend()
        self._rest = b""  # of a step

    def process(self, audio: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
        """Takes the next samples; the frames do not depend on how the audio is cut into blocks.

        Args:
          audio: int16 [samples], 16 kHz, as many as there are.

        Returns:
          uint16 [frames, 40], the frames that these samples complete: all blocks together give
          `frame_count(samples)`.
        """
        if audio.dtype != np.int16 or audio.ndim != 1:
            raise ValueError(
                f"The microfrontend takes int16 [samples], not {audio.dtype} {list(audio.shape)}."
            )
        step_bytes = 2 * STEP_SAMPLES  # one call takes one step, and returns [] or one frame
        data = self._rest + audio.tobytes()
        whole = len(data) - len(data) % step_bytes
        self._rest = data[whole:]
        values: list[float] = []
        for start in range(0, whole, step_bytes):
            values += micro_features_cpp.process_samples(
                self._state, data[start : start + step_bytes]
            )[0]
        units = np.asarray(values, np.float64).reshape(-1, CHANNELS)
        return np.rint(units * _VALUES_PER_UNIT).astype(np.uint16)


def microfrontend(audio: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
    """Runs the microfrontend, from its reset state, over one utterance.

    Args:
      audio: int16 [samples], 16 kHz.

    Returns:
      uint16 [frames, 40], frames = `frame_count(samples)`.
    """
    return MicroFrontendStream().process(audio)


def quantize(
    features: npt.NDArray[np.uint16],
    numerator: int = 256,
    denominator: int = 666,
    zero_point: int = -128,
) -> npt.NDArray[np.int8]:
    """uint16 [frames, channels] -> int8 [frames, channels], as TFLite Micro's micro_speech does it.

    round(value * numerator / denominator) + zero_point, clipped to int8.
    """
    scaled = (features.astype(np.int32) * numerator + denominator // 2) // denominator
    return np.clip(scaled + zero_point, -128, 127).astype(np.int8)
