"""Confusions of phones are those that alignments show."""

import math
from pathlib import Path

import ml_collections
import numpy as np
import pytest

from firmware_sim.grammar.phones import ids
from tests.conftest import TINY_MODEL
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.training import confusions, runs


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


def test_a_model_is_measured_on_the_dev_examples_of_its_run(tmp_path: Path) -> None:
    """An untrained one hears one phone, or nothing, whatever is said."""
    runs.set_seed(2)
    dims = Dimensions(vocabulary=31, **TINY_MODEL, phones=True)
    model = transformer.build(dims, quantized=False)
    config = ml_collections.ConfigDict({"limits": {"frames": 128}})
    assert confusions.measured(model, config, tmp_path) is None
    lengths = [90, 120, 400]  # the last does not fit the window
    features = np.random.default_rng(1).integers(-128, 127, (sum(lengths), 40), dtype=np.int8)
    (tmp_path / "cache" / "dev-1").mkdir(parents=True)
    texts = {"texts": np.array(["one", "two", "one"]), "phones": np.array(["W AH N", "T UW", "W"])}
    file = tmp_path / "cache" / "dev-1" / "00000.npz"
    np.savez(file, features=features, lengths=np.array(lengths), **texts)
    measured = confusions.measured(model, config, tmp_path)
    assert measured is not None
    assert measured.cost((ids(["W"])[0],), (ids(["W"])[0],)) > 0.5
