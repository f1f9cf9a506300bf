"""The dictionary with stress."""

import pytest

from tf_speech_transformer.text import phones


def test_a_word_has_its_pronunciations_and_an_unknown_one_none() -> None:
    lexicon = phones.lexicon()
    assert ("T", "AH0", "M", "EY1", "T", "OW2") in lexicon.pronunciations("tomato")
    assert ("T", "AH0", "M", "AA1", "T", "OW2") in lexicon.pronunciations("tomato")
    assert lexicon.pronunciations("xqzv") == []
    assert "tomato" in lexicon and "xqzv" not in lexicon


@pytest.mark.parametrize(
    ("word", "end"),
    [("carafe's", ("F", "S")), ("flask's", ("K", "S")), ("grouch's", ("CH", "AH0", "Z"))],
)
def test_a_possessive_is_made_from_its_noun(word: str, end: tuple[str, ...]) -> None:
    assert phones.lexicon().pronunciations(word)[0][-len(end) :] == end
