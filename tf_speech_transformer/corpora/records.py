"""A large corpus as sharded TFRecords: features and texts, made once, read from disk in training.

A record is a `tf.train.Example` of `features` (bytes, int8 [frames, channels]), `frames`, `text`,
`speaker` and `name`. Beside each `00000.tfrecord` lies `00000.json`: the place, frames and text of
its records, and what could not be decoded. By it, training finds any record without reading the
others. Shards are made in parallel; a killed run leaves whole ones, and the same command makes the
others.

TensorFlow is imported lazily: examples are made without it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import message
from tqdm import tqdm

from tf_speech_transformer.corpora import audio, corpus
from tf_speech_transformer.corpora.features import FRONTENDS, SAMPLE_RATE, microfrontend
from tf_speech_transformer.corpora.processes import end_with_parent

SHARD = 1000  # utterances
RECIPE = "corpus.json"  # what a directory of records was made of
_HEAD, _TAIL = 12, 4  # bytes of a TFRecord around its data: length and checksums

# Utterances and hours of LibriSpeech's subsets (Panayotov et al. 2015, table 1).
PUBLISHED = {
    "train-clean-100": (28_539, 100.6),
    "train-clean-360": (104_014, 363.6),
    "train-other-500": (148_688, 496.7),
    "dev-clean": (2_703, 5.4),
    "dev-other": (2_864, 5.3),
    "test-clean": (2_620, 5.4),
    "test-other": (2_939, 5.1),
}


def subset(utterance: corpus.Utterance) -> str:
    """The subset of LibriSpeech that an utterance is of, by its path; "other" for any other."""
    parts = (*utterance.source.parts, *Path(utterance.name).parts)
    return next((part for part in reversed(parts) if part in PUBLISHED), "other")


def read(paths: Sequence[Path]) -> list[corpus.Utterance]:
    """The utterances of manifests (`.tsv`) and of LibriSpeech's trees and archives."""
    return [
        utterance
        for path in paths
        for utterance in (
            corpus.read_manifest(path) if path.suffix == ".tsv" else corpus.read_librispeech(path)
        )
    ]


