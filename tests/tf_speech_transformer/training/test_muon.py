"""Muon moves every direction of a matrix alike; all else moves by Adam."""

import ml_collections
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.conftest import TINY_MODEL
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.training import muon, runs, stages


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_singular_vectors_stay_and_singular_values_become_one(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    result = muon.orthogonal(tf.constant(matrix)).numpy()
    values = np.linalg.svd(result, compute_uv=False)
    assert values.min() > 0.3 and values.max() < 1.3
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    rotated = left.T @ result @ right.T
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-4)
    assert not muon.orthogonal(tf.zeros(shape)).numpy().any()


def test_hidden_matrices_take_steps_of_one_size_and_the_rest_those_of_adam() -> None:
    runs.set_seed(1)
    dims = Dimensions(vocabulary=31, **TINY_MODEL, phones=True)
    model = transformer.build(dims, quantized=False)
    train = {"optimizer": "muon", "clip_norm": 1.0}
    stage = stages.Stage("float", steps=10, learning_rate=0.1, warmup_steps=1)
    optimizer = stages.make_optimizer(ml_collections.ConfigDict({"train": train}), stage, model)
    adam = keras.optimizers.Adam(stage.learning_rate, beta_2=0.98, epsilon=1e-9)
    before = [v.numpy() for v in model.trained_variables]
    twins = [tf.Variable(v) for v in before]
    rng = np.random.default_rng(2)
    changes = [tf.constant(rng.normal(size=v.shape) * 1e-3, tf.float32) for v in before]
    optimizer.apply_gradients(zip(changes, model.trained_variables, strict=True))
    adam.apply_gradients(zip(changes, twins, strict=True))
    hidden = 0
    for variable, twin, old in zip(model.trained_variables, twins, before, strict=True):
        step = variable.numpy() - old
        if model.hidden_matrix(variable):
            hidden += 1
            size = np.sqrt(np.mean(step**2))
            assert size == pytest.approx(0.1 * 0.2, rel=0.25), variable.name
        else:
            np.testing.assert_allclose(variable.numpy(), twin.numpy(), rtol=1e-4, atol=1e-6)
    assert hidden > 10 and not model.hidden_matrix(model.phones.kernel)
