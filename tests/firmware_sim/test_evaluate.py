import functools
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from firmware_sim import evaluate
from firmware_sim.evaluate import EvaluationError
from tests.conftest import run_module, synthesise

_run = functools.partial(run_module, "firmware_sim.evaluate")

TEXTS = ("one two three", "four five", "six seven eight nine")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["speaker\taudio\tage\ttext"]
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", synthesise(text), 16000)
        lines.append(f"s{number % 2}\t{number}.wav\t30\t{text.upper()}")
    soundfile.write(folder / "silence.wav", np.zeros(16000, np.int16), 16000)
    lines.append("s0\tsilence.wav\t30\t")
    (folder / "corpus.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "corpus.tsv"


@pytest.fixture
def full_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_figures_are_written_and_printed(
    digits_bundle: pathlib.Path, corpus: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "figures.json"
    result = _run(
        f"--bundle={digits_bundle}",
        f"--manifest={corpus}",
        f"--json={output}",
        "--compare=litert-reference",
    )
    assert result.returncode == 0, result.stderr
    assert "WER" in result.stdout
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["utterances"] == len(TEXTS) + 1
    assert figures["words"] == sum(len(text.split()) for text in TEXTS)
    assert figures["rtf"] > 0
    assert set(figures["wer_by_speaker"]) == {"s0", "s1"}
    assert 0 <= figures["compare"]["identical"] <= 1
    assert 0 < figures["load_seconds"] < 60
    bundle = pathlib.Path(figures["bundle"])
    assert figures["model_bytes"] == sum(x.stat().st_size for x in bundle.glob("*.tflite"))
    assert figures["latency_ms"]["encoder"]["p50"] <= figures["latency_ms"]["encoder"]["p99"]
    first = figures["results"][0]
    assert (first["audio"], first["reference"]) == ("0.wav", TEXTS[0])
    assert figures["results"][-1]["hypothesis"] == ""
    pairs = [(r["reference"], r["hypothesis"]) for r in figures["results"]]
    assert evaluate.error_rates(pairs).wer == figures["wer"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_tflite_micro_reports_its_arena(digits_bundle: pathlib.Path, corpus: pathlib.Path) -> None:
    result = _run(
        f"--bundle={digits_bundle}", f"--manifest={corpus}", "--runtime=tflm", "--limit=1"
    )
    assert result.returncode == 0, result.stderr
    assert "arena, decoder step" in result.stdout


def test_missing_files_are_counted_and_too_many_fail(
    digits_bundle: pathlib.Path, corpus: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    manifest = corpus.with_name("missing.tsv")
    manifest.write_text(corpus.read_text(encoding="utf-8") + "s1\tnone.wav\t30\tone\n")
    output = tmp_path / "figures.json"
    flags = (f"--bundle={digits_bundle}", f"--manifest={manifest}", f"--json={output}")
    refused = _run(*flags)
    assert refused.returncode == 1
    assert "1 of 5 audio files are bad" in refused.stderr
    assert "none.wav: no such file" in refused.stderr
    assert not output.exists()

    allowed = _run(*flags, "--max_bad=0.5")
    assert allowed.returncode == 0, allowed.stderr
    assert "skipped: " in allowed.stderr
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert (len(figures["bad"]), figures["utterances"]) == (1, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'audio'"),
        ("audio\tspeaker\n", "no column 'text'"),
        ("audio\ttext\n", "lists no utterance"),
        ("audio\ttext\na.wav one two\n", ":2: 1 columns"),
    ],
)
def test_a_bad_manifest_is_refused(content: str, message: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        evaluate.read_manifest(tmp_path / "m.tsv")


def test_a_missing_or_binary_manifest_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.tsv").write_bytes(b"\xff\xfe\x00audio")
    for name in ("m.tsv", "none.tsv"):
        with pytest.raises(EvaluationError, match="cannot be read as a manifest"):
            evaluate.read_manifest(tmp_path / name)


def test_a_full_disk_leaves_the_old_figures(full_disk: pathlib.Path) -> None:
    output = full_disk / "figures.json"
    evaluate.write_json(output, {"wer": 0.5})
    with pytest.raises(EvaluationError, match=r"figures\.json: cannot be written \(No space left"):
        evaluate.write_json(output, {"wer": 0.1, "padding": "x" * 100_000})
    assert json.loads(output.read_text(encoding="utf-8")) == {"wer": 0.5}
    assert [path.name for path in full_disk.iterdir()] == ["figures.json"]


def test_json_into_a_missing_directory_is_refused_before_the_work(
    digits_bundle: pathlib.Path, corpus: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = _run(
        f"--bundle={digits_bundle}", f"--manifest={corpus}", f"--json={tmp_path}/none/f.json"
    )
    assert result.returncode == 1
    assert result.stderr.strip().endswith("its directory does not exist; create it first.")


@pytest.mark.parametrize(
    ("pairs", "wer", "cer"),
    [
        ([("one two", "one two")], 0.0, 0.0),
        ([("One  two", "one TWO")], 0.0, 0.0),
        ([("one two", "one")], 0.5, 4 / 7),
        ([("one two", "one two"), ("", "a b")], 1.0, 3 / 7),
        ([("", "a")], None, None),
        ([("one", "")], 1.0, 1.0),
        ([], None, None),
    ],
)
def test_error_rates(pairs: list[tuple[str, str]], wer: float | None, cer: float | None) -> None:
    rates = evaluate.error_rates(pairs)
    assert rates.wer == pytest.approx(wer)
    assert rates.cer == pytest.approx(cer)


def test_references_that_no_text_can_equal_are_warned_of() -> None:
    tokens = ("<s>", "</s>", "<space>", *"abcdefghijklmnopqrstuvwxyz'", "<blank>")
    assert evaluate.unspeakable(["one two", "It's  ten"], tokens) is None
    warning = evaluate.unspeakable(["one", "Two, please!", "3 o'clock"], tokens)
    assert warning is not None
    assert "2 of 3 references" in warning and "(!,3)" in warning and "'Two, please!'" in warning
