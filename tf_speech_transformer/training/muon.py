"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024; Liu et al. 2025)."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # of Newton and Schulz's iteration, by Jordan et al.
_RMS = 0.2  # of an update, as Adam's are: both take the same learning rate


class Muon(keras.optimizers.Adam):
    """Steps by Muon where `chosen` says so of a variable, [M, N], and by Adam elsewhere.

    Every direction of a matrix moves by the same amount, not only those few that most gradients
    share.
    """

    def __init__(
        self,
        learning_rate: Any,
        chosen: Callable[[tf.Variable], bool],
        momentum: float = 0.95,
        dtype: tf.DType = tf.float32,
        **kwargs: Any,
    ):
        """`dtype`: of the products; the state stays float32."""
        super().__init__(learning_rate, **kwargs)
        self.chosen, self.momentum, self.product_dtype = chosen, momentum, dtype

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        if not self.chosen(variable):
            super().update_step(gradient, variable)
            return
        slot = self._momentums[self._index_dict[self._var_key(variable)]]
        slot.assign(self.momentum * slot + gradient)
        direction = orthogonal(gradient + self.momentum * slot, self.product_dtype)
        rows, columns = variable.shape
        size = _RMS * max(rows, columns) ** 0.5
        variable.assign_sub(tf.cast(self.learning_rate, tf.float32) * size * direction)


def orthogonal(matrix: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Float [M, N] with the same singular vectors, and singular values of about 1.

    0 stays 0.
    """
    rows, columns = matrix.shape
    x = tf.cast(matrix / (tf.norm(matrix) + 1e-12), dtype)
    if rows > columns:
        x = tf.transpose(x)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    return tf.cast(tf.transpose(x) if rows > columns else x, matrix.dtype)
