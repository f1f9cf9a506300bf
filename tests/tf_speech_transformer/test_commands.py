"""The corpus of a grammar's commands, and the preset that trains on it."""

from pathlib import Path

import pytest

from firmware_sim.grammar.source import Grammar
from tests.conftest import REPOSITORY, run_module
from tf_speech_transformer.configs import commands as configs
from tf_speech_transformer.corpora import corpus

GRAMMARS = REPOSITORY / "grammars"


def test_command_makes_a_corpus_of_what_was_meant(tmp_path: Path):
    arguments = (
        f"--grammar={GRAMMARS / 'home.yaml'}", "--voices=espeak", "--count=12", "--seed=5",
        f"--out={tmp_path}",
    )  # fmt: skip
    done = run_module("tf_speech_transformer.commands", *arguments)
    assert done.returncode == 0, done.stderr
    grammar = Grammar.read(GRAMMARS / "home.yaml")
    utterances = corpus.read_manifest(tmp_path / "manifest.tsv")
    assert len(utterances) >= 11  # two may be alike
    for utterance in utterances:
        assert grammar.parse(utterance.text) is not None
        assert len(utterance.audio()) > 4_000
    again = run_module("tf_speech_transformer.commands", *arguments)
    assert "0 files made" in again.stdout


def test_a_bad_grammar_is_one_sentence(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("context: {expressions: {order: ['a $drink']}}\n")
    done = run_module(
        "tf_speech_transformer.commands", f"--grammar={bad}", "--voices=espeak",
        f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "bad.yaml, line 1: $drink is not defined: add it under `slots` or rename it"
    )
    assert not (tmp_path / "out").exists()


def test_preset_takes_the_voices_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "piper").mkdir()
    manifest = tmp_path / "piper" / "manifest.tsv"
    manifest.write_text("audio\ttext\tspeaker\n")
    monkeypatch.setenv("VOICES", str(tmp_path))
    monkeypatch.setenv("GRAMMAR", str(GRAMMARS / "home.yaml"))
    monkeypatch.setenv("TALK", f"{tmp_path / 'a.tsv'}:{tmp_path / 'b.tsv'}")
    sources = configs.get_config().corpus.sources
    assert [(source["kind"], source.get("manifest")) for source in sources] == [
        ("spoken", None),
        ("recorded", str(manifest)),
        ("recorded", str(tmp_path / "a.tsv")),
        ("recorded", str(tmp_path / "b.tsv")),
        ("nothing", None),
    ]
    assert sources[0]["grammar"] == str(GRAMMARS / "home.yaml")
    monkeypatch.delenv("TALK")
    monkeypatch.delenv("INITIAL", raising=False)
    config = configs.get_config()
    assert len(config.corpus.sources) == 3
    assert "initial" not in config.train
