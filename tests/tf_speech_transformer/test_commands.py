"""The command that makes a corpus of a grammar's commands."""

from pathlib import Path

from firmware_sim.grammar.source import Grammar
from tests.conftest import REPOSITORY, run_module
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
