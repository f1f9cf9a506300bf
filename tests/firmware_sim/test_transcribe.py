import functools
import pathlib

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.conftest import pipe_module

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
