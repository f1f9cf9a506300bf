"""Trains a recogniser: float, then post-training ranges, then quantization-aware.

    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/digits.py \
        --workdir=runs/digits

A preset's `train` holds the recipe; what is not in all of them:

    optimizer: "adam" (the default, with `learning_rate` warmed up and then half a cosine), or
        "adadelta" (rho 0.95, epsilon 1e-8, `learning_rate` from beginning to end).
    accumulate: batches whose gradients are averaged for a step; 1 by default.
    warp: utterances are heard as by other speakers, each time they are (`augment.warp`).
    token_noise: the share of the tokens that the decoder of the float model is given which are
        random ones: it learns to listen rather than to know texts by heart. 0 by default.
    average: checkpoints, the last of the float stage, whose weights are averaged; 1 by default.
    initial: another run's workdir or `weights.npz`, whose float weights this one starts from.
    initial_shared: the same, but only of the layers that both models have; others begin untrained.

and in its `quantization`:

    rotation: the models of 8 bits are those of the float one with rotated streams (`rotation.py`).
    distillation: the last stage learns what the float model puts out, not the texts.

The workdir gets `config.json`, `tokenizer/`, `weights.npz` (of the float model, float16), and one
folder for each stage (`float`, `ptq`, `qat`) with its checkpoints, `metrics.jsonl` (a line for each
log step) and `tensorboard/`.  The same command goes on where a killed run stopped, and ends with
the same weights as a run that was never killed.  `cluster.py` says how several GPUs or machines
train together.
"""

import dataclasses
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags
from ml_collections import config_flags
from tqdm import tqdm

from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.corpora.features import frontend_of
from tf_speech_transformer.model.transformer import (
    TIME_REDUCTION,
    Dimensions,
    SpeechTransformer,
    quantization,
    rotation,
)
from tf_speech_transformer.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)
from tf_speech_transformer.training.cluster import ALONE, Cluster, join

STAGES = ("float", "ptq", "qat")
WEIGHTS_FILE = "weights.npz"  # of a workdir: its float weights, for another run to start from
GRAMMAR_FILE = "grammar.yaml"  # of a workdir: a copy of the preset's


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training.

    `weights` whether weights change, or only the ranges of the quantizers.
    """

    name: str
    steps: int
    learning_rate: float
    warmup_steps: int
    weights: bool = True


def dimensions(config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> Dimensions:
    return Dimensions(vocabulary=tokenizer.size, **config.model.to_dict())


def quantized_dimensions(config: ml_collections.ConfigDict, dims: Dimensions) -> Dimensions:
    """Of the models of 8 bits."""
    rotated = config.get("quantization", {}).get("rotation", False)
    return dataclasses.replace(dims, rotated=rotated)


def build(dims: Dimensions, quantized: bool, bfloat16: bool = False) -> SpeechTransformer:
    """A model with its variables made (a first call on two tokens and a few frames).

    `bfloat16`: products of the float model are, in training and else.
    """
    make: quantization.LayerFactory = quantization.in_float
    if quantized:
        make = quantization.in_eight_bits
    elif bfloat16:
        make = quantization.in_bfloat16
    model = SpeechTransformer(dims, make)
    model(
        {
            "features": tf.zeros([2, 16, dims.feature_channels]),
            "frames": tf.constant([16, 12]),
            "tokens": tf.zeros([2, 3], tf.int32),
        }
    )
    return model


def copy_weights(
    source: SpeechTransformer, target: SpeechTransformer, shared_alone: bool = False
) -> None:
    """`set_weights` of another model's."""
    set_weights(by_path(source), target, shared_alone)


