"""Spoken commands: how people say them, who says them, and their way into a corpus."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.grammar.source import Command, Grammar
from tests.conftest import run_module
from tf_speech_transformer import commands, voices
from tf_speech_transformer.configs import commands as configs
from tf_speech_transformer.corpora import corpus

GRAMMARS = Path(__file__).parents[2] / "grammars"


@pytest.fixture(scope="module")
def barista() -> Grammar:
    return Grammar.read(GRAMMARS / "barista.yaml")


def test_a_command_is_said_with_all_its_words_in_order(barista: Grammar):
    rng = np.random.default_rng(0)
    straight = 0
    for _ in range(400):
        command = barista.sample(rng)
        said = commands.say(command, rng)
        straight += said == command.text
        rest = iter(said.replace(",", "").split())
        assert all(word in rest for word in command.text.split()), (said, command.text)
        assert said.count(" ") <= command.text.count(" ") + 4
    assert 200 < straight < 280


def test_people_pause_hesitate_and_begin_again(barista: Grammar):
    rng = np.random.default_rng(1)
    command = Command("can i have a small latte with some milk", "order", {})
    said = Counter(commands.say(command, rng) for _ in range(500))
    assert any("," in text and len(text.split()) == 9 for text in said)
    assert any(filler in text for text in said for filler in ("um,", "uh,"))
    assert "can i have, can i have a small latte with some milk" in said
    assert "can i have a small latte with some milk, please" in said


def test_one_word_can_be_said_too():
    rng = np.random.default_rng(2)
    said = {commands.say(Command("stop", "stop", {}), rng) for _ in range(200)}
    assert "stop" in said and all("stop" in text for text in said)


def test_spoken_commands_are_speech_of_their_text(barista: Grammar):
    source = commands.SpokenCommands(barista, "espeak", ["en-us+m3", "en+f2"])
    drawn = [source.draw(np.random.default_rng(seed)) for seed in range(8)]
    for spoken in drawn:
        assert barista.parse(spoken.text) is not None
        (audio,) = spoken.pieces
        words = len(spoken.text.split())
        assert 0.12 * words < len(audio) / 16_000 < 0.9 * words + 1.5
        assert np.abs(audio).max() > 0.05


def test_rare_neighbours_are_said_about_as_often_as_others(barista: Grammar):
    def rarest_tenth(draw: Callable[[np.random.Generator], Command]) -> float:
        """How often each of the rarest pairs of words is heard, in commands."""
        rng = np.random.default_rng(3)
        texts = [draw(rng).text.split() for _ in range(2_000)]
        pairs = Counter(pair for words in texts for pair in set(itertools.pairwise(words)))
        counts = sorted(pairs[pair] for pair in everywhere)
        return float(np.mean(counts[: len(counts) // 10])) / 2_000

    rng = np.random.default_rng(4)
    everywhere = {
        pair for _ in range(20_000) for pair in itertools.pairwise(barista.sample(rng).text.split())
    }
    balanced = commands.Balanced(barista)
    assert rarest_tenth(balanced.sample) > 2 * rarest_tenth(barista.sample)


def test_kokoro_speakers_are_of_both_sexes_and_many_accents():
    names = ["af_heart", "am_adam", "bf_emma", "bm_lewis", "ff_siwis", "hm_omega", "zf_xiaoni"]
    speakers = commands.kokoro_speakers(names, 300, seed=1)
    assert speakers == commands.kokoro_speakers(names, 300, seed=1)
    assert speakers[:20] == commands.kokoro_speakers(names, 20, seed=1)
    women = sum(name[1] == "f" for name in speakers)
    english = sum(name[0] in "ab" for name in speakers)
    assert 110 < women < 190 and 140 < english < 220
    accents = {name.partition("@")[2] for name in speakers}
    assert accents == {"", *voices.KOKORO_ACCENTS}
    assert 100 < sum("/" in name for name in speakers) < 200  # with the melody of somebody else


def test_a_longer_plan_begins_like_a_shorter_one(barista: Grammar):
    engine = voices.Espeak()
    plan = commands.plan(barista, engine, 40, seed=3)
    assert plan[:15] == commands.plan(barista, engine, 15, seed=3)
    assert len({reading.speaker for reading in plan}) > 30


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
