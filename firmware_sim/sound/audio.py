"""Audio: any file that libsndfile decodes -> 16 kHz mono int16.

Training reads with the same functions, so that it gets the same samples from a file as a device.
A file is read in blocks: memory does not grow with its length.
"""

import math
import os
import pathlib
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from firmware_sim.sound import container
from firmware_sim.sound.containers.splice import TRUNCATED, ContainerError
from firmware_sim.sound.frontend import SAMPLE_RATE

BLOCKS_PER_SECOND: Final = 100
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000  # Hz
_BLOCK_VALUES: Final = 1 << 16  # of all channels
_QUALITY: Final = "HQ"  # of soxr
# libsndfile shortens a truncated file in silence, but notes both sizes in its log.
_SHORTENED: Final = re.compile(
    r"^\s*(?:data|riff|SSND|BODY|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)
_FRAMES: Final = re.compile(r"^2BIT$.*^\s*Frames\s*:\s*(\d+)$", re.MULTILINE | re.DOTALL)  # AVR
_CUT: Final = "Seems to be a truncated file"  # VOC
_SLIP: Final = 44  # bytes by which a size may be too large
_UNKNOWN_SIZE: Final = 0x7F000000  # writers into a pipe put sizes from here up into the header
_UNKNOWN_FRAMES: Final = _UNKNOWN_SIZE << 32
_MPEG_SLACK: Final = 2304  # samples: a decoder may leave out the first two frames
_FLOATS: Final = ("FLOAT", "DOUBLE")
_INT16_PEAK: Final = 16.0  # of float samples: 24 dB over full scale are no sound between -1 and 1
_CANCELLED: Final = 0.04  # power of the mean, times channels^2, against the loudest channel's
_CLIPPED: Final = 0.01  # share of samples
_SILENT_PEAK: Final = 8  # of 32768
_QUIET_PEAK: Final = 200
_SPOOLED: Final = 1 << 20  # bytes of a file on standard input that stay in memory

Samples = npt.NDArray[np.int16]
Values = npt.NDArray[np.float32]


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and says what is wrong."""


class Recording:
    """Sound at 16 kHz that comes in blocks, once, and what is suspicious about it."""

    def __init__(
        self, blocks: Iterable[Samples], name: str = "the audio", warning: str | None = None
    ) -> None:
        """`blocks`: int16 [samples] each; `name` and `warning` are for `warning`."""
        self._blocks = blocks
        self._name = name
        self._warning = warning
        self._samples = self._clipped = self._peak = 0

    def __iter__(self) -> Iterator[Samples]:
        """Yields int16 [samples], 16 kHz.

        Raises:
          AudioError: the file is damaged; the blocks before the damage come first.
        """
        for block in self._blocks:
            self._samples += len(block)
            if len(block):
                self._peak = max(self._peak, int(block.max()), -int(block.min()))
                self._clipped += int(np.count_nonzero((block == 32767) | (block == -32768)))
            yield block

    @property
    def warning(self) -> str | None:
        """After the last block: a sentence on what is suspicious, or None."""
        message = self._warning
        if message is None and self._clipped > _CLIPPED * self._samples:
            share = self._clipped / self._samples
            message = f"{share:.0%} of the samples are clipped; turn the input down."
        if message is None and self._samples and self._peak <= _SILENT_PEAK:
            message = "the sound is silent throughout; check the microphone."
        if message is None and self._samples and self._peak < _QUIET_PEAK:
            level = 20 * math.log10(self._peak / 32768)
            message = f"the sound is very quiet, {level:.0f} dB of full scale; turn the input up."
        return f"{self._name}: {message}" if message else None


def read(path: str | os.PathLike[str]) -> Samples:
    """Decodes a file of any rate from 4 to 768 kHz, any width and number of channels.

    Channels are averaged, unless they cancel each other; then the loudest is taken.  Other rates
    are resampled by soxr at its high quality.

    Returns:
      int16 [samples], 16 kHz.

    Raises:
      AudioError: if the file is missing, empty, not audio, truncated, or holds NaN.
    """
    return _joined(open_file(path))


def decode(stream: BinaryIO, name: str) -> Samples:
    """The same for a file that is open, and seekable; `name` is for messages."""
    return _joined(_open_container(stream, name, 0))


def open_file(path: str | os.PathLike[str], live: bool = False) -> Recording:
    """Opens a file, or a pipe that has a name, to be decoded in blocks as by `read`.

    Args:
      live: blocks of 10 ms, instead of about 64,000 values.

    Raises:
      AudioError: as `read`, but damage within the file is raised by the blocks.
    """
    name = str(path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if stat.S_ISFIFO(mode):
            return open_stream(pathlib.Path(path).open("rb"), name)
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: no such file; this is a folder or a device.")
        stream = pathlib.Path(path).open("rb")  # noqa: SIM115 (the blocks close it)
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file.") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read ({_reason(error)}).") from error
    return _open_container(stream, name, BLOCKS_PER_SECOND if live else 0)


def open_stream(
    stream: BinaryIO, name: str = "standard input", sample_rate: int = SAMPLE_RATE
) -> Recording:
    """Opens raw PCM (signed 16-bit little-endian, mono), or any file by its first bytes.

    Args:
      stream: buffered, so that a read waits for all bytes or the end.
      sample_rate: Hz, of raw PCM.

    Raises:
      AudioError: if there is nothing, or a file that `read` would refuse.
    """
    try:
        head = stream.read(container.HEAD_BYTES)
        if not head:
            raise AudioError(
                f"{name}: no audio came in; send 16-bit little-endian PCM, 16 kHz, mono."
            )
        if container.is_container(head):
            # libsndfile reads back and forth.
            spool = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115
            spool.write(head)
            shutil.copyfileobj(stream, spool)
            return _open_container(spool, name, 0)  # type: ignore[arg-type]
    except ContainerError as error:
        raise AudioError(f"{name}: {error}") from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({_reason(error)}).") from error
    return Recording(_pcm(stream, name, sample_rate, head, _BLOCK_VALUES, whole=True), name)


def read_pcm_blocks(
    stream: BinaryIO, sample_rate: int = SAMPLE_RATE, name: str = "standard input"
) -> Iterator[Samples]:
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
    head = stream.read(2 * max(1, sample_rate // BLOCKS_PER_SECOND))
    if len(head) < 2:
        raise AudioError(f"{name}: no audio came in; send 16-bit little-endian PCM, mono.")
    try:
        if container.is_container(head):
            raise ContainerError("this is an audio file, not raw PCM; name the file instead.")
    except ContainerError as error:
        raise AudioError(f"{name}: {error}") from error
    yield from _pcm(stream, name, sample_rate, head, sample_rate // BLOCKS_PER_SECOND, whole=False)


class Resampler:
    """float32 [samples] of any rate, block by block -> int16 [samples] at 16 kHz."""

    def __init__(self, sample_rate: int, name: str = "the audio") -> None:
        """`sample_rate` in Hz.

        Raises:
          AudioError: it is below 4 or above 768 kHz.
        """
        if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
            raise AudioError(
                f"{name}: its rate is {sample_rate} Hz; rates from {LOWEST_RATE} to {HIGHEST_RATE} "
                "Hz are read."
            )
        self._stream = None
        if sample_rate != SAMPLE_RATE:
            self._stream = soxr.ResampleStream(
                sample_rate, SAMPLE_RATE, 1, dtype="float32", quality=_QUALITY
            )

    def __call__(self, samples: Values, last: bool = False) -> Samples:
        """The next samples in [-1, 1); `last` hands out what the filter still holds."""
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples, last=last)
        return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def checked(samples: Samples) -> Samples:
    """int16 [samples], as they are.

    Raises:
      ValueError: they are of another type or shape.
    """
    if isinstance(samples, np.ndarray) and samples.dtype == np.int16 and samples.ndim == 1:
        return samples
    what = type(samples).__name__
    if isinstance(samples, np.ndarray):
        what = f"{samples.dtype} {list(samples.shape)}"
    raise ValueError(
        f"Audio is an array of int16 [samples] at 16 kHz, not {what}; average channels, multiply "
        "floats between -1 and 1 by 32767, and convert them with astype(numpy.int16)."
    )


def _joined(recording: Recording) -> Samples:
    return np.concatenate(list(recording))


def _pcm(
    stream: BinaryIO, name: str, sample_rate: int, data: bytes, block: int, whole: bool
) -> Iterator[Samples]:
    """Raw PCM; `data` has been read already; `whole`: half a sample at the end is an error."""
    resample = Resampler(sample_rate, name)
    while data:
        if len(data) % 2:
            data += stream.read(1)
        if len(data) % 2 and whole:
            raise AudioError(
                f"{name}: its bytes are no whole number of 16-bit samples; the audio is cut off, "
                "or not 16-bit PCM."
            )
        samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        yield resample(samples.astype(np.float32) / np.float32(32768))
        data = stream.read(2 * max(1, block))
    yield resample(np.empty(0, np.float32), last=True)


def _open_container(stream: BinaryIO, name: str, blocks_per_second: int) -> Recording:
    """A seekable file; 0 blocks a second are few large ones."""
    try:
        if not stream.seek(0, os.SEEK_END):
            raise AudioError(f"{name}: the file is empty (0 bytes).")
        parts = container.mend(stream)
    except ContainerError as error:
        raise AudioError(f"{name}: {error}") from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({_reason(error)}).") from error
    with _sound_file(parts[0], name) as first:
        rate = first.samplerate
    plans = [_inspect(part, name, rate) for part in parts]
    warning = next((message for *_, message in plans if message), None)
    resample = Resampler(rate, name)
    block = rate // blocks_per_second if blocks_per_second else 0

    def blocks() -> Iterator[Samples]:
        total = 0
        for part, (scale, channel, _) in zip(parts, plans, strict=True):
            for values in _values(part, name, rate, block):
                mono = values.mean(axis=1) if channel is None else values[:, channel]
                yield resample(mono if scale == 1 else mono * np.float32(scale))
                total += len(values)
        if not total:
            raise AudioError(f"{name}: holds no samples.")
        yield resample(np.empty(0, np.float32), last=True)
        stream.close()

    return Recording(blocks(), name, warning)


def _inspect(part: BinaryIO, name: str, rate: int) -> tuple[float, int | None, str | None]:
    """Reads floats and several channels once before they are used.

    Returns:
      what to multiply samples with; the channel to take instead of the mean; a warning.
    """
    with _sound_file(part, name) as file:
        channels, is_float = file.channels, file.subtype in _FLOATS
    if not is_float and channels == 1:
        return 1.0, None, None
    peak, mean = 0.0, 0.0
    powers = np.zeros(channels)
    for values in _values(part, name, rate, 0):
        peak = max(peak, float(np.abs(values).max()))
        if channels > 1:
            powers += np.square(values, dtype=np.float64).sum(axis=0)
            mean += float(np.square(values.mean(axis=1, dtype=np.float64)).sum())
    if peak > 32768:
        raise AudioError(
            f"{name}: its float samples reach {peak:.3g}; write floats between -1 and 1."
        )
    scale, channel, warning = 1.0, None, None
    if is_float and peak > _INT16_PEAK:
        scale = 1 / 32768
        warning = (
            f"its float samples reach {peak:.0f}, so they are taken for 16-bit ones; write floats "
            "between -1 and 1."
        )
    if channels > 1 and mean * channels**2 < _CANCELLED * powers.max():
        channel = int(powers.argmax())
        warning = (
            f"its channels cancel each other, so only channel {channel + 1} is read; turn the "
            "polarity of one of them round."
        )
    return scale, channel, warning


def _values(part: BinaryIO, name: str, rate: int, block: int) -> Iterator[Values]:
    """Blocks of float32 [frames, channels], in [-1, 1) unless they are floats in the file.

    Args:
      block: frames; 0: as many as fit.

    Raises:
      AudioError: there are fewer than the header says, or some are no numbers.
    """
    with _sound_file(part, name) as file:
        if file.samplerate != rate:
            raise AudioError(f"{name}: its rate changes to {file.samplerate} Hz; split it.")
        size = block or max(1, _BLOCK_VALUES // file.channels)
        decoded = 0
        try:
            while len(values := file.read(size, dtype="float32", always_2d=True)):
                if not np.isfinite(values).all():
                    raise AudioError(
                        f"{name}: holds samples that are not numbers (NaN or infinite)."
                    )
                decoded += len(values)
                yield values
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise _truncated(name) from error
        if decoded + (_MPEG_SLACK if file.format == "MP3" else 0) < file.frames:
            raise _truncated(name)


def _sound_file(stream: BinaryIO, name: str) -> soundfile.SoundFile:
    stream.seek(0)
    try:
        file = soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        raise AudioError(
            f"{name}: not an audio file that can be decoded; convert it to WAV or FLAC."
        ) from error
    if file.frames >= _UNKNOWN_FRAMES:
        raise AudioError(
            f"{name}: its header does not say how long it is; write it to a file, not a pipe."
        )
    for declared, actual in _SHORTENED.findall(file.extra_info):
        if int(actual) + _SLIP < int(declared) < _UNKNOWN_SIZE:
            raise _truncated(name)
    frames = _FRAMES.search(file.extra_info)
    if _CUT in file.extra_info or (frames and file.frames + _SLIP < int(frames[1])):
        raise _truncated(name)
    return file


def _truncated(name: str) -> AudioError:
    return AudioError(f"{name}: {TRUNCATED}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
