"""espeak-ng speaks, in any process, and refuses what it cannot say."""

import multiprocessing
import os

import numpy as np
import pytest

from tests.tf_speech_transformer.voices.test_voices import fundamental
from tf_speech_transformer.voices.espeak import ACCENTS, Espeak


def speak_in_child(queue: "multiprocessing.Queue[int]") -> None:
    queue.put(len(Espeak().synthesise("five", "en-us+m3")))


def test_espeak_speaks(espeak: Espeak) -> None:
    audio = espeak.synthesise("four seven two", "en-us+m3")
    assert audio.dtype == np.float32 and audio.ndim == 1
    assert 0.5 < len(audio) / espeak.sample_rate < 2.0
    assert 0.1 < np.abs(audio).max() <= 1.0


def test_settings_of_one_reading_do_not_reach_the_next(espeak: Espeak) -> None:
    first = espeak.synthesise("nine", "en-us+m3")
    espeak.synthesise("nine", "en-gb-scotland+f2", 2.0, 2.0)
    again = espeak.synthesise("nine", "en-us+m3")  # flutter goes on: alike, not equal
    assert len(again) == pytest.approx(len(first), rel=0.02)
    pitches = [fundamental(audio, espeak.sample_rate) for audio in (first, again)]
    assert pitches[1] == pytest.approx(pitches[0], rel=0.1)


def test_every_accent_sounds_different(espeak: Espeak) -> None:
    spoken = {espeak.synthesise("zero four", f"{a}+m3").tobytes() for a in ACCENTS}
    assert len(spoken) == len(ACCENTS)


def test_rate_shortens_and_pitch_raises(espeak: Espeak) -> None:
    slow, fast = (espeak.synthesise("nine", "en-us+m3", rate) for rate in (0.8, 1.6))
    assert len(fast) < 0.75 * len(slow)
    low, high = (
        fundamental(espeak.synthesise("nine", "en-us+m3", pitch=pitch), espeak.sample_rate)
        for pitch in (1.0, 1.5)
    )
    assert 1.2 < high / low < 1.8


def test_jokes_are_no_speakers(espeak: Espeak) -> None:
    speakers = espeak.speakers()
    assert len(speakers) > 400
    assert not [name for name in speakers if "whisper" in name or "robo" in name.lower()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_espeak_works_in_a_forked_process(espeak: Espeak) -> None:
    expected = len(espeak.synthesise("five", "en-us+m3"))
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=speak_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=10) == pytest.approx(expected, rel=0.05)
    child.join()


@pytest.mark.parametrize("speaker", ["nobody", "en-us+nobody", "xx+m3", "en-us+whisper"])
def test_unknown_speakers_are_refused(espeak: Espeak, speaker: str) -> None:
    with pytest.raises(ValueError, match="espeak has no speaker"):
        espeak.synthesise("one", speaker)


@pytest.mark.parametrize(
    ("text", "rate", "pitch", "sentence"),
    [("...", 1, 1, "nothing to say"), ("one", 5, 1, "rate 5"), ("one", 1, 0, "pitch 0")],
)
def test_unspeakable_requests_are_refused(
    espeak: Espeak, text: str, rate: float, pitch: float, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        espeak.synthesise(text, "en-us+m3", rate, pitch)