def set_weights(
    values: Mapping[str, Any], target: SpeechTransformer, shared_alone: bool = False
) -> None:
    """Sets every variable of `target` by its path; a quantized target keeps the ranges that the
    values of a float model lack, and the further layers of a deeper float one begin by adding
    nothing, so that it computes what the model of the values does.

    `shared_alone`: only those that both have; the models may have different modules.

    Raises ValueError, with nothing changed, where the models are of other dimensions.
    """
    places = by_path(target)
    if shared_alone:
        shared = values.keys() & places.keys()
        if not shared:
            raise ValueError("the two models have no layer in common: name weights of another run")
        values, places = ({name: x[name] for name in shared} for x in (values, places))
    further = []
    if not target.quantized:
        for blocks in (target.encoder, target.decoder):
            there = [not values.keys().isdisjoint(map(path, x.variables)) for x in blocks]
            if any(there):
                further += [x for x, found in zip(blocks, there, strict=True) if not found]
    new = {path(v) for block in further for v in block.variables}
    homeless = sorted(values.keys() - places.keys())
    trained = {path(v) for v in target.trained_variables} & places.keys()
    unset = sorted(trained - values.keys() - new)
    misshapen = sorted(
        name for name in values.keys() & places.keys() if values[name].shape != places[name].shape
    )
    for problem, names in (
        ("no place for", homeless),
        ("no values for", unset),
        ("other shapes of", misshapen),
    ):
        if names:
            listed = ", ".join(names[:3])
            raise ValueError(
                f"{problem} {len(names)} weights ({listed}{', ...' if names[3:] else ''}): "
                "the two models differ in their dimensions"
            )
    for name, value in values.items():
        places[name].assign(tf.cast(value, places[name].dtype))
    for block in further:
        block.add_nothing()


def by_path(model: SpeechTransformer) -> dict[str, tf.Variable]:
    """The model's variables by their paths, of which no two are the same."""
    variables = {path(variable): variable for variable in model.variables}
    if len(variables) < len(model.variables):
        raise AssertionError("two variables of the model have one name: scope their layers")
    return variables


def path(variable: tf.Variable) -> str:
    """The variable's name without the model's own number."""
    return variable.name.split("/", 1)[1].split(":")[0]


def read_weights(source: Path) -> Mapping[str, Any]:
    """Float weights by path: of a run's workdir, or of a `WEIGHTS_FILE`.

    Raises ValueError for a file that is none, OSError for what cannot be read.
    """
    if source.is_dir():
        return by_path(load(source, "float")[0])
    try:
        return read_archive(source)
    except ValueError as error:
        raise ValueError(
            f"{source} holds no weights: name a run's workdir or its {WEIGHTS_FILE}, copied whole"
        ) from error


