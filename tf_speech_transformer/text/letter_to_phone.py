"""Trains the letter-to-phone model of a lexicon, and packs both into a file.

The model is a joint-sequence one (Bisani and Ney 2008): a back-off model of n-grams of labels.  A
label is a letter with its phones.  `firmware_sim/grammar/lexicon.py` describes the file.
"""

import collections
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from firmware_sim.grammar import lexicon
from firmware_sim.grammar.lexicon import LETTERS
from firmware_sim.grammar.pronunciation import LETTER_NAMES
from tf_speech_transformer.text import ngrams
from tf_speech_transformer.text.alignment import Label, Pair, align

ORDER: Final = 8  # labels of the longest n-grams
ENTRIES: Final = 80_000  # n-grams that are kept
LEAST: Final = 10  # pairs with a label; rarer ones are left out
MOST_LABELS: Final = 254  # a byte, with the boundary

Pronunciations = Mapping[str, Sequence[tuple[int, ...]]]


class _Vocabulary(NamedTuple):
    """Of n-grams of labels: one more label stands before and after a word."""

    size: int
    start: int
    end: int


class Labels:
    """The labels in use: by letter, then the most frequent first."""

    def __init__(self, aligned: Sequence[Sequence[Label] | None], least: int = LEAST) -> None:
        counts = collections.Counter(x for labels in aligned if labels for x in labels)
        frequent = [x for x in counts.most_common(MOST_LABELS) if x[1] >= least]
        order = sorted(frequent, key=lambda x: (LETTERS.index(x[0][0]), -x[1], x[0]))
        self.all: list[Label] = [label for label, _ in order]
        self._numbers = {label: i for i, label in enumerate(self.all)}
        letters = [LETTERS.index(letter) for letter, _ in self.all]
        self.first = np.searchsorted(letters, np.arange(len(LETTERS) + 1)).tolist()

    def numbers(self, labels: Sequence[Label] | None) -> list[int] | None:
        """None if one of them is not in use."""
        if labels is None or any(label not in self._numbers for label in labels):
            return None
        return [self._numbers[label] for label in labels]

    def pack(self) -> bytes:
        phones = [[*phones, *[lexicon.NO_PHONE] * 2][:2] for _, phones in self.all]
        return bytes([*self.first, *(x for pair in phones for x in pair)])


def train(aligned: Sequence[list[int]], labels: Labels, order: int, entries: int) -> ngrams.NGrams:
    """The model of words, each a list of labels."""
    boundary = len(labels.all)
    vocabulary = _Vocabulary(boundary + 1, boundary, boundary)
    return ngrams.prune(ngrams.absolute_discounting(aligned, vocabulary, order), entries)


def pack_levels(model: ngrams.NGrams) -> list[tuple[int, bytes]]:
    """The number of n-grams of each level, and the level."""
    arrays = ngrams.pack(model)
    levels = []
    for n in range(sum(name.startswith("cost_") for name in arrays)):
        cost = arrays[f"cost_{n}"]
        token = arrays.get(f"token_{n}", np.arange(len(cost)))
        parts = [token.astype("u1"), cost]
        if f"children_{n}" in arrays:
            children = arrays[f"children_{n}"]
            first = np.concatenate(([0], np.cumsum(children)))[: len(cost) : lexicon.STRIDE]
            parts = [first.astype("<u4"), arrays[f"backoff_{n}"], children.astype("u1"), *parts]
        levels.append((len(cost), b"".join(x.tobytes() for x in parts)))
    return levels


