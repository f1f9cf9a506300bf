import pathlib

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, recognizer
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import synthesise

TEXTS = {
    "one two three": "en-us+m3",
    "nine eight seven six": "en-us+f2",
    "zero four five": "en-us+f3",
    "two two six one zero": "en-us+m1",
}


@pytest.fixture(scope="module")
def loaded(digits_bundle: pathlib.Path) -> Recognizer:
    return Recognizer(bundle.load(digits_bundle), options=DecodingOptions(Decoding.GREEDY))


def test_digits_are_recognised(loaded: Recognizer) -> None:
    found = [loaded.transcribe(synthesise(text, speaker)).text for text, speaker in TEXTS.items()]
    assert jiwer.wer(list(TEXTS), found) < 0.25, found


def test_the_parts_add_up(loaded: Recognizer, speech: NDArray[np.int16]) -> None:
    result = loaded.transcribe(speech)
    (piece,) = result.segments
    assert (piece.start, piece.end) == (0, len(speech))
    assert result.text == piece.text == loaded.bundle.tokenizer.text(result.tokens)
    assert len(piece.step_seconds) == len(piece.tokens) + piece.ended
    assert result.audio_seconds == pytest.approx(len(speech) / 16000)
    parts = piece.frontend_seconds + piece.encoder_seconds + sum(piece.step_seconds)
    assert 0 < parts <= result.seconds


def test_the_same_audio_gives_the_same_text(loaded: Recognizer, speech: NDArray[np.int16]) -> None:
    first, second = loaded.transcribe(speech), loaded.transcribe(speech)
    assert (first.text, first.score) == (second.text, second.score)


@pytest.mark.parametrize("samples", [0, 100, 16000, 600 * 16000])
def test_silence_is_no_text(samples: int, loaded: Recognizer) -> None:
    result = loaded.transcribe(np.zeros(samples, np.int16))
    assert (result.text, result.tokens, result.segments) == ("", (), ())


def test_less_than_a_frame_is_no_text(loaded: Recognizer) -> None:
    assert loaded.transcribe(np.full(479, 1000, np.int16)).text == ""


def test_ten_minutes_are_recognised_piece_by_piece(
    loaded: Recognizer, speech: NDArray[np.int16]
) -> None:
    pause = np.random.default_rng(0).normal(0, 3, 16000).astype(np.int16)
    repeats = 600 * 16000 // (len(speech) + len(pause)) + 1
    audio = np.tile(np.concatenate([speech, pause]), repeats)
    result = loaded.transcribe(audio)
    assert result.audio_seconds >= 600
    window = loaded.bundle.limits.frames * 160 + 480
    assert all(s.end - s.start < window for s in result.segments)
    assert [s.start for s in result.segments[1:]] == [s.end for s in result.segments[:-1]]
    assert result.segments[-1].end == len(audio)
    assert result.text == " ".join(s.text for s in result.segments if s.text)


def test_features_beyond_the_window_are_refused(loaded: Recognizer) -> None:
    for frames in (0, loaded.bundle.limits.frames + 1):
        with pytest.raises(ValueError, match=f"{frames} frames"):
            recognizer.encoder_inputs(loaded.bundle, np.zeros((frames, 40), np.int8))


def test_frames_after_the_audio_are_padding(loaded: Recognizer, speech: NDArray[np.int16]) -> None:
    features = recognizer.compute_features(loaded.bundle, speech)
    inputs = recognizer.encoder_inputs(loaded.bundle, features)
    stored = inputs["features"][0]
    np.testing.assert_array_equal(stored[: len(features)], features)
    assert (stored[len(features) :] == -128).all()
    valid = -(-len(features) // (loaded.bundle.limits.frames // loaded.bundle.limits.memory_frames))
    mask = loaded.bundle.encoder.input("memory_mask").dequantize(inputs["memory_mask"][0])
    assert (mask[:valid] == 0).all()
    assert (mask[valid:] < -5).all()
