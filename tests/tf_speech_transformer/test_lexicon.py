"""The command that makes the file of pronunciations, and how it measures."""

import pytest

from firmware_sim.grammar.letter_to_phone import LetterToPhone
from firmware_sim.grammar.lexicon import Lexicon
from firmware_sim.grammar.phones import ids
from firmware_sim.grammar.pronunciation import ENGLISH
from tests.conftest import run_module
from tf_speech_transformer import lexicon


def test_the_command_wants_a_file_or_to_measure() -> None:
    done = run_module("tf_speech_transformer.lexicon")
    assert done.returncode == 1
    assert done.stderr == "lexicon: name a file by --out, or give --measure\n"


@pytest.mark.parametrize(
    ("one", "other", "distance"), [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("ab", "cab", 1)]
)
def test_edits_are_the_fewest_changes(one: str, other: str, distance: int) -> None:
    assert lexicon.edits(list(map(ord, one)), list(map(ord, other))) == distance


def test_a_word_is_right_if_it_is_said_in_one_of_its_ways() -> None:
    model = LetterToPhone(Lexicon.read(ENGLISH))
    right, wrong = (tuple(ids(x.split(" "))) for x in ("K AE T", "D AO G"))
    assert lexicon.measure({"cat": [wrong, right]}, model).startswith(
        "1 words: 0.0% of words wrong, 0.0% of phones; none of 3 right 0.0%"
    )
    assert lexicon.measure({"cat": [wrong]}, model).startswith(
        "1 words: 100.0% of words wrong, 100.0% of phones; none of 3 right 100.0%"
    )


def test_words_are_held_out_by_a_seed() -> None:
    words = dict.fromkeys(map(str, range(200)), ())
    assert len(lexicon.held_out(words)) == 10
    assert lexicon.held_out(words) == lexicon.held_out(dict(reversed(words.items())))
