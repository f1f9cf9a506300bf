import io
import pathlib
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim.sound import audio


def _write(path: pathlib.Path, samples: NDArray, rate: int = 16000, **options: Any) -> pathlib.Path:
    soundfile.write(path, samples, rate, **options)
    return path


def _truncate(path: pathlib.Path, share: float) -> pathlib.Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _stream(stream: BinaryIO) -> NDArray[np.int16]:
    return np.concatenate(list(audio.open_stream(stream)))


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_16_bit_16_khz_comes_out_as_it_is(
    suffix: str, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    path = _write(tmp_path / f"a.{suffix}", speech)
    np.testing.assert_array_equal(audio.read(path), speech)


@pytest.mark.parametrize(
    ("subtype", "steps"),
    [("PCM_U8", 256), ("PCM_24", 1), ("PCM_32", 1), ("FLOAT", 1), ("DOUBLE", 1)],
)
def test_other_widths_differ_by_their_rounding_only(
    subtype: str, steps: int, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    path = _write(tmp_path / "a.wav", speech / 32768, subtype=subtype)
    decoded = audio.read(path).astype(int)
    assert np.abs(decoded - speech).max() <= steps


def test_channels_are_averaged(tmp_path: pathlib.Path, speech: NDArray[np.int16]) -> None:
    path = _write(tmp_path / "a.wav", np.stack([speech, np.zeros_like(speech)], axis=1))
    assert np.abs(audio.read(path) - speech / 2).max() <= 0.5


def test_44_khz_stereo_is_resampled(tmp_path: pathlib.Path, speech: NDArray[np.int16]) -> None:
    import soxr

    fast = soxr.resample(speech / 32768, 16000, 44100)
    path = _write(tmp_path / "a.flac", np.stack([fast, fast], axis=1), 44100, subtype="PCM_24")
    decoded = audio.read(path)
    assert abs(len(decoded) - len(speech)) <= 1
    length = min(len(decoded), len(speech))
    assert np.corrcoef(decoded[:length], speech[:length])[0, 1] > 0.99


def test_loud_float_audio_is_clipped(tmp_path: pathlib.Path) -> None:
    path = _write(tmp_path / "a.wav", np.array([2.0, -2.0], np.float32), subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(path), np.array([32767, -32768], np.int16))


@pytest.mark.parametrize("share", [0.5, 0.98])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("flac", {}),
        ("wav", {}),
        ("aiff", {}),
        ("ogg", {"format": "OGG", "subtype": "OPUS"}),
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("mp3", {}),
    ],
)
def test_truncated_audio_is_refused_not_shortened(
    suffix: str,
    options: dict[str, Any],
    share: float,
    tmp_path: pathlib.Path,
    speech: NDArray[np.int16],
) -> None:
    path = _write(tmp_path / f"a.{suffix}", speech, **options)
    assert len(audio.read(path)) >= len(speech)
    with pytest.raises(audio.AudioError, match=rf"a\.{suffix}: .*truncated"):
        audio.read(_truncate(path, share))


def test_wav_written_into_a_pipe_has_no_length_and_is_read(
    tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    data = bytearray(_write(tmp_path / "a.wav", speech).read_bytes())
    for chunk in (b"RIFF", b"data"):
        at = data.index(chunk) + 4
        data[at : at + 4] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav"), speech)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.wav: the file is empty"),
        (b"Dear recogniser,\nthis is a letter.\n" * 20, r"a\.wav: not an audio file"),
        (bytes(4096), r"a\.wav: not an audio file"),
    ],
)
def test_what_is_no_audio_is_refused(content: bytes, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(audio.AudioError, match=message):
        audio.read(path)


def test_a_file_without_samples_is_refused(tmp_path: pathlib.Path) -> None:
    path = _write(tmp_path / "a.wav", np.zeros(0, np.int16))
    with pytest.raises(audio.AudioError, match=r"a\.wav: holds no samples"):
        audio.read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused(value: float, tmp_path: pathlib.Path) -> None:
    path = _write(tmp_path / "a.wav", np.array([0.0, value], np.float32), subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=r"a\.wav: .*NaN"):
        audio.read(path)


def test_missing_files_and_directories_are_refused(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(audio.AudioError, match="no such file"):
            audio.read(path)


def test_a_stream_is_raw_pcm(speech: NDArray[np.int16]) -> None:
    stream = io.BytesIO(speech.astype("<i2").tobytes())
    np.testing.assert_array_equal(_stream(stream), speech)


def test_a_stream_may_be_an_audio_file(tmp_path: pathlib.Path, speech: NDArray[np.int16]) -> None:
    with _write(tmp_path / "a.flac", speech).open("rb") as stream:
        np.testing.assert_array_equal(_stream(stream), speech)


@pytest.mark.parametrize(("data", "message"), [(b"", "no audio"), (b"abc", "cut off")])
def test_a_bad_stream_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(audio.AudioError, match=f"standard input: .*{message}"):
        _stream(io.BytesIO(data))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_blocks_of_a_file_are_the_file(
    rate: int, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    path = _write(tmp_path / "a.wav", np.stack([speech, speech], axis=1), rate)
    blocks = list(audio.open_file(path, live=True))
    whole = audio.read(path)
    joined = np.concatenate(blocks)
    assert len(joined) == len(whole)
    np.testing.assert_array_equal(joined, whole)
    assert max(map(len, blocks)) < 4000


def test_blocks_of_a_truncated_file_are_refused(
    tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    path = _truncate(_write(tmp_path / "a.flac", speech), 0.5)
    with pytest.raises(audio.AudioError, match="truncated"):
        list(audio.open_file(path, live=True))
    with pytest.raises(audio.AudioError, match="no such file"):
        list(audio.open_file(tmp_path / "none.wav", live=True))


@pytest.mark.parametrize("rate", [8000, 48000])
def test_raw_blocks_are_resampled(rate: int, speech: NDArray[np.int16]) -> None:
    stream = io.BytesIO(speech.astype("<i2").tobytes() + b"\x01")
    samples = np.concatenate(list(audio.read_pcm_blocks(stream, rate)))
    assert abs(len(samples) - len(speech) * 16000 / rate) <= 1
