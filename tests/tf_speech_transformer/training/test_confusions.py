"""Confusions of phones are those that alignments show."""

import math

import numpy as np
import pytest

from firmware_sim.grammar.phones import ids
from tf_speech_transformer.training import confusions


def phones(text: str) -> list[int]:
    return ids(text.split())


def test_shares_of_what_was_heard_become_costs() -> None:
    """P is heard as B one time in four, T is lost one time in five, S is added before K."""
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2000):
        said, heard = phones("P AE T IY K UW"), phones("P AE T IY K UW")
        if rng.random() < 0.25:
            heard[0] = phones("B")[0]
        if rng.random() < 0.1:
            heard[4:4] = phones("S")
        if rng.random() < 0.2:
            heard.remove(phones("T")[0])
        pairs.append((said, heard))
    measured = confusions.counted(pairs)

    def cost(said: str, heard: str) -> float:
        return measured.cost(tuple(phones(said)), tuple(phones(heard)))

    assert cost("P", "B") == pytest.approx(-math.log(0.25), abs=0.15)
    assert cost("P", "P") == pytest.approx(-math.log(0.75), abs=0.1)
    assert cost("T", "") == pytest.approx(-math.log(0.2), abs=0.15)
    assert cost("", "S") == pytest.approx(-math.log(0.1 / 6), abs=0.3)
    assert cost("P", "Z") > 5
