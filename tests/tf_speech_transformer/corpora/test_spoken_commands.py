"""Spoken commands: how people say them, and who says them."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from firmware_sim.grammar.source import Command, Grammar
from tests.conftest import REPOSITORY
from tf_speech_transformer.corpora import spoken_commands
from tf_speech_transformer.voices.espeak import Espeak


@pytest.fixture(scope="module")
def barista() -> Grammar:
    return Grammar.read(REPOSITORY / "grammars" / "barista.yaml")


def test_a_command_is_said_with_all_its_words_in_order(barista: Grammar):
    rng = np.random.default_rng(0)
    straight = 0
    for _ in range(400):
        command = barista.sample(rng)
        said = spoken_commands.say(command, rng)
        straight += said == command.text
        rest = iter(said.replace(",", "").split())
        assert all(word in rest for word in command.text.split()), (said, command.text)
        assert said.count(" ") <= command.text.count(" ") + 4
    assert 200 < straight < 280


def test_people_pause_hesitate_and_begin_again(barista: Grammar):
    rng = np.random.default_rng(1)
    command = Command("can i have a small latte with some milk", "order", {})
    said = Counter(spoken_commands.say(command, rng) for _ in range(500))
    assert any("," in text and len(text.split()) == 9 for text in said)
    assert any(filler in text for text in said for filler in ("um,", "uh,"))
    assert "can i have, can i have a small latte with some milk" in said
    assert "can i have a small latte with some milk, please" in said


def test_one_word_can_be_said_too():
    rng = np.random.default_rng(2)
    said = {spoken_commands.say(Command("stop", "stop", {}), rng) for _ in range(200)}
    assert "stop" in said and all("stop" in text for text in said)


def test_spoken_commands_are_speech_of_their_text(barista: Grammar):
    source = spoken_commands.SpokenCommands(barista, "espeak", ["en-us+m3", "en+f2"])
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
    balanced = spoken_commands.Balanced(barista)
    assert rarest_tenth(balanced.sample) > 2 * rarest_tenth(barista.sample)


def test_a_longer_plan_begins_like_a_shorter_one(barista: Grammar):
    engine = Espeak()
    plan = spoken_commands.plan(barista, engine, 40, seed=3)
    assert plan[:15] == spoken_commands.plan(barista, engine, 15, seed=3)
    assert len({reading.speaker for reading in plan}) > 30
