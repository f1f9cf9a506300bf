import json
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim import bundle
from firmware_sim.bundle import BundleError

FILES = ("encoder.tflite", "decoder_step.tflite", "tokens.txt")


@pytest.fixture
def copy(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(digits_bundle, tmp_path / "digits"))


def _edit(path: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> pathlib.Path:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def _zip(path: pathlib.Path, inside: str = "") -> pathlib.Path:
    zipped = path.with_suffix(".zip")
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in path.iterdir():
            archive.write(file, inside + file.name)
    return zipped


def test_the_shipped_bundle_loads(digits_bundle: pathlib.Path) -> None:
    loaded = bundle.load(digits_bundle)
    assert loaded.preset == "digits"
    assert loaded.decoder_layers >= 1
    assert loaded.tokenizer.tokens[loaded.tokenizer.start] == "<s>"


@pytest.mark.parametrize("inside", ["", "digits/"])
def test_a_zip_is_the_same_bundle(copy: pathlib.Path, inside: str) -> None:
    zipped = bundle.load(_zip(copy, inside))
    assert zipped.encoder == bundle.load(copy).encoder
    assert zipped.tokenizer == bundle.load(copy).tokenizer


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_byte_is_refused(copy: pathlib.Path, file: str) -> None:
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file}: its sha256 differs"):
        bundle.load(copy)


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_file_is_refused(copy: pathlib.Path, file: str) -> None:
    (copy / file).write_bytes((copy / file).read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{file}: holds .* bytes"):
        bundle.load(copy)


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused(copy: pathlib.Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(BundleError, match=f"{file} is missing"):
        bundle.load(copy)


def test_a_damaged_zip_is_refused(copy: pathlib.Path) -> None:
    zipped = _zip(copy)
    data = bytearray(zipped.read_bytes())
    data[len(data) // 3] ^= 0xFF
    zipped.write_bytes(data)
    with pytest.raises(BundleError, match=r"digits\.zip"):
        bundle.load(zipped)
    zipped.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=r"neither a directory nor a readable \.zip"):
        bundle.load(zipped)


def test_a_path_without_a_bundle_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        bundle.load(tmp_path / "none")
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        bundle.load(tmp_path)


def test_a_manifest_that_is_not_json_is_refused(copy: pathlib.Path) -> None:
    (copy / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match=r"manifest\.json: not valid JSON"):
        bundle.load(copy)


def _tensor(manifest: dict[str, Any], model: str, side: str, name: str) -> dict[str, Any]:
    return next(t for t in manifest["models"][model][side] if t["name"] == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=1), "format_version is 1"),
        (lambda m: m.pop("limits"), "limits is missing"),
        (lambda m: m["limits"].pop("tokens"), r"limits\.tokens is missing"),
        (lambda m: m["limits"].update(tokens="many"), r"limits\.tokens is 'many'"),
        (lambda m: m["limits"].update(tokens=0), "tokens is 0, not from 1"),
        (lambda m: m["limits"].update(tokens=m["limits"]["tokens"] + 1), "call for"),
        (lambda m: m["limits"].update(frames=m["limits"]["frames"] + 1), "not a multiple"),
        (lambda m: m["frontend"].update(sample_rate=8000), "sample_rate is 8000"),
        (lambda m: m["features"].update(denominator=0), "denominator is 0, not from 1"),
        (lambda m: m.update(mask_value=float("nan")), "mask_value is nan"),
        (lambda m: m.update(precision="int4"), "precision is 'int4'"),
        (lambda m: m["tokenizer"].update(blank=10_000), r"tokenizer\.blank is 10000"),
        (lambda m: m["tokenizer"].update(end=m["tokenizer"]["start"]), "share an id"),
        (lambda m: m["tokenizer"].update(file="none.txt"), "not among the manifest's files"),
        (lambda m: m["files"].update({"../x": {"sha256": "", "bytes": 0}}), "plain file name"),
        (lambda m: m["models"]["encoder"].update(file="tokens.txt"), "not a TFLite flatbuffer"),
        (lambda m: m["models"]["encoder"]["inputs"].append(3), "not an object"),
        (
            lambda m: _tensor(m, "decoder_step", "inputs", "memory").update(zero_point=99),
            "memory .* cannot be copied",
        ),
        (
            lambda m: _tensor(m, "decoder_step", "outputs", "row_0").update(scale=9.0),
            "row_0 .* cannot be copied",
        ),
        (
            lambda m: _tensor(m, "encoder", "outputs", "memory").update(name="other"),
            "no output 'memory'",
        ),
        (
            lambda m: _tensor(m, "encoder", "inputs", "features").update(dtype="int16"),
            "dtype is 'int16'",
        ),
        (
            lambda m: _tensor(m, "encoder", "inputs", "features").update(scale=0.5),
            "features have scale 0.5",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    copy: pathlib.Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message) as refusal:
        bundle.load(_edit(copy, change))
    assert str(copy) in str(refusal.value) or "manifest.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_tensors_round_and_clip() -> None:
    spec = bundle.TensorSpec("x", (4,), "int8", 0.5, 1)
    stored = spec.quantize([0.0, 1.4, -1.1, 1000.0])
    assert stored.tolist() == [1, 4, -1, 127]
    assert spec.dequantize(stored).tolist() == [0.0, 1.5, -1.0, 63.0]


def test_sentencepiece_words_start_with_a_space() -> None:
    pieces = ("<s>", "</s>", "\u2581turn", "\u2581o", "n", "<blank>")
    tokenizer = bundle.Tokenizer("sentencepiece", pieces, start=0, end=1, blank=5)
    assert tokenizer.text([0, 2, 3, 4, 5, 1]) == "turn on"


def test_characters_join_at_spaces() -> None:
    tokens = ("<s>", "</s>", "<space>", "a", "b", "<blank>")
    tokenizer = bundle.Tokenizer("characters", tokens, start=0, end=1, blank=5)
    assert tokenizer.text([3, 2, 4, 3, 1]) == "a ba"
