"""What a microphone records of pieces of speech: trimmed, joined, augmented."""

import numpy as np

from tf_speech_transformer.corpora import recording
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.features import SAMPLE_RATE


def test_trim_takes_silence_off_both_ends_and_nothing_else(recordings):
    word = recording.trim(recordings.audio(3))
    padded = np.concatenate([np.zeros(9_000, np.float32), word, np.zeros(5_000, np.float32)])
    trimmed = recording.trim(padded)
    assert abs(len(trimmed) - len(word)) < 3 * SAMPLE_RATE // 100
    assert np.sum(trimmed**2) > 0.999 * np.sum(word**2)


def test_trim_leaves_silence_and_nothing_alone():
    for samples in (0, 30, 1_000):
        assert len(recording.trim(np.zeros(samples, np.float32))) == samples


def test_join_lays_gaps_and_overlaps_between_pieces():
    ones = [np.ones(1_600, np.float32)] * 3
    audio = recording.join(ones, np.array([0.1, -0.05]))
    assert len(audio) == 1_600 * 3 + 1_600 - 800
    assert np.all(audio[1_600:3_200] == 0)
    assert np.all(audio[4_000:4_800] == 2)
    assert audio.sum() == 4_800


def test_gaps_of_clips_do_not_overlap():
    rng = np.random.default_rng(0)
    assert min(recording.draw_gaps(6, True, rng).min() for _ in range(200)) >= 0
    gaps = [recording.draw_gaps(6, False, rng) for _ in range(200)]
    assert min(x.min() for x in gaps) < 0
    assert max(x.max() for x in gaps) > 0.4


def test_recorded_audio_depends_on_the_generator_alone(joined):
    def recorded(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return recording.record(joined.draw(rng), Augmentation(), rng)

    for seed in range(10):
        audio = recorded(seed)
        assert audio.dtype == np.int16
        assert len(audio) > 2_000
        assert np.array_equal(audio, recorded(seed))


def test_without_augmentation_pauses_are_digital_silence(joined):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spoken = joined.draw(rng)
        audio = recording.record(spoken, None, rng)
        pauses = 0.55 + 0.2 * (len(spoken.pieces) - 1)
        speech = sum(map(len, spoken.pieces)) / SAMPLE_RATE
        assert speech + 0.54 < len(audio) / SAMPLE_RATE <= speech + pauses
        assert not np.any(audio[: SAMPLE_RATE // 5])
        assert 3_000 < np.abs(audio.astype(int)).max() <= 32_767
