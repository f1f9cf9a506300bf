"""Which phones a model takes for which, on held-out people."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import ml_collections
import numpy as np
import tensorflow as tf

from firmware_sim.grammar.confusion import Confusions
from firmware_sim.grammar.phones import BLANK, PHONES, ids
from firmware_sim.search.ctc import merge_repeats
from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.corpora.caches import load_cache
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer

ROUNDS: Final = 4  # of counting, each by the costs of the one before
_SMOOTHING: Final = 0.5  # what each cell counts before anything is heard
_FIRST: Final = 2.0  # nats of any confusion in the first round

Pair = tuple[Sequence[int], Sequence[int]]  # phones that were said, and those that were heard


def measured(
    model: SpeechTransformer, config: ml_collections.ConfigDict, workdir: Path
) -> Confusions | None:
    """By the run's dev examples, where they are still in its cache; else None.

    What is heard is the best phone of each memory frame.
    """
    caches = sorted((workdir / "cache").glob("dev-*"))
    if model.phones is None or len(caches) != 1:
        return None
    examples: Any = load_cache(caches[0])
    signature = [
        tf.TensorSpec([None, None, model.dims.feature_channels]),
        tf.TensorSpec([None], tf.int32),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def hear(features: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        logits = model.hear(features, frames).phones
        assert logits is not None
        return tf.argmax(logits[0], -1)

    pairs = []
    for features, said in zip(examples.features, examples.phones, strict=True):
        frames = len(features)
        if not 0 < frames <= config.limits.frames:
            continue
        length = -(-frames // dataset.BUCKET_FRAMES) * dataset.BUCKET_FRAMES
        batch = dataset.padded([(features, [])], length, 0, 0)
        path = hear(batch["features"], batch["frames"]).numpy()
        heard = merge_repeats(path[: -(-frames // TIME_REDUCTION)], BLANK)
        pairs.append((ids(said.split()), heard))
    return counted(pairs)


def counted(pairs: Iterable[Pair]) -> Confusions:
    """By the best alignments of what was said with what was heard."""
    pairs = list(pairs)
    count = len(PHONES)
    costs = np.full([count + 1, count + 1], _FIRST)
    np.fill_diagonal(costs, 0.0)
    for _ in range(ROUNDS):
        counts = np.full([count + 1, count + 1], _SMOOTHING / count)  # the last: nothing
        for said, heard in pairs:
            for cell in _aligned(said, heard, costs):
                counts[cell] += 1
        shares = counts[:count] / counts[:count].sum(1, keepdims=True)
        added = counts[count, :count] / counts[:count].sum()  # of a phone that is said
        costs[:count] = -np.log(shares)
        costs[count, :count] = -np.log(added)
    return Confusions(costs[:count, :count], costs[:count, count], costs[count, :count])


def _aligned(
    said: Sequence[int], heard: Sequence[int], costs: np.ndarray
) -> Iterable[tuple[int, int]]:
    """Each phone that was said with the one that was heard; the last number for nothing."""
    none, rows, columns = len(costs) - 1, len(said), len(heard)
    total = np.zeros([rows + 1, columns + 1])
    total[1:, 0] = np.cumsum(costs[list(said), none])
    total[0, 1:] = np.cumsum(costs[none, list(heard)])
    for i in range(rows):
        for j in range(columns):
            total[i + 1, j + 1] = min(
                total[i, j] + costs[said[i], heard[j]],
                total[i, j + 1] + costs[said[i], none],
                total[i + 1, j] + costs[none, heard[j]],
            )
    i, j = rows, columns
    while i or j:
        if i and j and total[i, j] == total[i - 1, j - 1] + costs[said[i - 1], heard[j - 1]]:
            i, j = i - 1, j - 1
            yield said[i], heard[j]
        elif i and total[i, j] == total[i - 1, j] + costs[said[i - 1], none]:
            i -= 1
            yield said[i], none
        else:
            j -= 1
            yield none, heard[j]
