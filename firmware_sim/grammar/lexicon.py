"""A file of pronunciations: frequent words, and n-grams that say letters of other words.

It is read in place, and all its numbers are integers.  Numbers are little-endian, and u32 ones
stand at multiples of four bytes.

    char[4]         "lexi"
    u16, u16        version, 1; levels L of the n-grams
    u32             CRC-32 of all that follows
    u32[3]          bytes of the file; words; labels G, at most 255
    u32[2]          places of the codes and of the words, in bytes from the file's start
    u32[L], u32[L]  n-grams of each level; place of each level

A letter is a to z, 0 to 25, or an apostrophe, 26.  A label says how one letter sounds: a letter,
and the none, one or two phones that it stands for.

    codes    u8[28]      number of the first label of each letter, and G
             u8[G][2]    the phones of each label, 255 for none
             u8[G]       bits of the label in the code of its letter; 0 for a label without one
             u8[28][28]  bits of a letter, or of the end of a word (27), in the code of what follows
                         each letter, and what begins a word (27); 0 for what never does

The bits of a code follow from their numbers, as in Deflate (RFC 1951, 3.2.2).

The words are sorted by their ASCII bytes.  Sixteen of them make a block.

    words    u32[blocks]  place of each block
    block    the first word in ASCII and a zero byte, then bits, the highest of a byte first:
             before each word but the first: number(letters shared with the word before it), then
             each further letter, and 27, in the code of what follows the letter before it;
             number(pronunciations - 1), and each of these: a bit of 1, and for each letter its
             label in the letter's code; or a bit of 0, six bits for each phone, and 39

number(n) is Elias's gamma code of n + 1: as many zeros as it has bits after its first, then it.

The n-grams of labels are a trie, whose level n has those of n + 1 labels, in the order of their
labels; the children of an n-gram are those that begin with it and have one label more.  Label G
stands before and after a word.

    level    u32              P, n-grams of the level with children
             u32[ceil(N/32)]  how many of them stand before every 32nd n-gram
             u32[ceil(P/32)]  first child of every 32nd of them
             u8[16], i8[16]   costs and back-offs in use
             u8[ceil(N/8)]    a bit for each n-gram: 1 if it has children; the lowest bit first
             u8[ceil(N/8)]    a bit for each n-gram: 1 if it is the last child of its parent
             u8[N]            its last label
             u8[ceil(N/2)]    four bits for each n-gram: number of the cost of that label after the
                              others; the lower four bits of a byte first
             u8[ceil(P/2)]    four bits for each n-gram with children: number of the back-off, which
                              is added to the cost of a label that is not among the children

A cost is a negative natural logarithm of a probability, in steps of 1 / 16.
"""

import bisect
import pathlib
import struct
import zlib
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from firmware_sim.grammar.phones import PHONES

MAGIC: Final = b"lexi"
VERSION: Final = 1
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz'"
WORD_END: Final = len(LETTERS)
PHONES_END: Final = len(PHONES)
NO_PHONE: Final = 255
BLOCK: Final = 16  # words
STRIDE: Final = 32  # n-grams
COST_STEPS: Final = 16  # a nat
BOOK: Final = 16  # costs and back-offs of a level that are told apart
HEADER: Final = struct.Struct("<4sHHI3I2I")
CHECKED_FROM: Final = 12  # byte

Pronunciation = tuple[int, ...]  # ids of phones


class LexiconError(ValueError):
    """A file of pronunciations that cannot be used."""


class Level(NamedTuple):
    """N-grams of one length."""

    labels: bytes
    costs: bytes
    parents: "array[int]"  # number among those with children; -1 without
    first: "array[int]"  # child of each with children, and the number of all children
    backoffs: "array[int]"  # of each with children


