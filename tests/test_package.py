"""The wheel, installed into a fresh environment outside the checkout."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim.c.third_party import OFFLINE
from firmware_sim.fitting import device
from tests.conftest import REPOSITORY

PARTS = [
    *("firmware_sim", "tf_speech_transformer", "tflite_convert", "pretrained"),
    *("LICENSE", "MANIFEST.in", "NOTICE", "README.md", "pyproject.toml", "setup.py"),
]


def run(*command: object, cwd: pathlib.Path) -> str:
    """Standard output of a command; skips the test if pip cannot reach a registry."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("pip cannot reach a package registry")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"  # a build writes into its tree
    source.mkdir()
    for part in PARTS:
        path = REPOSITORY / part
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / part)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
    run(*pip, "--wheel-dir", directory, source, cwd=directory)
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_has_bundles_sources_and_profiles(wheel: pathlib.Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for bundle in (REPOSITORY / "pretrained").glob("*/manifest.json"):
        for file in bundle.parent.iterdir():
            assert f"firmware_sim/bundles/{bundle.parent.name}/{file.name}" in names
    for file in (REPOSITORY / "firmware_sim" / "c").glob("speech_*"):
        assert f"firmware_sim/c/{file.name}" in names
    for file in (REPOSITORY / "firmware_sim" / "web").rglob("*.*"):
        assert file.suffix == ".pyc" or str(file.relative_to(REPOSITORY)) in names
    for name in device.names():
        assert f"firmware_sim/fitting/devices/{name}.json" in names
    assert any(name.startswith("tf_speech_transformer/configs/") for name in names)
    assert not any(name.endswith("barista.npz") for name in names)


def test_an_installed_wheel_transcribes(
    wheel: pathlib.Path, tmp_path: pathlib.Path, speech: NDArray[np.int16]
) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    scripts = environment / "bin"
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet")
    # Few of the modules are imported here.
    flags = ("--no-compile", "--constraint", REPOSITORY / "constraints.txt")
    run(*pip, *flags, wheel, cwd=tmp_path)
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    text = run(scripts / "speech-transcribe", "--bundle=digits", "a.wav", cwd=tmp_path)
    assert text == "one two three\n"
    program = "import firmware_sim as f; print(f.load('digits').transcribe('a.wav').text)"
    assert run(scripts / "python", "-c", program, cwd=tmp_path) == text
    # Training needs an extra; the command says which.
    train = subprocess.run([scripts / "speech-train"], cwd=tmp_path, capture_output=True, text=True)
    assert train.returncode == 1
    assert train.stderr.count("\n") == 1
    assert "pip install 'integer-speech-transformer[train]'" in train.stderr
