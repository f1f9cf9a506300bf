"""The command that exports C sources."""

import dataclasses
import functools
import hashlib
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle, export_c
from firmware_sim.c import self_test
from firmware_sim.export_c import ExportError
from tests.conftest import run_module

_run = functools.partial(run_module, "firmware_sim.export_c")


@pytest.fixture(scope="module")
def sources(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> dict[str, str]:
    return export_c.export(loaded, speech)


def test_the_same_bundle_and_audio_give_the_same_bytes(
    loaded: bundle.Bundle, speech: NDArray[np.int16], sources: dict[str, str]
) -> None:
    assert export_c.export(loaded, speech) == sources


def test_every_file_names_the_flatbuffers_that_it_was_made_from(
    loaded: bundle.Bundle, sources: dict[str, str]
) -> None:
    for content in sources.values():
        for model in (loaded.encoder, loaded.decoder_step):
            assert hashlib.sha256(model.data).hexdigest() in content


def test_nothing_allocates(sources: dict[str, str]) -> None:
    for name, content in sources.items():
        code = re.sub(r"/\*.*?\*/", "", content, flags=re.DOTALL)
        assert not re.search(r"\b(malloc|calloc|realloc|new)\b", code), name


def test_an_earlier_export_is_replaced(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "out"
    export_c.write({"a.h": "1\n", "b.h": "2\n"}, target)
    export_c.write({"a.h": "3\n"}, target)
    assert sorted(path.name for path in target.iterdir()) == ["SHA256SUMS", "a.h"]
    assert (target / "a.h").read_text() == "3\n"
    assert list(tmp_path.iterdir()) == [target]


def test_what_an_export_did_not_write_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "out"
    files = {"a.h": "1\n"}
    export_c.write(files, target)
    (target / "a.h").write_text("mine\n")
    with pytest.raises(ExportError, match=r"a\.h: differs from what an export wrote"):
        export_c.write(files, target)
    assert (target / "a.h").read_text() == "mine\n"

    (target / "a.h").write_text("1\n")
    (target / "main.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(ExportError, match=r"main\.c: differs from what an export wrote"):
        export_c.write(files, target)
    assert (target / "main.c").exists()

    (target / "main.c").unlink()
    (target / "SHA256SUMS").write_text(f"{hashlib.sha256(b'1').hexdigest()}  a.h\n")
    (target / "a.h").write_text("1")
    with pytest.raises(ExportError, match="SHA256SUMS: differs from what an export wrote"):
        export_c.write(files, target)

    with pytest.raises(ExportError, match="is a file"):
        export_c.write(files, target / "a.h")
    with pytest.raises(ExportError, match="create it first"):
        export_c.write(files, tmp_path / "no" / "out")
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_earlier_export(
    sources: dict[str, str], small_disk: pathlib.Path
) -> None:
    target = small_disk / "out"
    export_c.write({"a.h": "1\n"}, target)
    with pytest.raises(ExportError, match="No space left on device"):
        export_c.write({**sources, "b.h": "2\n" * 1_000_000}, target)
    assert (target / "a.h").read_text() == "1\n"
    assert list(small_disk.iterdir()) == [target]


def test_a_bundle_in_float_is_refused(loaded: bundle.Bundle, speech: NDArray[np.int16]) -> None:
    with pytest.raises(ExportError, match="its precision is float32"):
        export_c.export(dataclasses.replace(loaded, precision="float32"), speech)


def test_an_input_that_nothing_fills_is_refused(
    loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    """Here the decoder step reads what the encoder writes in another scale."""
    outputs = tuple(dataclasses.replace(s, scale=0.5) for s in loaded.encoder.outputs)
    changed = dataclasses.replace(loaded.encoder, outputs=outputs)
    with pytest.raises(ExportError, match="writes nothing of that name, shape and scale"):
        export_c.export(dataclasses.replace(loaded, encoder=changed), speech)


def test_audio_that_tests_nothing_is_refused(loaded: bundle.Bundle) -> None:
    for samples in (0, 100, 16000 * 6):
        with pytest.raises(ExportError, match=r"s long; name one of 0\.03 to 5\.1"):
            export_c.export(loaded, np.zeros(samples, np.int16))


def test_the_command_needs_a_bundle_and_a_directory_alone(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, loaded: bundle.Bundle
) -> None:
    out = tmp_path / "out"
    result = _run(f"--bundle={digits_bundle}", f"--out={out}")
    assert (result.returncode, result.stdout) == (0, "")
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    assert checked.returncode == 0
    assert {path.name for path in out.iterdir()} == {
        "SHA256SUMS",
        *export_c.export(loaded, self_test.noise()),
    }


def test_the_self_test_can_be_of_ones_own_speech(
    digits_bundle: pathlib.Path,
    tmp_path: pathlib.Path,
    speech: NDArray[np.int16],
    sources: dict[str, str],
) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    out = tmp_path / "out"
    _run(f"--bundle={digits_bundle}", f"--out={out}", f"--audio={tmp_path / 'a.wav'}")
    assert (out / "speech_golden.h").read_text() == sources["speech_golden.h"]
    assert "one two three" in sources["speech_golden.h"]


def test_a_damaged_bundle_is_one_sentence_and_writes_nothing(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(digits_bundle, damaged)
    data = bytearray((damaged / "encoder.tflite").read_bytes())
    data[5000] ^= 1
    (damaged / "encoder.tflite").write_bytes(data)
    result = _run(f"--bundle={damaged}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"{damaged}/encoder.tflite: its sha256 differs from the manifest's, so the file was "
        "changed or damaged; copy or export the bundle again."
    )
    assert list(tmp_path.iterdir()) == [damaged]