def read_archive(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises ValueError for one that is torn, or something else."""
    try:
        with np.load(file) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is no whole .npz: copy it again ({error})") from error


def write_weights(model: SpeechTransformer, file: Path) -> None:
    """The float weights by path, as float16: half the size, and no recogniser hears it."""
    values = {name: value.numpy().astype(np.float16) for name, value in by_path(model).items()}
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        np.savez_compressed(out, **values)
    temporary.replace(file)


def sparse_ctc(
    tokens: tf.Tensor, lengths: tf.Tensor, logits: tf.Tensor, frames: tf.Tensor
) -> tf.Tensor:
    """CTC loss [B] (Graves et al. 2006) by TensorFlow's C++ kernel, fast on a CPU.

    tokens int32 [B, U] of `lengths`, logits [B, S, V] (blank last) of `frames`.  Speech too fast
    for its letters has loss 0, and no gradient.
    """
    # The kernel refuses empty texts, which are blanks alone; it gets one token instead.
    empty = tf.equal(lengths, 0)
    tokens = tf.pad(tokens, [[0, 0], [0, 1]])
    present = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(tokens)[1])
    heard = tf.sequence_mask(frames, tf.shape(logits)[1], logits.dtype)
    blanks = -tf.reduce_sum(tf.nn.log_softmax(logits)[:, :, -1] * heard, 1)
    labels = tf.sparse.SparseTensor(
        tf.where(present),
        tf.boolean_mask(tokens, present),
        tf.cast(tf.shape(tokens), tf.int64),
    )
    each = tf.compat.v1.nn.ctc_loss(
        labels, logits, frames, time_major=False, ignore_longer_outputs_than_inputs=True
    )
    return tf.where(empty, blanks, tf.where(tf.math.is_finite(each), each, 0.0))


def losses(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    training: bool,
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the decoder joined with CTC on the encoder, if the model has that head, and
    the token accuracy: means over the tokens, ends of texts included.

    Args:
        ctc: called as `sparse_ctc` is, which XLA cannot compile.
        total: float32 [], the tokens of the whole batch, where `batch` is a part of one.
        teacher: both losses are instead the divergence of what the model puts out, token by token
            and frame by frame, from what the teacher does (Hinton et al. 2015).
    """
    if model.dims.phones and config.train.ctc_weight == 1:
        return ctc_losses(config, model, batch, training, ctc, total)
    tokens, lengths = batch["tokens"], batch["token_lengths"]
    start = tf.fill([tf.shape(tokens)[0], 1], tokenizer.start)
    end = tf.fill([tf.shape(tokens)[0], 1], tokenizer.end)
    targets = tf.concat([tokens, end], 1)  # padded with </s> already
    weights = tf.sequence_mask(lengths + 1, tf.shape(targets)[1], tf.float32)
    noise = config.train.get("token_noise", 0.0)
    given = tokens
    if noise and training and not model.quantized:
        given = replace_some(tokens, noise, tokenizer.size, tf.reduce_sum(batch["frames"]))
    inputs = {
        "features": batch["features"],
        "frames": batch["frames"],
        "tokens": tf.concat([start, given], 1),
        "token_lengths": lengths + 1,
    }
    logits, ctc_logits = model(inputs, training=training)

    if teacher is None:
        smoothing = config.train.label_smoothing
        log_probabilities = tf.nn.log_softmax(logits)
        picked = tf.gather(log_probabilities, targets, batch_dims=2)
        entropy = -(1 - smoothing) * picked - smoothing * tf.reduce_mean(log_probabilities, -1)
    else:
        taught, taught_ctc = teacher(inputs, training=False)
        entropy = divergence(taught, logits)
    if total is None:
        total = tf.reduce_sum(weights)
    attention = tf.reduce_sum(entropy * weights) / total

    right = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), targets), tf.float32)
    accuracy = tf.reduce_sum(right * weights) / total
    if ctc_logits is None:
        return {"loss": attention, "accuracy": accuracy}
    memory_frames = (batch["frames"] + TIME_REDUCTION - 1) // TIME_REDUCTION
    if teacher is None:
        ctc_each = ctc(tokens, lengths, ctc_logits, memory_frames)
    else:
        heard = tf.sequence_mask(memory_frames, tf.shape(ctc_logits)[1], tf.float32)
        ctc_each = divergence(taught_ctc, ctc_logits) * heard
    ctc_mean = tf.reduce_sum(ctc_each) / total
    weight = config.train.ctc_weight
    return {
        "loss": (1 - weight) * attention + weight * ctc_mean,
        "attention": attention,
        "ctc": ctc_mean,
        "accuracy": accuracy,
    }


