"""The letter-to-phone model, from alignment to the file that a device reads."""

import struct

import numpy as np
import pytest

from firmware_sim.grammar import lexicon as lexicon_file
from firmware_sim.grammar.letter_to_phone import LetterToPhone
from firmware_sim.grammar.lexicon import COST_STEPS, Lexicon
from firmware_sim.grammar.phones import ids
from tf_speech_transformer.text import letter_to_phone
from tf_speech_transformer.text.alignment import align
from tf_speech_transformer.text.phones import lexicon

EVERY = 100  # words of the dictionary from one that is taken to the next


@pytest.fixture(scope="module")
def words() -> dict[str, list[tuple[int, ...]]]:
    """A part of the dictionary, and some words that it has to have."""
    entries = lexicon()._entries
    chosen = [*sorted(entries)[::EVERY], "tomato", "phone", "box"]
    return {word: list(dict.fromkeys(tuple(ids(x)) for x in entries[word])) for word in chosen} | {
        "www": [tuple(ids(["D", "AH", "B", "AH", "L", "Y", "UW", "W", "EH", "B"]))]
    }


@pytest.fixture(scope="module")
def data(words: dict[str, list[tuple[int, ...]]]) -> bytes:
    return letter_to_phone.make(words, [*sorted(words)[::2], "tomato", "www"], entries=3000)


def test_letters_are_aligned_with_the_phones_that_they_stand_for(
    words: dict[str, list[tuple[int, ...]]],
) -> None:
    pairs = [(word, phones) for word in words for phones in words[word]]
    found = dict(zip(pairs, align(pairs), strict=True))
    phone, box = (found[word, words[word][0]] for word in ("phone", "box"))
    f, ow, n, b, aa, k, s = ids(["F", "OW", "N", "B", "AA", "K", "S"])
    assert phone is not None and box is not None
    assert [label[1] for label in phone if label[1]] == [(f,), (ow,), (n,)]
    assert box == [("b", (b,)), ("o", (aa,)), ("x", (k, s))]
    # Ten phones are too many for three letters.
    assert found["www", words["www"][0]] is None


def test_a_file_gives_back_its_words(words: dict[str, list[tuple[int, ...]]], data: bytes) -> None:
    read = Lexicon(data)
    kept = {*sorted(words)[::2], "tomato", "www"}
    for word, pronunciations in words.items():
        assert read.find(word) == (pronunciations if word in kept else [])


def test_a_program_that_reads_in_place_finds_the_same_children(data: bytes) -> None:
    """By the sums in the file, which the reader in Python makes itself."""
    header = lexicon_file.HEADER
    count = len(Lexicon(data).levels)
    table = struct.unpack_from(f"<{2 * count}I", data, header.size)
    for level, size, place in zip(Lexicon(data).levels, table, table[count:], strict=False):
        (parents,) = struct.unpack_from("<I", data, place)
        strides = -(-size // lexicon_file.STRIDE)
        before = struct.unpack_from(f"<{strides}I", data, place + 4)
        children = -(-parents // lexicon_file.STRIDE)
        first = struct.unpack_from(f"<{children}I", data, place + 4 + 4 * strides)
        assert parents == len(level.backoffs) == sum(x >= 0 for x in level.parents)
        for i, number in enumerate(before):
            assert number == sum(x >= 0 for x in level.parents[: i * lexicon_file.STRIDE])
        assert list(first) == level.first[: parents : lexicon_file.STRIDE].tolist()


def test_the_same_words_make_the_same_file(
    words: dict[str, list[tuple[int, ...]]], data: bytes
) -> None:
    again = dict(reversed(words.items()))
    kept = ["www", "tomato", *reversed(sorted(words)[::2])]
    assert letter_to_phone.make(again, kept, entries=3000) == data


def test_a_device_finds_the_costs_of_the_model(
    words: dict[str, list[tuple[int, ...]]],
) -> None:
    """In floats, over all labels of a word, without a beam."""
    pairs = [(word, phones) for word in words for phones in words[word]]
    labels = letter_to_phone.Labels(align(pairs))
    numbers = [x for x in map(labels.numbers, align(pairs)) if x is not None]
    model = letter_to_phone.train(numbers, labels, 4, 2000)
    read = LetterToPhone(Lexicon(letter_to_phone.pack({"a": words["tomato"]}, {}, labels, model)))
    boundary = len(labels.all)
    for word in ("tab", "go", "fix"):
        ((cost, phones),) = read.pronounce(word, 1)
        paths: list[tuple[int, ...]] = [(boundary,)]
        for letter in word:
            own = [i for i, label in enumerate(labels.all) if label[0] == letter]
            paths = [(*path, label) for path in paths for label in own]
        costs = {path: _cost(model, (*path, boundary)) for path in paths}
        best = min(costs, key=lambda path: costs[path])
        assert sum((labels.all[i][1] for i in best[1:]), ()) == phones
        assert cost / COST_STEPS == pytest.approx(costs[best], abs=len(best) * 2 / COST_STEPS)


def _cost(model: letter_to_phone.ngrams.NGrams, labels: tuple[int, ...]) -> float:
    total = 0.0
    for end in range(2, len(labels) + 1):
        part = labels[max(0, end - model.order) : end]
        key = 0
        for label in part:
            key = key * model.vocabulary + label
        total -= float(np.log(model.probability(len(part) - 1, np.array([key]))[0]))
    return total
