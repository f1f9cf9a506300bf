"""A large corpus as sharded TFRecords: features and texts, made once, read from disk in training.

    python -m tf_speech_transformer.records --out=records/train --features=paper --processes=2 \
        --corpus=train-clean-100.tar.gz --corpus=train-clean-360.tar.gz --corpus=LibriSpeech/...

A corpus is a LibriSpeech tree or archive, or a manifest (`.tsv`).  Every subset of LibriSpeech that
is met is counted beside what was published.  A record is a `tf.train.Example` of `features` (bytes,
int8 [frames, channels]), `frames`, `text`, `speaker` and `name`; beside each `00000.tfrecord` lies
`00000.json` with the place, frames and text of its records, and what could not be decoded, so that
training finds any record without reading the others.  Shards are made in parallel; a killed run
leaves whole ones, and the same command makes the others.

A preset that trains on them names the directories: `config.corpus.records` and `dev_records`.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from tf_speech_transformer.corpora import audio, corpus
from tf_speech_transformer.corpora.features import FRONTENDS, SAMPLE_RATE, microfrontend

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
    if file.exists() and json.loads(file.read_text()) != recipe:
        raise corpus.CorpusError(f"{file} is of another corpus: choose another --out")
    _replace(file, json.dumps(recipe))
    shards = range(-(-len(utterances) // SHARD))
    missing = [i for i in shards if not _description(out, i).exists()]
    make = functools.partial(_write_shard, out=out, frontend=frontend)
    parts = (utterances[i * SHARD : (i + 1) * SHARD] for i in missing)
    done = len(utterances) - sum(min(SHARD, len(utterances) - i * SHARD) for i in missing)
    with (
        ProcessPoolExecutor(processes, get_context("forkserver")) as pool,
        tqdm(total=len(utterances), initial=done, desc=f"records {out.name}", unit="utt") as bar,
    ):
        for count in pool.map(make, missing, parts):
            bar.update(count)
    descriptions = [json.loads(_description(out, i).read_text()) for i in shards]
    bad = [line for description in descriptions for line in description["bad"]]
    corpus.report(out, bad, sum(len(x["records"]) for x in descriptions))
    return descriptions


def _write_shard(
    index: int, utterances: Sequence[corpus.Utterance], out: Path, frontend: str
) -> int:
    import tensorflow as tf

    target = out / f"{index:05d}.tfrecord"
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


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
            recipe = json.loads(file.read_text())
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
        description, shard = _description(directory, index), directory / f"{index:05d}.tfrecord"
        if not (description.exists() and shard.exists()):
            raise corpus.CorpusError(f"{shard} is missing: run the command that makes it again")
        for offset, size, frames, text, *_ in json.loads(description.read_text())["records"]:
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

        place = self._places[i]
        with place.file.open("rb") as file:
            file.seek(place.offset)
            example = tf.train.Example.FromString(file.read(place.size))
        content = example.features.feature["features"].bytes_list.value[0]
        return np.frombuffer(content, np.int8).reshape(-1, self.channels)


def summary(descriptions: Sequence[dict[str, Any]]) -> list[str]:
    """Utterances, hours and speakers of each subset, beside the published ones."""
    seconds: dict[str, float] = collections.defaultdict(float)
    count: collections.Counter[str] = collections.Counter()
    speakers: dict[str, set[str]] = collections.defaultdict(set)
    for description in descriptions:
        for *_, speaker, length, where in description["records"]:
            seconds[where] += length
            count[where] += 1
            speakers[where].add(speaker)
    lines = []
    for where in (*PUBLISHED, "other"):
        if count[where]:
            line = f"{where}: {count[where]:,} utterances, {seconds[where] / 3600:.2f} h"
            line += f", {len(speakers[where])} speakers"
            if where in PUBLISHED:
                utterances, hours = PUBLISHED[where]
                missing = utterances - count[where]
                lacking = f"; {missing:,} are not here" if missing > 0 else ""
                line += f" (published: {utterances:,} utterances, {hours} h{lacking})"
            lines.append(line)
    return lines


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    began = time.monotonic()
    try:
        utterances = read([Path(path) for path in chosen.corpus])
        descriptions = write(utterances, Path(chosen.out), chosen.features, chosen.processes)
    except (ValueError, OSError) as error:
        sys.exit(f"records: {error}")
    except KeyboardInterrupt:
        sys.exit("records: stopped; the same command goes on from here")
    print("\n".join(summary(descriptions)))
    hours = sum(x[5] for description in descriptions for x in description["records"]) / 3600
    print(f"{hours:.2f} h in {chosen.out}; this run took {(time.monotonic() - began) / 60:.1f} min")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_multi_string("corpus", None, "A LibriSpeech tree or archive, or a manifest.")
    flags.DEFINE_string("out", None, "Directory of the records.")
    flags.DEFINE_enum("features", "wheel", list(FRONTENDS), "What computes the features.")
    flags.DEFINE_integer("processes", os.cpu_count(), "Shards made at the same time.", 1)
    flags.mark_flags_as_required(["corpus", "out"])
    app.run(main)


if __name__ == "__main__":
    run()
