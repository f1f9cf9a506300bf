"""Sources draw utterances and their texts."""

import numpy as np

from tf_speech_transformer.corpora import digit_strings, sources


def test_recorded_utterances_are_whole(recordings):
    source = sources.Recorded(recordings)
    texts = {source.draw(np.random.default_rng(seed)).text for seed in range(200)}
    assert texts == {*digit_strings.WORDS, "four five six"}
