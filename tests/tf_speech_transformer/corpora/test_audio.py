"""Audio files: every kind that people have, and the errors for what is none."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from firmware_sim.sound import audio as device_audio
from tf_speech_transformer.corpora import audio

KINDS = [
    ("wav", "PCM_16"),
    ("wav", "PCM_U8"),
    ("wav", "PCM_24"),
    ("wav", "PCM_32"),
    ("wav", "FLOAT"),
    ("wav", "ULAW"),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("mp3", "MPEG_LAYER_III"),
]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = min(len(a), len(b))
    return float(np.corrcoef(a[:size], b[:size])[0, 1])


@pytest.mark.parametrize(("kind", "coding"), KINDS)
def test_file_of_any_kind_gives_its_speech(kind, coding, speech, tmp_path):
    path = tmp_path / f"speech.{kind}"
    soundfile.write(path, speech / 32_768, 16_000, coding)
    loaded = audio.load(path)
    assert loaded.dtype == np.int16
    assert len(loaded) == len(speech)
    assert correlation(loaded, speech) > 0.97


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_16_bit_samples_come_as_they_are(kind, speech, tmp_path):
    path = tmp_path / f"speech.{kind}"
    soundfile.write(path, speech, 16_000, "PCM_16")
    assert np.array_equal(audio.load(path), speech)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_as_the_device_does_it(rate, speech, tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, soxr.resample(speech, 16_000, rate), rate)
    loaded = audio.load(path)
    assert abs(len(loaded) - len(speech)) <= 2
    difference = loaded.astype(int) - device_audio.read(path)
    assert np.abs(difference).max() <= 1


def test_channels_are_averaged(speech, tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([speech, np.zeros_like(speech)], 1), 16_000)
    assert np.abs(audio.load(path) - speech / 2).max() <= 1


@pytest.mark.parametrize(("kind", "coding"), KINDS)
def test_truncated_file_is_refused_by_name(kind, coding, speech, tmp_path):
    path = tmp_path / f"speech.{kind}"
    soundfile.write(path, speech / 32_768, 16_000, coding)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(audio.AudioError, match=str(path)):
        audio.load(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"This is a letter, and no recording. " * 40, "not an audio file"),
        (bytes(range(256)) * 9, "not an audio file"),
    ],
)
def test_what_is_no_audio_is_refused_by_name(content, reason, tmp_path):
    path = tmp_path / "letter.wav"
    path.write_bytes(content)
    with pytest.raises(audio.AudioError, match=f"{path}: {reason}"):
        audio.load(path)


def test_missing_file_and_directory_are_refused(tmp_path):
    with pytest.raises(audio.AudioError, match="no such file"):
        audio.load(tmp_path / "nothing.wav")
    with pytest.raises(audio.AudioError, match="no such file"):
        audio.load(tmp_path)


def test_file_without_samples_and_with_nan_is_refused():
    for samples, reason in (
        (np.zeros(0, np.float32), "no samples"),
        (np.array([0, np.nan], np.float32), "not numbers"),
    ):
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
        with pytest.raises(audio.AudioError, match=f"a.wav: .*{reason}"):
            audio.decode(file.getvalue(), "a.wav")
