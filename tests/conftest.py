"""What tests of several packages need: the shipped bundle, and speech."""

import ast
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import IO, Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

import tf_speech_transformer  # noqa: F401 - sets up TensorFlow before its import
from firmware_sim.runtimes import cortex_m55

REPOSITORY = pathlib.Path(__file__).parent.parent
# `Dimensions` of the smallest model with every part, but for its vocabulary.
TINY_MODEL: dict[str, Any] = {
    "feature_channels": 40,
    "conv_channels": (4, 8),
    "strided": True,
    "d_model": 16,
    "heads": 2,
    "d_ff": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_positions": True,
    "dropout": 0.0,
}

_LACKING = cortex_m55.missing()
needs_cortex_m55 = pytest.mark.skipif(_LACKING is not None, reason=str(_LACKING))


def imports(path: pathlib.Path) -> set[str]:
    """Full names of what a file imports, inside functions too: `package.module.name`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def run_module(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m module`, from the repository's root."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def pipe_module(
    module: str, *arguments: object, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """The same, in bytes."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, input=stdin, capture_output=True, check=False)


def ended(command: types.ModuleType, **flags: Any) -> str:
    """The sentence with which a command's `main` ends.

    In this process: another one would load TensorFlow first.
    """
    given = mock.patch("absl.flags.FLAGS", types.SimpleNamespace(**flags))
    with given, pytest.raises(SystemExit) as end:
        command.main([""])
    return str(end.value)


@contextlib.contextmanager
def one_at_a_time(path: pathlib.Path) -> Iterator[IO[str]]:
    """Keeps other processes of a test run out; yields a file beside `path` that says what is."""
    with path.with_name(f"{path.name}.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


MadeOnce = Callable[[str, Callable[[pathlib.Path], object]], pathlib.Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Makes the folder of a name once: each process of pytest-xdist has a session of its own."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def once(name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
        folder = root / name
        with one_at_a_time(folder) as state:
            if not state.read():
                shutil.rmtree(folder, ignore_errors=True)  # of another process, which failed
                folder.mkdir()
                make(folder)
                state.write("made")
        return folder

    return once


@pytest.fixture(scope="session")
def digits_bundle() -> pathlib.Path:
    """The bundle of connected digits that the repository ships."""
    path = REPOSITORY / "pretrained" / "digits"
    assert path.is_dir(), f"{path} is missing: it belongs to the repository"
    return path


def add_grammar(source: pathlib.Path, copy: pathlib.Path, content: Any) -> pathlib.Path:
    """Copies a bundle's directory, and gives it a grammar.json."""
    data = json.dumps(content).encode()
    return add_file(source, copy, "grammar", {"file": "grammar.json"}, data)


def add_file(
    source: pathlib.Path, copy: pathlib.Path, name: str, section: dict[str, Any], data: bytes
) -> pathlib.Path:
    """Copies a bundle's directory, and gives it the file of a further section of its manifest."""
    shutil.copytree(source, copy)
    (copy / section["file"]).write_bytes(data)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest[name] = section
    manifest["files"][section["file"]] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def digit_grammar(path: pathlib.Path, expressions: str, reject_below: float) -> dict[str, Any]:
    """What a bundle of digits carries for expressions: YAML by intent, over `digit` and `pair`."""
    from firmware_sim.grammar.source import Grammar
    from tf_speech_transformer.text.tokenizer import CharacterTokenizer

    lines = "".join(f"    {line}\n" for line in expressions.strip().splitlines())
    digits = "zero, one, two, three, four, five, six, seven, eight, nine"
    slots = f"    digit: [{digits}]\n    pair: [one two, two one]\n"
    path.write_text(f"context:\n  expressions:\n{lines}  slots:\n{slots}")
    return Grammar.read(path).compile(CharacterTokenizer(), reject_below)


def synthesise(text: str, speaker: str = "en-us+m3") -> npt.NDArray[np.int16]:
    """Speech of espeak-ng: int16 [samples], 16 kHz."""
    import soxr

    from tf_speech_transformer.voices.espeak import Espeak

    engine = Espeak()
    samples = soxr.resample(engine.synthesise(text, speaker), engine.sample_rate, 16000)
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="session")
def speech(made_once: MadeOnce) -> npt.NDArray[np.int16]:
    """ "one two three" by espeak-ng: int16 [samples], 16 kHz.

    In a process of its own: what espeak-ng says depends on what it said before.
    """
    code = "import sys, tests.conftest as x; x.synthesise('one two three').tofile(sys.argv[1])"

    def make(folder: pathlib.Path) -> None:
        command = [sys.executable, "-c", code, str(folder / "samples")]
        subprocess.run(command, cwd=REPOSITORY, check=True)

    return np.fromfile(made_once("speech", make) / "samples", np.int16)


@pytest.fixture(scope="session")
def general(made_once: MadeOnce, speech: npt.NDArray[np.int16]) -> pathlib.Path:
    """The bundle of an untrained model with phones."""
    return made_once("general", lambda folder: make_general(folder / "bundle", speech)) / "bundle"


def make_general(directory: pathlib.Path, speech: npt.NDArray[np.int16]) -> None:
    import ml_collections
    import tensorflow as tf

    from tests.tflite_convert.conftest import CONFIG
    from tf_speech_transformer.corpora.features import as_float, microfrontend
    from tf_speech_transformer.model import transformer
    from tf_speech_transformer.text.tokenizer import CharacterTokenizer
    from tf_speech_transformer.training import runs, weights
    from tflite_convert import convert

    config = ml_collections.ConfigDict(CONFIG.to_dict())
    config.model = {**TINY_MODEL, "phones": True}
    tokenizer = CharacterTokenizer()
    dims = runs.dimensions(config, tokenizer)
    runs.set_seed(5)
    in_float = transformer.build(dims, quantized=False)
    quantized = transformer.build(dims, quantized=True)
    weights.copy_weights(in_float, quantized)
    features = as_float(microfrontend(speech))[:128]
    inputs = {
        "features": tf.constant(np.pad(features, [(0, 128 - len(features)), (0, 0)])[None]),
        "frames": tf.constant([len(features)]),
        "tokens": tf.constant([[tokenizer.start, 4, 5]]),
    }
    quantized(inputs, training=True)  # the ranges
    quantized.settle()
    convert.write(quantized, tokenizer, config, directory, {})


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 5 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
