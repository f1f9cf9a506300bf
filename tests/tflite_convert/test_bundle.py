"""A bundle is written whole or not at all, whatever happens to the writer or its disk."""

import errno
import io
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from firmware_sim import bundle as device_bundle
from firmware_sim.grammar.source import Grammar
from tests.conftest import REPOSITORY
from tf_speech_transformer.corpora.features import WHEEL
from tf_speech_transformer.text import ngrams
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tflite_convert import bundle


def write(
    source: pathlib.Path,
    target: pathlib.Path,
    preset: str,
    grammar: dict[str, Any] | None = None,
    language_model: tuple[bytes, dict[str, float]] | None = None,
) -> None:
    """Writes the flatbuffers of the bundle `source` as a bundle of another name."""
    manifest: dict[str, Any] = json.loads((source / "manifest.json").read_text())
    models = {
        name: ((source / f"{name}.tflite").read_bytes(), signature)
        for name, signature in manifest["models"].items()
    }
    for _, signature in models.values():
        signature.pop("file")
    bundle.write_bundle(
        target,
        preset=preset,
        precision="int8",
        limits=manifest["limits"],
        mask_value=manifest["mask_value"],
        frontend=WHEEL,
        tokenizer=CharacterTokenizer(),
        models=models,
        wer={},
        grammar=grammar,
        language=language_model,
    )


