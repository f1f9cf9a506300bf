"""Trains the float model that `export` wrote, with JAX and without TensorFlow.

    pip install "jax[cuda13]" absl-py espeakng-loader ml_collections pymicro-features scipy \
        sentencepiece soundfile soxr tqdm
    python -m tf_speech_transformer.training.xla.train DIR

All cores but one make examples anew all the time (up to `examples` of the preset); training begins
when there are `FIRST_SHARDS` shards, and draws from all that are there.  In the end DIR gets
`last.npz` and `average.npz`, the weights after the last step and their exponential moving average.
A run that was killed begins anew.

Written against JAX 0.10 and 0.11.
"""

import collections
import concurrent.futures
import contextlib
import functools
import json
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir import hlo_to_stablehlo, ir
from jax.extend.mlir.dialects import func
from jax.interpreters import mlir
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import augment, caches, dataset, recipes
from tf_speech_transformer.corpora.features import CHANNELS, FrontendParameters
from tf_speech_transformer.text.tokenizer import CharacterTokenizer

FIRST_SHARDS = 24  # fewer examples would be seen too often while the others are made
DECAY = 0.999  # of the average of weights
LOG_STEPS = 50

# ------------------------------------------------------------------- a program of TensorFlow in JAX

# program(*tensors, file=, metrics=, outputs=) -> so many metrics, and new values of `outputs`.
program = Primitive("program")
program.multiple_results = True


@program.def_abstract_eval
def _results(*tensors: Any, file: str, metrics: int, outputs: tuple[int, ...]) -> list[Any]:
    return [ShapedArray((), np.dtype(np.float32))] * metrics + [tensors[i] for i in outputs]


def _call(context: Any, *tensors: Any, file: str, metrics: int, outputs: tuple[int, ...]) -> Any:
    """Merges the program into the module that JAX is making, and calls it."""
    text = ir.Module.parse(hlo_to_stablehlo(Path(file).read_bytes())).operation.get_asm(
        print_generic_op_form=True
    )
    # The one operation of HLO that is left over, and that JAX does not compile.
    module = ir.Module.parse(text.replace('"mhlo.copy"', '"stablehlo.reshape"'))
    types = ir.SymbolTable(module.operation)["main"].type.results
    whole = context.module_context
    name = mlir.merge_mlir_modules(whole.module, "program", module, dst_symtab=whole.symbol_table)
    return func.CallOp(types, ir.FlatSymbolRefAttr.get(name), list(tensors)).results


mlir.register_lowering(program, _call)


def step_of(file: Path, entry: dict[str, Any], metrics: int) -> Any:
    """The jitted step (state, average, batch) -> (state, average, metrics float32 [metrics])."""
    inputs, outputs = entry["inputs"], entry["outputs"]
    places = tuple(len(BATCH) + inputs.index(name) for name in outputs)

    def step(state, average, batch):
        tensors = [*(batch[name] for name in BATCH), *(state[name] for name in inputs)]
        results = program.bind(*tensors, file=str(file), metrics=metrics, outputs=places)
        state = {**state, **dict(zip(outputs, results[metrics:], strict=True))}
        average = {k: v + (1 - DECAY) * (state[k] - v) for k, v in average.items()}
        return state, average, jnp.stack(results[:metrics])

    return jax.jit(step, donate_argnums=(0, 1))


# ------------------------------------------------------------------------------------------ batches

BATCH = ("features", "frames", "tokens", "token_lengths")
TOKENIZER = CharacterTokenizer()
Example = tuple[np.ndarray, list[int]]  # features int8 [T, 40], token ids


def make_shard(recipe: recipes.Recipe, recordings: list[Path | None], index: int) -> Any:
    return caches.Maker(recipe, recordings).shard(index)


def examples_of(shard: tuple[np.ndarray, np.ndarray, list[str]]) -> list[Example]:
    """The examples of what `caches.Maker.shard` made."""
    features, lengths, texts = shard
    parts = np.split(features, np.cumsum(lengths)[:-1])
    return list(zip(parts, map(TOKENIZER.encode, texts), strict=True))


