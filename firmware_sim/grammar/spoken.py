"""How people say what is written: numbers, initials, symbols, and words that mix them.

Numbers are spelt by `unicode-rbnf`, which is imported for the first of them.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, Final

from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.phrase import Choice, Phrase, Word

_SYMBOLS: Final = {
    "%": "percent",
    "&": "and",
    "+": "plus",
    "@": "at",
    "=": "equals",
    "\u00b0": "degrees",
    "\u20ac": "euros",
    "$": "dollars",
    "\u00a3": "pounds",
    "\u00b2": "squared",
    "\u00bd": "half",
}
_FRACTIONS: Final = {
    "1/2": ["half", "one half"],
    "1/3": ["a third", "one third"],
    "1/4": ["a quarter", "one quarter"],
    "3/4": ["three quarters"],
}
_PARTS: Final = re.compile(
    r"""
    (?P<fraction>1/[234]|3/4)(?!\d)|
    (?P<ordinal>\d+)(?:st|nd|rd|th)\b
    |(?P<number>\d+(?:[.,]\d+)?)
    |(?P<letters>[^\W\d_]+(?:['\u2019][^\W\d_]+)*)
    |(?P<symbol>.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")  # "LivingRoom", "iPhone"
_PLAIN: Final = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*'?")
_STRAY: Final = re.compile(r"""^[-.,;:!?()"\[\]/_]+|[-.,;:!?()"\[\]/_]+$""")


def phrase(text: str) -> Phrase:
    """A text as it is written, with the ways to say each of its words."""
    words: list[Word | Choice] = []
    for token in text.split():
        written = _STRAY.sub("", token).lower()
        choices = [Word(written, "" if x == written else x) for x in _ways(token)]
        if len(choices) > 1:
            words.append(Choice(tuple((x,) for x in choices)))
        else:
            words += choices
    return tuple(words)


def _ways(token: str) -> list[str]:
    """The ways to say a word with signs around it."""
    written = _STRAY.sub("", token)
    return list(dict.fromkeys(forms(written))) if written else []


def parts(written: str) -> list[str]:
    """The words that may be said of a text, one by one."""
    return [x for token in written.split() for way in _ways(token) for x in way.split()]


def number(value: float) -> Phrase:
    """A number in digits, with the ways to say it."""
    text = f"{value:g}"
    sign = "minus " if value < 0 else ""
    ways = [f"{sign}{x}" for x in _cardinal(text.lstrip("-"))]
    return (Choice(tuple((Word(text, x),) for x in ways)),)


def forms(token: str) -> list[str]:
    """The ways to say a word without spaces, best first.

    Capitals stay: `Pronunciations` says "TV" by its letters.  No way: it is nothing that is said.

    Raises:
      GrammarError: `unicode-rbnf` is needed for a number, and is not installed.
    """
    if _PLAIN.fullmatch(token) and not _HUMP.search(token):
        initials = token.isupper() and len(token) > 1
        return [token if initials else token.lower()]
    ways = [""]
    for part in _PARTS.finditer(token):
        ways = [f"{way} {more}".strip() for way in ways for more in _said(part)]
    return [way for way in dict.fromkeys(ways) if way]


def _said(part: "re.Match[str]") -> list[str]:
    if part["fraction"]:
        return _FRACTIONS[part["fraction"]]
    if part["ordinal"]:
        return [_spell(int(part["ordinal"]), "ORDINAL")]
    if part["number"]:
        return _cardinal(part["number"].replace(",", "."))
    if part["letters"]:
        return [" ".join(x if x.isupper() else x.lower() for x in _HUMP.split(part["letters"]))]
    return [_SYMBOLS.get(part["symbol"], "")]


def _cardinal(digits: str) -> list[str]:
    """The ways to say a number without sign."""
    whole, _, fraction = digits.partition(".")
    if fraction:
        tail = " ".join(_spell(int(x)) for x in fraction)
        halves = ["and a half"] if fraction == "5" and whole != "0" else []
        return [f"{way} {end}" for end in (f"point {tail}", *halves) for way in _cardinal(whole)]
    one_by_one = " ".join(_spell(int(x)) for x in whole)
    if len(whole) > 6 or (whole.startswith("0") and len(whole) > 1):
        return [one_by_one]
    value = int(whole)
    spelt = _spell(value)
    ways = [spelt]
    if value > 100 and value % 100:
        head, tail = _spell(value - value % 100), _spell(value % 100)
        ways.append(f"{head} and {tail}")
    if 1 <= value // 100 < 100 and len(whole) in (3, 4) and value % 1000:
        head, rest = _spell(value // 100), value % 100
        if rest:
            ways.append(f"{head} {'oh ' if rest < 10 else ''}{_spell(rest)}")
        elif len(whole) == 4:
            ways.append(f"{head} hundred")
    if 100 <= value < 200:
        ways += [f"a{way[3:]}" for way in ways[:2] if way.startswith("one hundred")]
    return list(dict.fromkeys(ways))


def _spell(value: int, purpose: str = "CARDINAL") -> str:
    return _speller()(value, purpose)


@functools.cache
def _speller() -> Callable[[int, str], str]:
    try:
        from unicode_rbnf import FormatPurpose, RbnfEngine
    except ModuleNotFoundError as error:
        raise GrammarError(
            "numbers in digits need the Python package unicode-rbnf: "
            "pip install 'integer-speech-transformer[wyoming]'"
        ) from error
    engine: Any = RbnfEngine.for_language("en")

    @functools.cache
    def spell(value: int, purpose: str) -> str:
        text = engine.format_number(value, FormatPurpose[purpose]).text
        return str(text).replace("-", " ")

    return spell
