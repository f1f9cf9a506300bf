"""`python -m firmware_sim NAME`, which the console scripts call too."""

import importlib.util
import sys

from firmware_sim import __main__ as commands
from tests.conftest import REPOSITORY, run_module

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_every_command_is_a_console_script_with_an_extra_that_there_is() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == {f"speech-{name}" for name in commands._COMMANDS}
    for module, extra in commands._COMMANDS.values():
        assert importlib.util.find_spec(module) is not None
        assert extra in {"", *project["optional-dependencies"]}


def test_a_command_gets_its_arguments() -> None:
    grammar = f"--grammar={REPOSITORY / 'grammars' / 'barista.yaml'}"
    named = run_module("firmware_sim", "compile", grammar, "--sample=3")
    direct = run_module("firmware_sim.compile", grammar, "--sample=3")
    assert (named.returncode, named.stdout) == (0, direct.stdout)


def test_without_a_command_all_are_named() -> None:
    for arguments in ([], ["dance"]):
        done = run_module("firmware_sim", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("Name a command: transcribe, listen, compile, ")
        assert done.stderr.count("\n") == 1
