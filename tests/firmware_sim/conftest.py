"""A bundle that is held to a grammar of digits."""

import pathlib
from typing import Any

import pytest

from tests.conftest import add_grammar, digit_grammar

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
