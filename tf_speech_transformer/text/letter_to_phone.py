"""Trains the letter-to-phone model of a lexicon, and packs both into a file.

The model is a joint-sequence one (Bisani and Ney 2008): a back-off model of n-grams of labels.  A
label is a letter with its phones.  `firmware_sim/grammar/lexicon.py` describes the file.
"""

import collections
import heapq
import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from firmware_sim.grammar import lexicon
from firmware_sim.grammar.lexicon import BLOCK, LETTERS
from firmware_sim.grammar.pronunciation import LETTER_NAMES
from tf_speech_transformer.text import ngrams
from tf_speech_transformer.text.alignment import Label, Pair, align

ORDER: Final = 7  # labels of the longest n-grams
ENTRIES: Final = 150_000  # n-grams that are kept
LEAST: Final = 10  # pairs with a label; rarer ones are left out
BOOK_ROUNDS: Final = 30
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


def train(aligned: Sequence[list[int]], labels: Labels, order: int, entries: int) -> ngrams.NGrams:
    """The model of words, each a list of labels."""
    boundary = len(labels.all)
    vocabulary = _Vocabulary(boundary + 1, boundary, boundary)
    return ngrams.prune(
        ngrams.absolute_discounting(aligned, vocabulary, order, continuations=True), entries
    )


def pack_levels(model: ngrams.NGrams) -> list[tuple[int, bytes]]:
    """The number of n-grams of each level, and the level."""
    arrays = ngrams.pack(model)
    levels: list[tuple[int, bytes]] = []
    siblings = np.array([len(arrays["cost_0"])])
    for n in range(sum(name.startswith("cost_") for name in arrays)):
        cost = arrays[f"cost_{n}"]
        token = arrays.get(f"token_{n}", np.arange(len(cost)))
        children = arrays.get(f"children_{n}", np.zeros(len(cost))).astype(np.int64)
        backoff = arrays.get(f"backoff_{n}", np.zeros(len(cost), np.int8))
        branching = children > 0
        last = np.zeros(len(cost), bool)
        last[np.cumsum(siblings)[siblings > 0] - 1] = True
        before: np.ndarray = np.cumsum(branching) - branching
        first = (np.cumsum(children) - children)[branching]
        costs, cost_numbers = code_book(cost)
        backoffs, backoff_numbers = code_book(backoff[branching])
        parts = [
            np.array([branching.sum()], "<u4"),
            before[:: lexicon.STRIDE].astype("<u4"),
            first[:: lexicon.STRIDE].astype("<u4"),
            costs.astype("u1"),
            backoffs.astype("i1"),
            np.packbits(branching, bitorder="little"),
            np.packbits(last, bitorder="little"),
            token.astype("u1"),
            _nibbles(cost_numbers),
            _nibbles(backoff_numbers),
        ]
        levels.append((len(cost), b"".join(x.tobytes() for x in parts)))
        siblings = children
    return levels


