"""The training step as an XLA program computes what `train` does, and its weights come back."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.conftest import REPOSITORY, TINY_MODEL
from tf_speech_transformer import train
from tf_speech_transformer.configs import digits
from tf_speech_transformer.corpora import dataset, recipes
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.model import transformer
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tf_speech_transformer.training import losses, runs
from tf_speech_transformer.training.weights import by_path, path
from tf_speech_transformer.training.xla import export as xla

TOKENIZER = CharacterTokenizer()


def tiny_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.model.update(TINY_MODEL)
    config.model.dropout = 0.1
    config.corpus.train_examples, config.corpus.dev_examples = 8, 4
    config.train.batch_frames = 1200
    config.quantization.range_steps = config.quantization.steps = 0  # tracing them takes a minute
    config.xla = ml_collections.ConfigDict(
        {
            "batch_frames": 1024,
            "learning_rate": 1e-3,
            "warmup_steps": 2,
            "steps": 3,
            "lengths": (512,),
            "tokens": 44,
            "examples": 12,
        }
    )
    return config


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    directory: Path = tmp_path_factory.mktemp("xla") / "exported"
    xla.export(tiny_config(), directory)
    return directory


def initial(exported: Path) -> dict[str, np.ndarray]:
    """The weights as training begins, by their paths."""
    with np.load(exported / "state.npz") as state:
        return {k.removeprefix("model/"): state[k] for k in state.files if "model/" in k}


def random_batch(rng: np.random.Generator, frames: int = 64) -> dict[str, tf.Tensor]:
    """Three utterances of random features and digits."""
    texts = [TOKENIZER.encode(text) for text in ("three", "nine one", "eight")]
    lengths = np.array([frames, frames - 20, frames - 8])
    features = [rng.integers(-128, 128, [x, 40]).astype(np.int8) for x in lengths]
    examples = list(zip(features, texts, strict=True))
    batch = dataset.padded(examples, frames, 10, TOKENIZER.end)
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.parametrize("seed", range(4))
def test_dense_ctc_equals_the_sparse_one(seed):
    """In loss and gradient; speech too short for its text, doubled letters and padding included."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, 16).astype(np.int32)
    tokens = np.where(np.arange(9) < lengths[:, None], rng.integers(2, 5, (16, 9)), TOKENIZER.end)
    frames = rng.integers(1, 21, 16).astype(np.int32)
    frames[0], lengths[0] = 1, 9
    logits = tf.constant(rng.normal(0, 3, (16, 20, TOKENIZER.size)), tf.float32)
    results = []
    for ctc in (losses.sparse_ctc, xla.dense_ctc):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            each = ctc(tf.constant(tokens, tf.int32), lengths, logits, tf.constant(frames))
            loss = tf.reduce_sum(each)
        results.append((each.numpy(), tape.gradient(loss, logits).numpy()))
    (sparse, sparse_gradient), (dense, dense_gradient) = results
    assert sparse[0] == 0
    assert np.all(sparse_gradient[0] == 0)
    assert np.count_nonzero(sparse) > 4
    np.testing.assert_allclose(dense, sparse, rtol=1e-5)
    np.testing.assert_allclose(dense_gradient, sparse_gradient, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 40), (7, 5)])
def test_convolutions_as_products_equal_those_of_keras(stride, size):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, *size, 3)), tf.float32)
    layer = keras.layers.Conv2D(4, 3, strides=stride, padding="same", use_bias=False)
    np.testing.assert_allclose(layer(x), xla.convolution(layer, x), atol=1e-5)
    normal = keras.initializers.RandomNormal(seed=1)
    affine = keras.layers.DepthwiseConv2D(
        1, activation="relu", depthwise_initializer=normal, bias_initializer=normal
    )
    np.testing.assert_allclose(affine(x), xla.depthwise(affine, x), atol=1e-6)


def test_compiled_steps_train_as_train_does():
    """Losses, and the weights after two steps; without dropout, whose masks are others.

    By plain descent: the first steps of Adam are of one size even where a gradient is nothing but
    rounding.
    """
    config = tiny_config()
    config.model.dropout = 0.0
    rng = np.random.default_rng(0)
    batches = [random_batch(rng) for _ in range(2)]
    curves, weights = [], []
    for compiled in (False, True):
        runs.set_seed(1)
        model = transformer.build(runs.dimensions(config, TOKENIZER), quantized=False)
        optimizer = keras.optimizers.SGD(0.1)
        if compiled:
            xla.use_products(model)
            step = xla.step_of(config, model, optimizer, TOKENIZER)
            found = [[float(x) for x in step(**batch)] for batch in batches]
        else:
            updates = [losses.update(config, model, optimizer, TOKENIZER, x) for x in batches]
            found = [[float(update[name]) for name in xla.METRICS] for update in updates]
        curves.append(found)
        weights.append({name: value.numpy() for name, value in by_path(model).items()})
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    assert not np.allclose(curves[0][0], curves[0][1], rtol=1e-3)
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-5, err_msg=name)


