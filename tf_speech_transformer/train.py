"""Trains a recogniser: float, then post-training ranges, then quantization-aware.

    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/digits.py \
        --workdir=runs/digits

`training/preset.py` says what a preset may hold. Not all presets have these, in `train`:

    optimizer: "adam" (the default, with `learning_rate` warmed up and then half a cosine), or
        "adadelta" (rho 0.95, epsilon 1e-8, `learning_rate` from beginning to end).
    accumulate: batches whose gradients are averaged for a step; 1 by default.
    warp: each utterance is warped anew each time (`augment.warp`), as if other speakers said it.
    token_noise: the share of random tokens among those that the decoder of the float model gets.
        It learns to listen rather than to know texts by heart. 0 by default.
    average: checkpoints, the last of the float stage, whose weights are averaged; 1 by default.
    initial: another run's workdir or `weights.npz`, whose float weights this one starts from.
    initial_shared: the same, but only the layers that both models have; others begin untrained.
    bfloat16: the float model multiplies in it; fast on CPUs that can.
    phone_weight: of the second CTC head, over phones, if the model has one and `ctc_weight` is 1;
        1 leaves the letters untaught.

and in its `quantization`:

    rotation: the models of 8 bits are those of the float one with rotated streams (`rotation.py`).
    distillation: the last stage learns the outputs of the float model, not the texts.

The workdir gets `config.json`, `tokenizer/`, `weights.npz` (of the float model, float16), and one
folder for each stage (`float`, `ptq`, `qat`) with its checkpoints, `metrics.jsonl` (a line for each
log step) and `tensorboard/`. The same command goes on where a killed run stopped, and ends with the
same weights as a run that was never killed. `training/cluster.py` says how several GPUs or machines
train together.
"""

import dataclasses
import sys
from pathlib import Path

import ml_collections
import tensorflow as tf
from absl import app, flags
from ml_collections import config_flags

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.model import rotation
from tf_speech_transformer.model.transformer import build
from tf_speech_transformer.training import preset
from tf_speech_transformer.training.cluster import Cluster, join
from tf_speech_transformer.training.runs import (
    WEIGHTS_FILE,
    averaged,
    dimensions,
    lock,
    make_tokenizer,
    prepare,
    quantized_dimensions,
    read_weights,
    set_seed,
)
from tf_speech_transformer.training.stages import make_dev_step, stages, train_stage
from tf_speech_transformer.training.weights import (
    by_path,
    copy_weights,
    restore_average,
    set_weights,
    write_weights,
)


def train(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """The whole job: corpus, float model, ranges, quantization-aware model."""
    set_seed(config.seed)
    cluster = join()
    if cluster.chief:
        with lock(workdir):
            _train(config, workdir, cluster)
    else:
        cluster.barrier()  # the chief makes what is made once
        _train(config, workdir, cluster)


def _train(config: ml_collections.ConfigDict, workdir: Path, cluster: Cluster) -> None:
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
            set_weights(values, model, only_shared=name == "initial_shared")
    data = (tokenizer, training_caches, dev_cache, workdir, cluster)
    float_stage, ptq_stage, qat_stage = stages(config)
    train_stage(config, float_stage, model, make_dev_step(config, model, tokenizer), *data)
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
    dev_step = make_dev_step(config, quantized, tokenizer)
    train_stage(config, ptq_stage, quantized, dev_step, *data)
    teacher = model if config.quantization.get("distillation", False) else None
    train_stage(config, qat_stage, quantized, dev_step, *data, teacher)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    try:
        train(preset.read(flags.FLAGS.config), Path(flags.FLAGS.workdir))
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
    tool.run(main)


if __name__ == "__main__":
    run()
