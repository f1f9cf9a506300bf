"""A rotation of the residual streams that changes no output, and makes 8 bits finer.

A few channels of a trained Transformer's residual stream grow ten times as large as the others, and
one scale for all of them leaves three bits for the rest.  LayerNorm without a gain commutes with
every rotation Q that keeps the mean (Q 1 = 1): what writes into a stream may write x Q, and what
reads it behind a LayerNorm, or as it is, may take Q^T x.  The large channels are then shared out
over all (as QuaRot does for RMSNorm: Ashkboos et al., arXiv 2404.00456).  It costs nothing on a
device: the matrices hold it.
"""

import functools
import re

import numpy as np
import tensorflow as tf

# Paths of the linear layers that write into a stream (the encoder's, the memory, the decoder's),
# and of those that read one.
_WRITERS = r"(front_end_linear|encoder_linear|decoder_linear|.*/output|.*/outer)/(kernel|bias)"
_TABLE = r"embedding/embeddings"
_READERS = r"(encoder_linear|ctc|phones|logits|.*/query|.*/key|.*/value|.*/inner)/kernel"
SEED = 11


@functools.cache
def matrix(channels: int) -> np.ndarray:
    """The rotation: float32 [channels, channels], orthogonal, with rows and columns of sum 1."""
    rng = np.random.default_rng(SEED)

    def basis() -> np.ndarray:
        vectors = rng.standard_normal([channels, channels])
        vectors[:, 0] = 1.0
        found = np.linalg.qr(vectors)[0]
        return found * np.sign(found[0, 0])  # the first vector is positive in both

    return (basis() @ basis().T).astype(np.float32)


def rotate(variables: dict[str, tf.Variable], convolutions: bool) -> None:
    """Rotates the streams of a float model in place.

    Args:
      variables: of the model, by path.
      convolutions: the model's embeddings go through convolutions, which are no part of a stream.
    """
    for path, variable in variables.items():
        value = variable.numpy().astype(np.float64)
        if re.fullmatch(_READERS, path):
            value = matrix(value.shape[0]).T @ value
        if re.fullmatch(_WRITERS, path) or (re.fullmatch(_TABLE, path) and not convolutions):
            value = value @ matrix(value.shape[-1])
        variable.assign(value.astype(np.float32))