@pytest.fixture
def target(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A bundle of the preset "old", with its zip, alone in a folder."""
    path = tmp_path / "runs" / "bundle"
    write(digits_bundle, path, "old")
    return path


def presets(target: pathlib.Path) -> list[str]:
    """Of the directory and of the zip, each read and checked as a device does."""
    return [device_bundle.load(p).preset for p in (target, target.with_name("bundle.zip"))]


def test_a_new_bundle_takes_the_place_of_the_old(
    target: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    assert presets(target) == ["old", "old"]
    write(digits_bundle, target, "new")
    assert presets(target) == ["new", "new"]
    assert sorted(p.name for p in target.parent.iterdir()) == ["bundle", "bundle.zip"]


def test_a_device_reads_the_bytes_that_were_written(
    target: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    written, source = device_bundle.load(target), device_bundle.load(digits_bundle)
    for one, other in (
        (written.encoder, source.encoder),
        (written.decoder_step, source.decoder_step),
    ):
        assert one.inputs == other.inputs
        assert one.outputs == other.outputs
        assert (target / one.file).read_bytes() == (digits_bundle / other.file).read_bytes()


def test_a_grammar_goes_with_the_bundle(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "call.yaml"
    file.write_text("context: {expressions: {call: ['$d:first $d']}, slots: {d: [one, two]}}\n")
    compiled = Grammar.read(file).compile(CharacterTokenizer(), reject_below=0.25)
    write(digits_bundle, tmp_path / "bundle", "held", compiled)
    for path in (tmp_path / "bundle", tmp_path / "bundle.zip"):
        loaded = device_bundle.load(path)
        assert loaded.grammar is not None
        assert (loaded.grammar.name, loaded.grammar.reject_below) == ("call", 0.25)
        (command,) = loaded.grammar.parse(CharacterTokenizer().encode("two one"))
        assert command.intent == "call" and list(command.slots) == ["first", "d"]


def test_a_language_model_goes_with_the_bundle(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    tokenizer = CharacterTokenizer()
    texts = [tokenizer.encode(text) for text in ("one two", "one three", "one two two")]
    packed = ngrams.pack(ngrams.absolute_discounting(texts, tokenizer, order=3))
    file = io.BytesIO()
    np.savez_compressed(file, **packed)  # type: ignore[arg-type]
    description = {"weight": 0.5, "entropy": 1.25}
    write(digits_bundle, tmp_path / "bundle", "free", None, (file.getvalue(), description))
    for path in (tmp_path / "bundle", tmp_path / "bundle.zip"):
        model = device_bundle.load(path).language
        assert model is not None
        assert (model.weight, model.entropy) == (0.5, 1.25)
        likeliest = model.log_probabilities(tuple(tokenizer.encode("one t"))).argmax()
        assert likeliest == tokenizer.encode("w")[0]


# Kills itself half-way through the n-th file operation, and right after it, for every n.
KILLED = """
import os, pathlib, shutil, signal, sys, zipfile
from firmware_sim import bundle as device_bundle
from firmware_sim.storage import writing
from tests.tflite_convert.test_bundle import presets, write

source, target = map(pathlib.Path, sys.argv[1:])
countdown = 0

def killing(function, half):
    def wrapped(*args, **kwargs):
        global countdown
        countdown -= half
        if countdown == 0 and half:
            function(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        countdown -= 1
        result = function(*args, **kwargs)
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

for owner, name, half in (
    (pathlib.Path, "write_bytes", True),
    (pathlib.Path, "write_text", True),
    (pathlib.Path, "replace", False),
    (zipfile.ZipFile, "write", False),
    (shutil, "rmtree", False),
    (writing, "replace_directory", False),
):
    setattr(owner, name, killing(getattr(owner, name), half))
for n in range(1, 100):
    child = os.fork()
    if not child:
        countdown = n
        write(source, target, "new")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    print(status, *presets(target))
    if status == 0:
        break
"""


def test_kill_9_at_any_moment_leaves_a_whole_bundle(
    target: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    """Killed half-way through the n-th file operation, and right after it, for every n."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(digits_bundle), str(target)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    killed_with_the_old = [x for x in outcomes if x == ["-9", "old", "old"]]
    assert len(killed_with_the_old) >= 8
    assert ["-9", "new", "old"] in outcomes  # between the directory and its zip
    assert outcomes[-1] == ["0", "new", "new"]


def test_a_full_disk_leaves_the_old_bundle_and_says_where(
    small_disk: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    target = small_disk / "bundle"
    write(digits_bundle, target, "old")
    state = os.statvfs(small_disk)
    model = (digits_bundle / "encoder.tflite").stat().st_size
    free = state.f_bavail * state.f_frsize
    assert free > model, "the small disk is too small for the test"
    (small_disk / "filler").write_bytes(bytes(free - model // 2))
    with pytest.raises(OSError, match=r"No space left on device: '.*/disk/bundle'") as raised:
        write(digits_bundle, target, "new")
    assert raised.value.errno == errno.ENOSPC
    assert presets(target) == ["old", "old"]
    assert sorted(p.name for p in small_disk.iterdir()) == ["bundle", "bundle.zip", "filler"]


def test_measured_error_rates_reach_the_directory_and_the_zip(target: pathlib.Path) -> None:
    bundle.update_wer(target, {"qat": 0.25})
    for path in (target, target.with_name("bundle.zip")):
        assert device_bundle.load(path).wer == {"qat": 0.25}


def test_error_rates_of_no_bundle_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="convert the run first"):
        bundle.update_wer(tmp_path / "bundle", {})


def test_a_folder_that_is_no_bundle_is_not_replaced(
    target: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    run = target.parent  # a run's workdir: it holds a bundle
    (run / "weights.npz").write_text("work of weeks")
    file = run / "notes.txt"
    file.write_text("notes")
    for other in (run, file):
        with pytest.raises(OSError, match="is no bundle, and a new one would replace it"):
            write(digits_bundle, other, "new")
    assert (run / "weights.npz").read_text() == "work of weeks" and file.read_text() == "notes"
    empty = run / "empty"
    empty.mkdir()
    write(digits_bundle, empty, "new")
    assert device_bundle.load(empty).preset == "new"


def test_what_killed_writers_left_behind_is_removed(
    target: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    litter = [target.with_name(f".bundle-{ended.pid}-abcd"), target.with_name(".bundle-other")]
    running = target.with_name(f".bundle-{os.getpid()}-abcd")
    for path in (*litter, running):
        path.mkdir()
    litter[0].with_suffix(".zip.tmp").touch()
    write(digits_bundle, target, "new")
    left = {path.name for path in target.parent.iterdir()}
    assert left == {"bundle", "bundle.zip", ".bundle-other", running.name}
