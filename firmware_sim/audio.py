"""Audio: any file that libsndfile decodes -> 16 kHz mono int16."""

import io
import pathlib
import re
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from firmware_sim.frontend import SAMPLE_RATE

_BLOCK_FRAMES: Final = 1 << 18
_CONTAINERS: Final = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b"ID3")
# libsndfile shortens a truncated file in silence, but notes both sizes in its log.
_SHORTENED: Final = re.compile(
    r"^\s*(?:data|riff|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)
_UNKNOWN_LENGTH: Final = 0x7FFF0000  # writers into a pipe put sizes from here up into the header
_LARGEST_OGG_PAGE: Final = 65307  # bytes, RFC 3533
_OGG_END_OF_STREAM: Final = 0x04


class AudioError(Exception):
    """Audio that cannot be used; the message names the file and says what is wrong."""


def read(path: str | pathlib.Path) -> npt.NDArray[np.int16]:
    """Decodes a file of any rate, width and number of channels.

    Channels are averaged; other rates are resampled by soxr at its high quality.

    Returns:
      int16 [samples], 16 kHz.

    Raises:
      AudioError: if the file is missing, empty, not audio, truncated, or holds NaN.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file.")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes).")
        with path.open("rb") as stream:
            return _decode(stream, str(path))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error}).") from error


def read_stream(stream: BinaryIO, name: str = "standard input") -> npt.NDArray[np.int16]:
    """Reads raw PCM (signed 16-bit little-endian, 16 kHz, mono) up to the end of the stream.

    A stream that starts like an audio file (WAV, FLAC, Ogg, ...) is decoded as one.

    Returns:
      int16 [samples], 16 kHz.

    Raises:
      AudioError: if there is nothing, half a sample, or a file that `read` would refuse.
    """
    data = stream.read()
    if not data:
        raise AudioError(f"{name}: no audio came in; send 16-bit little-endian PCM, 16 kHz, mono.")
    if data.startswith(_CONTAINERS):
        return _decode(io.BytesIO(data), name)
    if len(data) % 2:
        raise AudioError(
            f"{name}: {len(data)} bytes are no whole number of 16-bit samples; the audio is cut "
            "off, or not 16-bit PCM."
        )
    return np.frombuffer(data, "<i2").astype(np.int16)


def _decode(stream: BinaryIO, name: str) -> npt.NDArray[np.int16]:
    truncated = AudioError(f"{name}: the audio is truncated or damaged; get the whole file again.")
    if _ogg_is_cut_off(stream):
        raise truncated
    try:
        file = soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise AudioError(
            f"{name}: not an audio file that libsndfile can decode; convert it to WAV or FLAC."
        ) from error
    with file:
        if file.frames >= _UNKNOWN_LENGTH << 32:
            raise AudioError(
                f"{name}: its header does not say how long it is; write it to a file, not a pipe."
            )
        for declared, actual in _SHORTENED.findall(file.extra_info):
            if int(actual) + 1 < int(declared) < _UNKNOWN_LENGTH:
                raise truncated
        blocks = []
        try:
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise truncated from error
        decoded = sum(map(len, blocks))
        if decoded < file.frames:
            raise truncated
        if not decoded:
            raise AudioError(f"{name}: holds no samples.")
        rate = file.samplerate
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds samples that are not numbers (NaN or infinite).")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def _ogg_is_cut_off(stream: BinaryIO) -> bool:
    """Whether an Ogg stream lacks its last page; libsndfile plays what is there in silence."""
    is_ogg = stream.read(4) == b"OggS"
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = stream.read() if is_ogg else b""
    stream.seek(0)
    if not is_ogg:
        return False
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    complete = len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    return not (complete and page[5] & _OGG_END_OF_STREAM)
