"""Where people differ: further pronunciations of a word, by rules on its phones and letters."""

import re
from typing import Final

from firmware_sim.grammar.lexicon import Pronunciation
from firmware_sim.grammar.phones import PHONES, VOWELS, ids

_V: Final = f"(?:{'|'.join(sorted(VOWELS))})"
_C: Final = f"(?:{'|'.join(x for x in PHONES if x not in VOWELS)})"

# Words that sentences seldom stress: their weak forms.
_WEAK: Final = {
    "a": "AH, EY",
    "an": "AH N",
    "and": "AH N D, AH N",
    "are": "ER",
    "as": "AH Z",
    "at": "AH T",
    "can": "K AH N",
    "for": "F ER, F AH",
    "from": "F R AH M",
    "him": "IH M",
    "of": "AH V, AH",
    "or": "ER",
    "than": "DH AH N",
    "that": "DH AH T",
    "the": "DH AH, DH IY",
    "them": "DH AH M, AH M",
    "to": "T UW, T AH, T IH",
    "was": "W AH Z, W AA Z",
    "you": "Y UW, Y AH",
    "your": "Y AO R, Y ER",
}
# Words that two countries say in their own ways.
_OTHER: Final = {
    "banana": "B AH N AA N AH",
    "basil": "B AE Z AH L, B EY Z AH L",
    "data": "D EY T AH, D AE T AH",
    "either": "IY DH ER, AY DH ER",
    "herb": "HH ER B, ER B",
    "herbs": "HH ER B Z, ER B Z",
    "leisure": "L EH ZH ER, L IY ZH ER",
    "neither": "N IY DH ER, N AY DH ER",
    "oregano": "AO R IH G AA N OW",
    "privacy": "P R AY V AH S IY, P R IH V AH S IY",
    "route": "R UW T, R AW T",
    "router": "R AW T ER, R UW T ER",
    "schedule": "S K EH JH UH L, SH EH D Y UW L",
    "tomato": "T AH M EY T OW, T AH M AA T OW",
    "vase": "V EY S, V AA Z",
    "vitamin": "V AY T AH M AH N, V IH T AH M IH N",
    "yoghurt": "Y OW G ER T, Y AA G ER T",
    "yogurt": "Y OW G ER T, Y AA G ER T",
    "zebra": "Z IY B R AH, Z EH B R AH",
}

_Rule = tuple[str, str, str]  # patterns of the spelling and of phones, and what replaces these
_AMERICAN: Final[tuple[_Rule, ...]] = (
    # water as wadder, twenty as twenny, dog with the vowel of father
    ("t", rf"(?<= )((?:{_V}|R) )T (?=(?:AH|ER|IH|IY) )", r"\1D "),
    ("nt", r"(?<= N )T (?=(?:AH|ER|IH|IY) )", ""),
    ("a|o", r"(?<= )AO (?!R )", "AA "),
)
_BRITISH: Final[tuple[_Rule, ...]] = (
    # no r but before vowels, a y in new, the vowel of father in bath
    ("r", r"(?<= )IH R (?=$)", "IH AH "),
    ("r", rf"(?<= )({_V} )R (?!{_V} )", r"\1"),
    ("r", r"(?<= )ER (?=$)", "AH "),
    ("[tdn](u|ew|eu)", r"(?<= )([TDN] )UW ", r"\1Y UW "),
    ("a(s[stkp]|f[ft]|th|n(ce|ch|t)|l[fv])", r"(?<= )AE (?=(?:F|S|TH|N S|N CH|N T|V) )", "AA "),
    ("ile", r"AH L (?=$)", "AY L "),
    ("[aeo]ry$", r"(?<= )(?:EH|AO) R IY (?=$)", "AH R IY "),
)
_SINGLE: Final[tuple[_Rule, ...]] = (
    # short and long o, short a and the vowel of father, in words from other languages
    ("o[^aeiouwy]{1,2}[aio]$", rf"(?<= )OW (?=(?:{_C} ){{1,2}}{_V} $)", "AA "),
    ("^pro[^aeiouwy]", r"^ P R AA ", " P R OW "),
    ("a[^aeiouwyr]{1,3}[aeio]s?$", rf"(?<= )AA (?=(?:{_C} ){{1,3}}{_V} (?:Z )?$)", "AE "),
    ("a[^aeiouwyr]{1,3}[aeio]s?$", rf"(?<= )AE (?=(?:{_C} ){{1,3}}{_V} (?:Z )?$)", "AA "),
    ("o(ss|st|ng|g|ff|ft|th)", r"(?<= )AA (?=(?:S|NG|G|F|TH) )", "AO "),
    ("[tdn](u|ew|eu)", r"(?<= [TDN] )Y UW ", "UW "),
    # vowels without stress, at the beginning and at the end
    ("^(be|de|re|se|pre|e)[^aeiouwy]", rf"^( (?:{_C} )*)IH ", r"\1IY "),
    ("^(be|de|re|se|pre|e)[^aeiouwy]", rf"^( (?:{_C} )*)(?:IY|AH) ", r"\1IH "),
    ("[ei][^aeiouy]+e?s?$", rf"({_V} .*)AH (?=(?:{_C} ){{1,3}}$)", r"\1IH "),
    ("[ei][^aeiouy]+e?s?$", rf"({_V} .*)IH (?=(?:{_C} ){{1,3}}$)", r"\1AH "),
)


def variants(word: str, pronunciation: Pronunciation) -> list[Pronunciation]:
    """Further ways to say a word, the more common first.

    Weak forms of short words, words that differ by country, then rules: all American ones
    together, all British ones, and each by itself (r or none, t or d between vowels, short and
    long o, vowels without stress).

    Args:
        word: in lower case; rules look at its letters.
        pronunciation: the usual one, ids of phones.
    """
    result: list[Pronunciation] = []
    for table in (_WEAK, _OTHER):
        result += [tuple(ids(x.split())) for x in table.get(word, "").split(",") if x]
    phones = "".join(f" {PHONES[i]}" for i in pronunciation) + " "
    groups = [_AMERICAN, _BRITISH, *([rule] for rule in _SINGLE + _AMERICAN + _BRITISH)]
    for rules in groups:
        changed = phones
        for spelling, pattern, replacement in rules:
            if re.search(spelling, word):
                changed = re.sub(pattern, replacement, changed)
        if changed != phones:
            result.append(tuple(ids(changed.split())))
    return [x for x in dict.fromkeys(result) if x and x != pronunciation]