def write(
    utterances: Sequence[corpus.Utterance], out: Path, frontend: str, processes: int = 1
) -> list[dict[str, Any]]:
    """Makes the records that are not there yet; returns the descriptions of all shards.

    Args:
        frontend: of the features, a name of `features.FRONTENDS`.

    Raises:
        CorpusError: `out` holds records of something else, or too much cannot be decoded.
    """
    key = hashlib.sha256(repr(list(utterances)).encode()).hexdigest()[:16]
    recipe = {"utterances": len(utterances), "key": key, "features": frontend, "shard": SHARD}
    out.mkdir(parents=True, exist_ok=True)
    file = out / RECIPE
    if file.exists() and _recipe(file) != recipe:
        raise corpus.CorpusError(f"{file} is of another corpus: choose another --out")
    _replace(file, json.dumps(recipe))
    shards = range(-(-len(utterances) // SHARD))
    missing = [i for i in shards if not (_description(out, i).exists() and _shard(out, i).exists())]
    make = functools.partial(_write_shard, out=out, frontend=frontend)
    parts = (utterances[i * SHARD : (i + 1) * SHARD] for i in missing)
    done = len(utterances) - sum(min(SHARD, len(utterances) - i * SHARD) for i in missing)
    with (
        ProcessPoolExecutor(processes, get_context("forkserver"), end_with_parent)
        if processes > 1
        else contextlib.nullcontext() as pool,
        tqdm(
            total=len(utterances),
            initial=done,
            desc=f"records {out.name}",
            unit="utt",
            disable=None,
        ) as bar,
    ):
        for count in (pool.map if pool else map)(make, missing, parts):
            bar.update(count)
    descriptions = [_described(_description(out, i)) for i in shards]
    bad = [line for description in descriptions for line in description["bad"]]
    corpus.report(out, bad, sum(len(x["records"]) for x in descriptions))
    return descriptions


def _write_shard(
    index: int, utterances: Sequence[corpus.Utterance], out: Path, frontend: str
) -> int:
    import tensorflow as tf

    target = _shard(out, index)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    records, bad, at = [], [], 0
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for utterance in utterances:
                try:
                    samples = utterance.audio()
                except audio.AudioError as error:
                    bad.append(str(error))
                    continue
                features = microfrontend(samples, FRONTENDS[frontend])
                name = utterance.name or utterance.source.name
                data = _example(features, utterance, name).SerializeToString()
                writer.write(data)
                seconds = round(len(samples) / SAMPLE_RATE, 3)
                speaker, where = utterance.speaker or corpus.UNKNOWN, subset(utterance)
                records.append(
                    [at + _HEAD, len(data), len(features), utterance.text, speaker, seconds, where]
                )
                at += _HEAD + len(data) + _TAIL
        temporary.replace(target)
        # Last: a shard with a description is whole.
        _replace(_description(out, index), json.dumps({"records": records, "bad": bad}))
    finally:
        temporary.unlink(missing_ok=True)
    return len(utterances)


def _example(features: np.ndarray, utterance: corpus.Utterance, name: str) -> Any:
    import tensorflow as tf

    def text(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    content = {
        "features": tf.train.Feature(bytes_list=tf.train.BytesList(value=[features.tobytes()])),
        "frames": tf.train.Feature(int64_list=tf.train.Int64List(value=[len(features)])),
        "text": text(utterance.text),
        "speaker": text(utterance.speaker or corpus.UNKNOWN),
        "name": text(name),
    }
    return tf.train.Example(features=tf.train.Features(feature=content))


def _description(out: Path, index: int) -> Path:
    return out / f"{index:05d}.json"


def _shard(out: Path, index: int) -> Path:
    return out / f"{index:05d}.tfrecord"


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _recipe(file: Path) -> dict[str, Any]:
    """What a directory was made of, checked by type."""
    recipe = _object(file, "make the records again")
    counts = [recipe.get(name) for name in ("utterances", "shard")]
    if not (all(map(_is_count, counts)) and recipe["shard"] and "features" in recipe):
        raise corpus.CorpusError(f"{file} is damaged: make the records again")
    return recipe


def _described(file: Path) -> dict[str, Any]:
    """The description of a shard, checked by type."""
    remedy = "delete it and its shard, and run the command that made the records again"
    description = _object(file, remedy)
    rows, bad = description.get("records"), description.get("bad")
    if not (
        isinstance(rows, list)
        and all(map(_is_row, rows))
        and isinstance(bad, list)
        and all(isinstance(line, str) for line in bad)
    ):
        raise corpus.CorpusError(f"{file} is damaged: {remedy}")
    return description


def _is_row(row: Any) -> bool:
    """Whether it is [offset, size, frames, text, speaker, seconds, subset] of a record."""
    if not isinstance(row, list) or len(row) != 7 or not all(map(_is_count, row[:3])):
        return False
    texts, seconds = (row[3], row[4], row[6]), row[5]
    return (
        row[0] >= _HEAD
        and all(isinstance(text, str) for text in texts)
        and (isinstance(seconds, float) or _is_count(seconds))
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _object(file: Path, remedy: str) -> dict[str, Any]:
    """A file of JSON."""
    try:
        if file.exists() and not file.is_file():  # a pipe would never end
            raise corpus.CorpusError(f"{file} is not a regular file: {remedy}")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise corpus.CorpusError(f"{file} is damaged: {remedy}") from error
    if not isinstance(content, dict):
        raise corpus.CorpusError(f"{file} is damaged: {remedy}")
    return content


@dataclasses.dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    size: int


class Records:
    """The utterances of directories of records that fit; read from disk one by one.

    Stands in for `dataset.Examples`.

    Args:
        most_frames, most_letters: longer utterances are left out, and counted in `left_out`.

    Raises:
        CorpusError: a directory holds no records, not all of them, or others than are wanted.
    """

    def __init__(
        self, directories: Sequence[Path], frontend: str, most_frames: int, most_letters: int
    ):
        self.texts: list[str] = []
        self.lengths: list[int] = []
        self.left_out = 0
        self.channels = FRONTENDS[frontend].num_channels
        self._places: list[_Place] = []
        for directory in directories:
            file = directory / RECIPE
            if not file.exists():
                raise corpus.CorpusError(f"{file} does not exist: make records into it first")
            recipe = _recipe(file)
            if recipe["features"] != frontend:
                raise corpus.CorpusError(
                    f"{directory} holds {recipe['features']!r} features, and the preset wants"
                    f" {frontend!r}: make the records again"
                )
            for index in range(-(-recipe["utterances"] // recipe["shard"])):
                self._add(directory, index, most_frames, most_letters)
        if not self.texts:
            raise corpus.CorpusError(f"no utterance is short enough for {most_frames} frames")

    def _add(self, directory: Path, index: int, most_frames: int, most_letters: int) -> None:
        description, shard = _description(directory, index), _shard(directory, index)
        if not (description.exists() and shard.is_file()):
            raise corpus.CorpusError(f"{shard} is missing: run the command that makes it again")
        for offset, size, frames, text, *_ in _described(description)["records"]:
            if 0 < frames <= most_frames and len(text) < most_letters:
                self.texts.append(text)
                self.lengths.append(frames)
                self._places.append(_Place(shard, offset, size))
            else:
                self.left_out += 1

    @property
    def features(self) -> "Records":
        return self

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> np.ndarray:
        """int8 [frames, channels]"""
        import tensorflow as tf
        from tensorflow.python.lib.io import tf_record

        place = self._places[i]
        try:
            # Both checksums of the record are checked.
            data, _ = tf_record.tf_record_random_reader(str(place.file)).read(place.offset - _HEAD)
            example = tf.train.Example.FromString(data)
            content = example.features.feature["features"].bytes_list.value[0]
            return np.frombuffer(content, np.int8).reshape(self.lengths[i], self.channels)
        except (tf.errors.OpError, IndexError, ValueError, message.DecodeError) as error:
            reason = " ".join(str(error).split())
            raise corpus.CorpusError(
                f"{place.file} is damaged at byte {place.offset} ({reason:.100}): delete it and its"
                " .json, and run the command that made the records again"
            ) from error