class Lexicon:
    """The content of the file."""

    def __init__(self, data: bytes, name: str = "lexicon") -> None:
        """`data`: the file; `name`: its name in messages.

        Raises:
            LexiconError: the data are no such file, or not a whole one.
        """
        self._data, self._name = data, name
        self._decoded: dict[int, dict[str, list[Pronunciation]]] = {}  # blocks
        if len(data) < HEADER.size or data[:4] != MAGIC:
            raise LexiconError(f"{name} is no file of pronunciations: it does not begin with lexi")
        _, version, levels, check, size, words, labels, *places = HEADER.unpack_from(data)
        if version != VERSION:
            raise LexiconError(f"{name} has version {version}; this program reads {VERSION}")
        if size != len(data) or check != zlib.crc32(data[CHECKED_FROM:]):
            raise LexiconError(f"{name} is damaged or not whole: copy it again")
        self.words = words
        self._read_codes(places[0], labels)
        blocks = -(-words // BLOCK)
        self._blocks = self._numbers("<u4", blocks, places[1]).tolist()
        table = self._numbers("<u4", 2 * levels, HEADER.size).tolist()
        self.levels = [
            self._read_level(count, place)
            for count, place in zip(table[:levels], table[levels:], strict=True)
        ]
        self._link(labels)

    @classmethod
    def read(cls, path: pathlib.Path) -> "Lexicon":
        """Reads a file.

        Raises:
            OSError: it cannot be read.
            LexiconError: it is no file of pronunciations.
        """
        return cls(path.read_bytes(), str(path))

    def _numbers(self, kind: str, count: int, place: int) -> np.ndarray:
        if place + np.dtype(kind).itemsize * count > len(self._data):
            raise LexiconError(f"{self._name} is damaged: a table reaches beyond its end")
        return np.frombuffer(self._data, kind, count, place)

    def _read_codes(self, place: int, count: int) -> None:
        letters = len(LETTERS)
        self.first_label = self._numbers("u1", letters + 1, place).tolist()
        place += letters + 1
        phones = self._numbers("u1", 2 * count, place).tolist()
        bits = self._numbers("u1", count, place + 2 * count).tolist()
        spans = zip(self.first_label, self.first_label[1:], strict=False)
        self._label_codes = [code(bits[a:b]) for a, b in spans]
        table = self._numbers("u1", (letters + 1) ** 2, place + 3 * count)
        self._letter_codes = [code(row) for row in table.reshape(letters + 1, -1).tolist()]
        ordered = sorted(self.first_label) == self.first_label
        if not ordered or self.first_label[0] != 0 or self.first_label[-1] != count:
            raise LexiconError(f"{self._name} is damaged: its labels are out of order")
        if any(phone >= len(PHONES) and phone != NO_PHONE for phone in phones):
            raise LexiconError(f"{self._name} is damaged: a label has a phone that does not exist")
        pairs = zip(phones[::2], phones[1::2], strict=True)
        self.labels: list[Pronunciation] = [
            tuple(phone for phone in pair if phone != NO_PHONE) for pair in pairs
        ]

    def _read_level(self, count: int, place: int) -> Level:
        (parents,) = self._numbers("<u4", 1, place).tolist()
        # The sums are for programs that read in place; this one makes them for every n-gram.
        place += 4 + 4 * -(-count // STRIDE) + 4 * -(-parents // STRIDE)
        cost_of = self._numbers("u1", BOOK, place)
        backoff_of = self._numbers("i1", BOOK, place + BOOK)
        place += 2 * BOOK
        size = -(-count // 8)
        branching, last = (
            np.unpackbits(self._numbers("u1", size, place + k * size), bitorder="little")[:count]
            for k in (0, 1)
        )
        place += 2 * size
        labels = self._numbers("u1", count, place).tobytes()
        costs = cost_of[self._nibbles(count, place + count)].tobytes()
        backoffs = backoff_of[self._nibbles(parents, place + count + -(-count // 2))]
        if branching.sum() != parents:
            raise LexiconError(f"{self._name} is damaged: its n-grams do not fit each other")
        number = np.where(branching, np.cumsum(branching, dtype=np.int64) - 1, -1)
        # Until the level of the children is read, `first` has the ends of this level's siblings.
        ends = np.concatenate([[0], np.flatnonzero(last) + 1])
        return Level(labels, costs, _compact(number), _compact(ends), _compact(backoffs))

    def _nibbles(self, count: int, place: int) -> np.ndarray:
        pairs = self._numbers("u1", -(-count // 2), place)
        return np.stack([pairs & 15, pairs >> 4], 1).ravel()[:count]

    def _link(self, labels: int) -> None:
        """Gives each level the first children of its n-grams, which the next level has."""
        ends = [level.first for level in self.levels]
        parents = [1, *(len(level.backoffs) for level in self.levels)]
        sizes = [len(level.labels) for level in self.levels]
        fitting = (
            [len(x) - 1 for x in ends] + [0] == parents
            and [x[-1] for x in ends] == sizes
            and sizes[0] == labels + 1
            and all(max(level.labels) <= labels for level in self.levels)
        )
        if not fitting:
            raise LexiconError(f"{self._name} is damaged: its n-grams do not fit each other")
        self.levels = [
            level._replace(first=first)
            for level, first in zip(self.levels, [*ends[1:], array("i", [0])], strict=True)
        ]

    def find(self, word: str) -> list[Pronunciation]:
        """The pronunciations of a word in lower case, best first; none for another word.

        Raises:
            LexiconError: the file is damaged.
        """
        wanted = word.encode("ascii", "replace")
        block = bisect.bisect_right(self._blocks, wanted, key=self._first_word) - 1
        if block < 0:
            return []
        if block not in self._decoded:
            try:
                self._decoded[block] = self._decode(block)
            except (IndexError, ValueError):
                raise LexiconError(f"{self._name} is damaged: block {block} of words") from None
        return list(self._decoded[block].get(word, []))

    def _first_word(self, place: int) -> bytes:
        return self._data[place : self._data.index(0, place)]

    def _decode(self, block: int) -> dict[str, list[Pronunciation]]:
        """The words of a block."""
        place = self._blocks[block]
        letters = self._first_word(place).decode("ascii")
        more = self._blocks[block + 1] if block + 1 < len(self._blocks) else len(self._data)
        bits = Bits(self._data[place + len(letters) + 1 : more])
        result = {}
        for number in range(min(BLOCK, self.words - block * BLOCK)):
            if number:
                letters = letters[: bits.number()]
                before = LETTERS.index(letters[-1]) if letters else WORD_END
                while (letter := bits.symbol(self._letter_codes[before])) != WORD_END:
                    letters, before = letters + LETTERS[letter], letter
            result[letters] = [self._pronunciation(letters, bits) for _ in range(bits.number() + 1)]
        return result

    def _pronunciation(self, letters: str, bits: "Bits") -> Pronunciation:
        phones: list[int] = []
        if bits.take(1):
            for letter in letters:
                number = LETTERS.index(letter)
                label = bits.symbol(self._label_codes[number])
                phones += self.labels[self.first_label[number] + label]
        else:
            while (phone := bits.take(6)) != PHONES_END:
                phones.append(phone)
        return tuple(phones)


def _compact(numbers: np.ndarray) -> "array[int]":
    """Whole numbers in 4 bytes each: a list of them takes 36, and an ndarray is slow to index."""
    return array("i", numbers.astype(np.int32).tobytes())


def code(lengths: Sequence[int]) -> dict[str, int]:
    """The symbols of a prefix code, by their bits.

    `lengths`: bits of each symbol, 0 for a symbol that the code lacks.
    """
    result, value, before = {}, 0, 0
    for length, symbol in sorted((x, i) for i, x in enumerate(lengths) if x):
        value <<= length - before
        result[f"{value:0{length}b}"] = symbol
        value, before = value + 1, length
    return result


class Bits:
    """Bits that are taken one after the other, the highest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        self._place = 0

    def take(self, count: int) -> int:
        """A number of `count` bits.  Raises ValueError after the last one."""
        start = self._place
        self._place += count
        return int(self._bits[start : self._place], 2)

    def symbol(self, symbols: dict[str, int]) -> int:
        """A symbol of a code."""
        for end in range(self._place + 1, len(self._bits) + 1):
            found = symbols.get(self._bits[self._place : end])
            if found is not None:
                self._place = end
                return found
        raise ValueError("no symbol of the code")

    def number(self) -> int:
        """A number in Elias's gamma code, less 1."""
        zeros = self._bits.index("1", self._place) - self._place
        self._place += zeros
        return self.take(zeros + 1) - 1