class Bits:
    """Bits that are put one after the other, the highest of a byte first."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, count: int) -> None:
        self._bits.append(f"{value:0{count}b}")

    def number(self, value: int) -> None:
        """In Elias's gamma code."""
        length = (value + 1).bit_length()
        self.put(value + 1, 2 * length - 1)

    def bytes(self) -> bytes:
        bits = "".join(self._bits)
        count = -(-len(bits) // 8)
        return int(bits.ljust(8 * count, "0") or "0", 2).to_bytes(count, "big")


def pack_words(words: Pronunciations, aligned: Mapping[Pair, list[int] | None], labels: Labels,
               place: int) -> bytes:  # fmt: skip
    """The section of the words, which begins at a place of the file."""
    ordered = sorted(words)
    blocks = [ordered[i : i + lexicon.BLOCK] for i in range(0, len(ordered), lexicon.BLOCK)]
    table, packed = [], b""
    for block in blocks:
        table.append(place + 4 * len(blocks) + len(packed))
        bits = Bits()
        for number, word in enumerate(block):
            if number:
                _put_word(bits, block[number - 1], word)
            bits.number(len(words[word]) - 1)
            for phones in words[word]:
                _put_pronunciation(bits, phones, aligned.get((word, phones)), labels)
        packed += block[0].encode() + b"\0" + bits.bytes()
    return struct.pack(f"<{len(table)}I", *table) + packed


def _put_word(bits: Bits, before: str, word: str) -> None:
    shared = 0
    while word[: shared + 1] == before[: shared + 1] and shared < len(before):
        shared += 1
    bits.number(shared)
    for letter in word[shared:]:
        bits.put(LETTERS.index(letter), 5)
    bits.put(lexicon.WORD_END, 5)


def _put_pronunciation(
    bits: Bits, phones: tuple[int, ...], numbers: list[int] | None, labels: Labels
) -> None:
    bits.put(numbers is not None, 1)
    if numbers is not None:
        for number in numbers:
            bits.number(number - labels.first[LETTERS.index(labels.all[number][0])])
        return
    for phone in phones:
        bits.put(phone, 6)
    bits.put(lexicon.PHONES_END, 6)


def pack(words: Pronunciations, aligned: Mapping[Pair, list[int] | None], labels: Labels,
         model: ngrams.NGrams) -> bytes:  # fmt: skip
    """The file.

    Args:
        words: those that it holds.
        aligned: the numbers of the labels of words and pronunciations, where there are such.
        labels, model: see `train`.
    """
    levels = pack_levels(model)
    start = lexicon.HEADER.size + 8 * len(levels)
    body, places = bytearray(), []
    for section in [content for _, content in levels] + [labels.pack()]:
        places.append(start + len(body))
        body += section + b"\0" * (-len(section) % 4)
    places.append(start + len(body))
    body += pack_words(words, aligned, labels, places[-1])
    counts = [count for count, _ in levels]
    size = start + len(body)
    numbers = (size, len(words), len(labels.all), *places[-2:], *counts, *places[:-2])
    checked = struct.pack(f"<{len(numbers)}I", *numbers) + body
    header = struct.pack("<4sHHI", lexicon.MAGIC, lexicon.VERSION, len(levels), zlib.crc32(checked))
    return header + checked


def make(
    words: Pronunciations, kept: Sequence[str], order: int = ORDER, entries: int = ENTRIES
) -> bytes:
    """The file of some words, with the model of all.

    Args:
        words: pronunciations of words in letters a to z and apostrophes.
        kept: those of them that the file holds.
        order: labels of the longest n-grams.
        entries: n-grams that are kept.
    """
    pairs: list[Pair] = [(word, phones) for word in sorted(words) for phones in words[word]]
    found = align(pairs)
    labels = Labels(found)
    numbers = [labels.numbers(x) for x in found]
    # Initialisms ("nbc") say nothing about how letters sound.
    taught = [
        x
        for x, (word, phones) in zip(numbers, pairs, strict=True)
        if x is not None and phones != sum((LETTER_NAMES.get(y, ()) for y in word), ())
    ]
    order = min(order, int(63 / np.log2(len(labels.all) + 1)))
    model = train(taught, labels, order, entries)
    held = {word: words[word] for word in kept}
    return pack(held, dict(zip(pairs, numbers, strict=True)), labels, model)
