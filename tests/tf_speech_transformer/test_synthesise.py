"""The command that makes a corpus of texts, or a test set of digits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_module
from tf_speech_transformer import synthesise
from tf_speech_transformer.configs import english
from tf_speech_transformer.corpora import corpus


def test_command_makes_a_corpus_and_explains_mistakes(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("seven\n")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        flags = [f"--texts={texts}", f"--out={tmp_path / 'out'}", *arguments]
        module = ["-m", "tf_speech_transformer.synthesise"]
        return subprocess.run(
            [sys.executable, *module, *flags], capture_output=True, text=True, check=False
        )

    done = command("--takes=2")
    assert done.returncode == 0, done.stderr
    assert "2 files made, 0 were there" in done.stdout
    failed = command("--speakers=bob")
    assert failed.returncode == 1
    assert "espeak has no speaker 'bob'" in failed.stderr and "Traceback" not in failed.stderr


def test_command_makes_a_test_set_of_digits(tmp_path: Path) -> None:
    done = run_module("tf_speech_transformer.synthesise", "--digits=3", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    utterances = corpus.read_manifest(tmp_path / "manifest.tsv")
    # README's figures are measured on these strings.
    assert [x.text for x in utterances] == ["four", "six four", "seven seven seven seven four"]
    assert all(len(x.audio()) > 8_000 for x in utterances)
    both = run_module(
        "tf_speech_transformer.synthesise", "--digits=3", "--texts=x.txt", f"--out={tmp_path}"
    )
    assert both.returncode != 0 and "either --texts or --digits" in both.stdout + both.stderr


def test_lines_of_english_are_short_the_same_again_and_no_commands_of_the_grammars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tales").write_text("The old man sat by the sea. Turn on the kitchen light.\n")
    monkeypatch.setattr(english, "TEXTS", (str(tmp_path / "tales"),))
    lines = synthesise.english_lines(300, 1, tmp_path / "out")
    assert lines[:50] == synthesise.english_lines(50, 1, tmp_path / "out")
    assert max(map(len, lines)) <= synthesise.LINE_LETTERS
    assert "the old man sat by the sea" in lines
    assert "turn on the kitchen light" not in lines  # of grammars/home.yaml
