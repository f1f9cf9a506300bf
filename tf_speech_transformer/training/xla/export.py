"""The float stage on another machine: exports its step as XLA programs, imports its weights.

    XLA="python -m tf_speech_transformer.training.xla.export --config=PRESET"
    $XLA --export=DIR
    python -m tf_speech_transformer.training.xla.train DIR  # there: see its docstring
    $XLA --workdir=RUN --import=DIR/last.npz
    python -m tf_speech_transformer.train --config=PRESET --workdir=RUN  # goes on: ptq, qat

The TensorFlow of this project needs CUDA 12.3 on a GPU; newer machines have JAX on CUDA 13. So
TensorFlow translates a step of training (forward, losses, gradients, Adam with its schedule,
dropout) into HLO here, and JAX compiles and runs it there. The preset's section `xla` holds
`batch_frames`, `learning_rate`, `warmup_steps` and `steps` in the place of those of `train`, and
    lengths: frames to which utterances are padded, multiples of 4; there is a program for each
    tokens: to which texts are padded; longer ones are drawn again
    examples: the most that are made

DIR gets `step_LENGTH.hlo` (a serialized HloModuleProto), `state.npz` (all variables as training
begins), the decoded recordings of the corpus, and `index.json`, which says what is what.
"""

import dataclasses
import functools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags
from ml_collections import config_flags
from tensorflow.compiler.xla.service import hlo_pb2
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import recipes
from tf_speech_transformer.corpora.features import CHANNELS
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import CharacterTokenizer, Tokenizer
from tf_speech_transformer.training import losses, preset, runs, stages
from tf_speech_transformer.training.weights import by_path, read_archive

METRICS = ("loss", "attention", "ctc", "accuracy")
NEVER = -1e9  # logarithm of a probability of 0


