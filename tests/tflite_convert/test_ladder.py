"""The ladder holds each form of a model against the one above, and tells the bundles."""

import json
import pathlib
import shutil
import zipfile
from typing import Any

import pytest

from firmware_sim import bundle as device_bundle
from tflite_convert import bundle, ladder
from tflite_convert.ladder import RUNGS


@pytest.fixture(scope="module")
def climbed(
    tiny_run: pathlib.Path, manifest: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """A run with its ladder."""
    workdir = tmp_path_factory.mktemp("climbed") / "run"
    shutil.copytree(tiny_run, workdir)
    ladder.climb(workdir, manifest, limit=2, slow_limit=1)
    return workdir


def test_ladder_has_every_main_rung_in_order(climbed: pathlib.Path) -> None:
    content = json.loads((climbed / "ladder.json").read_text())
    assert [row["key"] for row in content["rungs"]] == [
        *("float", "qat", "litert_reference", "litert", "tflm"),
        "float_litert",
    ]
    assert [row["utterances"] for row in content["rungs"]] == [2, 2, 2, 2, 1, 2]
    assert content["utterances"][0]["reference"] == "one two"


def test_tflite_micro_says_what_the_reference_kernels_say(climbed: pathlib.Path) -> None:
    rungs = {row["key"]: row for row in json.loads((climbed / "ladder.json").read_text())["rungs"]}
    assert rungs["tflm"]["above"] == "litert_reference"
    assert (rungs["tflm"]["identical"], rungs["tflm"]["compared"]) == (1.0, 1)


def test_the_keras_model_in_integers_says_what_the_reference_kernels_say(
    climbed: pathlib.Path,
) -> None:
    rungs = {row["key"]: row for row in json.loads((climbed / "ladder.json").read_text())["rungs"]}
    assert rungs["litert_reference"]["above"] == "qat"
    assert (rungs["litert_reference"]["identical"], rungs["litert_reference"]["compared"]) == (1, 2)


def test_bundles_carry_the_measured_rates_and_still_load(climbed: pathlib.Path) -> None:
    rates = json.loads((climbed / "wer.json").read_text())
    assert {"float", "qat", "litert", "tflm", "utterances"} <= set(rates)
    for path in (climbed / "bundle", climbed / "bundle.zip", climbed / "bundle_float32"):
        assert device_bundle.load(path).wer == rates


def test_update_leaves_the_rest_of_a_zip_as_it_was(tiny_run: pathlib.Path, tmp_path) -> None:
    shutil.copytree(tiny_run / "bundle", tmp_path / "bundle")
    shutil.copy(tiny_run / "bundle.zip", tmp_path)
    bundle.update_wer(tmp_path / "bundle", {"litert": 0.5})
    with (
        zipfile.ZipFile(tiny_run / "bundle.zip") as old,
        zipfile.ZipFile(tmp_path / "bundle.zip") as new,
    ):
        assert old.namelist() == new.namelist()
        for name in set(old.namelist()) - {"manifest.json"}:
            assert old.read(name) == new.read(name)
        assert new.read("manifest.json") == (tmp_path / "bundle" / "manifest.json").read_bytes()
    assert sorted(x.name for x in tmp_path.iterdir()) == ["bundle", "bundle.zip"]


def test_run_without_a_bundle_is_told_what_to_do(tiny_run: pathlib.Path, tmp_path) -> None:
    for stage in ("float", "qat"):
        shutil.copytree(tiny_run / stage, tmp_path / stage)
    with pytest.raises(FileNotFoundError, match=r"no bundle .* run tflite_convert\.convert first"):
        ladder.available(tmp_path)


def test_texts_are_compared_over_utterances_that_both_rungs_have() -> None:
    def row(audio: str, hypothesis: str) -> dict[str, str]:
        return {"audio": audio, "reference": "one two", "hypothesis": hypothesis}

    rungs = [rung for rung in RUNGS if rung.key in ("float", "qat")]
    results = {
        "float": [row("a.wav", "one two"), row("b.wav", "one"), row("c.wav", "")],
        "qat": [row("./a.wav", "one two"), row("b.wav", "two")],
    }
    first, second = ladder.compare(rungs, results)
    assert (first["above"], first["identical"], first["wer"]) == (None, None, 0.5)
    assert (second["identical"], second["compared"], second["wer"]) == (0.5, 2, 0.25)
    assert "50.00 %  float, Keras" in ladder.table([first, second])


def test_texts_of_which_one_rung_heard_the_beginning_are_left_out_and_counted() -> None:
    def row(audio: str, hypothesis: str, **cut: bool) -> dict[str, Any]:
        return {"audio": audio, "reference": "one two", "hypothesis": hypothesis, **cut}

    rungs = [rung for rung in RUNGS if rung.key in ("float", "qat", "litert_reference")]
    keras = [row("a.wav", "one two", cut=False), row("long.wav", "one", cut=True)]
    device = [row("./a.wav", "one two"), row("long.wav", "one two")]
    results = {"float": keras, "qat": keras, "litert_reference": device}
    figures = ladder.compare(rungs, results)
    _, in_keras, on_device = figures
    assert (in_keras["identical"], in_keras["compared"], in_keras["too_long"]) == (1.0, 2, 0)
    assert (on_device["identical"], on_device["compared"], on_device["too_long"]) == (1.0, 1, 1)
    assert "quantization-aware, Keras (1 beyond the window left out)" in ladder.table(figures)
