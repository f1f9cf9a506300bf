"""Records hold a corpus whole, are found one by one, and are made only once."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_speech_transformer.conftest import UTTERANCES
from tf_speech_transformer.corpora import caches, corpus, dataset, records
from tf_speech_transformer.corpora.features import PAPER, microfrontend
from tf_speech_transformer.text.tokenizer import CharacterTokenizer


@pytest.fixture
def made(librispeech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "SHARD", 3)
    records.write(records.read([librispeech]), tmp_path / "made", "paper", processes=2)
    return tmp_path / "made"


def opened(*directories: Path, frames: int = 1000, letters: int = 100) -> records.Records:
    return records.Records(directories, "paper", frames, letters)


def test_records_hold_every_utterance_in_order(made: Path, librispeech: Path) -> None:
    found = opened(made)
    assert found.texts == [" ".join(["one"] * (i + 1)) for i in range(UTTERANCES)]
    for utterance, features in zip(corpus.read_librispeech(librispeech), found, strict=True):
        np.testing.assert_array_equal(features, microfrontend(utterance.audio(), PAPER))
    assert found.lengths == [len(features) for features in found]


def test_records_are_tfrecords(made: Path) -> None:
    files = sorted(map(str, made.glob("*.tfrecord")))
    assert len(files) == 3
    schema = {
        "features": tf.io.FixedLenFeature([], tf.string),
        "frames": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([], tf.string),
        "speaker": tf.io.FixedLenFeature([], tf.string),
        "text": tf.io.FixedLenFeature([], tf.string),
    }
    found = [tf.io.parse_single_example(x, schema) for x in tf.data.TFRecordDataset(files)]
    assert [x["name"].numpy().decode() for x in found] == [
        f"84-121-{i:04d}.flac" for i in range(UTTERANCES)
    ]
    assert all(x["speaker"] == "84" for x in found)
    assert [int(x["frames"]) * 80 for x in found] == [len(x["features"].numpy()) for x in found]


def test_only_what_is_missing_is_made_again(made: Path, librispeech: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    (made / "00001.json").unlink()  # as a killed run leaves it
    records.write(records.read([librispeech]), made, "paper")
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert (made / "00000.tfrecord").stat().st_mtime_ns == times["00000.tfrecord"]
    assert (made / "00001.tfrecord").stat().st_mtime_ns > times["00001.tfrecord"]


def test_training_reads_the_same_batches_as_from_memory(made: Path) -> None:
    found = opened(made)
    held = caches.Examples(list(found), found.texts)

    def batches(cache: caches.Examples | records.Records) -> list[dict[str, np.ndarray]]:
        made = dataset.batches(
            [cache],
            CharacterTokenizer(),
            batch_frames=200,
            seed=1,
            epoch=0,
            training=True,
            spec_augment=True,
        )
        return list(made.as_numpy_iterator())

    for one, other in zip(batches(found), batches(held), strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


def test_what_is_too_long_is_left_out_and_counted(made: Path) -> None:
    found = opened(made, letters=12)
    assert (len(found), found.left_out) == (3, UTTERANCES - 3)
    with pytest.raises(corpus.CorpusError, match="short enough for 5 frames"):
        opened(made, frames=5)


def test_records_that_do_not_fit_are_refused(made: Path, librispeech: Path, tmp_path: Path) -> None:
    with pytest.raises(corpus.CorpusError, match="make records into it first"):
        opened(tmp_path)
    with pytest.raises(corpus.CorpusError, match="'paper' features, and the preset wants 'wheel'"):
        records.Records([made], "wheel", 1000, 100)
    with pytest.raises(corpus.CorpusError, match="another corpus"):
        records.write(records.read([librispeech])[1:], made, "paper")
    (made / "00002.tfrecord").unlink()
    with pytest.raises(corpus.CorpusError, match=r"00002\.tfrecord is missing"):
        opened(made)


def test_no_flipped_bit_goes_unnoticed(made: Path) -> None:
    shard = made / "00001.tfrecord"
    whole = shard.read_bytes()
    rng = np.random.default_rng(2)
    for place in rng.integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        with pytest.raises(corpus.CorpusError, match=r"00001\.tfrecord is damaged at byte"):
            list(opened(made))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"records": [[1]]}', '{"records": 3}'])
def test_a_damaged_description_is_named(made: Path, content: str) -> None:
    (made / "00001.json").write_text(content)
    with pytest.raises(corpus.CorpusError, match=r"00001\.json is damaged"):
        opened(made)
    (made / "corpus.json").write_text(content)
    with pytest.raises(corpus.CorpusError, match=r"corpus\.json is damaged"):
        opened(made)
