"""The Speech-Transformer, in float and in 8 bits."""

import random
import sys
import types

if sys.version_info >= (3, 12):
    # tf_keras 2.16 draws its seeds by randint(1, 1e9), and Python 3.12 refuses a float there. With
    # whole numbers the seeds are those of earlier Pythons.
    from tf_keras.src.utils import tf_utils

    class _Random(random.Random):
        def randint(self, a: float, b: float) -> int:
            return super().randint(int(a), int(b))

    tf_utils.random = types.SimpleNamespace(
        Random=_Random,
        randint=lambda a, b: random.randint(int(a), int(b)),
        seed=random.seed,
    )
