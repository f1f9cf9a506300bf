"""Audio: any file that libsndfile decodes -> 16 kHz mono int16."""

import io
import pathlib
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from firmware_sim.sound.frontend import SAMPLE_RATE

BLOCKS_PER_SECOND: Final = 100
_BLOCK_FRAMES: Final = 1 << 18
_QUALITY: Final = "HQ"  # of soxr
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
    try:
        with _open(path) as stream:
            return _decode(stream, str(path))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error}).") from error


def read_blocks(path: str | pathlib.Path) -> Iterator[npt.NDArray[np.int16]]:
    """Decodes a file of any rate, width and number of channels in blocks of 10 ms.

    The samples are those of `read`, to within one step where the rate is another than 16 kHz; but
    no more than a block is held.

    Yields:
      int16 [samples], 16 kHz; about 160 of them.

    Raises:
      AudioError: as `read`, but damage within the file raises only after the blocks before it.
    """
    with _open(path) as stream, _sound_file(stream, str(path)) as file:
        resample = Resampler(file.samplerate)
        for block in _mono(file, str(path), max(1, file.samplerate // BLOCKS_PER_SECOND)):
            yield resample(block)
        yield resample(np.empty(0, np.float32), last=True)


def read_pcm_blocks(
    stream: BinaryIO, sample_rate: int = SAMPLE_RATE, name: str = "standard input"
) -> Iterator[npt.NDArray[np.int16]]:
    """Reads raw PCM (signed 16-bit little-endian, mono) as it comes, in blocks of 10 ms.

    The stream may stop anywhere: half a sample at its end is dropped.

    Args:
      stream: buffered, so that a read waits for a whole block or the end.
      sample_rate: Hz.
      name: of the stream, for messages.

    Yields:
      int16 [samples], 16 kHz; about 160 of them.

    Raises:
      AudioError: if there is not one sample, or an audio file instead.
    """
    resample = Resampler(sample_rate)
    block_bytes = 2 * max(1, sample_rate // BLOCKS_PER_SECOND)
    data = stream.read(block_bytes)
    if len(data) < 2:
        raise AudioError(f"{name}: no audio came in; send 16-bit little-endian PCM, mono.")
    if data.startswith(_CONTAINERS):
        raise AudioError(f"{name}: this is an audio file, not raw PCM; name the file instead.")
    while data:
        samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        yield resample(samples.astype(np.float32) / np.float32(32768))
        data = stream.read(block_bytes)
    yield resample(np.empty(0, np.float32), last=True)


class Resampler:
    """float32 [samples] of any rate, block by block -> int16 [samples] at 16 kHz."""

    def __init__(self, sample_rate: int) -> None:
        """`sample_rate` in Hz."""
        self._stream = None
        if sample_rate != SAMPLE_RATE:
            self._stream = soxr.ResampleStream(
                sample_rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY
            )

    def __call__(
        self, samples: npt.NDArray[np.float32], last: bool = False
    ) -> npt.NDArray[np.int16]:
        """The next samples in [-1, 1); `last` hands out what the filter still holds."""
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples, last=last)
        return _int16(samples)


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


def _open(path: str | pathlib.Path) -> BinaryIO:
    path = pathlib.Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes).")
    return path.open("rb")


def _decode(stream: BinaryIO, name: str) -> npt.NDArray[np.int16]:
    with _sound_file(stream, name) as file:
        samples = np.concatenate(list(_mono(file, name, _BLOCK_FRAMES)))
        if file.samplerate != SAMPLE_RATE:
            samples = soxr.resample(samples, file.samplerate, SAMPLE_RATE, quality=_QUALITY)
    return _int16(samples)


def _sound_file(stream: BinaryIO, name: str) -> soundfile.SoundFile:
    if _ogg_is_cut_off(stream):
        raise _truncated(name)
    try:
        file = soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise AudioError(
            f"{name}: not an audio file that libsndfile can decode; convert it to WAV or FLAC."
        ) from error
    if file.frames >= _UNKNOWN_LENGTH << 32:
        raise AudioError(
            f"{name}: its header does not say how long it is; write it to a file, not a pipe."
        )
    for declared, actual in _SHORTENED.findall(file.extra_info):
        if int(actual) + 1 < int(declared) < _UNKNOWN_LENGTH:
            raise _truncated(name)
    return file


def _mono(
    file: soundfile.SoundFile, name: str, block_frames: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Blocks of the mean of all channels, in [-1, 1)."""
    decoded = 0
    try:
        while len(block := file.read(block_frames, dtype="float32", always_2d=True)):
            if not np.isfinite(block).all():
                raise AudioError(f"{name}: holds samples that are not numbers (NaN or infinite).")
            decoded += len(block)
            yield block.mean(axis=1)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _truncated(name) from error
    if decoded < file.frames:
        raise _truncated(name)
    if not decoded:
        raise AudioError(f"{name}: holds no samples.")


def _truncated(name: str) -> AudioError:
    return AudioError(f"{name}: the audio is truncated or damaged; get the whole file again.")


def _int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
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
