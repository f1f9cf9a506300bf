"""A file of pronunciations: frequent words, and n-grams that say letters of other words.

It is read in place, and all its numbers are integers.  Numbers are little-endian, and u32 ones
stand at multiples of four bytes.

    char[4]         "lexi"
    u16, u16        version, 1; levels L of the n-grams
    u32             CRC-32 of all that follows
    u32[3]          bytes of the file; words; labels G, at most 255
    u32[2]          places of the labels and of the words, in bytes from the file's start
    u32[L], u32[L]  n-grams of each level; place of each level

A letter is a to z, 0 to 25, or an apostrophe, 26.  A label says how one letter sounds: a letter,
and the none, one or two phones that it stands for.

    labels   u8[28]      number of the first label of each letter, and G
             u8[G][2]    the phones of each label, 255 for none; the most frequent label first

The words are sorted by their ASCII bytes.  Sixteen of them make a block.

    words    u32[blocks]  place of each block
    block    the first word in ASCII and a zero byte, then bits, the highest of a byte first:
             before each word but the first: number(letters shared with the word before it), then
             five bits for each further letter, and 27;
             number(pronunciations - 1), and each of these: a bit of 1, and for each letter
             number(label - first label of the letter); or a bit of 0, six bits for each phone,
             and 39

number(n) is Elias's gamma code of n + 1: as many zeros as it has bits after its first, then it.

The n-grams of labels are a trie, whose level n has those of n + 1 labels, in the order of their
labels; the children of an n-gram are those that begin with it and have one label more.  Label G
stands before and after a word.

    level    u32[ceil(N/32)]  first child of every 32nd n-gram; not on the last level
             i8[N]            cost that is added to a label's after the n-gram, if the n-gram has
                              no such child; not on the last level
             u8[N]            number of its children; not on the last level
             u8[N]            its last label
             u8[N]            cost of that label after the others

A cost is a negative natural logarithm of a probability, in steps of 1 / 16.
"""

import bisect
import pathlib
import struct
import zlib
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
HEADER: Final = struct.Struct("<4sHHI3I2I")
CHECKED_FROM: Final = 12  # byte

Pronunciation = tuple[int, ...]  # ids of phones


class LexiconError(ValueError):
    """A file of pronunciations that cannot be used."""


class Level(NamedTuple):
    """N-grams of one length; on the last level the first three are empty."""

    first: list[int]  # child of each n-gram, and the number of all children
    backoffs: list[int]
    children: bytes
    labels: bytes
    costs: bytes


class Lexicon:
    """The content of the file."""

    def __init__(self, data: bytes, name: str = "lexicon") -> None:
        """`data`: the file; `name`: its name in messages.

        Raises:
            LexiconError: the data are no such file, or not a whole one.
        """
        self._data, self._name = data, name
        if len(data) < HEADER.size or data[:4] != MAGIC:
            raise LexiconError(f"{name} is no file of pronunciations: it does not begin with lexi")
        _, version, levels, check, size, words, labels, *places = HEADER.unpack_from(data)
        if version != VERSION:
            raise LexiconError(f"{name} has version {version}; this program reads {VERSION}")
        if size != len(data) or check != zlib.crc32(data[CHECKED_FROM:]):
            raise LexiconError(f"{name} is damaged or not whole: copy it again")
        self.words = words
        self._read_labels(places[0], labels)
        blocks = -(-words // BLOCK)
        self._blocks = self._numbers("<u4", blocks, places[1]).tolist()
        table = self._numbers("<u4", 2 * levels, HEADER.size).tolist()
        self.levels: list[Level] = []
        for level, (count, place) in enumerate(zip(table[:levels], table[levels:], strict=True)):
            self.levels.append(self._read_level(count, place, level == levels - 1))
        self._check_levels(labels)

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

    def _read_labels(self, place: int, count: int) -> None:
        self.first_label = self._numbers("u1", len(LETTERS) + 1, place).tolist()
        phones = self._numbers("u1", 2 * count, place + len(self.first_label)).tolist()
        ordered = sorted(self.first_label) == self.first_label
        if not ordered or self.first_label[0] != 0 or self.first_label[-1] != count:
            raise LexiconError(f"{self._name} is damaged: its labels are out of order")
        if any(phone >= len(PHONES) and phone != NO_PHONE for phone in phones):
            raise LexiconError(f"{self._name} is damaged: a label has a phone that does not exist")
        pairs = zip(phones[::2], phones[1::2], strict=True)
        self.labels: list[Pronunciation] = [
            tuple(phone for phone in pair if phone != NO_PHONE) for pair in pairs
        ]

    def _read_level(self, count: int, place: int, last: bool) -> Level:
        first: list[int] = []
        backoffs: list[int] = []
        children = b""
        if not last:
            place += 4 * -(-count // STRIDE)  # the sums, which this program makes for every n-gram
            backoffs = self._numbers("i1", count, place).tolist()
            numbers = self._numbers("u1", count, place + count)
            children = numbers.tobytes()
            first = [0, *np.cumsum(numbers, dtype=np.int64).tolist()]
            place += 2 * count
        labels = self._numbers("u1", count, place).tobytes()
        costs = self._numbers("u1", count, place + count).tobytes()
        return Level(first, backoffs, children, labels, costs)

    def _check_levels(self, labels: int) -> None:
        sizes = [len(level.labels) for level in self.levels]
        children = [labels + 1, *(level.first[-1] for level in self.levels[:-1])]
        if sizes != children or any(max(x.labels, default=0) > labels for x in self.levels):
            raise LexiconError(f"{self._name} is damaged: its n-grams do not fit each other")

    def find(self, word: str) -> list[Pronunciation]:
        """The pronunciations of a word in lower case, best first; none for another word.

        Raises:
            LexiconError: the file is damaged.
        """
        wanted = word.encode("ascii", "replace")
        block = bisect.bisect_right(self._blocks, wanted, key=self._first_word) - 1
        if block < 0:
            return []
        try:
            return self._scan(self._blocks[block], wanted, block)
        except (IndexError, ValueError):
            raise LexiconError(f"{self._name} is damaged: block {block} of its words") from None

    def _first_word(self, place: int) -> bytes:
        return self._data[place : self._data.index(0, place)]

    def _scan(self, place: int, wanted: bytes, block: int) -> list[Pronunciation]:
        letters = self._first_word(place).decode("ascii")
        start = place + len(letters) + 1
        more = self._blocks[block + 1] if block + 1 < len(self._blocks) else len(self._data)
        bits = Bits(self._data[start:more])
        for number in range(min(BLOCK, self.words - block * BLOCK)):
            if number:
                letters = letters[: bits.number()]
                while (letter := bits.take(5)) != WORD_END:
                    letters += LETTERS[letter]
            pronunciations = [self._pronunciation(letters, bits) for _ in range(bits.number() + 1)]
            if letters.encode() >= wanted:
                return pronunciations if letters.encode() == wanted else []
        return []

    def _pronunciation(self, letters: str, bits: "Bits") -> Pronunciation:
        phones: list[int] = []
        if bits.take(1):
            for letter in letters:
                phones += self.labels[self.first_label[LETTERS.index(letter)] + bits.number()]
        else:
            while (phone := bits.take(6)) != PHONES_END:
                phones.append(phone)
        return tuple(phones)


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

    def number(self) -> int:
        """A number in Elias's gamma code, less 1."""
        zeros = self._bits.index("1", self._place) - self._place
        self._place += zeros
        return self.take(zeros + 1) - 1
