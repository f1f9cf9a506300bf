"""A run as training and conversion leave it, made without training."""

import json
import pathlib

import ml_collections
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from tests.conftest import TINY_MODEL, MadeOnce, synthesise
from tf_speech_transformer.corpora.features import as_float, microfrontend
from tf_speech_transformer.model import transformer
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tf_speech_transformer.training import runs, weights
from tflite_convert import convert

CONFIG = ml_collections.ConfigDict(
    {
        "preset": "tiny",
        "train": {"ctc_weight": 0.3},
        "model": TINY_MODEL,
        "limits": {"frames": 128, "tokens": 8},
    }
)
TEXTS = ("one two", "three", "nine four")


@pytest.fixture(scope="session")
def tiny_run(made_once: MadeOnce) -> pathlib.Path:
    """Workdir with checkpoints `float` and `qat` of untrained weights, and their bundles."""
    return made_once("run", make_run)


def make_run(workdir: pathlib.Path) -> None:
    runs.prepare(CONFIG, workdir)
    tokenizer = CharacterTokenizer()
    tokenizer.save(workdir / "tokenizer")
    dims = runs.dimensions(CONFIG, tokenizer)
    runs.set_seed(5)
    in_float = transformer.build(dims, quantized=False)
    quantized = transformer.build(dims, quantized=True)
    weights.copy_weights(in_float, quantized)
    features = as_float(microfrontend(synthesise(TEXTS[0])))[:128]
    inputs = {
        "features": tf.constant(np.pad(features, [(0, 128 - len(features)), (0, 0)])[None]),
        "frames": tf.constant([len(features)]),
        "tokens": tf.constant([[tokenizer.start, *tokenizer.encode(TEXTS[0])]]),
    }
    quantized(inputs, training=True)  # the ranges
    quantized.settle()
    for stage, model in (("float", in_float), ("qat", quantized)):
        checkpoint = tf.train.Checkpoint(model=model)
        tf.train.CheckpointManager(checkpoint, str(workdir / stage), max_to_keep=1).save()
    convert.write(quantized, tokenizer, CONFIG, workdir / "bundle", {})
    convert.write(in_float, tokenizer, CONFIG, workdir / "bundle_float32", {})
    metrics = [
        {"stage": stage, "step": step, "split": split, "loss": 3.0 / step, "accuracy": 0.1 * step}
        for stage in ("float", "ptq", "qat")
        for step in (1, 2, 3)
        for split in ("train", "dev")
    ]
    metrics[0]["loss"] = float("inf")
    lines = "".join(json.dumps(line) + "\n" for line in metrics)
    (workdir / "metrics.jsonl").write_text(lines)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Three spoken strings."""
    directory = tmp_path_factory.mktemp("test")
    lines = ["audio\ttext\n"]
    for i, text in enumerate(TEXTS):
        soundfile.write(directory / f"{i}.wav", synthesise(text), 16000)
        lines.append(f"{i}.wav\t{text}\n")
    (directory / "manifest.tsv").write_text("".join(lines))
    return directory / "manifest.tsv"
