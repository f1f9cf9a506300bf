"""What a voice adds: rows without it, of the same length, trained and measured alike."""

import json
import types
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pytest
import soundfile

from benchmarks import voices
from tests.benchmarks.test_commands import FLAT
from tests.conftest import REPOSITORY, TINY_MODEL, run_module
from tf_speech_transformer.configs import commands
from tf_speech_transformer.training import preset

HOME = REPOSITORY / "grammars" / "home.yaml"
SMALL = {k: v for k, v in TINY_MODEL.items() if k not in ("feature_channels", "strided")}


@pytest.fixture
def chosen(tmp_path: Path) -> ml_collections.ConfigDict:
    """The preset with voices and talk that are there in name."""
    for name in ("kokoro", "flite", "a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.tsv").write_text("audio\ttext\tspeaker\n")
    config = commands.get_config(str(HOME))
    config.voices = str(tmp_path)
    config.talk = f"{tmp_path / 'a' / 'manifest.tsv'},{tmp_path / 'b' / 'manifest.tsv'}"
    return preset.read(config)


def test_a_row_lacks_only_its_voices(chosen: ml_collections.ConfigDict) -> None:
    everything = voices.config_of(chosen, "all", 10, 20)
    said = [voices.voice_of(source) for source in everything.corpus.sources]
    assert said == ["espeak", "kokoro", "flite", "talk", "talk", "nothing"]
    assert voices.rows(chosen) == ["all", "espeak", "kokoro", "flite", "talk"]
    for row in voices.rows(chosen)[1:]:
        config = voices.config_of(chosen, row, 10, 20)
        kept = [voices.voice_of(source) for source in config.corpus.sources]
        assert kept == [name for name in said if name != row]
        assert config.train == everything.train and config.model == everything.model
        assert config.corpus.train_examples == everything.corpus.train_examples == 20


def test_voices_that_are_not_there_cannot_be_left_out(
    chosen: ml_collections.ConfigDict, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no voices 'piper' .* espeak, kokoro, flite, talk"):
        voices.config_of(chosen, "piper", 10, 20)
    config = commands.get_config(str(HOME))
    config.voices = str(tmp_path / "a")  # a directory without voices
    with pytest.raises(ValueError, match="without espeak nobody says a command"):
        voices.config_of(preset.read(config), "espeak", 10, 20)


def test_rows_are_trained_measured_and_compared(
    speech: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = run_module(
        "tf_speech_transformer.commands", f"--grammar={HOME}", "--voices=espeak", "--count=6",
        f"--out={tmp_path / 'voices' / 'flite'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    data = tmp_path / "data"
    for name in ("audio", "noise"):
        (data / name).mkdir(parents=True)
    soundfile.write(data / "audio" / "one.flac", speech, 16_000)
    soundfile.write(data / "noise" / "kitchen.flac", np.tile(speech, 4), 16_000)
    (data / "grammar.yaml").write_text(FLAT)
    label = {"intent": "order", "slots": {"drink": "coffee"}}
    (data / "labels.json").write_text(json.dumps({"one": label}))
    out = tmp_path / "out.json"
    config = commands.get_config(str(HOME))
    config.voices = str(tmp_path / "voices")
    config.model.update(SMALL)
    places = {"data": str(data), "out": str(tmp_path / "runs"), "json": str(out)}
    monkeypatch.setattr(voices, "LAYERS", 1)

    def call(**changes: Any) -> tuple[int, str, str]:
        """Status, output and errors; in this process, which has TensorFlow loaded."""
        given = {"rows": ["all", "flite"], "steps": 1, "examples": 4, "seed": 1, **changes}
        flags = types.SimpleNamespace(config=config, **places, **given)
        monkeypatch.setattr("absl.flags.FLAGS", flags)
        return voices.main([""]), *capfd.readouterr()

    status, said, errors = call()
    assert status == 0, errors
    rows = json.loads(out.read_text())["rows"]
    assert rows == {row: dict.fromkeys(voices.CONDITIONS, 0.0) for row in ("all", "flite")}
    assert said.splitlines()[-1].split() == ["without", "flite", *["0.0"] * 4, "+0.0"]
    bundle = tmp_path / "runs" / "flite" / "bundle_float32" / "manifest.json"
    assert json.loads(bundle.read_text())["precision"] == "float32"

    written = bundle.stat().st_mtime_ns
    status, _, errors = call()  # nothing is left to train
    assert status == 0 and bundle.stat().st_mtime_ns == written, errors

    status, _, errors = call(steps=2)
    assert status == 1
    assert "config.json holds another configuration" in errors

    missing = run_module(
        "benchmarks.voices", f"--config=tf_speech_transformer/configs/commands.py:{HOME}",
        f"--config.voices={tmp_path / 'voices'}", f"--data={tmp_path / 'nowhere'}",
        f"--out={tmp_path / 'runs'}", f"--json={out}", "--rows=all,flite", "--steps=1",
        "--examples=4", *(f"--config.model.{k}={v}" for k, v in SMALL.items()),
    )  # fmt: skip
    assert missing.returncode == 1
    assert "labels.json does not exist" in missing.stderr
    assert "Traceback" not in missing.stderr
