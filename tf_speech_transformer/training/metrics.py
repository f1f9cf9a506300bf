"""Metrics of training: means, the dev set's losses, and their log."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf
from tqdm import tqdm

from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.text.tokenizer import Tokenizer


class Means:
    """Means of metrics since the last `take`, and the speed of training."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._frames = 0.0
        self._started = time.monotonic()

    def add(self, metrics: Mapping[str, float], frames: float) -> None:
        self._frames += frames
        for name, value in metrics.items():
            self._values.setdefault(name, []).append(value)

    def take(self) -> tuple[dict[str, float], float]:
        """The means, and seconds of speech a second; begins again."""
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        speed = self._frames / 100 / (time.monotonic() - self._started)
        self._values, self._frames, self._started = {}, 0.0, time.monotonic()
        return means, speed


def dev_losses(
    config: ml_collections.ConfigDict,
    dev_cache: Any,
    tokenizer: Tokenizer,
    dev_step: Callable[[Any], dict[str, tf.Tensor]],
) -> dict[str, float]:
    """Losses over the dev cache, weighed by utterances."""
    totals: dict[str, float] = {}
    count = 0
    batches = dataset.batches(
        [dev_cache],
        tokenizer,
        batch_frames=config.train.batch_frames,
        seed=0,
        epoch=0,
        training=False,
        spec_augment=False,
    )
    for batch in batches:
        size = int(batch["frames"].shape[0])
        count += size
        for name, value in dev_step(batch).items():
            totals[name] = totals.get(name, 0.0) + size * float(value)
    return {name: total / count for name, total in totals.items()}


class MetricsLog:
    """`metrics.jsonl` and TensorBoard scalars; a resumed stage removes the lines after its step."""

    def __init__(self, workdir: Path, stage: str, step: int):
        self.stage = stage
        self.path = workdir / "metrics.jsonl"
        if self.path.exists():
            lines = [line for line in map(parsed, self.path.read_text().splitlines()) if line]
            kept = [x for x in lines if x["stage"] != stage or x["step"] <= step]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(x) + "\n" for x in kept))
            temporary.replace(self.path)
        self.board = tf.summary.create_file_writer(str(workdir / "tensorboard" / stage))

    def write(self, step: int, split: str, **values: float) -> None:
        line = {"stage": self.stage, "step": step, "split": split, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if split == "dev":  # beside the bar, which a log has not
            tqdm.write(f"{self.stage}: step {step}, dev loss {values['loss']:.3f}", file=sys.stderr)
        with self.board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{split}/{name}", value)


def parsed(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None for one that a full disk or a power cut has torn."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