def test_export_is_complete(exported: Path):
    config = tiny_config()
    model = transformer.build(runs.dimensions(config, TOKENIZER), quantized=False)
    index = json.loads((exported / "index.json").read_text())
    with np.load(exported / "state.npz") as archive:
        state = {name: archive[name].shape for name in archive.files}
    weights = {f"model/{k}": tuple(v.shape) for k, v in by_path(model).items()}
    trained = {f"model/{path(v)}" for v in model.trained_variables}
    assert weights.items() <= state.items()
    assert index["programs"].keys() == {"512"}
    for length, entry in index["programs"].items():
        assert (exported / f"step_{length}.hlo").stat().st_size > 10_000
        assert entry["utterances"] == 2
        # What a step does not read or change is constants.
        constants = weights.keys() - trained
        assert state.keys() - constants <= set(entry["inputs"]) <= state.keys()
        assert state.keys() - set(entry["outputs"]) == constants
    recipe = index["recipe"]
    recipe["augmentation"] = Augmentation(**recipe["augmentation"])
    expected = dataclasses.replace(recipes.of_preset(config)["train"], examples=12, max_tokens=44)
    assert recipes.Recipe(**recipe).key() == expected.key()
    assert index["recordings"] == [None]  # espeak-ng needs none


def test_training_goes_on_after_the_imported_stage(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config, workdir, file = tiny_config(), tmp_path / "run", tmp_path / "last.npz"
    trained = {name: value + np.float32(0.01) for name, value in initial(exported).items()}
    np.savez(file, **trained)
    xla.import_weights(config, workdir, file)
    train.train(config, workdir)
    said = capsys.readouterr().out
    assert "float training" not in said
    assert "ptq training" in said
    weights = by_path(runs.load(workdir, "float")[0])
    assert weights.keys() == trained.keys()
    for name, value in trained.items():
        np.testing.assert_array_equal(weights[name].numpy(), value, err_msg=name)


def test_weights_of_another_model_are_refused_with_nothing_written(exported: Path, tmp_path: Path):
    weights = initial(exported)
    name = next(iter(weights))
    wrong = {
        "missing": {k: v for k, v in weights.items() if k != name},
        "unknown": {**weights, "another": np.zeros(1)},
        "shape": {**weights, name: weights[name][..., :1]},
        "nan": {**weights, name: weights[name] * np.nan},
    }
    for kind, content in wrong.items():
        file = tmp_path / f"{kind}.npz"
        np.savez(file, **content)
        with pytest.raises(ValueError, match=rf"{kind}\.npz: 1 weights, first "):
            xla.import_weights(tiny_config(), tmp_path / "run", file)
    torn = tmp_path / "torn.npz"
    torn.write_bytes((tmp_path / "nan.npz").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"torn\.npz is no whole \.npz"):
        xla.import_weights(tiny_config(), tmp_path / "run", torn)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_exported_is_refused_with_nothing_written(exported: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="exists already"):
        xla.export(tiny_config(), exported)
    with pytest.raises(ValueError, match="no section xla"):
        xla.export(digits.get_config(), tmp_path / "exported")
    for lengths in ((256,), (250, 512)):
        config = tiny_config()
        config.xla.lengths = lengths
        with pytest.raises(ValueError, match="multiples of 4, the largest at least"):
            xla.export(config, tmp_path / "exported")
    config = tiny_config()
    missing = {"kind": "joined", "manifest": str(tmp_path / "manifest.tsv"), "weight": 1.0}
    config.corpus.sources = (missing,)
    with pytest.raises(ValueError, match="does not exist"):
        xla.export(config, tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_one_command_does_one_thing():
    command = [
        sys.executable,
        "-m",
        "tf_speech_transformer.training.xla.export",
        "--workdir=nowhere",
    ]
    command.append("--config=tf_speech_transformer/configs/digits_people.py")
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode != 0
    assert "name --export, or --workdir and --import" in done.stdout + done.stderr


def test_jax_trains_the_exported_program(exported: Path, tmp_path: Path):
    """With JAX, which needs another numpy than TensorFlow: JAX_PYTHON names its interpreter."""
    python = os.environ.get("JAX_PYTHON", sys.executable)
    imports = "import tf_speech_transformer.training.xla.train"
    found = subprocess.run([python, "-c", imports], capture_output=True, text=True, cwd=REPOSITORY)
    if found.returncode:
        pytest.skip(f"JAX_PYTHON={python}: {found.stderr.strip().splitlines()[-1]}")
    command = [python, "-m", "tf_speech_transformer.training.xla.train"]
    refused, done = (
        subprocess.run([*command, str(x)], capture_output=True, text=True, cwd=REPOSITORY)
        for x in (tmp_path, exported)
    )
    assert refused.returncode != 0
    assert refused.stderr.startswith(f"train: {tmp_path} has no index.json")
    assert done.returncode == 0, done.stderr
    assert "step 3 of 3: loss " in done.stdout
    first = initial(exported)
    with np.load(exported / "last.npz") as last, np.load(exported / "average.npz") as average:
        assert first.keys() == set(last.files) == set(average.files)
        kernel = "ctc/kernel"
        moved = np.abs(last[kernel] - first[kernel]).max()
        assert 1e-4 < moved < 4e-3  # three steps of Adam, at a rate of 1e-3 at most
        assert 0 < np.abs(average[kernel] - first[kernel]).max() < moved / 100
    xla.import_weights(tiny_config(), tmp_path / "run", exported / "last.npz")
