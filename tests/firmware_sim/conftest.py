"""A bundle that is held to a grammar of digits, and the C core."""

import pathlib
from typing import Any

import pytest

from firmware_sim import bundle
from firmware_sim.c.third_party import ThirdParty
from tests.conftest import MadeOnce, add_grammar, digit_grammar
from tests.firmware_sim import core

DIGITS = """
call: ["$digit:first $digit:second $digit:third"]
code: ["$pair:pair $digit:last $digit:check"]
"""


@pytest.fixture(scope="session")
def grammar_content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return digit_grammar(tmp_path_factory.mktemp("grammar") / "digits.yaml", DIGITS, 0.3)


@pytest.fixture(scope="session")
def held_bundle(
    digits_bundle: pathlib.Path,
    grammar_content: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    target = tmp_path_factory.mktemp("bundles") / "held"
    return add_grammar(digits_bundle, target, grammar_content)


@pytest.fixture(scope="session")
def loaded(digits_bundle: pathlib.Path) -> bundle.Bundle:
    return bundle.load(digits_bundle)


@pytest.fixture(scope="session")
def held(held_bundle: pathlib.Path) -> bundle.Bundle:
    return bundle.load(held_bundle)


@pytest.fixture(scope="session")
def content(loaded: bundle.Bundle) -> bytes:
    """The block of the bundle of digits."""
    return core.block_of(loaded)


@pytest.fixture(scope="session")
def third_party(made_once: MadeOnce) -> ThirdParty:
    """Sources of others that the core needs."""
    return core.fetch(made_once("third_party", core.fetch))


@pytest.fixture(scope="session")
def fuzz(third_party: ThirdParty, made_once: MadeOnce) -> pathlib.Path:
    """The program of `firmware/fuzz.c` under sanitizers."""
    return made_once("fuzz", lambda folder: make_fuzz(third_party, folder / "fuzz")) / "fuzz"


def make_fuzz(third_party: ThirdParty, program: pathlib.Path) -> None:
    flags = ["-std=c99", "-O1", *core.WARNINGS, *core.SANITIZERS, *core.includes(third_party)]
    sources = [core.SOURCES / f"{name}.c" for name in core.CORE]
    sources.append(pathlib.Path(__file__).parent / "firmware" / "fuzz.c")
    others = core.compile_third_party(third_party, "gcc", "g++", "-fPIC")
    libraries = ("-lstdc++", "-lm", "-o", program)
    core.run_command("gcc", *flags, f"-I{core.SOURCES}", *sources, *others, *libraries)


@pytest.fixture(scope="session")
def core_library(third_party: ThirdParty, made_once: MadeOnce) -> pathlib.Path:
    """The C core as a shared library."""
    return made_once("core", lambda folder: core.build(third_party, folder)) / "core.so"
