"""Audio files to 16 kHz mono: decoded by tensorflow-io, resampled by soxr."""

import io
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tf_speech_transformer.corpora.features import SAMPLE_RATE

# libsndfile shortens a truncated WAV in silence, but notes both sizes in its log.
_SHORTENED = re.compile(r"^\s*data\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 0x7FFF0000  # a writer into a pipe cannot know the size, and writes a huge one
_OGG_PAGE_HEADER = 27  # bytes before the segment table, RFC 3533
_OGG_END_OF_STREAM = 0x04


class AudioError(ValueError):
    """A file that holds no usable audio; the message names it."""


def load(path: Path) -> np.ndarray:
    """Decodes a file: int16 [samples] at 16 kHz, channels averaged.

    Raises AudioError for a file that is missing, empty, truncated or no audio.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist: correct the path") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
    return decode(content, str(path))


def decode(content: bytes, name: str) -> np.ndarray:
    """The content of an audio file (WAV, FLAC, Ogg, MP3) -> int16 [samples] at 16 kHz.

    Args:
        name: what messages call the file.

    Raises:
        AudioError: it is empty, truncated or no audio, or holds infinities or NaN.
    """
    # Imported lazily: `training.xla.train` makes examples without TensorFlow.
    import tensorflow as tf

    if not content:
        raise AudioError(f"{name} is empty: record or copy it again")
    try:
        header = soundfile.info(io.BytesIO(content))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise AudioError(f"{name} is not audio (WAV, FLAC, Ogg or MP3): convert it") from error
    truncated = f"{name} is truncated: copy it again"
    for declared, actual in _SHORTENED.findall(header.extra_info):
        if int(actual) + 1 < int(declared) < _UNKNOWN_SIZE:
            raise AudioError(truncated)
    if header.format == "OGG" and not _ogg_is_whole(content):
        raise AudioError(truncated)
    try:
        samples = _decode(content, header)
    except (tf.errors.OpError, soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{name} is damaged or truncated ({type(error).__name__} while decoding): copy it again"
        ) from error
    if len(samples) < header.frames:
        raise AudioError(truncated)
    if not len(samples):
        raise AudioError(f"{name} holds no samples: record it again")
    if not np.all(np.isfinite(samples)):
        raise AudioError(f"{name} holds values that are not numbers: record it again")
    mono = resample(samples.mean(axis=1, dtype=np.float32), header.samplerate, SAMPLE_RATE)
    return to_int16(mono)


def _decode(content: bytes, header: soundfile._SoundFileInfo) -> np.ndarray:
    """float32 [samples, channels]."""
    import tensorflow as tf
    import tensorflow_io as tfio

    if header.format == "WAV" and header.subtype == "PCM_16":
        return tfio.audio.decode_wav(content, dtype=tf.int16).numpy() / np.float32(32768)
    if header.format == "OGG" and header.subtype == "VORBIS":
        return tfio.audio.decode_vorbis(content).numpy()
    if header.format == "FLAC" and header.subtype == "PCM_16":
        return tfio.audio.decode_flac(content, dtype=tf.int16).numpy() / np.float32(32768)
    # tensorflow-io has no Opus, keeps the padding of an MP3's encoder, and takes other sample
    # formats under an exact dtype only.
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


def _ogg_is_whole(content: bytes) -> bool:
    """Whether the last page is complete and says that it is the last."""
    page = content[content.rfind(b"OggS") :]
    if len(page) < _OGG_PAGE_HEADER or len(page) < _OGG_PAGE_HEADER + page[26]:
        return False
    body = sum(page[_OGG_PAGE_HEADER : _OGG_PAGE_HEADER + page[26]])
    complete = len(page) >= _OGG_PAGE_HEADER + page[26] + body
    return complete and bool(page[5] & _OGG_END_OF_STREAM)


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
