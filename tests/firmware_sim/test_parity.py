import dataclasses
import pathlib

import numpy as np
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle, parity, recognizer
from tests.conftest import run_module


def test_tflite_micro_equals_the_reference_kernels(
    digits_bundle: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    loaded = bundle.load(digits_bundle)
    features = recognizer.compute_features(loaded, speech)
    result = parity.compare_runtimes(loaded, [features], "tflm", "litert-reference")
    assert result.first_difference is None
    assert result.equal
    assert result.utterances == 1
    assert result.invocations >= 2


def test_a_difference_is_named() -> None:
    counts = parity._Counts()
    reference = {"logits": np.zeros((1, 5), np.int8)}
    tested = {"logits": np.array([[0, 0, 7, 0, 1]], np.int8)}
    counts.add(tested, reference, utterance=3, model="decoder_step", step=2)
    assert (counts.compared, counts.different) == (5, 2)
    assert counts.first is not None
    assert dataclasses.astuple(counts.first) == (3, "decoder_step", 2, "logits", (0, 2), 7.0, 0.0)


def test_nothing_compared_is_not_equal(digits_bundle: pathlib.Path) -> None:
    assert not parity.compare_runtimes(bundle.load(digits_bundle), []).equal


def test_the_command_compares_recordings(tmp_path: pathlib.Path, speech: NDArray[np.int16]) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    done = run_module("firmware_sim.parity", "--bundle=digits", tmp_path / "a.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tflm against litert-reference: 0 of ")


def test_the_command_fails_if_nothing_is_compared(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    done = run_module("firmware_sim.parity", "--bundle=digits", tmp_path / "a.wav")
    assert done.returncode == 1
    assert "silent" in done.stdout


def test_a_summary_names_the_first_difference() -> None:
    first = parity.Difference(3, "decoder_step", 2, "logits", (0, 2), 7.0, 0.0)
    text = parity.summary(parity.Parity("tflm", "litert-reference", 4, 20, 100, 1, first))
    assert text.splitlines() == [
        "tflm against litert-reference: 1 of 100 bytes differ, in 4 utterances and 20 invocations",
        "first difference: utterance 3, decoder_step, step 2, logits[0, 2]: 7 instead of 0",
    ]
