"""Speed of training, and where its time goes.

    python -m benchmarks.training --config=tf_speech_transformer/configs/digits.py \
        --workdir=runs/digits [--steps=40]

Takes steps of the float stage and of the quantization-aware one on the batches that the run in
`--workdir` trains on (its cache is made if it is not there), with fresh weights that are thrown
away: seconds of audio a second, padding not counted; then the share of each kind of operation in
the time that all of them take, gradients included, over `PROFILED` steps.
"""

import collections
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf
import tqdm
from absl import app, flags
from ml_collections import config_flags
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import report
from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import losses, runs, stages

WARM_UP = 5  # steps before the clock starts: tracing, and memory is got
PROFILED = 5
FRAMES_A_SECOND = 100


def measure(
    config: ml_collections.ConfigDict,
    stage: stages.Stage,
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    batches: Iterator[Any],
    steps: int,
) -> dict[str, Any]:
    """Speed of a stage's steps, and microseconds of each kind of operation."""
    optimizer = stages.make_optimizer(config, stage, model)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return losses.update(config, model, optimizer, tokenizer, batch)["loss"]

    for _ in range(WARM_UP):
        step(next(batches))
    frames, utterances, began = 0, 0, time.monotonic()
    for _ in tqdm.trange(steps, desc=stage.name, unit="step", file=sys.stderr, disable=None):
        batch = next(batches)
        step(batch)
        frames += int(tf.reduce_sum(batch["frames"]))
        utterances += int(batch["frames"].shape[0])
    seconds = time.monotonic() - began
    profiled = [next(batches) for _ in range(PROFILED)]
    return {
        "seconds_a_step": seconds / steps,
        "utterances_a_step": utterances / steps,
        "audio_seconds_a_second": frames / FRAMES_A_SECOND / seconds,
        "microseconds": profile(lambda: [step(batch) for batch in profiled]),
    }


def profile(run: Callable[[], object]) -> dict[str, int]:
    """Microseconds of each kind of operation in what `run` calls, the longest first."""
    with tempfile.TemporaryDirectory() as directory:
        with tf.profiler.experimental.Profile(directory):
            run()
        (trace,) = Path(directory).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    spent: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name  # node:Kind
            if ":" in name and "::" not in name and " " not in name:
                spent[name.rpartition(":")[2].removeprefix("_Mkl")] += event.duration_ps
    return {kind: round(spent / 1e6) for kind, spent in spent.most_common()}


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    config, workdir = arguments.config, Path(arguments.workdir)
    machine = report.machine()
    figures: dict[str, Any] = {"machine": machine, "stages": {}}
    try:
        runs.set_seed(config.seed)
        tokenizer = runs.make_tokenizer(config, workdir)
        caches, _ = dataset.prepare_caches(config, workdir / "cache", tokenizer)
        dims = runs.dimensions(config, tokenizer)
        for stage in stages.stages(config):
            if not stage.weights:
                continue
            quantized = stage.name != "float"
            chosen = runs.quantized_dimensions(config, dims) if quantized else dims
            model = transformer.build(chosen, quantized)
            position = tf.Variable([0, 0], dtype=tf.int64)
            batches = stages.endless_batches(config, caches, tokenizer, position)
            figures["stages"][stage.name] = measure(
                config, stage, model, tokenizer, batches, arguments.steps
            )
        report.write_json(arguments.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading("Training", machine))
    rows = [
        [name, *(f"{found[key]:.3g}" for key in list(found)[:3])]
        for name, found in figures["stages"].items()
    ]
    header = ["stage", "seconds a step", "utterances", "seconds of audio a second"]
    print(report.table(header, rows))
    for name, found in figures["stages"].items():
        total = sum(found["microseconds"].values())
        parts = list(found["microseconds"].items())[: arguments.longest]
        rows = [[kind, f"{100 * spent / total:.1f}"] for kind, spent in parts]
        print(f"\n{name}, of the operations' time\n" + report.table(["operation", "%"], rows))
    return 0


def run() -> None:
    config_flags.DEFINE_config_file("config", None, "Preset, a Python file.")
    flags.DEFINE_string("workdir", None, "Directory of the run.", required=True)
    flags.DEFINE_integer("steps", 40, "Steps that are timed.", lower_bound=1)
    flags.DEFINE_integer("longest", 12, "Operations listed.", lower_bound=1)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    flags.mark_flag_as_required("config")
    app.run(main)


if __name__ == "__main__":
    run()
