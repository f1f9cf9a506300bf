"""What is measured of a general bundle is what was said."""

import json
import pathlib

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks import general as benchmark
from tests.conftest import run_module


def test_grammars_are_of_digits_and_of_words() -> None:
    digits = benchmark.of_digits()
    assert digits.parse("oh one nine three") and digits.parse("five")
    assert not digits.parse(" ".join(["one"] * (benchmark.LONGEST + 1)))
    words = benchmark.of_words(benchmark.WORDS)
    assert words.count() == len(benchmark.WORDS) == 30
    assert words.parse("yes") and not words.parse("yes no")


def test_the_command_measures_digits_and_other_speech(
    general: pathlib.Path, speech: npt.NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    soundfile.write(tmp_path / "one.wav", speech[:20000], 16000)
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("audio\ttext\tspeaker\none.wav\tone two\tann\n")
    out = tmp_path / "out.json"
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("one two\n")
    done = run_module(
        "benchmarks.general", f"--bundle={general}", f"--digits={manifest}",
        f"--others={manifest}", f"--json={out}", f"--commands={phrases}={manifest}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    thresholds = {str(x) for x in benchmark.THRESHOLDS}
    assert set(figures["digits"]["clean"]) == thresholds
    assert figures["digits"]["clean"]["0.3"] == 100.0  # an untrained model is sure of nothing
    assert figures["commands"]["phrases"]["commands"] == 1
    assert figures["commands"]["phrases"]["right"]["0.3"] == 0
    (others,) = figures["others"].values()
    assert others.pop("utterances") == 1 and set(others) == {"barista", "calendar", "home"}
    assert all(set(x) == thresholds and x["0.3"] == 0 for x in others.values())
    assert set(figures["compile"]) == {"barista", "calendar", "home", "10,000 names"}
