"""Kokoro: its accents and blends, and, where it is installed, its speech."""

import numpy as np
import pytest

from tf_speech_transformer import voices
from tf_speech_transformer.voices import kokoro


# ruff: noqa: RUF001 - IPA is meant, not the Latin letters it looks like
def test_casual_speech_is_connected() -> None:
    said = kokoro.with_accent("wɪð sˌʌm mˈɪlk ænd ə lˈɑt ʌv bɹˈWn ʃˈʊɡəɹ", "casual")
    assert said == "wɪ sə mˈɪlk ən ə lˈɑɾ ə bɹˈWn ʃˈʊɡəɹ"
    assert kokoro.with_accent("lˈIt ɹˈOst dˈʌbᵊl", "casual") == "lˈIt ɹˈOs dˈʌbᵊl"
    assert kokoro.with_accent("stˈɑp", "casual") == "stˈɑp"  # within a word nothing is lost
    assert kokoro.with_accent("hˈænd sˌʌm", "") == "hˈænd sˌʌm"


def test_kokoro_blends_and_phonemes() -> None:
    try:
        engine = kokoro.Kokoro()
    except voices.EngineMissing as error:
        pytest.skip(str(error))
    assert engine.blends(5, seed=1) == engine.blends(5, seed=1)
    assert engine.phonemes("nine, zero", british=False) == "nˈIn, zˈɪɹO"
    with pytest.raises(ValueError, match="kokoro has no speaker"):
        engine.synthesise("one", "af_heart*x+bm_lewis*0.5")
    with pytest.raises(ValueError, match="kokoro has no speaker"):
        engine.synthesise("one", "af_heart/nobody")
    own, others, both = (
        engine.synthesise("one two", x) for x in ("af_heart", "am_adam", "af_heart/am_adam")
    )
    assert len(both) == len(others) != len(own)  # the rhythm is the other's, the sound is not
    assert not np.allclose(both, others, atol=0.01)


def test_varied_speakers_are_of_both_sexes_and_many_accents() -> None:
    names = ["af_heart", "am_adam", "bf_emma", "bm_lewis", "ff_siwis", "hm_omega", "zf_xiaoni"]
    speakers = kokoro.varied_speakers(names, 300, seed=1)
    assert speakers == kokoro.varied_speakers(names, 300, seed=1)
    assert speakers[:20] == kokoro.varied_speakers(names, 20, seed=1)
    women = sum(name[1] == "f" for name in speakers)
    english = sum(name[0] in "ab" for name in speakers)
    assert 110 < women < 190 and 140 < english < 220
    accents = {name.partition("@")[2] for name in speakers}
    assert accents == {"", *kokoro.ACCENTS}
    assert 100 < sum("/" in name for name in speakers) < 200  # with another voice's melody