def ctc_losses(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    batch: dict[str, tf.Tensor],
    training: bool,
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The CTC losses of an encoder with a head over phones, by phone; no decoder is run.

    Utterances without a spelling do not count in the loss of the letters.
    """
    frames, lengths = batch["frames"], batch["phone_lengths"]
    if total is None:
        total = tf.cast(tf.reduce_sum(lengths + 1), tf.float32)
    mask = model.memory_mask(frames, tf.shape(batch["features"])[1] // TIME_REDUCTION)
    memory, letter_logits = model.encode(batch["features"], mask, training=training)
    assert model.phones is not None
    phone_logits = model.phones(memory, training=training)
    memory_frames = (frames + TIME_REDUCTION - 1) // TIME_REDUCTION
    by_phones = ctc(batch["phones"], lengths, phone_logits, memory_frames)
    by_letters = ctc(batch["tokens"], batch["token_lengths"], letter_logits, memory_frames)
    spelled = tf.cast((batch["token_lengths"] > 0) | (lengths == 0), tf.float32)
    phone_mean = tf.reduce_sum(by_phones) / total
    letter_mean = tf.reduce_sum(by_letters * spelled) / total
    weight = config.train.phone_weight
    return {
        "loss": weight * phone_mean + (1 - weight) * letter_mean,
        "phones": phone_mean,
        "ctc": letter_mean,
    }


def replace_some(tokens: tf.Tensor, share: float, vocabulary: int, number: tf.Tensor) -> tf.Tensor:
    """Tokens, int32 [B, U], a `share` of which are any of the vocabulary; the same again for the
    same tokens and `number`, int32 []."""
    seed = tf.stack([tf.reduce_sum(tokens), number])
    chances = tf.random.stateless_uniform(tf.shape(tokens), seed)
    others = tf.random.stateless_uniform(tf.shape(tokens), seed + 1, 0, vocabulary, tf.int32)
    return tf.where(chances < share, others, tokens)


def divergence(taught: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Of Kullback and Leibler, nats: of the distribution of `logits` from that of `taught`.

    [..., V] both -> [...]
    """
    wanted, found = tf.nn.log_softmax(taught), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(wanted) * (wanted - found), -1)


