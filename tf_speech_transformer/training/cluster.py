"""The devices and machines that train one model together, through `tf.distribute`.

One process on one device spreads nothing.  Several GPUs share every batch (`MirroredStrategy`), and
so do several machines (`MultiWorkerMirroredStrategy`), each started with the same command, a
`--workdir` that all of them see, and its place in `TF_CONFIG`:

    TF_CONFIG='{"cluster": {"worker": ["host0:2000", "host1:2000"]}, "task": {"type": "worker",
        "index": 0}}' python -m tf_speech_transformer.train ...

Each replica takes every n-th utterance of each batch, and reads no others; losses are means over
the tokens of the whole batch, so that the loss curve is that of one process.  Worker 0 is the
chief: it makes what all read, and writes the checkpoints and the log.  A worker whose peer is lost
ends with an error; once all are started again, they go on from the last checkpoint.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

CONFIG = "TF_CONFIG"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What trains together.

    Attributes:
        strategy: of `tf.distribute`.
        local: numbers, among all replicas, of those of this process.
        chief: this process writes what all read.
    """

    strategy: tf.distribute.Strategy
    local: tuple[int, ...] = (0,)
    chief: bool = True

    @property
    def replicas(self) -> int:
        """Devices of all machines."""
        return self.strategy.num_replicas_in_sync

    def function(
        self, step: Callable[[Any], Any], signature: Sequence[Any]
    ) -> Callable[[Any], Any]:
        """`step` of a batch's part on each replica at once; the sums of the scalars it returns.

        Without autograph, here and elsewhere: no Python condition of a model depends on a tensor,
        and tracing takes a third of the time.
        """
        if self.replicas == 1:
            return tf.function(step, input_signature=signature, autograph=False)

        @tf.function(input_signature=[list(signature) * len(self.local)], autograph=False)
        def together(parts):
            parts = self.strategy.run(step, args=(self._by_replica(parts),))
            return tf.nest.map_structure(
                lambda x: self.strategy.reduce(tf.distribute.ReduceOp.SUM, x, axis=None), parts
            )

        return together

    def spread(self, parts: Sequence[dict[str, tf.Tensor]]) -> Any:
        """The parts of a batch for this process's replicas, as `function` takes them."""
        return parts[0] if self.replicas == 1 else list(parts)

    def _by_replica(self, parts: Sequence[Any]) -> Any:
        by_replica = dict(zip(self.local, parts, strict=True))
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: by_replica[context.replica_id_in_sync_group]
        )

    def sum(self, value: tf.Tensor) -> tf.Tensor:
        """Over all replicas; called within a step."""
        if self.replicas == 1:
            return value
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def barrier(self) -> None:
        """Returns when every worker has come here."""
        if self.replicas > len(self.local):
            ones = self.spread([{"one": tf.constant(1.0)} for _ in self.local])
            signature = [{"one": tf.TensorSpec([], tf.float32)}]
            self.function(lambda batch: batch["one"], signature)(ones).numpy()


ALONE = Cluster(tf.distribute.get_strategy())


def join() -> Cluster:
    """The cluster that the environment names; waits until every worker is there.

    Raises ValueError where `TF_CONFIG` is not understood.
    """
    if CONFIG in os.environ:
        task = _task(os.environ[CONFIG])  # before TensorFlow reads it, and fails in its own words
        strategy: tf.distribute.Strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif len(tf.config.list_logical_devices("GPU")) > 1:
        strategy, task = tf.distribute.MirroredStrategy(), 0
    else:
        return ALONE
    return spread_by(strategy, task == 0)


def spread_by(strategy: tf.distribute.Strategy, chief: bool = True) -> Cluster:
    local: list[int] = []

    def ask(context: Any) -> tf.Tensor:
        local.append(context.replica_id_in_sync_group)
        return tf.constant(0)

    strategy.experimental_distribute_values_from_function(ask)
    return Cluster(strategy, tuple(local), chief)


def _task(text: str) -> int:
    """This worker's index."""
    form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        index = task["index"]
        known = task["type"] == "worker" and 0 <= index < len(workers)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"{CONFIG} is {text!r}, and must be {form}")
    return index
