"""Phones, the units of the first pass.

The 39 phones of the CMU Pronouncing Dictionary, without stress.  CTC adds a blank.
"""

from collections.abc import Iterable
from typing import Final

_PHONES: Final = """
    AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V
    W Y Z ZH
"""
PHONES: Final = tuple(_PHONES.split())
BLANK: Final = len(PHONES)  # CTC's, the last of the logits
PHONE_COUNT: Final = len(PHONES) + 1
_VOWELS: Final = """
    AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW
"""
VOWELS: Final = frozenset(_VOWELS.split())
_IDS: Final = {phone: i for i, phone in enumerate(PHONES)}


def ids(pronunciation: Iterable[str]) -> list[int]:
    """Ids of phones, with or without stress.

    Raises:
        ValueError: one is no phone.
    """
    try:
        return [_IDS[phone.rstrip("012")] for phone in pronunciation]
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is no phone: there are {' '.join(PHONES)}") from None
