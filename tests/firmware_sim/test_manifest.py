"""Whatever lies where a bundle should be is refused in one sentence, and soon."""

import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from firmware_sim import bundle
from firmware_sim.bundle import BundleError
from tests.conftest import add_file
from tests.firmware_sim.test_language import arrays, pack


@pytest.fixture
def copy(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(digits_bundle, tmp_path / "digits"))


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(BundleError) as raised:
        bundle.load(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def edited(path: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> pathlib.Path:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' + 100_000 * "[" + 100_000 * "]" + "}",
        '{"format_version": ' + 5000 * "9" + "}",
        '{"preset": "\\ud800"}',
        "[]",
        "",
    ],
    ids=["deep", "long number", "half a surrogate", "a list", "nothing"],
)
def test_json_that_is_no_manifest_is_refused(copy: pathlib.Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    assert "manifest.json: not " in refusal(copy)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("", "mask_value", 0),
        ("", "mask_value", 10**400),
        ("", "mask_value", "low"),
        ("", "preset", "two\nlines"),
        ("", "wer", [1]),
        ("features", "numerator", 10**30),
        ("features", "denominator", 10**9),
        ("features", "denominator", True),
        ("features", "scale", 0),
        ("features", "zero_point", 128),
        ("limits", "frames", 10**9),
        ("limits", "tokens", 2.0),
        ("frontend", "window_size", [1]),
        ("frontend", "pcan_strength", 10**400),
        ("frontend", "lower_band_limit", float("nan")),
        ("files", "tokens.txt", {"sha256": "", "bytes": -1}),
        ("files", "tokens.txt", {"sha256": "", "bytes": 40_000_000_000}),
        ("tokenizer", "start", 10**400),
        ("models", "encoder", []),
    ],
)
def test_a_value_of_another_type_or_size_is_refused(
    copy: pathlib.Path, section: str, key: str, value: Any
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        (manifest[section] if section else manifest)[key] = value

    assert key in refusal(edited(copy, change))


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale_shift", -3), ("window_size", [1]), ("num_channels", True), ("sample_rate", 8000)],
)
def test_a_log_mel_that_nothing_computes_is_refused(
    copy: pathlib.Path, name: str, value: Any
) -> None:
    plain = {"enable_pcan": False, "min_signal_remaining": 1.0, name: value}
    assert name in refusal(edited(copy, lambda m: m["frontend"].update(plain)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "foo", "no input is called 'foo'"),
        ("shape", [True, 64, 128], "not positive whole numbers"),
        ("shape", [], "call for"),
        ("shape", [2**40], "not positive whole numbers"),
        ("name", "two\nlines", "not a tensor's name"),
        ("scale", 1e300, "scale is 1e"),
    ],
)
def test_a_signature_that_no_step_has_is_refused(
    copy: pathlib.Path, key: str, value: Any, message: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        inputs = manifest["models"]["decoder_step"]["inputs"]
        inputs[[x["name"] for x in inputs].index("cache_1")][key] = value

    assert message in refusal(edited(copy, change))


def test_two_inputs_that_changed_their_names_are_refused(copy: pathlib.Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        caches = [x for x in manifest["models"]["decoder_step"]["inputs"] if "cache" in x["name"]]
        caches[0]["name"], caches[1]["name"] = caches[1]["name"], caches[0]["name"]
        caches[0]["shape"] = caches[1]["shape"]

    assert "decoder_step" in refusal(edited(copy, change))


@pytest.mark.parametrize("file", ["tokens.txt", "manifest.json", "encoder.tflite"])
def test_a_device_or_a_pipe_in_a_bundle_is_refused(copy: pathlib.Path, file: str) -> None:
    (copy / file).unlink()
    os.mkfifo(copy / file)
    assert "not a regular file" in refusal(copy)
    (copy / file).unlink()
    (copy / file).symlink_to("/dev/zero")
    assert "not a regular file" in refusal(copy)


def test_a_link_to_a_file_is_the_file(digits_bundle: pathlib.Path, copy: pathlib.Path) -> None:
    (copy / "tokens.txt").unlink()
    (copy / "tokens.txt").symlink_to(digits_bundle / "tokens.txt")
    assert bundle.load(copy).preset == "digits"


def test_a_device_or_a_pipe_is_no_bundle(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (pathlib.Path("/dev/zero"), tmp_path / "pipe"):
        assert "neither a directory nor a file" in refusal(path)
    assert "no bundle can have this path" in refusal(pathlib.Path("x" * 5000))
    assert "no such bundle" in refusal(pathlib.Path("a\0b"))


def test_a_file_that_is_mostly_holes_is_refused_unread(copy: pathlib.Path) -> None:
    size = 40_000_000_000
    os.truncate(copy / "tokens.txt", size)
    assert f"holds {size} bytes" in refusal(copy)


def test_a_file_of_holes_is_refused_unread_by_the_size_of_the_manifest(
    copy: pathlib.Path,
) -> None:
    os.truncate(copy / "decoder_step.tflite", 200 << 20)
    assert "holds 209715200 bytes, the manifest says" in refusal(copy)

    def say_so(manifest: dict[str, Any]) -> None:
        for name in ("encoder.tflite", "decoder_step.tflite"):
            os.truncate(copy / name, 230 << 20)
            manifest["files"][name]["bytes"] = 230 << 20

    assert "bytes in all" in refusal(edited(copy, say_so))


def test_a_zip_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("manifest.json", "w", force_zip64=True) as member,
    ):
        for _ in range(20):
            member.write(bytes(1 << 20))
    assert "are the most" in refusal(path)


def test_a_zip_with_the_separators_of_windows_is_read(copy: pathlib.Path) -> None:
    path = copy.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in copy.iterdir():
            archive.writestr(f"digits\\{file.name}", file.read_bytes())
    assert bundle.load(path).preset == "digits"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_zip_that_is_damaged_anywhere_is_refused(copy: pathlib.Path, method: int) -> None:
    path = copy.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("manifest.json", "tokens.txt"):
            archive.write(copy / name, name)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        assert refusal(path)  # undamaged, its models are missing


@pytest.mark.parametrize(
    "section",
    [{"weight": 1e308, "entropy": 1}, {"weight": 1, "entropy": 10**400}],
)
def test_a_weight_beyond_all_others_is_refused(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, section: dict[str, Any]
) -> None:
    content = {"file": "language.npz", **section}
    path = add_file(digits_bundle, tmp_path / "b", "language", content, pack(arrays()))
    assert "language" in refusal(path)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-5,)", "(3, 3)", "'x'"])
def test_a_language_model_whose_header_lies_is_refused(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, shape: str
) -> None:
    file = tmp_path / "language.npz"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(file, "w") as archive:
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr("cost_0.npy", data + bytes(5))
    section = {"file": "language.npz", "weight": 1, "entropy": 1}
    path = add_file(digits_bundle, tmp_path / "b", "language", section, file.read_bytes())
    assert "language.npz" in refusal(path)


def test_children_that_overflow_are_refused(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    content = arrays()
    content["children_0"] = np.array([2**63, 0, 2**63, 1, 1], np.uint64)
    section = {"file": "language.npz", "weight": 1, "entropy": 1}
    path = add_file(digits_bundle, tmp_path / "b", "language", section, pack(content))
    assert "language.npz" in refusal(path)
