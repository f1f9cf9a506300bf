"""Features: the device's integers, in training too."""

import dataclasses

import numpy as np
import pytest

from firmware_sim.sound import frontend
from tf_speech_transformer.corpora import features


def test_training_and_device_compute_the_same_bytes(speech):
    device = frontend.quantize(frontend.microfrontend(speech))
    assert features.microfrontend(speech).tobytes() == device.tobytes()


def test_manifest_names_the_parameters_that_the_device_has():
    assert dict(frontend.MICROFRONTEND_PARAMETERS) == dataclasses.asdict(features.WHEEL)
    assert frontend.parameter_mismatch(dataclasses.asdict(features.WHEEL)) is None


def test_op_agrees_with_the_wheel_but_for_the_precision_of_its_tables(speech):
    values = features.by_op(speech, features.WHEEL)
    ours = features.microfrontend(speech)
    assert values.shape == ours.shape
    same = frontend.quantize(values) == ours
    assert same.mean() > 0.99


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 639, 640, 16_000])
def test_frame_count_says_how_many_frames_there_are(samples):
    made = features.microfrontend(np.zeros(samples, np.int16))
    assert made.shape == (features.frame_count(samples), 40)


def test_features_of_an_utterance_do_not_depend_on_the_one_before(speech):
    first = features.microfrontend(speech)
    features.microfrontend(np.full(16_000, 9_999, np.int16))
    assert np.array_equal(features.microfrontend(speech), first)


def test_digital_silence_is_zero_in_the_float_view():
    made = features.microfrontend(np.zeros(8_000, np.int16))
    assert np.all(made == -128)
    assert np.all(features.as_float(made) == 0.0)


def test_float_view_spans_zero_to_eight():
    view = features.as_float(np.array([[-128, 0, 127]], np.int8))
    assert view.dtype == np.float32
    assert view.tolist() == [[0.0, 4.0, 255 / 32]]


def test_speech_is_louder_than_the_silence_before_it(speech):
    quiet = np.zeros(8_000, np.int16)
    view = features.as_float(features.microfrontend(np.concatenate([quiet, speech])))
    assert view[:40].max() == 0.0
    assert view[50:].max() > 3.0


def test_features_of_the_paper_have_80_channels_and_stay_within_int8(speech):
    loud = (speech * (32_767 / np.abs(speech).max())).astype(np.int16)
    made = features.microfrontend(loud, features.PAPER)
    assert made.dtype == np.int8
    assert made.shape == (1 + (len(loud) - 400) // 160, 80)
    assert made.max() < 127
    assert features.microfrontend(loud[:399], features.PAPER).shape == (0, 80)


def test_log_mel_of_the_paper_grows_with_loudness_where_gain_control_levels_it(speech):
    half = (speech // 2).astype(np.int16)
    plain = dataclasses.replace(features.PAPER, num_channels=40, window_size=30, scale_shift=6)
    change = {
        name: np.mean(np.abs(features.as_float(a) - features.as_float(b)))
        for name, a, b in (
            ("gain control", features.microfrontend(speech), features.microfrontend(half)),
            (
                "plain",
                features.microfrontend(speech, plain),
                features.microfrontend(half, plain),
            ),
        )
    }
    assert change["gain control"] < change["plain"]


@pytest.mark.parametrize(
    "audio", [np.zeros(1_000, np.float32), np.zeros([1_000, 2], np.int16), np.zeros(9, np.int32)]
)
def test_audio_of_another_type_is_refused(audio):
    with pytest.raises(ValueError, match="int16"):
        features.microfrontend(audio)
