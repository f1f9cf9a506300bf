"""The house: imports go one way, and no file or function outgrows its reader."""

import ast
import pathlib
import sys

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.conftest import REPOSITORY, imports

# Package -> packages that it must not import.
FORBIDDEN = {
    "tf_speech_transformer": {"tflite_convert", "benchmarks"},
    "tflite_convert": {"benchmarks"},
    "firmware_sim": {"tf_speech_transformer", "tflite_convert", "benchmarks"},
}


# Rooms of `tf_speech_transformer`: each imports only itself and those to its right. Its other
# modules are commands.
ROOMS = ("configs", "training", "model", "corpora", "voices", "text")
MOST_LINES = 450  # of a file
MOST_FUNCTION_LINES = 60

FILES = [
    path.relative_to(REPOSITORY)
    for package in FORBIDDEN
    for path in sorted((REPOSITORY / package).rglob("*.py"))
]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_package_imports_only_what_stands_before_it(file: pathlib.Path) -> None:
    packages = {name.split(".")[0] for name in imports(REPOSITORY / file)}
    assert not packages & FORBIDDEN[file.parts[0]]


def rooms_imported(path: pathlib.Path) -> set[str]:
    """Rooms and commands of `tf_speech_transformer` that a file imports."""
    parts = (name.split(".") for name in imports(path))
    return {part[1] for part in parts if part[0] == "tf_speech_transformer" and len(part) > 1}


@pytest.mark.parametrize(
    "file", [x for x in FILES if x.parts[0] == "tf_speech_transformer"], ids=str
)
def test_imports_of_training_go_down(file: pathlib.Path) -> None:
    """Nothing imports a command; presets import only presets."""
    room = file.parts[1]
    allowed = ROOMS[ROOMS.index(room) :] if room in ROOMS else ROOMS
    assert rooms_imported(REPOSITORY / file) <= set(allowed)


def test_every_folder_of_training_is_a_room() -> None:
    folders = {x.parts[1] for x in FILES if x.parts[0] == "tf_speech_transformer"}
    assert {name for name in folders if not name.endswith(".py")} == set(ROOMS)


PYTHON = [
    path.relative_to(REPOSITORY)
    for folder in (*FORBIDDEN, "android_demo/building", "benchmarks", "tests")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


@pytest.mark.parametrize("file", PYTHON, ids=str)
def test_files_and_functions_are_short(file: pathlib.Path) -> None:
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, node.name


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