def gradients(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
    """Of each trained variable, and the `losses`."""
    with tf.GradientTape() as tape:
        metrics = losses(config, model, tokenizer, batch, True, ctc, total, teacher)
    found = tape.gradient(
        metrics["loss"],
        model.trained_variables,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,  # a decoder that waits for its stage
    )
    return found, metrics


def update(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    batch: dict[str, tf.Tensor],
    ctc: Callable[..., tf.Tensor] = sparse_ctc,
    total: tf.Tensor | None = None,
    teacher: SpeechTransformer | None = None,
) -> dict[str, tf.Tensor]:
    """One step of training: changes the weights, and returns their `losses` before."""
    found, metrics = gradients(config, model, tokenizer, batch, ctc, total, teacher)
    optimizer.apply_gradients(zip(found, model.trained_variables, strict=True))
    return metrics


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to nothing."""

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
    if name == "adam":
        schedule = Schedule(stage.learning_rate, stage.warmup_steps, stage.steps)
        optimizer = keras.optimizers.Adam(
            schedule, beta_2=0.98, epsilon=1e-9, global_clipnorm=clip_norm
        )
    elif name == "adadelta":
        optimizer = keras.optimizers.Adadelta(
            stage.learning_rate, rho=0.95, epsilon=1e-8, global_clipnorm=clip_norm
        )
    else:
        raise ValueError(f"no optimizer {name!r}: config.train.optimizer is adam or adadelta")
    optimizer.build(model.trained_variables)
    return optimizer


def state(
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    directory: Path,
    kept: int = 1,
) -> tuple[tf.train.Checkpoint, tf.train.CheckpointManager]:
    """What a stage saves: model, optimizer, `position` (epoch, batch) and `step`, both 0 yet.

    The last `kept` are kept, and never fewer than two.
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

    On a cluster, the parts of each batch that are this process's.
    """
    while True:
        epoch, skipped = (int(x) for x in position.numpy())
        examples = [x.at(epoch) if isinstance(x, dataset.Pool) else x for x in caches]
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
    tokenizer: Tokenizer,
    training_caches: list[Any],
    dev_cache: Any,
    workdir: Path,
    cluster: Cluster = ALONE,
    teacher: SpeechTransformer | None = None,
) -> None:
    """Runs one stage to its end, from its last checkpoint if there is one.

    `teacher`: whose outputs the model learns, instead of the texts.
    """
    with cluster.strategy.scope():
        optimizer = make_optimizer(config, stage, model)
    kept = averaged(config, stage.name)
    checkpoint, manager = state(model, optimizer, workdir / stage.name, kept)
    position, step_variable = checkpoint.position, checkpoint.step
    if manager.latest_checkpoint:
        restore(checkpoint, manager.latest_checkpoint)
        if int(step_variable) >= stage.steps:
            return
        print(f"{stage.name}: going on from step {int(step_variable)} of {stage.steps}")

    accumulate = config.train.get("accumulate", 1) if stage.weights else 1
    totals = []
    if accumulate > 1:
        with cluster.strategy.scope():
            totals = [accumulator(variable) for variable in model.trained_variables]
    channels = model.dims.feature_channels
    signature = [
        {
            "features": tf.TensorSpec([None, None, channels], tf.float32),
            "frames": tf.TensorSpec([None], tf.int32),
            "tokens": tf.TensorSpec([None, None], tf.int32),
            "token_lengths": tf.TensorSpec([None], tf.int32),
        }
    ]
    if model.dims.phones:
        signature[0]["phones"] = tf.TensorSpec([None, None], tf.int32)
        signature[0]["phone_lengths"] = tf.TensorSpec([None], tf.int32)

    def train_part(batch):
        lengths = batch.get("phone_lengths", batch["token_lengths"])
        total = cluster.sum(tf.cast(tf.reduce_sum(lengths + 1), tf.float32))
        if not stage.weights:
            metrics = losses(config, model, tokenizer, batch, training=True, total=total)
        elif accumulate == 1:
            metrics = update(
                config, model, optimizer, tokenizer, batch, total=total, teacher=teacher
            )
        else:
            found, metrics = gradients(
                config, model, tokenizer, batch, total=total, teacher=teacher
            )
            for sum_, gradient in zip(totals, found, strict=True):
                sum_.assign_add(tf.convert_to_tensor(gradient) / accumulate)
        return metrics | {"frames": tf.reduce_sum(tf.cast(batch["frames"], tf.float32))}

    train_step = cluster.function(train_part, signature)

    def apply_part():
        found = [sum_.read_value() for sum_ in totals]
        optimizer.apply_gradients(zip(found, model.trained_variables, strict=True))
        for sum_ in totals:
            sum_.assign(tf.zeros_like(sum_))

    @tf.function
    def apply_totals():
        cluster.strategy.run(apply_part)

    @tf.function(input_signature=signature)
    def dev_step(batch):
        return losses(config, model, tokenizer, batch, training=False)

    log = MetricsLog(workdir, stage.name, int(step_variable)) if cluster.chief else None
    batches = endless_batches(config, training_caches, tokenizer, position, cluster)
    running: dict[str, list[float]] = {}
    started, frames_seen = time.monotonic(), 0.0
    with tqdm(
        total=stage.steps,
        initial=int(step_variable),
        desc=f"{stage.name} training",
        unit="step",
        disable=not cluster.chief,
    ) as progress:
        while int(step_variable) < stage.steps:
            for _ in range(accumulate):
                metrics = train_step(next(batches))
                frames_seen += float(metrics.pop("frames"))
                for name, value in metrics.items():
                    running.setdefault(name, []).append(float(value))
            if accumulate > 1:
                apply_totals()
            step = int(step_variable.assign_add(1))
            progress.update()
            if step == stage.steps and model.quantized:
                model.settle()
            if log is None:
                continue
            if step % config.train.log_steps == 0 or step == stage.steps:
                means = {name: sum(values) / len(values) for name, values in running.items()}
                speed = frames_seen / 100 / (time.monotonic() - started)
                log.write(step, "train", **means, seconds_a_second=speed)
                progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
                running, started, frames_seen = {}, time.monotonic(), 0.0
            if step % config.train.dev_steps == 0 or step == stage.steps:
                log.write(step, "dev", **dev_losses(config, dev_cache, tokenizer, dev_step))
            if step % config.train.checkpoint_steps == 0 or step == stage.steps:
                manager.save(checkpoint_number=step)
    cluster.barrier()


def accumulator(variable: tf.Variable) -> tf.Variable:
    """A sum of gradients of the variable, of each replica its own."""
    return tf.Variable(
        tf.zeros_like(variable),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def dev_losses(config, dev_cache, tokenizer, dev_step) -> dict[str, float]:
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
    """`metrics.jsonl` and TensorBoard scalars; lines after the resumed step are taken back."""

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
        with self.board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{split}/{name}", value)


def parsed(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None for one that a full disk or a power cut has torn."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def stages(config: ml_collections.ConfigDict) -> list[Stage]:
    train, quantize = config.train, config.quantization
    return [
        Stage("float", train.steps, train.learning_rate, train.warmup_steps),
        Stage("ptq", quantize.range_steps, 0.0, 0, weights=False),
        Stage("qat", quantize.steps, quantize.learning_rate, quantize.warmup_steps),
    ]


def load(
    workdir: Path, stage: str
) -> tuple[SpeechTransformer, Tokenizer, ml_collections.ConfigDict]:
    """The model that a stage of training ended with, its tokenizer and its configuration."""
    if stage not in STAGES:
        raise ValueError(f"no stage {stage!r}: there are {', '.join(STAGES)}")
    config = read_config(workdir)
    tokenizer = tokenizer_class(config).load(workdir / "tokenizer")
    dims = dimensions(config, tokenizer)
    if stage != "float":
        dims = quantized_dimensions(config, dims)
    model = build(dims, quantized=stage != "float")
    restore_average(model, workdir / stage, averaged(config, stage))
    return model, tokenizer, config


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The configuration of a run."""
    config_file = workdir / "config.json"
    if not config_file.exists():
        raise FileNotFoundError(f"{config_file} does not exist: train into {workdir} first")
    return ml_collections.ConfigDict(json.loads(config_file.read_text()))


def averaged(config: ml_collections.ConfigDict, stage: str) -> int:
    """Checkpoints, the last of a stage, whose mean the stage ends with."""
    return config.get("train", {}).get("average", 1) if stage == "float" else 1


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads what the checkpoint holds; raises ValueError for a file of another model."""
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"{path} is a checkpoint of another model: its preset or its vocabulary is not that of"
            " config.json and tokenizer/ beside it"
        ) from error


def restore_average(model: SpeechTransformer, directory: Path, count: int) -> None:
    """Sets the model's variables to the mean of the last `count` checkpoints of a stage.

    Raises FileNotFoundError where there is none, or are fewer.
    """
    known = tf.train.get_checkpoint_state(str(directory))
    paths = known.all_model_checkpoint_paths if known else []
    if not paths:
        raise FileNotFoundError(f"no checkpoint in {directory}: finish training first")
    if len(paths) < count:
        raise FileNotFoundError(
            f"{len(paths)} checkpoints in {directory}, and {count} to be averaged: train for longer"
        )
    means = [np.zeros(variable.shape, np.float64) for variable in model.variables]
    for path in paths[-count:]:
        restore(tf.train.Checkpoint(model=model), path)
        for mean, variable in zip(means, model.variables, strict=True):
            mean += variable.numpy() / count
    for mean, variable in zip(means, model.variables, strict=True):
        variable.assign(mean)


def tokenizer_class(
    config: ml_collections.ConfigDict,
) -> type[CharacterTokenizer] | type[SentencePieceTokenizer]:
    """By `config.tokenizer.kind`; letters without it."""
    kinds = {x.kind: x for x in (CharacterTokenizer, SentencePieceTokenizer)}
    kind = config.tokenizer.kind if "tokenizer" in config else CharacterTokenizer.kind
    if kind not in kinds:
        raise ValueError(f"no tokenizer {kind!r}: config.tokenizer.kind is {' or '.join(kinds)}")
    return kinds[kind]


def make_tokenizer(config: ml_collections.ConfigDict, workdir: Path) -> Tokenizer:
    """The run's tokenizer, in its workdir from now on.

    A sentencepiece model of `config.tokenizer.pieces` is trained once, on the texts of the corpus.
    """
    directory = workdir / "tokenizer"
    kind = tokenizer_class(config)
    if kind is CharacterTokenizer:
        tokenizer: Tokenizer = CharacterTokenizer()
    elif (directory / SentencePieceTokenizer.FILE).exists():
        return SentencePieceTokenizer.load(directory)
    else:
        texts = dataset.corpus_texts(config, workdir / "cache")
        tokenizer = SentencePieceTokenizer.train(texts, config.tokenizer.pieces)
    tokenizer.save(directory)
    return tokenizer


def prepare(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes what names the run; refuses a workdir of another configuration."""
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(config.to_json()), indent=1, sort_keys=True)
    file = workdir / "config.json"
    if file.exists() and file.read_text() != text:
        raise ValueError(
            f"{file} holds another configuration: choose another --workdir, or delete this one"
        )
    if "grammar" in config:
        shutil.copyfile(config.grammar, workdir / GRAMMAR_FILE)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def train(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """The whole job: corpus, float model, ranges, quantization-aware model."""
    tf.keras.utils.set_random_seed(config.seed)
    cluster = join()
    if not cluster.chief:
        cluster.barrier()  # the chief makes what is made once
    prepare(config, workdir)
    tokenizer = make_tokenizer(config, workdir)
    training_caches, dev_cache = dataset.prepare_caches(config, workdir / "cache", tokenizer)
    if cluster.chief:
        cluster.barrier()
    dims = dimensions(config, tokenizer)
    with cluster.strategy.scope():
        model = build(dims, quantized=False, bfloat16=config.train.get("bfloat16", False))
    for name in ("initial", "initial_shared"):
        if config.train.get(name):
            values = read_weights(Path(config.train[name]))
            set_weights(values, model, shared_alone=name == "initial_shared")
    data = (tokenizer, training_caches, dev_cache, workdir, cluster)
    float_stage, ptq_stage, qat_stage = stages(config)
    train_stage(config, float_stage, model, *data)
    if averaged(config, float_stage.name) > 1:
        restore_average(model, workdir / float_stage.name, averaged(config, float_stage.name))
    if cluster.chief:
        write_weights(model, workdir / WEIGHTS_FILE)
    # Ranges are those of the device: no dropout.
    quiet = quantized_dimensions(config, dataclasses.replace(dims, dropout=0.0))
    with cluster.strategy.scope():
        quantized = build(quiet, quantized=True)
    copy_weights(model, quantized)
    if quiet.rotated:
        rotation.rotate(by_path(quantized), bool(dims.decoder_convolutions))
    train_stage(config, ptq_stage, quantized, *data)
    teacher = model if config.quantization.get("distillation", False) else None
    train_stage(config, qat_stage, quantized, *data, teacher)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        train(flags.FLAGS.config, Path(flags.FLAGS.workdir))
    except (ValueError, OSError) as error:
        sys.exit(f"train: {error}")
    except (tf.errors.UnavailableError, tf.errors.AbortedError):
        sys.exit("train: another worker was lost: start all of them again to go on")
    except tf.errors.OpError as error:  # what writes checkpoints has exceptions of its own
        sys.exit(f"train: {error.message.splitlines()[0]}: run the same command again to go on")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    config_flags.DEFINE_config_file("config", None, "Preset, a Python file.")
    flags.DEFINE_string("workdir", None, "Directory of the run's outputs.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)


if __name__ == "__main__":
    run()
