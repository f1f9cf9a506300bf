"""Imports go one way: the device side knows nobody, and training knows no conversion."""

import ast
import pathlib
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.conftest import REPOSITORY

# Package -> packages that it must not import.
FORBIDDEN = {
    "tf_speech_transformer": {"tflite_convert", "benchmarks"},
    "tflite_convert": {"benchmarks"},
    "firmware_sim": {"tf_speech_transformer", "tflite_convert", "benchmarks"},
}


def imported(path: pathlib.Path) -> set[str]:
    """Names of the top-level packages that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


FILES = [
    path.relative_to(REPOSITORY)
    for package in FORBIDDEN
    for path in sorted((REPOSITORY / package).rglob("*.py"))
]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_package_imports_only_what_stands_before_it(file: pathlib.Path) -> None:
    assert not imported(REPOSITORY / file) & FORBIDDEN[file.parts[0]]


def test_every_package_is_looked_at() -> None:
    assert {file.parts[0] for file in FILES} == FORBIDDEN.keys()


def test_every_installed_command_is_a_function() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    commands = project["project"]["scripts"]
    assert commands
    for command, target in commands.items():
        module, _, function = target.partition(":")
        path = REPOSITORY / (module.replace(".", "/") + ".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in names, command
