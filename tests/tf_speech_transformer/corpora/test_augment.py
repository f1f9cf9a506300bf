"""Augmentation: other voices, rooms, microphones, the same words."""

import dataclasses

import numpy as np
import pytest

from tf_speech_transformer.corpora import augment
from tf_speech_transformer.corpora.augment import Augmentation, Channel
from tf_speech_transformer.corpora.features import PAPER, WHEEL

RATE = 16_000
NOTHING = Augmentation(
    speed=(1.0, 1.0), tempo=0, equalizer=0, room=0, noise=0, hum=0, narrow_band=0,
    companding=0, eight_bits=0, offset=0, clipping=0, peak_db=(-6.0, -6.0),
)  # fmt: skip


def only(**changes: object) -> Augmentation:
    return dataclasses.replace(NOTHING, **changes)  # type: ignore[arg-type]


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """float32: a tone with overtones up to 3 kHz."""
    time = np.arange(int(RATE * seconds)) / RATE
    parts = [np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, int(3_000 / hertz))]
    return (0.2 * np.sum(parts, axis=0)).astype(np.float32)


def pitch(audio: np.ndarray) -> float:
    """Hz of the strongest partial."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 17))
    return float(np.argmax(spectrum) * RATE / (1 << 17))


def share_above(audio: np.ndarray, hertz: float) -> float:
    """How much of the power lies above a frequency."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float(power[int(hertz / RATE * len(audio)) :].sum() / power.sum())


@pytest.fixture(scope="module")
def spoken(speech) -> np.ndarray:
    return speech.astype(np.float32) / 32_768


@pytest.fixture(scope="module")
def speech():
    from tests.conftest import synthesise

    return synthesise("six seven three")


def test_same_seed_gives_the_same_audio_and_another_seed_does_not(spoken):
    def augmented(seed: int) -> np.ndarray:
        channel = Channel(Augmentation(), np.random.default_rng(seed))
        return channel.record(channel.transmit(channel.change_speed(spoken)))

    for seed in range(5):
        assert np.array_equal(augmented(seed), augmented(seed))
    assert not np.array_equal(augmented(0), augmented(1))


def test_whatever_is_drawn_the_result_is_audio(spoken):
    peaks = []
    for seed in range(60):
        channel = Channel(Augmentation(), np.random.default_rng(seed))
        recorded = channel.record(channel.transmit(channel.change_speed(spoken)))
        assert recorded.dtype == np.int16
        assert 0.5 * len(spoken) < len(recorded) < 2 * len(spoken)
        peaks.append(np.abs(recorded.astype(int)).max())
    assert min(peaks) > 500
    assert max(peaks) > 20_000


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_tempo_changes_the_length_and_not_the_pitch(factor):
    sound = tone(140)
    changed = augment.change_tempo(sound, factor)
    assert len(changed) == pytest.approx(len(sound) / factor, rel=0.07)
    middle = changed[2_000:-2_000]
    assert pitch(middle) == pytest.approx(140, abs=1.5)
    assert np.abs(middle).max() == pytest.approx(np.abs(sound).max(), rel=0.15)


def test_sound_too_short_for_another_tempo_stays():
    short = tone(200, 0.05)
    assert augment.change_tempo(short, 1.3) is short


