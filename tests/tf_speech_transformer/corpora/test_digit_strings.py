"""Strings of digits: said in one go, or joined from recordings."""

import collections
import itertools

import numpy as np

from tf_speech_transformer.corpora import digit_strings, recording
from tf_speech_transformer.corpora.features import SAMPLE_RATE


def test_words_are_one_to_seven_digits_all_of_them_about_as_often():
    rng = np.random.default_rng(0)
    strings = [digit_strings.draw_words(rng) for _ in range(3_000)]
    lengths = collections.Counter(map(len, strings))
    assert sorted(lengths) == [1, 2, 3, 4, 5, 6, 7]
    assert max(lengths.values()) < 1.4 * min(lengths.values())
    words = collections.Counter(word for string in strings for word in string)
    assert sorted(words) == sorted(digit_strings.WORDS)
    assert max(words.values()) < 1.2 * min(words.values())


def test_digits_are_repeated_more_often_than_by_chance():
    rng = np.random.default_rng(0)
    strings = [digit_strings.draw_words(rng, 5) for _ in range(1_000)]
    pairs = [a == b for string in strings for a, b in itertools.pairwise(string)]
    assert 0.11 < np.mean(pairs) < 0.25
    assert any(a == b == c for s in strings for a, b, c in zip(s, s[1:], s[2:], strict=False))


def test_synthesised_strings_are_speech_of_their_text():
    source = digit_strings.Synthesised("espeak", ["en-us+m3", "en+f2"])
    for seed in range(5):
        spoken = source.draw(np.random.default_rng(seed))
        words = spoken.text.split()
        assert set(words) <= set(digit_strings.WORDS)
        assert spoken.speaker in source.speakers
        seconds = len(spoken.pieces[0]) / SAMPLE_RATE
        assert 0.12 * len(words) < seconds < 1.0 * len(words)


def test_joined_strings_are_of_one_speaker_and_their_text_is_of_their_pieces(joined, recordings):
    originals = {
        recording.trim(recordings.audio(i)).tobytes(): (recordings.texts[i], recordings.speakers[i])
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