def dense_ctc(
    tokens: tf.Tensor, lengths: tf.Tensor, logits: tf.Tensor, frames: tf.Tensor
) -> tf.Tensor:
    """What `losses.sparse_ctc` computes, with static shapes, as XLA needs them.

    The forward variables of all utterances advance together, in the logarithm.
    """
    batch, longest = tokens.shape
    steps, vocabulary = logits.shape[1:]
    blanks = tf.fill([batch, longest], vocabulary - 1)
    between = tf.reshape(tf.stack([blanks, tokens], 2), [batch, 2 * longest])
    labels = tf.concat([between, blanks[:, :1]], 1)  # blank, letter, blank, ..., blank
    states = 2 * longest + 1
    # A product instead of a gather: so is its gradient.
    emitted = tf.einsum("bsv,blv->sbl", tf.nn.log_softmax(logits), tf.one_hot(labels, vocabulary))
    other = tf.not_equal(labels[:, 2:], labels[:, :-2])  # a blank, or a doubled letter, is not
    skips = tf.concat([tf.zeros([batch, 2], tf.bool), other], 1)

    def shifted(scores: tf.Tensor, by: int) -> tf.Tensor:
        return tf.concat([tf.fill([batch, by], NEVER), scores[:, :-by]], 1)

    def advance(step: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        skipped = tf.where(skips, shifted(scores, 2), NEVER)
        reached = tf.reduce_logsumexp(tf.stack([scores, shifted(scores, 1), skipped]), 0)
        speech = (step < frames)[:, None]
        return step + 1, tf.where(speech, reached + tf.gather(emitted, step), scores)

    first = tf.where(tf.range(states) < 2, emitted[0], NEVER)
    _, scores = tf.while_loop(
        lambda step, _: step < steps, advance, (1, first), maximum_iterations=steps - 1
    )
    ends = tf.one_hot(2 * lengths, states) + tf.one_hot(2 * lengths - 1, states)
    each = -tf.reduce_logsumexp(tf.where(ends > 0, scores, NEVER), 1)
    return tf.where(each < -NEVER / 2, each, 0.0)


def convolution(layer: keras.layers.Conv2D, x: tf.Tensor) -> tf.Tensor:
    """A 3x3 `Conv2D` without bias, padded "same", as a product: its nine shifts side by side."""
    stride = layer.strides[0]
    height, width = (-(-size // stride) for size in x.shape[1:3])

    def padding(size: int) -> list[int]:
        total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
        return [total // 2, total - total // 2]

    x = tf.pad(x, [[0, 0], padding(x.shape[1]), padding(x.shape[2]), [0, 0]])
    shifts = [
        x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        for i in range(3)
        for j in range(3)
    ]
    kernel = tf.reshape(layer.kernel, [9 * x.shape[3], layer.filters])
    return tf.tensordot(tf.concat(shifts, 3), kernel, 1)


def depthwise(layer: keras.layers.DepthwiseConv2D, x: tf.Tensor) -> tf.Tensor:
    """A 1x1 `DepthwiseConv2D` as a product of elements."""
    return layer.activation(x * layer.depthwise_kernel[0, 0, :, 0] + layer.bias)


def use_products(model: SpeechTransformer) -> None:
    """Lets the front-end compute its convolutions as products.

    cuDNN's gradients of grouped convolutions are slow: 3 steps a second with them, 7 without.
    """
    for block in model.front_end:
        for layer in block.convolutions:
            layer.call = functools.partial(convolution, layer)
        for layer in block.affines:
            layer.call = functools.partial(depthwise, layer)


def state_of(model: SpeechTransformer, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """All variables that a step reads or writes, by name; weights are `model/PATH`."""
    return {
        **{f"model/{path}": variable for path, variable in by_path(model).items()},
        **{f"optimizer/{i}": variable for i, variable in enumerate(optimizer.variables)},
        "learning_rate": optimizer.learning_rate,
        "generator": model.generator.state,
    }


def step_of(
    config: ml_collections.ConfigDict,
    model: SpeechTransformer,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
) -> Any:
    """The compiled step: features, frames, tokens, token_lengths -> `METRICS`, float32 each."""

    @tf.function(jit_compile=True, autograph=False)
    def step(features, frames, tokens, token_lengths):
        batch = {
            "features": features,
            "frames": frames,
            "tokens": tokens,
            "token_lengths": token_lengths,
        }
        metrics = losses.update(config, model, optimizer, tokenizer, batch, dense_ctc)
        return [metrics[name] for name in METRICS]

    return step


def program(step: Any, state: dict[str, Any], shape: list[int]) -> tuple[bytes, dict[str, Any]]:
    """The HLO of a step, and its entry in the index.

    Args:
        shape: utterances, frames and tokens of a batch.

    Returns:
        The program takes the four tensors of a batch, then the variables `inputs`; it gives
        `METRICS`, then new values of the variables `outputs`.
    """
    size, frames, tokens = shape
    specs = (
        tf.TensorSpec([size, frames, CHANNELS], tf.float32),
        tf.TensorSpec([size], tf.int32),
        tf.TensorSpec([size, tokens], tf.int32),
        tf.TensorSpec([size], tf.int32),
    )
    names = {id(variable.handle): name for name, variable in state.items()}
    captured = step.get_concrete_function(*specs).captured_inputs
    inputs = [names[id(handle)] for handle in captured]
    hlo = step.experimental_get_compiler_ir(*specs)(stage="hlo_serialized")
    alias = hlo_pb2.HloModuleProto.FromString(hlo).input_output_alias
    written = {x.output_shape_index[0]: x.parameter_number for x in alias.entries}
    outputs = [inputs[written[i] - len(specs)] for i in sorted(written)]
    if sorted(written) != list(range(len(METRICS), len(METRICS) + len(written))):
        raise AssertionError("TensorFlow gives its variables back in another order")
    return hlo, {"utterances": size, "inputs": inputs, "outputs": outputs}


def export(config: ml_collections.ConfigDict, directory: Path) -> None:
    """Writes programs, state, recordings and index into a new directory."""
    if "xla" not in config:
        raise ValueError("the preset has no section xla: see configs/digits_people.py")
    chosen = config.xla
    if directory.exists():
        raise ValueError(f"{directory} exists already: choose another --export")
    lengths = sorted(chosen.lengths)
    if lengths[-1] < config.limits.frames or any(x % TIME_REDUCTION for x in lengths):
        raise ValueError(
            f"config.xla.lengths are {lengths}: name multiples of {TIME_REDUCTION}, the largest at"
            f" least config.limits.frames, {config.limits.frames}"
        )
    runs.set_seed(config.seed)
    tokenizer = CharacterTokenizer()
    model = transformer.build(runs.dimensions(config, tokenizer), quantized=False)
    use_products(model)
    stage = stages.Stage("float", chosen.steps, chosen.learning_rate, chosen.warmup_steps)
    optimizer = stages.make_optimizer(config, stage, model)
    state = state_of(model, optimizer)
    step = step_of(config, model, optimizer, tokenizer)
    recipe = dataclasses.replace(
        recipes.of_preset(config)["train"], examples=chosen.examples, max_tokens=chosen.tokens
    )
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        recordings = recipes.decode_sources(recipe, temporary, tokenizer)
        programs = {}
        for length in tqdm(lengths, "translating", unit="program", disable=None):
            shape = [max(1, chosen.batch_frames // length), length, chosen.tokens]
            hlo, programs[length] = program(step, state, shape)
            (temporary / f"step_{length}.hlo").write_bytes(hlo)
        np.savez(temporary / "state.npz", **{k: v.numpy() for k, v in state.items()})
        index = {
            "recipe": dataclasses.asdict(recipe),
            "recordings": [path and path.name for path in recordings],
            "steps": chosen.steps,
            "tokens": chosen.tokens,
            "metrics": METRICS,
            "programs": programs,
        }
        (temporary / "index.json").write_text(json.dumps(index, indent=1))
        temporary.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def import_weights(config: ml_collections.ConfigDict, workdir: Path, file: Path) -> None:
    """Makes `workdir/float` what `train` takes for a finished float stage.

    Raises ValueError, with nothing written, for a file that does not hold just this model.
    """
    if (workdir / "float").exists():
        raise ValueError(f"{workdir / 'float'} exists already: choose another --workdir")
    tokenizer = CharacterTokenizer()
    model = transformer.build(runs.dimensions(config, tokenizer), quantized=False)
    variables = by_path(model)
    weights = read_archive(file)
    wrong = sorted(weights.keys() ^ variables.keys()) or [
        name
        for name, value in weights.items()
        if value.shape != tuple(variables[name].shape) or not np.all(np.isfinite(value))
    ]
    if wrong:
        raise ValueError(
            f"{file}: {len(wrong)} weights, first {wrong[0]}, are missing, unknown, of another"
            " shape or no numbers: name the preset that it was trained with"
        )
    for name, value in weights.items():
        variables[name].assign(value)
    runs.prepare(config, workdir)
    tokenizer.save(workdir / "tokenizer")
    float_stage = stages.stages(config)[0]
    # As new: no step of this stage follows.
    optimizer = stages.make_optimizer(config, float_stage, model)
    checkpoint, manager = stages.state(model, optimizer, workdir / float_stage.name)
    checkpoint.step.assign(float_stage.steps)
    manager.save(checkpoint_number=float_stage.steps)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen, exported, workdir, file = (
        flags.FLAGS[name].value for name in ("config", "export", "workdir", "import")
    )
    if bool(exported) == bool(workdir) or bool(workdir) != bool(file):
        raise app.UsageError("name --export, or --workdir and --import")
    try:
        config = preset.read(chosen)
        if exported:
            export(config, Path(exported))
        else:
            import_weights(config, Path(workdir), Path(file))
    except (ValueError, OSError) as error:
        sys.exit(f"export: {error}")
    except tf.errors.OpError as error:  # what writes checkpoints has exceptions of its own
        sys.exit(f"export: {error.message.splitlines()[0]}")


def run() -> None:
    config_flags.DEFINE_config_file("config", None, "Preset, a Python file.")
    flags.DEFINE_string("export", None, "Directory to make, for `training.xla.train`.")
    flags.DEFINE_string("workdir", None, "Directory of the run that --import begins.")
    flags.DEFINE_string("import", None, "Weights that `training.xla.train` wrote, an .npz file.")
    flags.mark_flags_as_required(["config"])
    tool.run(main)


if __name__ == "__main__":
    run()
