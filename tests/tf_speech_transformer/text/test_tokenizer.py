"""Tokenizers: text to ids and back."""

import pytest

from tf_speech_transformer.text.tokenizer import CharacterTokenizer, SentencePieceTokenizer

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells on the sea shore",
    "how much wood would a woodchuck chuck if a woodchuck could chuck wood",
    "it's a small world after all",
] * 4


@pytest.fixture(scope="module")
def pieces() -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, pieces=60)


@pytest.mark.parametrize("text", ["zero", "one two three", "it's nine o'clock"])
def test_characters_come_back_as_they_went_in(text):
    tokenizer = CharacterTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_characters_have_the_ids_that_bundles_promise():
    tokenizer = CharacterTokenizer()
    tokens = tokenizer.tokens()
    assert tokens[:4] == ["<s>", "</s>", "<space>", "a"]
    assert tokens[-3:] == ["z", "'", "<blank>"]
    assert (tokenizer.start, tokenizer.end, tokenizer.blank) == (0, 1, 30)
    assert tokenizer.size == len(tokens) == 31


def test_case_and_doubled_spaces_do_not_matter():
    tokenizer = CharacterTokenizer()
    assert tokenizer.encode(" One  TWO\n") == tokenizer.encode("one two")


def test_character_outside_the_vocabulary_is_named_with_its_text():
    with pytest.raises(ValueError, match=r"'4'.*'route 45'"):
        CharacterTokenizer().encode("route 45")


def test_start_end_and_blank_do_not_show_in_the_text():
    tokenizer = CharacterTokenizer()
    ids = [tokenizer.start, *tokenizer.encode("six"), tokenizer.blank, tokenizer.end]
    assert tokenizer.decode(ids) == "six"


def test_saved_characters_are_loaded(tmp_path):
    CharacterTokenizer().save(tmp_path / "tokenizer")
    assert CharacterTokenizer.load(tmp_path / "tokenizer").tokens() == CharacterTokenizer().tokens()


def test_other_vocabularies_and_missing_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        CharacterTokenizer.load(tmp_path)
    (tmp_path / "tokens.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="not the vocabulary"):
        CharacterTokenizer.load(tmp_path)


def test_pieces_come_back_as_they_went_in(pieces):
    for text in ("the quick fox", "it's a woodchuck"):
        assert pieces.decode(pieces.encode(text)) == text
    assert pieces.encode("The Fox") == pieces.encode("the fox")


def test_pieces_have_start_and_end_first_and_blank_last(pieces):
    tokens = pieces.tokens()
    assert (pieces.start, pieces.end, pieces.blank) == (0, 1, len(tokens) - 1)
    assert tokens[:2] == ["<s>", "</s>"]
    assert tokens[-1] == "<blank>"
    assert pieces.size == len(tokens) <= 61
    ids = pieces.encode("the dog")
    assert pieces.decode([pieces.start, *ids, pieces.blank, pieces.end]) == "the dog"


def test_character_that_no_piece_spells_is_named(pieces):
    with pytest.raises(ValueError, match=r"'9'.*'the 9 dogs'"):
        pieces.encode("the 9 dogs")


def test_saved_pieces_are_loaded(pieces, tmp_path):
    pieces.save(tmp_path)
    loaded = SentencePieceTokenizer.load(tmp_path)
    assert loaded.tokens() == pieces.tokens()
    assert loaded.encode("over the sea") == pieces.encode("over the sea")
