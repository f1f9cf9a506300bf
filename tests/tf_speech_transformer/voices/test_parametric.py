# ruff: noqa: RUF001 - letters of a phonetic alphabet look like others
"""Speakers without end."""

import numpy as np

from tf_speech_transformer.voices import parametric

WORDS = (("HH", "AH0", "L", "OW1"), ("W", "AO1", "T", "ER0"))
PLAIN = parametric.Speaker(False, (), 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)


def change(**changes: object) -> parametric.Speaker:
    return parametric.dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


def say(speaker: parametric.Speaker, seed: int = 1) -> np.ndarray:
    return parametric.model().speak(WORDS, (), speaker, np.random.default_rng(seed))


def test_words_are_spelled_in_the_letters_of_the_model() -> None:
    spelled = parametric.spell(WORDS, {0}, np.random.default_rng(0))
    assert spelled.rstrip(".") == "həlˈO, wˈɔTəɹ"


def test_a_british_speaker_has_no_r_after_vowels_and_no_tap() -> None:
    assert parametric.with_accent("wˈɔTəɹ", change(british=True)) == "wˈɔtə"
    assert parametric.with_accent("kˈɑɹ vˈɛɹi", change(british=True)) == "kˈɑː vˈɛɹi"


def test_a_foreign_rule_changes_a_letter() -> None:
    rule = parametric.FOREIGN.index(("θ", "s"))
    assert parametric.with_accent("θˈɪŋ", change(foreign=(rule,))) == "sˈɪŋ"


def test_speech_is_the_same_again_for_the_same_seed() -> None:
    first = say(PLAIN)
    assert first.dtype == np.float32 and 0.4 < len(first) / parametric.SAMPLE_RATE < 2.5
    assert np.abs(first).max() > 0.05
    np.testing.assert_array_equal(first, say(PLAIN))


def test_pace_shortens_speech() -> None:
    assert len(say(change(pace=1.5))) < 0.8 * len(say(change(pace=0.8)))


def test_pitch_and_liveliness_change_the_melody() -> None:
    pitch = np.array([0, 100, 200, 0], np.float32)
    mean = np.sqrt(100 * 200)
    np.testing.assert_allclose(
        parametric.change_pitch(pitch, change(pitch=1.5, liveliness=0.0)),
        [0, 1.5 * mean, 1.5 * mean, 0],
        rtol=1e-5,
    )


def test_a_longer_tract_moves_the_spectrum_down() -> None:
    spectrum = np.zeros((100, 1), np.float32)
    spectrum[50] = 1.0
    assert parametric.stretch(spectrum, 0.8, -9.0).argmax() == 40
    assert parametric.stretch(spectrum, 0.8, -9.0)[-1] == -9.0


def test_drawn_speakers_differ_and_low_voices_have_long_tracts() -> None:
    rng = np.random.default_rng(1)
    speakers = [parametric.draw_speaker(rng) for _ in range(300)]
    assert len(set(speakers)) == 300
    low = [x.tract for x in speakers if x.pitch < 0.6]
    high = [x.tract for x in speakers if x.pitch > 1.2]
    assert np.mean(low) < np.mean(high) - 0.1
    assert 0.15 < np.mean([x.british for x in speakers]) < 0.35
