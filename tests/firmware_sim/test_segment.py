import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.sound import segment

SECOND = 16000
WINDOW = 5 * SECOND


def _covered(pieces: list[tuple[int, int]], samples: int) -> NDArray[np.bool_]:
    covered = np.zeros(samples, bool)
    for start, end in pieces:
        assert not covered[start:end].any()
        covered[start:end] = True
    return covered


def test_short_audio_stays_whole(speech: NDArray[np.int16]) -> None:
    assert segment.split(speech, len(speech)) == [(0, len(speech))]


def test_long_audio_is_cut_in_its_pauses(speech: NDArray[np.int16]) -> None:
    noise = np.random.default_rng(0).normal(0, 15, SECOND // 2).astype(np.int16)
    audio = np.concatenate([speech, noise] * 12)
    pieces = segment.split(audio, WINDOW)
    assert all(end - start <= WINDOW for start, end in pieces)
    assert _covered(pieces, len(audio)).all()
    loud = np.abs(audio.astype(int)) > 1000
    for _, end in pieces[:-1]:
        assert not loud[end - 800 : end + 800].any()


@pytest.mark.parametrize("loudness", [1.0, 0.05])
@pytest.mark.parametrize(("before", "after"), [(9.0, 0.0), (4.5, 4.5), (0.0, 9.0), (0.4, 8.0)])
def test_quiet_ends_are_left_out(
    before: float, after: float, loudness: float, speech: NDArray[np.int16]
) -> None:
    said = np.concatenate([speech, np.zeros(SECOND), speech]) * loudness
    audio = np.concatenate([np.zeros(int(before * SECOND)), said, np.zeros(int(after * SECOND))])
    audio += np.random.default_rng(0).normal(0, 30 * loudness, len(audio))
    ((start, end),) = segment.split(audio.astype(np.int16), WINDOW)
    assert end - start == WINDOW
    first = int(before * SECOND)
    assert start <= first
    assert first + len(said) <= end


def test_in_noise_nothing_is_left_out(speech: NDArray[np.int16]) -> None:
    audio = np.concatenate([np.zeros(3 * SECOND), speech, np.zeros(4 * SECOND)])
    level = np.sqrt(np.mean(speech.astype(float) ** 2) / 10**0.6)  # 6 dB below speech
    audio += np.random.default_rng(0).normal(0, level, len(audio))
    pieces = segment.split(audio.astype(np.int16), WINDOW)
    assert _covered(pieces, len(audio)).all()


def test_soft_speech_is_not_left_out(speech: NDArray[np.int16]) -> None:
    """Somebody farther away, 26 dB softer, follows."""
    audio = np.concatenate([speech, np.zeros(4 * SECOND), speech / 20, np.zeros(SECOND)])
    audio += np.random.default_rng(0).normal(0, 5, len(audio))
    pieces = segment.split(audio.astype(np.int16), WINDOW)
    assert _covered(pieces, len(audio)).all()


def test_audio_without_pauses_is_cut_all_the_same() -> None:
    audio = np.random.default_rng(0).normal(0, 3000, 60 * SECOND + 77).astype(np.int16)
    pieces = segment.split(audio, WINDOW)
    assert all(0 < end - start <= WINDOW for start, end in pieces)
    assert _covered(pieces, len(audio)).all()


def test_the_same_audio_gives_the_same_pieces(speech: NDArray[np.int16]) -> None:
    audio = np.tile(speech, 8)
    assert segment.split(audio, WINDOW) == segment.split(audio.copy(), WINDOW)


def test_only_digital_silence_is_left_out(speech: NDArray[np.int16]) -> None:
    silence = np.zeros(20 * SECOND, np.int16)
    audio = np.concatenate([silence, speech, silence, speech, silence])
    pieces = segment.split(audio, WINDOW)
    covered = _covered(pieces, len(audio))
    assert covered[np.abs(audio.astype(int)) > segment.SILENT_PEAK].all()
    assert covered.mean() < 0.2


@pytest.mark.parametrize("samples", [0, 100, SECOND, 600 * SECOND])
def test_silence_has_no_pieces(samples: int) -> None:
    assert segment.split(np.zeros(samples, np.int16), WINDOW) == []


def test_a_window_below_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        segment.split(np.ones(1000, np.int16), 10)


def test_a_full_window_is_cut_in_its_longest_pause() -> None:
    variances = np.full(512, 1_000_000, np.uint32)
    variances[250:254] = variances[300:320] = variances[400:406] = 20
    variances[50:150] = 20  # too early: the window would hold little
    assert 305 <= segment.find_pause(variances) <= 315
    variances[:] = 1_000_000
    variances[333] = 999_000
    assert 205 <= segment.find_pause(variances) < 512