def batches(
    examples: list[Example],
    shards: multiprocessing.pool.IMapIterator,
    sizes: dict[int, int],
    tokens: int,
    seed: int,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Endless batches, as `dataset.batches` makes them, and the length of each in frames.

    An epoch takes all `examples`, with those of the shards that came before it began.  What does
    not fill a batch waits for the next one.

    Args:
        sizes: utterances of a batch by its length, ascending.
        tokens: to which texts are padded.
    """
    rng = np.random.default_rng(seed)
    waiting: dict[int, list[Example]] = collections.defaultdict(list)
    while True:
        with contextlib.suppress(multiprocessing.TimeoutError, StopIteration):
            while True:  # until no more are there yet, or at all
                examples += examples_of(shards.next(timeout=0))
        for i in rng.permutation(len(examples)):
            length = next(x for x in sizes if len(examples[i][0]) <= x)
            waiting[length].append(examples[i])
            if len(waiting[length]) == sizes[length]:
                batch = dataset.padded(waiting.pop(length), length, tokens, TOKENIZER.end)
                for features, frames in zip(batch["features"], batch["frames"], strict=True):
                    augment.spec_augment(features, int(frames), rng)
                yield length, batch


# ----------------------------------------------------------------------------------------- training


def compiled(directory: Path, index: dict[str, Any], state: Any, average: Any) -> dict[int, Any]:
    """The steps by the lengths of their batches, compiled side by side."""

    def compile_one(length: int) -> Any:
        entry = index["programs"][str(length)]
        size, tokens = entry["utterances"], index["tokens"]
        batch = {
            "features": jax.ShapeDtypeStruct((size, length, CHANNELS), np.float32),
            "frames": jax.ShapeDtypeStruct((size,), np.int32),
            "tokens": jax.ShapeDtypeStruct((size, tokens), np.int32),
            "token_lengths": jax.ShapeDtypeStruct((size,), np.int32),
        }
        step = step_of(directory / f"step_{length}.hlo", entry, len(index["metrics"]))
        return step.lower(state, average, batch).compile()

    lengths = sorted(map(int, index["programs"]))
    with concurrent.futures.ThreadPoolExecutor() as executor:
        steps = tqdm(
            executor.map(compile_one, lengths),
            "compiling",
            len(lengths),
            unit="program",
            disable=None,
        )
        return dict(zip(lengths, steps, strict=True))


def save(file: Path, state: dict[str, Any]) -> None:
    """Writes the model's weights by their paths."""
    weights = {k.removeprefix("model/"): np.asarray(v) for k, v in state.items() if "model/" in k}
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        np.savez(out, **weights)
    temporary.replace(file)


def train(directory: Path) -> None:
    """Trains to the end of the schedule; writes `last.npz` and `average.npz`."""
    if not (directory / "index.json").is_file():
        raise ValueError(f"{directory} has no index.json: make it with `training.xla.export`")
    index = json.loads((directory / "index.json").read_text())
    fields = dict(index["recipe"])
    fields["augmentation"] = augment.Augmentation(**fields["augmentation"])
    fields["frontend"] = FrontendParameters(**fields["frontend"])
    recipe = recipes.Recipe(**fields)
    recordings = [name and directory / name for name in index["recordings"]]
    shards = range(-(-recipe.examples // recipe.shard_examples))
    sizes = {int(k): v["utterances"] for k, v in index["programs"].items()}
    with np.load(directory / "state.npz") as initial:
        state = {name: jnp.asarray(initial[name]) for name in initial.files}
    average = {name: jnp.array(v) for name, v in state.items() if name.startswith("model/")}
    # As in `caches.build_cache`: a new process for each shard.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tf_speech_transformer.training.xla.train"])
    processes = max(1, len(os.sched_getaffinity(0)) - 1)
    with context.Pool(processes, maxtasksperchild=1) as pool:
        make = functools.partial(make_shard, recipe, recordings)
        made = pool.imap_unordered(make, shards)
        steps = compiled(directory, index, state, average)
        examples: list[Example] = []
        for _ in tqdm(shards[:FIRST_SHARDS], "first examples", unit="shard", disable=None):
            examples += examples_of(made.next())
        source = batches(examples, made, sizes, index["tokens"], recipe.seed)
        recent, frames, started = [], 0, time.monotonic()
        with tqdm(total=index["steps"], desc="training", unit="step", disable=None) as progress:
            for number in range(1, index["steps"] + 1):
                length, batch = next(source)
                state, average, metrics = steps[length](state, average, batch)
                recent.append(metrics)
                frames += batch["features"].shape[0] * length
                progress.update()
                if number % LOG_STEPS == 0 or number == index["steps"]:
                    means = np.mean(jax.device_get(recent), 0)
                    progress.set_postfix(
                        dict(zip(index["metrics"], map(float, means), strict=True)),
                        frames_a_second=round(frames / (time.monotonic() - started)),
                        examples=len(examples),
                    )
                    if progress.disable:  # no terminal
                        print(f"step {number} of {index['steps']}: loss {means[0]:.3f}", flush=True)
                    recent, frames, started = [], 0, time.monotonic()
    save(directory / "last.npz", state)
    save(directory / "average.npz", average)


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("name one directory: the one that `training.xla.export` made")
    # Autotuning takes longer than what it gives: see docs/experiments.md.
    os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    jax.config.update("jax_enable_x64", True)  # steps and the state of dropout are int64
    try:
        train(Path(argv[1]))
    except (ValueError, OSError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    tool.run(main)
