"""What the voices of English read."""

import random
from pathlib import Path

import pytest

from firmware_sim.grammar.phones import ids
from tf_speech_transformer.text import phones, sentences


@pytest.fixture(scope="module")
def drawn() -> list[sentences.Line]:
    source = sentences.Sentences(phones.lexicon(), ["the cat sat on the mat", "dogs bark at night"])
    chance = random.Random(3)
    return [source.draw(chance) for _ in range(600)]


def test_the_same_seed_draws_the_same_lines(drawn: list[sentences.Line]) -> None:
    source = sentences.Sentences(phones.lexicon(), ["the cat sat on the mat", "dogs bark at night"])
    chance = random.Random(3)
    assert [source.draw(chance) for _ in range(50)] == drawn[:50]


def test_every_word_is_pronounced_as_the_lexicon_says(drawn: list[sentences.Line]) -> None:
    lexicon = phones.lexicon()
    spelled = [line for line in drawn if line.text is not None]
    assert len(spelled) > 400
    for line in spelled:
        assert line.text is not None
        for word, spoken in zip(line.text.split(), line.words, strict=True):
            assert spoken in lexicon.pronunciations(word) or (word, spoken) == ("a", ("EY1",))


def test_every_kind_of_line_is_drawn(drawn: list[sentences.Line]) -> None:
    texts = {line.text for line in drawn}
    assert "the cat sat on the mat" in texts
    assert any(text in sentences.NUMBERS for text in texts)
    assert any(text and all(len(word) == 1 for word in text.split()) for text in texts)
    assert sum(line.text is None for line in drawn) > 30


def test_an_invented_word_is_of_phones_with_one_main_stress() -> None:
    lexicon = phones.lexicon()
    invented = sentences.Invented(lexicon, ["banana", "orange", "window", "table", "garden"])
    chance = random.Random(1)
    for _ in range(100):
        word = invented.draw(chance)
        assert 2 <= len(word) <= 9
        assert len(ids(word)) == len(word)
        assert sum(phone.endswith("1") for phone in word) == 1


def test_sentences_of_a_file_are_short_and_without_figures(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("It is a Good\nday, today. In 1984 it was not! Yes.\n%\nOne two three.")
    assert sentences.sentences(file) == ["it is a good day today", "one two three"]


def test_known_sentences_leave_out_unknown_words_and_what_is_excluded(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("The cat sat down. The xqzv sat down. Open the big window.")
    known = sentences.known_sentences([file], phones.lexicon(), frozenset({"open the big window"}))
    assert known == ["the cat sat down"]
