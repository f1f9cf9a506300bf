"""firmware_sim depends only on the bundle, and its imports go down."""

import pathlib
import subprocess
import sys

import pytest

import firmware_sim
from tests.conftest import imports

PACKAGE = pathlib.Path(firmware_sim.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)
FORBIDDEN = {
    "tensorflow",
    "tensorflow_io",
    "tensorflow_model_optimization",
    "keras",
    "tf_keras",
    "tf_speech_transformer",
    "tflite_convert",
}
# Every import goes to the right, or stays within a folder. All other modules are commands.
ORDER = [
    *("web", "command_line", "c", "recognizer", "bundle"),
    *("search", "grammar", "sound", "fitting", "storage", "runtimes"),
]
FOLDERS = {module.split(".")[0] for module in MODULES if "." in module}


def imported(module: str) -> set[str]:
    return imports(PACKAGE / f"{module.replace('.', '/')}.py")


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_a_module_imports_neither_tensorflow_nor_the_other_packages(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(module)} & FORBIDDEN


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A command imports no other command."""
    here = module.split(".")[0]
    parts = (name.split(".") for name in imported(module))
    targets = {part[1] for part in parts if part[0] == "firmware_sim" and len(part) > 1}
    allowed = ORDER[ORDER.index(here) + 1 :] if here in ORDER else ORDER
    assert targets <= {*allowed, *({here} & FOLDERS)}


def test_the_order_has_every_folder() -> None:
    assert set(ORDER) >= FOLDERS


def test_importing_every_module_loads_no_tensorflow() -> None:
    imports = "; ".join(f"import firmware_sim.{module}" for module in MODULES)
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print(*sys.modules)"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & FORBIDDEN
