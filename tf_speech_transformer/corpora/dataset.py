"""The examples of a preset, and batches of them.

TensorFlow is imported lazily: `training.xla.train` makes examples without it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from firmware_sim.grammar import phones
from tf_speech_transformer.corpora import augment
from tf_speech_transformer.corpora.caches import Examples, Pool, build_cache, load_cache
from tf_speech_transformer.corpora.features import FrontendParameters, as_float
from tf_speech_transformer.corpora.recipes import (
    build_sources,
    decode_sources,
    of_preset,
    with_pieces,
)
from tf_speech_transformer.corpora.records import Records
from tf_speech_transformer.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

BUCKET_FRAMES = 32  # lengths are padded to a multiple of this


def prepare_caches(
    config: ml_collections.ConfigDict, root: Path, tokenizer: Tokenizer | None = None
) -> tuple[list[Examples | Records | Pool], Examples | Records]:
    """Training and dev examples of a preset, made by `config.corpus.processes`, 2 by default.

    A preset with `config.corpus.records` and `dev_records` reads those directories instead.
    """
    if "records" in config.corpus:
        return [read_records(config, config.corpus.records)], read_records(
            config, config.corpus.dev_records
        )
    processes = config.corpus.get("processes", 2)
    if "pool" in config.corpus:
        chosen = {name: with_pieces(recipe, root) for name, recipe in of_preset(config).items()}
        recordings = decode_sources(chosen["train"], root, tokenizer)
        pool = Pool(
            root, chosen["train"], recordings, processes=processes, **config.corpus.pool.to_dict()
        )
        return [pool], load_cache(build_cache(root, "dev", chosen["dev"], processes, tokenizer))
    parts = {
        name: load_cache(build_cache(root, name, with_pieces(recipe, root), processes, tokenizer))
        for name, recipe in of_preset(config).items()
    }
    return [parts["train"]], parts["dev"]


def read_records(config: ml_collections.ConfigDict, directories: Sequence[str]) -> Records:
    """Those that are within the preset's limits."""
    limits = config.limits
    found = Records(
        [Path(directory) for directory in directories],
        config.get("features", "wheel"),
        limits.frames,
        limits.get("letters", limits.tokens),
    )
    if found.left_out:
        print(
            f"{found.left_out} of {found.left_out + len(found)} utterances are too long: left out"
        )
    return found


def corpus_texts(config: ml_collections.ConfigDict, root: Path) -> list[str]:
    """All texts of a preset's training sources; recordings are decoded into `root` on the way."""
    if "records" in config.corpus:
        return read_records(config, config.corpus.records).texts
    recipe = of_preset(config)["train"]
    sources = build_sources(recipe, decode_sources(recipe, root, None))
    return [text for source in sources for text in source.texts]


def batches(
    caches: Sequence[Examples | Records],
    tokenizer: Tokenizer,
    *,
    batch_frames: int,
    seed: int,
    epoch: int,
    training: bool,
    spec_augment: bool,
    warp: FrontendParameters | None = None,
    part: tuple[int, int] = (0, 1),
) -> "tf.data.Dataset":
    """Batches of utterances of about one length, the same for the same seed and epoch.

    Each batch depends only on its number, so `.skip(n)` resumes an epoch where it was left. For
    shapes see `batch_signature`; B * T is about `batch_frames`.

    Args:
        warp: the frontend of the features, to warp each utterance in training (`augment.warp`).
        part: (k, n) takes every n-th utterance of each batch, from the k-th on, padded as the whole
            batch is. Batches of fewer than n, which end an epoch, are left out.
    """
    import tensorflow as tf

    places = [(cache, i) for cache in caches for i in range(len(cache.texts))]
    lengths = [length for cache in caches for length in cache.lengths]
    channels = caches[0].features[0].shape[1]
    tokens = [tokenizer.encode(text) for cache in caches for text in cache.texts]
    pronounced = [phones.ids(x.split()) for cache in caches for x in getattr(cache, "phones", [])]
    first, parts = part
    plan = plan_batches(lengths, batch_frames, seed, epoch, training)

    def generate() -> Iterator[dict[str, np.ndarray]]:
        for number, (indices, length) in enumerate(plan):
            if len(indices) < parts:
                continue
            longest = max(len(tokens[i]) for i in indices)
            mine = indices[first::parts]
            examples = [(places[i][0].features[places[i][1]], tokens[i]) for i in mine]
            batch = padded(examples, length, longest, tokenizer.end)
            if pronounced:
                ids = [pronounced[i] for i in mine]
                most = max(1, *map(len, ids))
                batch["phones"], batch["phone_lengths"] = padded_ids(ids, most, 0)
            for row, features in enumerate(batch["features"] if training else ()):
                frames = int(batch["frames"][row])
                rng = np.random.default_rng([seed, epoch, number, first + row * parts])
                if spec_augment:
                    augment.spec_augment(features, frames, rng)
                if warp is not None:
                    features[:frames] = augment.warp(features[:frames], warp, rng)
            yield batch

    signature = batch_signature(channels, bool(pronounced))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.prefetch(4)


def batch_signature(channels: int, with_phones: bool) -> "dict[str, tf.TensorSpec]":
    """Of a batch of B utterances.

    features [B, T, channels]: T is a multiple of 32; 0.0, silence, pads. frames [B] are those of
    speech. tokens [B, U] are padded with `</s>`; phones [B, P], if there are any, with 0.
    """
    import tensorflow as tf

    signature = {
        "features": tf.TensorSpec([None, None, channels], tf.float32),
        "frames": tf.TensorSpec([None], tf.int32),
        "tokens": tf.TensorSpec([None, None], tf.int32),
        "token_lengths": tf.TensorSpec([None], tf.int32),
    }
    if with_phones:
        signature["phones"] = tf.TensorSpec([None, None], tf.int32)
        signature["phone_lengths"] = tf.TensorSpec([None], tf.int32)
    return signature


def padded(
    examples: list[tuple[np.ndarray, list[int]]], frames: int, tokens: int, end: int
) -> dict[str, np.ndarray]:
    """A batch (see `batches`) of int8 features [T, channels] and token ids, all padded alike."""
    batch = {
        "features": np.zeros([len(examples), frames, examples[0][0].shape[1]], np.float32),
        "frames": np.array([len(features) for features, _ in examples], np.int32),
    }
    for row, (features, _) in enumerate(examples):
        batch["features"][row, : len(features)] = as_float(features)
    batch["tokens"], batch["token_lengths"] = padded_ids([ids for _, ids in examples], tokens, end)
    return batch


def padded_ids(ids: list[list[int]], length: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [B, length], and how many of each are no padding, int32 [B]."""
    rows = np.full([len(ids), length], padding, np.int32)
    for row, x in zip(rows, ids, strict=True):
        row[: len(x)] = x
    return rows, np.array([len(x) for x in ids], np.int32)


def plan_batches(
    lengths: list[int], batch_frames: int, seed: int, epoch: int, shuffle: bool
) -> list[tuple[np.ndarray, int]]:
    """Which examples form each batch, and its padded length."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    buckets: dict[int, list[int]] = {}
    plan = []
    for i in order:
        length = -(-lengths[i] // BUCKET_FRAMES) * BUCKET_FRAMES
        bucket = buckets.setdefault(length, [])
        bucket.append(int(i))
        if len(bucket) * length >= batch_frames:
            plan.append((np.array(bucket), length))
            buckets[length] = []
    plan += [(np.array(bucket), length) for length, bucket in buckets.items() if bucket]
    if shuffle:
        plan = [plan[i] for i in rng.permutation(len(plan))]
    return plan