def test_speed_changes_length_and_pitch_together():
    channel = Channel(only(speed=(1.2, 1.2)), np.random.default_rng(0))
    faster = channel.change_speed(tone(140))
    ratio = RATE / len(faster)
    assert 1.14 < ratio < 1.26
    assert pitch(faster) == pytest.approx(140 * ratio, rel=0.02)


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_has_the_ratio_that_was_asked_for(snr, spoken):
    channel = Channel(only(noise=1.0, snr_db=(snr, snr)), np.random.default_rng(0))
    channel.modulated = False
    noise = channel.transmit(spoken) - spoken
    measured = 10 * np.log10(np.mean(spoken**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr, abs=0.1)


def test_brown_noise_is_darker_than_pink_and_pink_than_white():
    shares = [
        share_above(augment.coloured_noise(RATE, slope, np.random.default_rng(0)), 2_000)
        for slope in (0.0, 1.0, 2.0)
    ]
    assert shares[0] > 0.7 > shares[1] > 0.1 > shares[2]


def test_narrow_band_leaves_nothing_above_4_khz(spoken):
    assert share_above(spoken, 4_100) > 0.01
    channel = Channel(only(narrow_band=1.0, telephone=0.0), np.random.default_rng(0))
    narrow = channel.transmit(spoken)
    assert len(narrow) == len(spoken)
    assert share_above(narrow, 4_100) < 1e-5


def test_telephone_takes_the_low_end_too():
    channel = Channel(only(narrow_band=1.0, telephone=1.0), np.random.default_rng(0))
    low, middle = channel.transmit(tone(100, 1)), channel.transmit(tone(1_000, 1))
    assert pitch(low) > 250
    assert pitch(middle) == pytest.approx(1_000, abs=2)


def test_room_keeps_the_length_and_the_direct_sound(spoken):
    channel = Channel(only(room=1.0, decay=(0.5, 0.5)), np.random.default_rng(0))
    wet = channel.transmit(spoken)
    assert len(wet) == len(spoken)
    assert np.corrcoef(wet, spoken)[0, 1] > 0.4
    assert not np.allclose(wet, spoken, atol=1e-3)


def test_companding_is_coarse_and_close():
    sound = tone(300)
    coarse = augment.compand(sound)
    assert len(np.unique(coarse)) <= 255
    assert np.abs(coarse - sound).max() < 0.05 * np.abs(sound).max()


def test_nothing_drawn_changes_only_the_level(spoken):
    channel = Channel(NOTHING, np.random.default_rng(0))
    recorded = channel.record(channel.transmit(spoken))
    assert np.abs(recorded.astype(int)).max() == pytest.approx(32_767 * 10 ** (-6 / 20), abs=1)
    assert np.corrcoef(recorded, spoken)[0, 1] > 0.99999


def test_silence_stays_audio():
    for seed in range(20):
        channel = Channel(Augmentation(), np.random.default_rng(seed))
        recorded = channel.record(channel.transmit(augment.silence(0.5)))
        assert recorded.shape == (8_000,)


def test_spec_augment_hides_little_of_what_is_speech_and_nothing_else():
    features = np.ones([20, 128, 40], np.float32)
    frames = np.arange(20) * 5 + 20
    rng = np.random.default_rng(0)
    for utterance, length in zip(features, frames, strict=True):
        augment.spec_augment(utterance, int(length), rng)
    hidden = [1 - x[:n].mean() for x, n in zip(features, frames, strict=True)]
    assert 0.1 < np.mean(hidden) < 0.5
    assert max(hidden) < 0.7
    assert set(np.unique(features)) == {0.0, 1.0}
    for utterance, length in zip(features, frames, strict=True):
        padding = utterance[length:]
        assert np.all((padding == 1).all(0) | (padding == 0).all(0))  # only bands


def test_spec_augment_depends_on_the_seed_alone():
    made = []
    for seed in (1, 1, 2):
        features = np.ones([96, 40], np.float32)
        augment.spec_augment(features, 90, np.random.default_rng(seed))
        made.append(features)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_a_warp_moves_frequencies_and_times_a_little_and_adds_nothing():
    features = np.zeros([200, 40], np.float32)
    features[80:120, 18:22] = 5.0  # a tone for a while
    rng = np.random.default_rng(0)
    begins, heights = [], []
    for _ in range(40):
        warped = augment.warp(features, WHEEL, rng)
        assert warped.shape == features.shape and warped.dtype == np.float32
        assert warped.min() >= 0 and warped.max() < 5.001
        frames, channels = np.nonzero(warped > 2.5)
        assert 25 < len(set(frames)) < 60
        begins.append(frames.min())
        heights.append(np.median(channels))
    assert 70 < min(begins) < 78 and 82 < max(begins) < 95
    assert 17 <= min(heights) < 19 and 20 < max(heights) <= 23


def test_a_warp_depends_on_the_generator_alone_and_may_be_none():
    features = np.random.default_rng(1).random([90, 80], np.float32)
    one, same, other = (
        augment.warp(features, PAPER, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.allclose(one, other)
    none = augment.warp(features, PAPER, np.random.default_rng(1), tract=0, tempo=0)
    np.testing.assert_allclose(none, features, atol=1e-5)
    assert augment.warp(features[:1], PAPER, np.random.default_rng(1)).shape == (1, 80)


def test_surroundings_are_as_loud_as_the_ratio_says(spoken):
    plain = Channel(only(), np.random.default_rng(0)).transmit(spoken)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        place = only(noise=1.0, snr_db=(10.0, 10.0), surroundings=1.0)
        noise = Channel(place, rng, [spoken[::-1].copy()]).transmit(spoken) - plain
        ratio = 10 * np.log10(np.mean(plain**2) / np.mean(noise**2))
        assert abs(ratio - 10) < 0.1


def test_surroundings_are_of_many_kinds():
    rng = np.random.default_rng(0)
    places = [augment.surroundings(RATE * 2, [], rng) for _ in range(40)]
    assert all(abs(np.mean(place**2) - 1) < 1e-3 for place in places)
    # From even noise to knocks that stand out of it, from dull to bright.
    crests = [np.abs(place).max() for place in places]
    assert min(crests) < 6 and max(crests) > 15
    bright = [share_above(place, 2_000) for place in places]
    assert min(bright) < 0.02 and max(bright) > 0.3


def test_waiting_does_not_lower_the_noise(spoken):
    noisy = only(noise=1.0, snr_db=(10.0, 10.0))
    wait = np.zeros(5 * RATE, np.float32)
    longer = np.concatenate([wait, spoken])
    channels = (Channel(noisy, np.random.default_rng(seed)) for seed in range(9))
    steady = next(channel for channel in channels if not channel.modulated)
    noise = steady.transmit(longer, len(wait))[: len(wait)]
    assert abs(10 * np.log10(np.mean(spoken**2) / np.mean(noise**2)) - 10) < 1.0
