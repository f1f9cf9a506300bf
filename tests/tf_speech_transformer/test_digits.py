"""Strings of digits: said in one go, or joined from recordings."""

import collections
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import synthesise
from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.corpora import sources as digits
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.features import SAMPLE_RATE


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> corpus.Recordings:
    """Every digit by two voices, and a string of three by a third."""
    directory: Path = tmp_path_factory.mktemp("recordings")
    units = [(word, voice) for voice in ("en-us+m3", "en+f2") for word in digits.WORDS]
    units.append(("four five six", "en-us+m1"))
    samples = [synthesise(*unit) for unit in units]
    np.concatenate(samples).tofile(directory / "samples.s16")
    index = {
        "lengths": [len(x) for x in samples],
        "texts": [text for text, _ in units],
        "speakers": [voice for _, voice in units],
    }
    (directory / "index.json").write_text(json.dumps(index))
    return corpus.Recordings(directory)


@pytest.fixture(scope="module")
def joined(recordings) -> digits.Joined:
    return digits.Joined(recordings)


def test_words_are_one_to_seven_digits_all_of_them_about_as_often():
    rng = np.random.default_rng(0)
    strings = [digits.draw_words(rng) for _ in range(3_000)]
    lengths = collections.Counter(map(len, strings))
    assert sorted(lengths) == [1, 2, 3, 4, 5, 6, 7]
    assert max(lengths.values()) < 1.4 * min(lengths.values())
    words = collections.Counter(word for string in strings for word in string)
    assert sorted(words) == sorted(digits.WORDS)
    assert max(words.values()) < 1.2 * min(words.values())


def test_digits_are_repeated_more_often_than_by_chance():
    rng = np.random.default_rng(0)
    strings = [digits.draw_words(rng, 5) for _ in range(1_000)]
    pairs = [a == b for string in strings for a, b in itertools.pairwise(string)]
    assert 0.11 < np.mean(pairs) < 0.25
    assert any(a == b == c for s in strings for a, b, c in zip(s, s[1:], s[2:], strict=False))


def test_synthesised_strings_are_speech_of_their_text():
    source = digits.Synthesised("espeak", ["en-us+m3", "en+f2"])
    for seed in range(5):
        spoken = source.draw(np.random.default_rng(seed))
        words = spoken.text.split()
        assert set(words) <= set(digits.WORDS)
        assert spoken.speaker in source.speakers
        seconds = len(spoken.pieces[0]) / SAMPLE_RATE
        assert 0.12 * len(words) < seconds < 1.0 * len(words)


def test_joined_strings_are_of_one_speaker_and_their_text_is_of_their_pieces(joined, recordings):
    originals = {
        digits.trim(recordings.audio(i)).tobytes(): (recordings.texts[i], recordings.speakers[i])
        for i in range(len(recordings))
    }
    lengths = set()
    for seed in range(60):
        spoken = joined.draw(np.random.default_rng(seed))
        units = [originals[piece.tobytes()] for piece in spoken.pieces]
        assert {speaker for _, speaker in units} == {spoken.speaker}
        assert " ".join(text for text, _ in units) == spoken.text
        lengths.add(len(spoken.text.split()))
    assert lengths == {1, 2, 3, 4, 5, 6, 7}


def test_recorded_utterances_are_whole(recordings):
    source = digits.Recorded(recordings)
    texts = {source.draw(np.random.default_rng(seed)).text for seed in range(200)}
    assert texts == {*digits.WORDS, "four five six"}


def test_trim_takes_silence_off_both_ends_and_nothing_else(recordings):
    word = digits.trim(recordings.audio(3))
    padded = np.concatenate([np.zeros(9_000, np.float32), word, np.zeros(5_000, np.float32)])
    trimmed = digits.trim(padded)
    assert abs(len(trimmed) - len(word)) < 3 * SAMPLE_RATE // 100
    assert np.sum(trimmed**2) > 0.999 * np.sum(word**2)


def test_trim_leaves_silence_and_nothing_alone():
    for samples in (0, 30, 1_000):
        assert len(digits.trim(np.zeros(samples, np.float32))) == samples


def test_join_lays_gaps_and_overlaps_between_pieces():
    ones = [np.ones(1_600, np.float32)] * 3
    audio = digits.join(ones, np.array([0.1, -0.05]))
    assert len(audio) == 1_600 * 3 + 1_600 - 800
    assert np.all(audio[1_600:3_200] == 0)
    assert np.all(audio[4_000:4_800] == 2)
    assert audio.sum() == 4_800


def test_gaps_of_clips_do_not_overlap():
    rng = np.random.default_rng(0)
    assert min(digits.draw_gaps(6, True, rng).min() for _ in range(200)) >= 0
    gaps = [digits.draw_gaps(6, False, rng) for _ in range(200)]
    assert min(x.min() for x in gaps) < 0
    assert max(x.max() for x in gaps) > 0.4


def test_recorded_audio_depends_on_the_generator_alone(joined):
    def recorded(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return digits.record(joined.draw(rng), Augmentation(), rng)

    for seed in range(10):
        audio = recorded(seed)
        assert audio.dtype == np.int16
        assert len(audio) > 2_000
        assert np.array_equal(audio, recorded(seed))


def test_without_augmentation_pauses_are_digital_silence(joined):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spoken = joined.draw(rng)
        audio = digits.record(spoken, None, rng)
        pauses = 0.55 + 0.2 * (len(spoken.pieces) - 1)
        speech = sum(map(len, spoken.pieces)) / SAMPLE_RATE
        assert speech + 0.54 < len(audio) / SAMPLE_RATE <= speech + pauses
        assert not np.any(audio[: SAMPLE_RATE // 5])
        assert 3_000 < np.abs(audio.astype(int)).max() <= 32_767