def code_book(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sixteen whole numbers that stand for many, and for each of these the number of the nearest.

    Lloyd's method, from quantiles.  The same values give the same numbers on every machine.
    """
    size = lexicon.BOOK
    distinct, counts = np.unique(values.astype(np.int64), return_counts=True)
    book = distinct if len(distinct) else np.zeros(1, np.int64)
    if len(distinct) > size:
        quantiles = (2 * np.arange(size) + 1) * counts.sum() // (2 * size)
        book = np.unique(distinct[np.searchsorted(np.cumsum(counts), quantiles, "right")])
        for _ in range(BOOK_ROUNDS):
            if len(book) < size:  # one more, where it helps most
                errors = counts * np.abs(distinct[:, None] - book).min(1) ** 2
                book = np.unique([*book, distinct[errors.argmax()]])
            nearest = np.abs(distinct[:, None] - book).argmin(1)
            total = np.bincount(nearest, counts, len(book))
            sums = np.bincount(nearest, counts * distinct, len(book))
            book = np.unique(np.rint(sums[total > 0] / total[total > 0]).astype(np.int64))
    nearest = np.abs(distinct[:, None] - book).argmin(1)
    numbers = nearest[np.searchsorted(distinct, values)]
    return np.concatenate([book, np.zeros(size - len(book), np.int64)]), numbers


def _nibbles(numbers: np.ndarray) -> np.ndarray:
    """Two numbers a byte, the lower four bits first."""
    pairs = np.concatenate([numbers, np.zeros(len(numbers) % 2, np.int64)]).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype("u1")


class Words:
    """The sections of the codes and of the words.

    Args:
        words: pronunciations of each.
        aligned: the numbers of the labels of words and pronunciations, where there are such.
    """

    def __init__(
        self, words: Pronunciations, aligned: Mapping[Pair, list[int] | None], labels: Labels
    ) -> None:
        self._words, self._aligned, self._labels = words, aligned, labels
        ordered = sorted(words)
        self._blocks = [ordered[i : i + BLOCK] for i in range(0, len(ordered), BLOCK)]
        letters = np.zeros((len(LETTERS) + 1, len(LETTERS) + 1), np.int64)
        for block in self._blocks:
            for before, word in itertools.pairwise(block):
                for pair in _further(word, _shared(before, word)):
                    letters[pair] += 1
        used = np.zeros(len(labels.all), np.int64)
        for word in ordered:
            for phones in words[word]:
                np.add.at(used, aligned.get((word, phones)) or [], 1)
        self._letter_bits = [code_lengths(row.tolist()) for row in letters]
        spans = itertools.pairwise(labels.first)
        self._label_bits = [code_lengths(used[a:b].tolist()) for a, b in spans]
        self._letter_codes = [_inverse(x) for x in self._letter_bits]
        self._label_codes = [_inverse(x) for x in self._label_bits]

    def pack_codes(self) -> bytes:
        phones = [[*phones, *[lexicon.NO_PHONE] * 2][:2] for _, phones in self._labels.all]
        tables = [self._labels.first, *phones, *self._label_bits, *self._letter_bits]
        return bytes(itertools.chain(*tables))

    def pack(self, place: int) -> bytes:
        """The words, which begin at a place of the file."""
        table, packed = [], b""
        for block in self._blocks:
            table.append(place + 4 * len(self._blocks) + len(packed))
            packed += block[0].encode() + b"\0" + self._pack_block(block)
        return struct.pack(f"<{len(table)}I", *table) + packed

    def _pack_block(self, block: Sequence[str]) -> bytes:
        bits = ""
        for before, word in zip([None, *block], block, strict=False):
            if before is not None:
                shared = _shared(before, word)
                bits += gamma(shared)
                bits += "".join(self._letter_codes[a][b] for a, b in _further(word, shared))
            bits += gamma(len(self._words[word]) - 1)
            for phones in self._words[word]:
                bits += self._pronunciation(word, phones)
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")

    def _pronunciation(self, word: str, phones: tuple[int, ...]) -> str:
        numbers = self._aligned.get((word, phones))
        if numbers is None:
            return "0" + "".join(f"{x:06b}" for x in (*phones, lexicon.PHONES_END))
        letters = [LETTERS.index(letter) for letter in word]
        return "1" + "".join(
            self._label_codes[letter][number - self._labels.first[letter]]
            for letter, number in zip(letters, numbers, strict=True)
        )


def _shared(before: str, word: str) -> int:
    """How many letters a word begins with as the one before it does."""
    pairs = itertools.takewhile(lambda x: x[0] == x[1], zip(before, word, strict=False))
    return sum(1 for _ in pairs)


def _further(word: str, shared: int) -> Iterator[tuple[int, int]]:
    """Each letter of a word after the shared ones, and its end, with the one before it."""
    numbers = [lexicon.WORD_END, *map(LETTERS.index, word), lexicon.WORD_END]
    return itertools.pairwise(numbers[shared:])


def gamma(number: int) -> str:
    """Bits of a number in Elias's gamma code."""
    return f"{number + 1:0{2 * (number + 1).bit_length() - 1}b}"


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Bits of each symbol in Huffman's code; 0 for what never occurs, at least 1 for the others."""
    lengths = [0] * len(counts)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        symbols = one[2] + other[2]
        for symbol in symbols:
            lengths[symbol] += 1
        heapq.heappush(heap, (one[0] + other[0], min(one[1], other[1]), symbols))
    return lengths


def _inverse(lengths: Sequence[int]) -> dict[int, str]:
    return {symbol: bits for bits, symbol in lexicon.code(lengths).items()}


def pack(
    words: Pronunciations,
    aligned: Mapping[Pair, list[int] | None],
    labels: Labels,
    model: ngrams.NGrams,
) -> bytes:
    """The file; see `Words` and `train`."""
    levels = pack_levels(model)
    held = Words(words, aligned, labels)
    start = lexicon.HEADER.size + 8 * len(levels)
    body, places = bytearray(), []
    for section in [content for _, content in levels] + [held.pack_codes()]:
        places.append(start + len(body))
        body += section + b"\0" * (-len(section) % 4)
    places.append(start + len(body))
    body += held.pack(places[-1])
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
