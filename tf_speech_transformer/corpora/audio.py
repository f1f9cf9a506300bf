"""Audio files to 16 kHz mono: the device's samples, from its own reader.

tensorflow-io decodes the FLAC of corpora like LibriSpeech.  Its samples are used only if they have
the checksum that the file states, so they are those that the reader gives.
"""

import hashlib
import io
from pathlib import Path
from typing import Final

import numpy as np
import soxr

from firmware_sim.sound import audio as device_audio
from firmware_sim.sound.audio import AudioError
from firmware_sim.sound.containers import flac
from tf_speech_transformer.corpora.features import SAMPLE_RATE

__all__ = ["AudioError", "decode", "load", "resample", "to_int16"]

_LONGEST: Final = 40 * SAMPLE_RATE  # samples of an utterance that tensorflow-io decodes
_HEADER_BYTES: Final = 42


def load(path: Path) -> np.ndarray:
    """Decodes a file: int16 [samples] at 16 kHz, channels averaged.

    Raises AudioError for a file that is missing, empty, truncated or no audio.
    """
    try:
        with path.open("rb") as file:
            if _is_utterance(file.read(_HEADER_BYTES)):
                file.seek(0)
                return decode(file.read(), str(path))
    except OSError:
        pass  # the reader says why
    return device_audio.read(path)


def decode(content: bytes, name: str) -> np.ndarray:
    """The content of an audio file -> int16 [samples] at 16 kHz, as `load`.

    Args:
        name: what messages call the file.

    Raises:
        AudioError: it is empty, truncated or no audio, or holds infinities or NaN.
    """
    # tensorflow-io waits without end for samples that a header promises and no frame holds.
    suits = _is_utterance(content) and flac.is_clean(content)
    samples = _decode_flac(content) if suits else None
    return device_audio.decode(io.BytesIO(content), name) if samples is None else samples


def _is_utterance(head: bytes) -> bool:
    """Whether a file is FLAC of the format of LibriSpeech, with a checksum of its samples."""
    info = flac.stream_info(head)
    return (
        info is not None
        and (info.rate, info.channels, info.bits) == (SAMPLE_RATE, 1, 16)
        and 0 < info.samples <= _LONGEST
        and any(info.md5)
    )


def _decode_flac(content: bytes) -> np.ndarray | None:
    """int16 [samples]; None if they are not those that the header promises."""
    # Imported lazily: `training.xla.train` makes examples without TensorFlow.
    try:
        import tensorflow as tf
        import tensorflow_io as tfio
    except ImportError:
        return None
    info = flac.stream_info(content)
    assert info is not None
    try:
        decoded = tfio.audio.decode_flac(content, dtype=tf.int16).numpy()
    except tf.errors.OpError:
        return None
    samples = decoded.reshape(-1).astype("<i2", copy=False)
    if len(samples) != info.samples or hashlib.md5(samples.tobytes()).digest() != info.md5:
        return None
    return samples


def resample(audio: np.ndarray, rate: int, target: int) -> np.ndarray:
    """float32 [samples] at another sampling rate."""
    if rate == target:
        return audio.astype(np.float32)
    # As the device side does it. tensorflow-io's resampler delays the sound by half its filter
    # (2 ms), loses as much at the end, and takes ten times as long.
    return soxr.resample(audio.astype(np.float32), rate, target, quality="HQ")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """float [-1, 1] -> int16, clipped."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
