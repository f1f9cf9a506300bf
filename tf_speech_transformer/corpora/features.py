"""Features: TFLite's audio microfrontend, the same integers in training and on a device.

16 kHz int16 audio -> uint16 [frames, 40] (30 ms windows every 10 ms, noise reduction, PCAN gain
control, logarithm) -> int8.  The code is the C library that microcontrollers run, in the build of
the wheel `pymicro-features`, which the device side uses too.  TensorFlow's op holds the same C
code, but computes two of its tables in double precision: 0.2 % of the int8 values differ.
"""

import dataclasses
from typing import Any

import micro_features_cpp
import numpy as np

SAMPLE_RATE = 16_000  # Hz
STEP = 160  # samples from one frame to the next
WINDOW = 480  # samples in a frame
CHANNELS = 40


@dataclasses.dataclass(frozen=True)
class FrontendParameters:
    """Arguments of TensorFlow's `audio_microfrontend` op; the defaults are what the wheel has."""

    sample_rate: int = SAMPLE_RATE
    window_size: int = 1000 * WINDOW // SAMPLE_RATE  # ms
    window_step: int = 1000 * STEP // SAMPLE_RATE  # ms
    num_channels: int = CHANNELS
    upper_band_limit: float = 7500.0  # Hz
    lower_band_limit: float = 125.0  # Hz
    smoothing_bits: int = 10
    even_smoothing: float = 0.025
    odd_smoothing: float = 0.06
    min_signal_remaining: float = 0.05  # 1: no noise reduction
    enable_pcan: bool = True
    pcan_strength: float = 0.95
    pcan_offset: float = 80.0
    gain_bits: int = 21
    enable_log: bool = True
    scale_shift: int = 6


WHEEL = FrontendParameters()
# The features of Bie et al. (arXiv 1911.03604): log-mel without noise reduction or gain control.
# Without them values reach twice as high (933 in loud speech): a shift less keeps them in int8.
PAPER = FrontendParameters(
    window_size=25,
    num_channels=80,
    min_signal_remaining=1.0,
    enable_pcan=False,
    scale_shift=5,
)
FRONTENDS = {"wheel": WHEEL, "paper": PAPER}


def frontend_of(config: Any) -> FrontendParameters:
    """Of a preset: its `features`, a name of `FRONTENDS`; by default the wheel's."""
    return FRONTENDS[config.get("features", "wheel")]


# uint16 to int8 as TFLite Micro's micro_speech example does it.
NUMERATOR, DENOMINATOR = 256, 666
SCALE, ZERO_POINT = 1 / 32, -128  # of the model's float view of an int8 feature
WHEEL_UNIT = 25.6  # the wheel returns the integers divided by this


def frame_count(samples: int) -> int:
    """Frames of the wheel's features in `samples` of audio."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // STEP


def microfrontend(audio: np.ndarray, parameters: FrontendParameters = WHEEL) -> np.ndarray:
    """Audio int16 [samples] -> features int8 [frames, channels]; no frame under one window.

    The frontend starts from its reset state. Parameters other than the wheel's are computed by
    TensorFlow's op.

    Raises:
        ValueError: the audio is not int16 [samples].
    """
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise ValueError(f"audio must be int16 [samples], not {audio.dtype} {list(audio.shape)}")
    values = _by_wheel(audio) if parameters == WHEEL else by_op(audio, parameters)
    scaled = (values.astype(np.int32) * NUMERATOR + DENOMINATOR // 2) // DENOMINATOR + ZERO_POINT
    return np.clip(scaled, -128, 127).astype(np.int8)


def _by_wheel(audio: np.ndarray) -> np.ndarray:
    """int [frames, 40]"""
    state, process = micro_features_cpp.create_frontend(), micro_features_cpp.process_samples
    data, values = audio.tobytes(), []
    block = 2 * STEP  # bytes; exactly one step a call, which returns [] or one frame
    for start in range(0, len(data) - block + 1, block):
        values += process(state, data[start : start + block])[0]
    return np.rint(np.asarray(values, np.float64) * WHEEL_UNIT).reshape(-1, CHANNELS)


def by_op(audio: np.ndarray, parameters: FrontendParameters) -> np.ndarray:
    """uint16 [frames, channels] from TensorFlow's op."""
    # Here, not above: processes that only need the wheel start in a tenth of the time.
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    if len(audio) < parameters.window_size * parameters.sample_rate // 1000:
        return np.zeros([0, parameters.num_channels], np.uint16)  # the op refuses it
    return audio_microfrontend_op.audio_microfrontend(
        tf.constant(audio), **dataclasses.asdict(parameters), out_scale=1, out_type=tf.uint16
    ).numpy()


def as_float(features: np.ndarray) -> np.ndarray:
    """The model's float view of int8 features: silence is 0.0, the loudest value 7.97."""
    return (features.astype(np.float32) - ZERO_POINT) * SCALE
