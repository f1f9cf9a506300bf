"""The campaign of faults counts what happens, and finds none in a short form of it."""

import os
import pathlib

import numpy as np
import pytest

from benchmarks import faults
from benchmarks.mutants.kind import Unequal
from benchmarks.mutants.mutation import mutate
from tests.conftest import run_module

MANNERS = ("refuse", "accept", "differ", "die", "raise", "ramble", "spin", "wait", "grow")


class Manners:
    """Mutant n behaves in the n-th manner."""

    refusals = (ValueError,)

    def write(self, rng: np.random.Generator, folder: pathlib.Path) -> pathlib.Path:
        path = folder / "manner"
        path.write_text(MANNERS[int(rng.bit_generator.seed_seq.entropy[1])])
        return path

    def use(self, path: pathlib.Path) -> None:
        match path.read_text():
            case "refuse":
                raise ValueError("no")
            case "differ":
                raise Unequal("one and two")
            case "die":
                os.abort()
            case "raise":
                raise KeyError("a")
            case "ramble":
                raise ValueError("no\nno")
            case "spin":
                while True:
                    pass
            case "wait":
                os.read(os.pipe()[0], 1)
            case "grow":
                np.ones(30 << 20, np.int8)


def test_every_manner_is_counted_and_none_ends_the_campaign(tmp_path: pathlib.Path) -> None:
    target = "tests.benchmarks.test_faults:Manners"
    limits = faults.Limits(seconds=0.3, megabytes=20)
    done = faults.run_kind(target, range(len(MANNERS)), 0, 2, limits, tmp_path / "kept")
    assert {outcome.value: count for outcome, count in done.counts.items()} == {
        "refused": 1, "accepted": 1, "unequal": 1, "crash": 1, "traceback": 2, "hang": 2,
        "memory": 1,
    }  # fmt: skip
    assert [x.number for x in done.faults] == list(range(2, len(MANNERS)))
    assert done.faults[1].detail == "SIGABRT"
    kept = {path.read_text() for path in (tmp_path / "kept").glob("*/manner")}
    assert kept == set(MANNERS[2:])


def test_a_mutant_follows_from_its_seed_and_is_damaged() -> None:
    data = bytes(range(256)) * 4
    mutants = [mutate(data, np.random.default_rng([0, n]), [b"other" * 9]) for n in range(500)]
    again = [mutate(data, np.random.default_rng([0, n]), [b"other" * 9]) for n in range(500)]
    assert mutants == again
    assert sum(mutant != data for mutant in mutants) > 450
    assert len(set(mutants)) > 400


def test_an_unknown_kind_is_refused() -> None:
    done = run_module("benchmarks.faults", "--kinds=colours")
    assert done.returncode == 1
    assert "colours is none of sound" in done.stderr


@pytest.mark.parametrize(
    ("kind", "mutants"),
    [
        ("sound", 150),
        ("bundle", 60),
        ("grammar", 100),
        ("manifest", 100),
        ("archive", 60),
        ("records", 60),
    ],
)
def test_no_mutant_is_a_fault(kind: str, mutants: int) -> None:
    """A short form of the campaign."""
    done = faults.run_kind(faults.KINDS[kind], range(mutants), seed=5)
    assert [(x.number, x.outcome.value, x.detail) for x in done.faults] == []
    assert done.counts[faults.Outcome.REFUSED] > mutants / 5
