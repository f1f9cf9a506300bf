"""Language models: probabilities, what pruning keeps, and what a device reads of them."""

import io
import json
import pathlib

import ml_collections
import numpy as np
import pytest

from firmware_sim.search import language as device
from tests.conftest import run_module
from tf_speech_transformer import language
from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

TOKENIZER = CharacterTokenizer()
OWN = ["mark gives up boxing", "kate gives up coffee", "mark loves the sea", "two two five"] * 3
OTHER = ["the cat is out", "she gives him the book", "a book about boxing", "out of the sea"] * 2
HELD_OUT = ["mark gives up the sea", "kate loves boxing", "five two"]
ORDER = 4


def ids(texts: list[str], tokenizer: Tokenizer = TOKENIZER) -> list[list[int]]:
    return [tokenizer.encode(text) for text in texts]


@pytest.fixture(scope="module")
def model() -> language.NGrams:
    models = [language.absolute_discounting(ids(x), TOKENIZER, ORDER) for x in (OWN, OWN + OTHER)]
    weights, _ = language.mixture(models, language.longest(ids(HELD_OUT), TOKENIZER, ORDER))
    return language.mix(models, weights)


def on_device(model: language.NGrams) -> device.LanguageModel:
    file = io.BytesIO()
    np.savez_compressed(file, **language.pack(model))  # type: ignore[arg-type]
    return device.load(file.getvalue(), TOKENIZER.size, TOKENIZER.start, 0.5, 1.2)


def row(model: language.NGrams, text: list[int]) -> np.ndarray:
    """Probabilities of all tokens after a text."""
    context = [TOKENIZER.start, *text][-(model.order - 1) :]
    keys = np.zeros(TOKENIZER.size, np.int64)
    for token in context:
        keys = (keys + token) * TOKENIZER.size
    return model.probability(len(context), keys + np.arange(TOKENIZER.size))


@pytest.mark.parametrize("text", ["", "mark g", "mark gives up", "zzz"])
def test_probabilities_after_any_text_sum_to_one(model: language.NGrams, text: str) -> None:
    for x in (model, language.prune(model, 40)):
        assert row(x, TOKENIZER.encode(text) if text else []).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("entries", [10_000, 60])
def test_a_device_reads_what_was_made(model: language.NGrams, entries: int) -> None:
    pruned = language.prune(model, entries)
    read = on_device(pruned)
    assert read.order == ORDER
    for text in ("", "mark gives u", "kate loves the", "qqq"):
        tokens = TOKENIZER.encode(text) if text else []
        wanted = np.log(row(pruned, tokens))
        found = read.log_probabilities(tuple(tokens))
        likely = wanted > -12  # of a cost's 16 nats, some are back-offs
        assert likely.sum() > 3
        # A step is 1 / 16 nat, and each back-off adds half of one.
        np.testing.assert_allclose(found[likely], wanted[likely], atol=ORDER / 32 + 1e-6)


def test_pruning_keeps_what_says_most(model: language.NGrams) -> None:
    seen = language.longest(ids(OWN + OTHER), TOKENIZER, ORDER)
    nats = []
    for entries in (10_000, 100, 10):
        pruned = language.prune(model, entries)
        assert sum(len(keys) for keys in pruned.keys[1:]) <= entries
        for level in range(1, ORDER):  # every n-gram hangs on a shorter one, or on the start
            parents = pruned.keys[level] // TOKENIZER.size
            known = np.isin(parents, pruned.keys[level - 1])
            assert (known | (parents == TOKENIZER.start)).all()
        nats.append(language.mixture([pruned], seen)[1])
    assert nats == sorted(nats)
    assert nats[-1] < np.log(TOKENIZER.size)


def test_the_better_of_two_models_gets_the_greater_weight() -> None:
    models = [language.absolute_discounting(ids(x), TOKENIZER, ORDER) for x in (OWN, OTHER)]
    weights, nats = language.mixture(models, language.longest(ids(HELD_OUT), TOKENIZER, ORDER))
    assert weights[0] > weights[1]
    assert weights.sum() == pytest.approx(1)
    each = [
        language.mixture([x], language.longest(ids(HELD_OUT), TOKENIZER, ORDER)) for x in models
    ]
    assert nats < min(x for _, x in each)


def test_a_vocabulary_of_pieces_works_too() -> None:
    pieces = SentencePieceTokenizer.train(OWN + OTHER, pieces=60)
    model = language.absolute_discounting(ids(OWN, pieces), pieces, 3)
    _, nats = language.mixture([model], language.longest(ids(OWN, pieces), pieces, 3))
    assert nats < 0.75 * np.log(pieces.size)


# ------------------------------------------------------------------------------------- the command


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
