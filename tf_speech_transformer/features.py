"""Features: TFLite's audio microfrontend, the same integers in training and on a device.

16 kHz int16 audio -> uint16 [frames, 40] (30 ms windows every 10 ms, noise reduction, PCAN gain
control, logarithm) -> int8.  The code is the C library that microcontrollers run, in the build of
the wheel `pymicro-features`, which the device side uses too.  TensorFlow's op holds the same C
code, but computes two of its tables in double precision: 0.2 % of the int8 values differ.
"""

import micro_features_cpp
import numpy as np

SAMPLE_RATE = 16_000  # Hz
STEP = 160  # samples from one frame to the next
WINDOW = 480  # samples in a frame
CHANNELS = 40

# What the wheel compiles in, in the names of TensorFlow's `audio_microfrontend` op.
FRONTEND = {
    "sample_rate": SAMPLE_RATE,
    "window_size": 30,
    "window_step": 10,
    "num_channels": CHANNELS,
    "upper_band_limit": 7500.0,
    "lower_band_limit": 125.0,
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
# uint16 to int8 as TFLite Micro's micro_speech example does it.
NUMERATOR, DENOMINATOR = 256, 666
SCALE, ZERO_POINT = 1 / 32, -128  # of the model's float view of an int8 feature
WHEEL_UNIT = 25.6  # the wheel returns the integers divided by this


def microfrontend(audio: np.ndarray) -> np.ndarray:
    """Audio int16 [samples] -> features int8 [frames, 40]; no frame under 480 samples."""
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise ValueError(f"audio must be int16 [samples], not {audio.dtype} {audio.shape}")
    state = micro_features_cpp.create_frontend()
    data, rows = audio.tobytes(), []
    block = 2 * STEP  # bytes
    for start in range(0, len(data) - block + 1, block):
        rows += micro_features_cpp.process_samples(state, data[start : start + block])[0]
    values = np.rint(np.asarray(rows, np.float64) * WHEEL_UNIT).astype(np.int32)
    values = (values * NUMERATOR + DENOMINATOR // 2) // DENOMINATOR + ZERO_POINT
    return np.clip(values, -128, 127).astype(np.int8).reshape(-1, CHANNELS)


def as_float(features: np.ndarray) -> np.ndarray:
    """The model's float view of int8 features: silence is 0.0, the loudest value 7.97."""
    return (features.astype(np.float32) - ZERO_POINT) * SCALE
