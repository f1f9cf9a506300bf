"""Two workers learn what one does, and go on when one of them was lost."""

import ast
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.tf_speech_transformer.test_train import command, train_here
from tf_speech_transformer.training import cluster

# Largest relative difference of a loss: two workers add in another order.  In 8 bits a value near a
# border falls to its other side: changing the weights by 1e-5 of themselves moves this loss by up
# to 7.4e-4, the one in float by 3e-6.
TOLERANCE = {"float": 3e-4, "qat": 2e-3}
# Dropout draws from other generators on each worker.
SMALL = {
    "model.dropout": 0.0,
    "quantization.range_steps": 0,
    "quantization.steps": 1,
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(workdir: pathlib.Path, log: pathlib.Path) -> list[subprocess.Popen]:
    """Both workers; their words are in `log`.0 and `log`.1."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        place = json.dumps({"cluster": {"worker": addresses}, "task": task})
        with log.with_suffix(f".{index}").open("w") as words:
            workers.append(
                subprocess.Popen(
                    command(workdir, **SMALL),
                    stdout=words,
                    stderr=subprocess.STDOUT,
                    cwd=REPOSITORY,
                    env={**os.environ, cluster.CONFIG: place},
                )
            )
    return workers


def curve(workdir: pathlib.Path) -> dict[tuple[str, int, str], float]:
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {(x["stage"], x["step"], x["split"]): x["loss"] for x in lines}


def test_two_workers_have_the_loss_curve_of_one_and_a_lost_one_comes_back(
    tmp_path: pathlib.Path,
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    train_here(alone, **SMALL)
    shutil.copytree(alone / "cache", together / "cache")
    workers = start(together, tmp_path / "first")
    try:
        metrics = together / "metrics.jsonl"
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
            assert workers[1].poll() is None, (tmp_path / "first.1").read_text()
            time.sleep(0.02)
        os.kill(workers[1].pid, signal.SIGKILL)
        assert workers[0].wait(timeout=300) != 0
        assert "another worker was lost" in (tmp_path / "first.0").read_text().splitlines()[-1]
        assert not (together / "qat").exists()
        workers = start(together, tmp_path / "second")
        for index, worker in enumerate(workers):
            code = worker.wait(timeout=600)
            assert code == 0, (tmp_path / f"second.{index}").read_text()
    finally:
        for worker in workers:
            worker.kill()
    assert "going on from step" in (tmp_path / "second.0").read_text()
    one, two = curve(alone), curve(together)
    assert one.keys() == two.keys()
    assert {stage for stage, _, _ in one} == {"float", "qat"}
    for place, loss in one.items():
        np.testing.assert_allclose(two[place], loss, rtol=TOLERANCE[place[0]], err_msg=str(place))


@pytest.mark.parametrize(
    "text", ["worker 0", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps"}}']
)
def test_a_cluster_that_is_not_understood_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"TF_CONFIG is .* and must be"):
        cluster._task(text)


GATHERED = """
import tensorflow as tf
from tf_speech_transformer.model import quantization
import tf_keras as keras

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
parts = [[[1.0, -2.0]], [[5.0, -0.5]]]
with strategy.scope():
    layer = quantization.in_eight_bits(keras.layers.Activation("linear", name="layer"))
    layer(tf.zeros([1, 2]))

@tf.function(autograph=False)
def step(batch):
    strategy.run(lambda x: layer(x, training=True), args=(batch,))

step(strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(parts[context.replica_id_in_sync_group])
))
print({v.name.split("_")[-1]: float(v.numpy()) for v in layer.variables if v.shape == ()})
"""


def test_ranges_are_those_of_the_whole_batch_on_every_worker() -> None:
    command = [sys.executable, "-c", GATHERED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    ends = {name.split(":")[0]: value for name, value in found.items()}
    assert (ends["min"], ends["max"]) == (-2.0, 5.0)
