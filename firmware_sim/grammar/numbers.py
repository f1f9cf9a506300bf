"""Built-in slots: numbers as Picovoice's contexts name them, spelt as they are said.

A file uses them as `$pv.TwoDigitInteger:floor`, without defining them.
"""

from typing import Final

from firmware_sim.grammar.phrase import Choice, Phrase, Word

_ONES: Final = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS: Final = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINAL_ONES: Final = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
]
_ORDINAL_TEENS: Final = [
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
]


def _words(words: list[str]) -> list[Phrase]:
    return [(Word(word),) for word in words]


def _compound(ones: list[str], optional: bool) -> list[Phrase]:
    """Twenty one and so on; with `optional` the tens too."""
    phrases = ([()] if optional else []) + _words(ones)
    return [(Word(word), Choice(tuple(phrases))) for word in _TENS]


def _two_digits() -> list[Phrase]:
    return [*_words(["zero", *_ONES, *_TEENS]), *_compound(_ONES, True)]


def _two_digit_ordinals() -> list[Phrase]:
    tenths = [f"{word[:-1]}ieth" for word in _TENS]
    ordinals = _words([*_ORDINAL_ONES, *_ORDINAL_TEENS, *tenths])
    return [*ordinals, *_compound(_ORDINAL_ONES, False)]


def _percent() -> list[Phrase]:
    hundred: list[Phrase] = [(Word("one"), Word("hundred")), (Word("a"), Word("hundred"))]
    return [(*phrase, Word("percent")) for phrase in (*_two_digits(), *hundred)]


BUILT_IN: Final[dict[str, list[Phrase]]] = {
    "pv.SingleDigitInteger": _words(["zero", *_ONES]),
    "pv.SingleDigitOrdinal": _words(_ORDINAL_ONES),
    "pv.TwoDigitInteger": _two_digits(),
    "pv.TwoDigitOrdinal": _two_digit_ordinals(),
    "pv.Percent": _percent(),
}
