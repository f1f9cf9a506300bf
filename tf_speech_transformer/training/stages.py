"""Stages of training, each resumed from its last checkpoint."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf
import tf_keras as keras
from tqdm import tqdm

from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.corpora.caches import Pool
from tf_speech_transformer.corpora.features import frontend_of
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training.cluster import ALONE, Cluster
from tf_speech_transformer.training.losses import counts, gradients, losses, update
from tf_speech_transformer.training.metrics import Means, MetricsLog, dev_losses
from tf_speech_transformer.training.muon import Muon
from tf_speech_transformer.training.runs import averaged
from tf_speech_transformer.training.weights import restore


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training; without `weights`, only the ranges of the quantizers change."""

    name: str
    steps: int
    learning_rate: float
    warmup_steps: int
    weights: bool = True


def stages(config: ml_collections.ConfigDict) -> list[Stage]:
    train, quantize = config.train, config.quantization
    return [
        Stage("float", train.steps, train.learning_rate, train.warmup_steps),
        Stage("ptq", quantize.range_steps, 0.0, 0, weights=False),
        Stage("qat", quantize.steps, quantize.learning_rate, quantize.warmup_steps),
    ]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to 0."""

    def __init__(self, peak: float, warmup_steps: int, steps: int):
        self.peak, self.warmup_steps, self.steps = peak, warmup_steps, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = (step + 1) / max(1, self.warmup_steps)
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + tf.cos(3.14159265 * tf.clip_by_value(progress, 0.0, 1.0)))
        return self.peak * tf.where(step < self.warmup_steps, warmup, cosine)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def make_optimizer(
    config: ml_collections.ConfigDict, stage: Stage, model: SpeechTransformer
) -> keras.optimizers.Optimizer:
    """The optimizer of a stage, with its variables made."""
    name, clip_norm = config.train.get("optimizer", "adam"), config.train.clip_norm
    schedule = Schedule(stage.learning_rate, stage.warmup_steps, stage.steps)
    adam = {"beta_2": 0.98, "epsilon": 1e-9, "global_clipnorm": clip_norm}
    if name == "adam":
        optimizer = keras.optimizers.Adam(schedule, **adam)
    elif name == "muon":
        dtype = tf.bfloat16 if config.train.get("bfloat16") else tf.float32
        optimizer = Muon(schedule, model.hidden_matrix, dtype=dtype, **adam)
    elif name == "adadelta":
        optimizer = keras.optimizers.Adadelta(
            stage.learning_rate, rho=0.95, epsilon=1e-8, global_clipnorm=clip_norm
        )
    else:
        raise ValueError(f"no optimizer {name!r}: config.train.optimizer is adam, muon or adadelta")
    optimizer.build(model.trained_variables)
    return optimizer


def state(
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    directory: Path,
    kept: int = 1,
) -> tuple[tf.train.Checkpoint, tf.train.CheckpointManager]:
    """What a stage saves: model, optimizer, `position` (epoch, batch) and `step`, both 0.

    The last `kept` checkpoints are kept, at least two.
    """
    checkpoint = tf.train.Checkpoint(
        model=model,
        optimizer=optimizer,
        position=tf.Variable([0, 0], dtype=tf.int64, name="position"),
        step=tf.Variable(0, dtype=tf.int64, name="step"),
    )
    manager = tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=max(2, kept))
    return checkpoint, manager


def endless_batches(
    config: ml_collections.ConfigDict,
    caches: list[Any],
    tokenizer: Tokenizer,
    position: tf.Variable,
    cluster: Cluster = ALONE,
) -> Iterator[Any]:
    """Batches from `position` (epoch, batch) on; a checkpoint of `position` finds them again.

    On a cluster, each process gets its own parts of each batch.
    """
    while True:
        epoch, skipped = (int(x) for x in position.numpy())
        examples = [x.at(epoch) if isinstance(x, Pool) else x for x in caches]
        parts = [
            dataset.batches(
                examples,
                tokenizer,
                batch_frames=config.train.batch_frames,
                seed=config.seed,
                epoch=epoch,
                training=True,
                spec_augment=config.train.spec_augment,
                warp=frontend_of(config) if config.train.get("warp", False) else None,
                part=(replica, cluster.replicas),
            ).skip(skipped)
            for replica in cluster.local
        ]
        for batch in zip(*parts, strict=True):
            position[1].assign(position[1] + 1)
            yield cluster.spread(batch)
        position.assign([epoch + 1, 0])


def train_stage(
    config: ml_collections.ConfigDict,
    stage: Stage,
    model: SpeechTransformer,
    dev_step: Callable[[Any], dict[str, tf.Tensor]],
    tokenizer: Tokenizer,
    training_caches: list[Any],
    dev_cache: Any,
    workdir: Path,
    cluster: Cluster = ALONE,
    teacher: SpeechTransformer | None = None,
) -> None:
    """Runs one stage to its end, from its last checkpoint if there is one.

    `dev_step`: of `make_dev_step`, the same for all stages of a model, since tracing takes long.
    `teacher`: whose outputs the model learns, instead of the texts.
    """
    with cluster.strategy.scope():
        optimizer = make_optimizer(config, stage, model)
    kept = averaged(config, stage.name)
    checkpoint, manager = state(model, optimizer, workdir / stage.name, kept)
    step_variable = checkpoint.step
    if manager.latest_checkpoint:
        restore(checkpoint, manager.latest_checkpoint)
        if int(step_variable) >= stage.steps:
            return
        print(f"{stage.name}: going on from step {int(step_variable)} of {stage.steps}")
    elif cluster.chief:
        print(f"{stage.name} training: {stage.steps} steps")
    take_step = make_step(config, stage, model, optimizer, tokenizer, cluster, teacher)
    log = MetricsLog(workdir, stage.name, int(step_variable)) if cluster.chief else None
    batches = endless_batches(config, training_caches, tokenizer, checkpoint.position, cluster)
    running = Means()
    with tqdm(
        total=stage.steps,
        initial=int(step_variable),
        desc=f"{stage.name} training",
        unit="step",
        disable=None if cluster.chief else True,
    ) as progress:
        while int(step_variable) < stage.steps:
            take_step(batches, running)
            step = int(step_variable.assign_add(1))
            last = step == stage.steps
            progress.update()
            if last and model.quantized:
                model.settle()
            if log is None:
                continue
            if step % config.train.log_steps == 0 or last:
                means, speed = running.take()
                log.write(step, "train", **means, seconds_a_second=speed)
                progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
            if step % config.train.dev_steps == 0 or last:
                log.write(step, "dev", **dev_losses(config, dev_cache, tokenizer, dev_step))
            if step % config.train.checkpoint_steps == 0 or last:
                manager.save(checkpoint_number=step)
    cluster.barrier()


def signature_of(model: SpeechTransformer) -> list[dict[str, tf.TensorSpec]]:
    """Of a function of a batch for the model."""
    return [dataset.batch_signature(model.dims.feature_channels, model.dims.phones)]


def make_dev_step(
    config: ml_collections.ConfigDict, model: SpeechTransformer, tokenizer: Tokenizer
) -> Callable[[Any], dict[str, tf.Tensor]]:
    """The losses of a batch as evaluation sees them."""

    @tf.function(input_signature=signature_of(model), autograph=False)
    def dev_step(batch):
        return losses(config, model, tokenizer, batch, training=False)

    return dev_step


def make_step(
    config: ml_collections.ConfigDict,
    stage: Stage,
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    cluster: Cluster,
    teacher: SpeechTransformer | None,
) -> Callable[[Iterator[Any], Means], None]:
    """One step of a stage: takes its batches from an iterator, adds their metrics to means.

    A step takes `config.train.accumulate` batches, and changes weights by the mean gradient.
    """
    accumulate = config.train.get("accumulate", 1) if stage.weights else 1
    totals = []
    if accumulate > 1:
        with cluster.strategy.scope():
            totals = [accumulator(variable) for variable in model.trained_variables]

    def train_part(batch):
        total = {name: cluster.sum(count) for name, count in counts(batch).items()}
        if not stage.weights:
            metrics = losses(config, model, tokenizer, batch, training=True, total=total)
        elif accumulate == 1:
            metrics = update(
                config, model, optimizer, tokenizer, batch, total=total, teacher=teacher
            )
        else:
            changes, metrics = gradients(
                config, model, tokenizer, batch, total=total, teacher=teacher
            )
            for sum_, gradient in zip(totals, changes, strict=True):
                if gradient is not None:
                    sum_.assign_add(tf.convert_to_tensor(gradient) / accumulate)
        return metrics | {"frames": tf.reduce_sum(tf.cast(batch["frames"], tf.float32))}

    train_step = cluster.function(train_part, signature_of(model))

    def apply_part():
        changes = [sum_.read_value() for sum_ in totals]
        optimizer.apply_gradients(zip(changes, model.trained_variables, strict=True))
        for sum_ in totals:
            sum_.assign(tf.zeros_like(sum_))

    @tf.function(autograph=False)
    def apply_totals():
        cluster.strategy.run(apply_part)

    def take_step(batches: Iterator[Any], running: Means) -> None:
        for _ in range(accumulate):
            metrics = {name: float(value) for name, value in train_step(next(batches)).items()}
            frames = metrics.pop("frames")
            running.add(metrics, frames)
        if accumulate > 1:
            apply_totals()

    return take_step


def accumulator(variable: tf.Variable) -> tf.Variable:
    """A sum of gradients of the variable, of each replica its own."""
    return tf.Variable(
        tf.zeros_like(variable),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
