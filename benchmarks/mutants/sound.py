"""Sound: files of every container and coding, which both sides read."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.mutants.kind import Unequal
from benchmarks.mutants.mutation import mutate
from firmware_sim.sound import audio, container
from firmware_sim.sound.containers import mpeg
from firmware_sim.sound.containers.splice import ContainerError
from tf_speech_transformer.corpora import audio as corpora_audio

_SAMPLES: Final = 2400  # at 16 kHz: 150 ms
_FORMS: Final = (
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"),
    ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("VOC", "PCM_16"),
    ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
)  # fmt: skip
# What corpora are made of is tried more often.
_COMMON: Final = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))


class Sound:
    """A tone of 150 ms in all that libsndfile writes, in one or two channels."""

    refusals = (audio.AudioError, corpora_audio.AudioError)

    def __init__(self) -> None:
        self._files = [
            _encode(form, coding, channels, rate)
            for form, coding in (*_FORMS, *_COMMON, *_COMMON)
            for channels in (1, 2)
            for rate in (8000, 16000)
            if coding != "GSM610" or channels == 1
        ]
        self._files += [x for x in map(_streamed, self._files) if x]
        # Loads what training decodes with, so that it counts for no mutant.
        for data in self._files:
            corpora_audio.decode(data, "sound")

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        data = self._files[rng.integers(len(self._files))]
        path = folder / "sound"
        path.write_bytes(mutate(data, rng, self._files))
        return path

    def use(self, path: Path) -> None:
        data = path.read_bytes()
        read = [_read(lambda: audio.read(path)), _read(lambda: corpora_audio.load(path))]
        if _is_container(data):  # other bytes are taken for raw PCM
            read.append(_read(lambda: np.concatenate(list(audio.open_stream(io.BytesIO(data))))))
        if all(isinstance(x, Exception) for x in read):
            raise next(x for x in read if isinstance(x, Exception))
        if any(isinstance(x, Exception) for x in read):
            raise Unequal(" / ".join(str(x) if isinstance(x, Exception) else "read" for x in read))
        first, *others = (x for x in read if not isinstance(x, Exception))
        if not all(np.array_equal(first, x) for x in others):
            raise Unequal(f"the samples of {len(first)} differ, or their number does")


def _read(reader: Callable[[], npt.NDArray[np.int16]]) -> npt.NDArray[np.int16] | Exception:
    try:
        return reader()
    except Sound.refusals as error:
        return error


def _streamed(data: bytes) -> bytes | None:
    """The same file as a writer into a pipe leaves it; None of kinds that need no sizes."""
    if data.startswith((b"RIFF", b"RIFX")) and data[36:40] == b"data":
        return data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    if data.startswith(b"fLaC"):
        return data[:21] + bytes([data[21] & 0xF0]) + bytes(20) + data[42:]
    first = mpeg.frame(data[:4])
    return data[first.length :] if first else None


def _is_container(data: bytes) -> bool:
    try:
        return container.is_container(data[: container.HEAD_BYTES])
    except ContainerError:
        return True


def _encode(form: str, coding: str, channels: int, rate: int) -> bytes:
    time = np.arange(_SAMPLES * rate // 16000) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1234 * time)
    stream = io.BytesIO()
    samples = np.stack([tone, 0.5 * tone], axis=1)[:, :channels]
    soundfile.write(stream, samples, rate, format=form, subtype=coding)
    return stream.getvalue()
