import functools
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.conftest import add_grammar, digit_grammar, pipe_module, run_module, synthesise

_run = functools.partial(pipe_module, "firmware_sim.transcribe")


def test_a_file_and_the_same_samples_on_standard_input_give_the_same_line(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    file = _run(f"--bundle={digits_bundle}", tmp_path / "a.wav")
    piped = _run(f"--bundle={digits_bundle}", "-", stdin=speech.astype("<i2").tobytes())
    assert file.returncode == piped.returncode == 0
    assert file.stdout == piped.stdout
    assert file.stdout.count(b"\n") == 1


def test_a_bad_file_is_reported_and_the_others_are_transcribed(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    good, bad, silent = (tmp_path / name for name in ("good.flac", "bad.flac", "silent.wav"))
    soundfile.write(good, speech, 16000)
    bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    soundfile.write(silent, np.zeros(32000, np.int16), 16000)
    result = _run(f"--bundle={digits_bundle}", bad, good, silent)
    assert result.returncode == 1
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith(f"{good}\t")
    assert lines[1:] == [f"{silent}\t"]
    errors = [line for line in result.stderr.decode().splitlines() if "bad.flac" in line]
    assert len(errors) == 1
    assert "truncated" in errors[0]


def test_a_damaged_bundle_is_one_sentence(
    tmp_path: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    result = _run(f"--bundle={tmp_path}", tmp_path / "a.wav")
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode().strip() == (
        f"{tmp_path}: manifest.json is missing; copy or export the bundle again."
    )


def test_no_file_is_an_error(digits_bundle: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}")
    assert result.returncode == 1
    assert b"No audio given" in result.stderr


@pytest.fixture(scope="module")
def commands(digits_bundle: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A bundle for two commands: "one" and two digits, and a code of four digits."""
    directory = tmp_path_factory.mktemp("commands")
    expressions = """
call: ["one $digit:first $digit:second"]
enter: ["$digit:code $digit:code $digit:code $digit:code"]
"""
    content = digit_grammar(directory / "grammar.yaml", expressions, reject_below=0.5)
    return add_grammar(digits_bundle, directory / "digits", content)


def _objects(bundle: pathlib.Path, *arguments: object) -> list[dict[str, Any]]:
    result = _run(f"--bundle={bundle}", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def _pause(seconds: float) -> NDArray[np.int16]:
    samples = int(seconds * 16000)
    return np.random.default_rng(0).normal(0, 3, samples).astype(np.int16)


def test_speech_that_is_no_command_is_heard_freely(
    commands: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    soundfile.write(tmp_path / "a.wav", synthesise("nine eight"), 16000)
    (found,) = _objects(commands, tmp_path / "a.wav")
    assert (found["intent"], found["slots"], found["slot_confidence"]) == (None, {}, {})
    assert found["text"] == "nine eight"
    assert found["confidence"] < 0.5
    assert found["start"] < found["end"]
    text = _run(f"--bundle={commands}", tmp_path / "a.wav")
    assert (text.returncode, text.stdout) == (0, b"\n")


def test_silence_is_an_object_without_speech(
    commands: pathlib.Path, digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    for bundle in (commands, digits_bundle):
        (found,) = _objects(bundle, tmp_path / "a.wav")
        assert (found["text"], found["intent"], found["slots"]) == ("", None, {})
        assert (found["start"], found["end"], found["confidence"]) == (None, None, None)


def test_objects_without_a_grammar_have_no_intent(
    commands: pathlib.Path, digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    audio = np.concatenate([_pause(1.0), synthesise("nine eight")])
    soundfile.write(tmp_path / "a.wav", audio, 16000)
    (found,) = _objects(digits_bundle, tmp_path / "a.wav")
    assert (found["text"], found["intent"], found["slots"]) == ("nine eight", None, {})
    assert found["start"] == pytest.approx(1.0, abs=0.3)
    assert 0 < found["confidence"] <= 1
    assert _objects(commands, "--nogrammar", tmp_path / "a.wav") == [found]


@pytest.mark.parametrize(
    "flag",
    ["--length_penalty=nan", "--ctc_weight=nan", "--language_weight=inf", "--num_threads=1000000"],
)
def test_a_number_that_no_search_can_use_is_refused(flag: str) -> None:
    done = run_module("firmware_sim.transcribe", "--bundle=digits", flag, "a.wav")
    assert done.returncode != 0 and flag[2:].partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr
