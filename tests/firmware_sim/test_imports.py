"""firmware_sim knows nothing but the bundle."""

import ast
import pathlib
import subprocess
import sys

import pytest

import firmware_sim

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


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_a_module_imports_neither_tensorflow_nor_the_other_packages(module: str) -> None:
    imported = set()
    for node in ast.walk(
        ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    ):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN


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
