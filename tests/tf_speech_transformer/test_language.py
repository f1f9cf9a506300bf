"""The language model of a run: what it learns from, and what it refuses."""

import json
import pathlib

import ml_collections
import pytest

from firmware_sim.search import language as device
from tests.conftest import run_module
from tests.tf_speech_transformer.text.test_ngrams import OTHER, OWN, TOKENIZER, ids
from tf_speech_transformer import language
from tf_speech_transformer.corpora import corpus


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    """Of a run on a manifest of 16 speakers, some of whom are held out."""
    data = tmp_path / "data"
    data.mkdir()
    lines = ["audio\ttext\tspeaker\n"]
    for i in range(64):
        (data / f"{i}.wav").write_bytes(b"")
        lines.append(f"{i}.wav\t{(OWN + OTHER)[i % 20]}\tspeaker{i % 16}\n")
    (data / "manifest.tsv").write_text("".join(lines))
    people = {"kind": "recorded", "manifest": str(data / "manifest.tsv")}
    content = {
        "corpus": {
            "sources": [{**people, "part": "train"}, {"kind": "nothing"}],
            "dev_sources": [{**people, "part": "dev"}],
        }
    }
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(ml_collections.ConfigDict(content).to_json())
    TOKENIZER.save(run / "tokenizer")
    return run


def test_the_command_makes_a_model_of_transcripts_and_texts(workdir: pathlib.Path) -> None:
    texts = workdir.parent / "texts.txt"
    texts.write_text("A zebra crosses the road\n\nzebras cross roads\n" * 20 + "24 hours\n")
    done = run_module(
        "tf_speech_transformer.language", f"--workdir={workdir}", f"--texts={texts}", "--weight=0.4"
    )
    assert done.returncode == 0, done.stderr
    assert "line 61: character '2'" in done.stdout
    found = language.read(workdir)
    assert found is not None
    data, description = found
    model = device.load(data, TOKENIZER.size, TOKENIZER.start, **description)
    assert model.weight == 0.4
    assert 0 < model.entropy < 2
    assert model.entries > 100
    # The dev set knows no zebra, but the texts do.
    (r,), beginning = TOKENIZER.encode("r"), tuple(TOKENIZER.encode("a zeb"))
    language.make(workdir, [], 7, 10_000, 0.4)
    data = (workdir / language.FILE).read_bytes()
    without = device.load(data, TOKENIZER.size, TOKENIZER.start, 0.4, 1.0)
    assert model.log_probabilities(beginning)[r] > without.log_probabilities(beginning)[r] + 1
    assert not list(workdir.glob("*.tmp"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a sentence a line is wanted"),
        (b"route 66\nroute 45\nhello\n", "line 1: character '6'"),
        (b"caf\xe9\n", "not text in UTF-8"),
        (None, "No such file"),
    ],
)
def test_texts_that_cannot_be_used_are_named(
    workdir: pathlib.Path, content: bytes | None, message: str
) -> None:
    texts = workdir.parent / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    done = run_module("tf_speech_transformer.language", f"--workdir={workdir}", f"--texts={texts}")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert message in last
    assert str(texts) in last
    assert not (workdir / language.FILE).exists()


def test_transcripts_of_librispeech_are_read_too(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "train-clean" / "19" / "198"
    folder.mkdir(parents=True)
    (folder / "19-198-0000.flac").write_bytes(b"")
    (folder / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    sources = [{"kind": "librispeech", "path": str(tmp_path)}, {"kind": "nothing"}]
    assert language.transcripts(sources, TOKENIZER) == ids(["northanger abbey"])


def test_a_run_without_a_dev_set_of_recordings_is_refused(workdir: pathlib.Path) -> None:
    file = workdir / "config.json"
    content = json.loads(file.read_text())
    content["corpus"]["dev_sources"] = [{"kind": "nothing"}]
    file.write_text(json.dumps(content))
    with pytest.raises(corpus.CorpusError, match="no recordings with a dev set"):
        language.make(workdir, [], 4, 100, 0.5)
