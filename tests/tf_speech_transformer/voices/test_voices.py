"""Voices are told apart, and an engine that is missing is explained."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tf_speech_transformer import voices
from tf_speech_transformer.voices import kokoro
from tf_speech_transformer.voices.espeak import Espeak


def fundamental(audio: np.ndarray, sample_rate: int) -> float:
    """Hz, of the middle of `audio`, by autocorrelation."""
    middle = len(audio) // 2 - 1024
    part = audio[middle : middle + 2048]
    correlation = np.correlate(part, part, "full")[2047:]
    shortest = sample_rate // 400
    return sample_rate / (shortest + int(correlation[shortest : sample_rate // 50].argmax()))


def test_shift_pitch_multiplies_the_frequency() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    shifted = voices.shift_pitch(tone, 1.25)
    assert len(shifted) == pytest.approx(16_000 / 1.25, abs=2)
    assert fundamental(shifted, 16_000) == pytest.approx(250, rel=0.02)


def test_voices_import_no_tensorflow() -> None:
    code = "import sys, tf_speech_transformer.voices; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_and_missing_engines_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="choose espeak"):
        voices.engine("parrot")
    monkeypatch.delenv("KOKORO_VOICES", raising=False)
    with pytest.raises(voices.EngineMissing, match="KOKORO_VOICES"):
        voices.engine("kokoro")
    with pytest.raises(voices.EngineMissing, match="no Kokoro voices"):
        kokoro.Kokoro(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(voices.EngineMissing, match="apt-get install flite"):
        voices.engine("flite")


def test_split_keeps_a_voice_on_one_side(espeak: Espeak) -> None:
    train, test = voices.speaker_split(espeak.speakers(), seed=3)
    assert sorted(train + test) == sorted(espeak.speakers())
    heard_in_train = {voice for name in train for voice in voices.voice_identities(name)}
    heard_in_test = {voice for name in test for voice in voices.voice_identities(name)}
    assert heard_in_train and heard_in_test and not heard_in_train & heard_in_test
    assert voices.speaker_split(espeak.speakers(), seed=3) == (train, test)
    assert voices.speaker_split(espeak.speakers(), seed=4) != (train, test)


def test_split_leaves_out_blends_of_both_sides() -> None:
    names = ["af_a", "af_b", "bm_c", "bm_d"]
    blends = [f"{a}*0.5+{b}*0.5" for a in names for b in names if a < b]
    train, test = voices.speaker_split(names + blends, seed=0, test_share=0.5)
    assert sorted(map(len, (train, test))) == [3, 3]  # two voices and their blend on each side
    assert not set(train) & set(test)


def test_split_needs_two_voices() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        voices.speaker_split(["en+m3", "en-us+m3"], seed=0)


def test_identities_of_variants_and_blends() -> None:
    assert voices.voice_identities("en-us+klatt2") == voices.voice_identities("en-029+klatt")
    assert voices.voice_identities("en-us+m1") != voices.voice_identities("en-us+m2")
    assert voices.voice_identities("af_heart*0.6+bm_lewis*0.4") == {"af_heart", "bm_lewis"}
