import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.sound import frontend


@pytest.mark.parametrize("samples", [0, 1, 160, 479, 480, 481, 639, 640, 16000])
def test_frames_are_counted_as_the_microfrontend_makes_them(samples: int) -> None:
    features = frontend.microfrontend(np.ones(samples, np.int16))
    assert features.shape == (frontend.frame_count(samples), frontend.CHANNELS)


@pytest.mark.parametrize("frames", [1, 2, 512])
def test_sample_count_is_the_most_that_gives_so_many_frames(frames: int) -> None:
    assert frontend.frame_count(frontend.sample_count(frames)) == frames
    assert frontend.frame_count(frontend.sample_count(frames) + 1) == frames + 1


def test_the_wheel_returns_whole_numbers(speech: NDArray[np.int16]) -> None:
    import pymicro_features

    wheel = pymicro_features.MicroFrontend()
    values: list[float] = []
    for start in range(0, len(speech) - 159, 160):
        values += wheel.process_samples(speech[start : start + 160].tobytes()).features
    np.testing.assert_array_equal(
        frontend.microfrontend(speech).ravel() * 0.0390625, np.array(values)
    )


def test_each_utterance_starts_from_the_reset_state(speech: NDArray[np.int16]) -> None:
    first = frontend.microfrontend(speech)
    np.testing.assert_array_equal(first, frontend.microfrontend(speech))


def test_features_agree_with_tensorflows_op(speech: NDArray[np.int16]) -> None:
    """All but the few that one window coefficient and one filterbank weight decide."""
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    op = audio_microfrontend_op.audio_microfrontend(
        tf.constant(speech), out_scale=1, out_type=tf.uint16, **frontend.MICROFRONTEND_PARAMETERS
    ).numpy()
    wheel = frontend.microfrontend(speech)
    assert op.shape == wheel.shape
    assert np.mean(frontend.quantize(op) == frontend.quantize(wheel)) > 0.98


def test_quantization_is_micro_speechs() -> None:
    values = np.arange(0, 1000, dtype=np.uint16)
    expected = [min(max((v * 256 + 333) // 666 - 128, -128), 127) for v in range(1000)]
    np.testing.assert_array_equal(frontend.quantize(values), np.array(expected, np.int8))


def test_other_parameters_are_named() -> None:
    assert frontend.parameter_mismatch(frontend.MICROFRONTEND_PARAMETERS) is None
    for name, value in frontend.MICROFRONTEND_PARAMETERS.items():
        changed = dict(frontend.MICROFRONTEND_PARAMETERS) | {name: value + 1}
        assert name in str(frontend.parameter_mismatch(changed))
    assert "window_size" in str(frontend.parameter_mismatch({"sample_rate": 16000}))
    assert "dither" in str(
        frontend.parameter_mismatch(dict(frontend.MICROFRONTEND_PARAMETERS) | {"dither": 1})
    )


@pytest.mark.parametrize("audio", [np.zeros(480, np.float32), np.zeros((480, 2), np.int16)])
def test_other_audio_than_mono_int16_is_refused(audio: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="int16"):
        frontend.microfrontend(audio)


PAPER = {
    **frontend.MICROFRONTEND_PARAMETERS,
    "window_size": 25,
    "num_channels": 80,
    "min_signal_remaining": 1.0,
    "enable_pcan": False,
    "scale_shift": 5,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_channels": 40, "window_size": 32}, {"window_size": 16, "lower_band_limit": 20.0}],
    ids=["paper", "wide", "short"],
)
def test_log_mel_has_the_bytes_of_tensorflow_s_op(
    speech: np.ndarray, changes: dict[str, float]
) -> None:
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op as op

    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(0, 30_000, 8_000), -32_768, 32_767).astype(np.int16)
    faint = rng.integers(-2, 3, 8_000, np.int16)
    parameters = {**PAPER, **changes}
    found = frontend.find(parameters)
    for audio in (speech, noise, faint, np.zeros(1_000, np.int16)):
        expected = op.audio_microfrontend(
            tf.constant(audio), out_scale=1, out_type=tf.uint16, **parameters
        ).numpy()
        actual = found.stream().process(audio)
        assert actual.shape == (frontend.frame_count(len(audio), found.window), found.channels)
        np.testing.assert_array_equal(actual, expected)


def test_log_mel_in_a_stream_is_that_of_the_whole(speech: np.ndarray) -> None:
    found = frontend.find(PAPER)
    stream, whole = found.stream(), found.stream().process(speech)
    blocks = np.split(speech, np.cumsum([1, 399, 7, 160, 1000]))
    np.testing.assert_array_equal(np.concatenate([stream.process(x) for x in blocks]), whole)
    assert found.stream().process(speech[:399]).shape == (0, 80)


def test_a_frontend_that_nothing_computes_is_refused() -> None:
    assert isinstance(frontend.find(frontend.MICROFRONTEND_PARAMETERS), frontend.MicroFrontend)
    with pytest.raises(ValueError, match="num_channels is 80"):
        frontend.find({**frontend.MICROFRONTEND_PARAMETERS, "num_channels": 80})
    with pytest.raises(ValueError, match="num_channels is missing"):
        frontend.find({name: x for name, x in PAPER.items() if name != "num_channels"})
