"""The language model: a back-off model of n-grams of tokens, in 8-bit costs.

`language.npz` holds a trie.  Level n has the n-grams of n + 1 tokens that the model knows, sorted
by their tokens; the children of an n-gram are those that begin with it and have one token more:

    cost_0      uint8 [V]  of each token, without context
    backoff_n   int8 [N]   added to a token's cost after the last n tokens of the n-gram, if the
                           trie does not have the token after the n-gram; not on the last level
    children_n  uint [N]   number of n-grams of level n + 1 that begin with the n-gram; likewise
    token_n     uint [N]   the last token of an n-gram; from level 1 on
    cost_n      uint8 [N]  of that token after the others; from level 1 on

A cost is a negative log probability (natural) in steps of 1 / 16, at most 255 of them.
"""

import functools
import io
import zipfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.storage.manifest import ZIP_ERRORS

STEPS: Final = 16  # of a cost, a nat
_CONTEXTS: Final = 20_000  # whose costs are remembered
_LARGEST_ORDER: Final = 24
_LARGEST: Final = 256 << 20  # bytes of all arrays, unpacked


class LanguageError(ValueError):
    """A language model that does not fit itself or its bundle."""


class LanguageModel:
    """Log probabilities of tokens after others."""

    def __init__(
        self,
        levels: list[dict[str, npt.NDArray[Any]]],
        start: int,
        weight: float,
        entropy: float,
    ) -> None:
        """`levels`: the arrays of each level, by their names without the number.

        Args:
          start: the token before a text.
          weight: of its log probabilities in the score of a search.
          entropy: nats a token, on texts outside of its training data.
        """
        self.weight = weight
        self.entropy = entropy
        self._levels = levels
        self._start = start
        sums = [np.cumsum(level["children"], dtype=np.int64) for level in levels[:-1]]
        self._first = [np.concatenate(([0], ends)) for ends in sums]  # of the children
        self._costs = functools.lru_cache(_CONTEXTS)(self._row)

    @property
    def order(self) -> int:
        """Tokens of its longest n-grams."""
        return len(self._levels)

    @property
    def entries(self) -> int:
        """N-grams of all lengths."""
        return sum(len(level["cost"]) for level in self._levels)

    @property
    def bytes(self) -> int:
        """Of the trie, not compressed."""
        return sum(array.nbytes for level in self._levels for array in level.values())

    def log_probabilities(self, tokens: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Of each token after a text that begins with `tokens`; natural, [V]."""
        return self._costs((self._start, *tokens)[max(0, len(tokens) + 2 - self.order) :])

    def _row(self, context: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if not context:
            return self._levels[0]["cost"].astype(np.float32) / -STEPS
        shorter = self._costs(context[1:])
        place = self._find(context)
        if place is None:
            return shorter
        first, last = self._first[len(context) - 1][place : place + 2]
        backoff = self._levels[len(context) - 1]["backoff"][place]
        row = shorter - np.float32(backoff / STEPS)
        following = self._levels[len(context)]
        row[following["token"][first:last]] = following["cost"][first:last] / np.float32(-STEPS)
        return row

    def _find(self, tokens: tuple[int, ...]) -> int | None:
        """Where the n-gram is on its level; None if the trie does not have it."""
        place = tokens[0]
        for level, token in enumerate(tokens[1:], 1):
            first, last = self._first[level - 1][place : place + 2]
            known = self._levels[level]["token"][first:last]
            place = int(np.searchsorted(known, token))
            if place == len(known) or known[place] != token:
                return None
            place += int(first)
        return place


def load(data: bytes, vocabulary: int, start: int, weight: float, entropy: float) -> LanguageModel:
    """Reads and checks `language.npz`.

    Args:
      data: the file.
      vocabulary: how many tokens the bundle has.
      start, weight, entropy: see `LanguageModel`.

    Raises:
      LanguageError: what does not fit.
    """
    arrays = _arrays(data)
    order = sum(name.startswith("cost_") for name in arrays)
    if order > _LARGEST_ORDER:
        raise LanguageError(f"its n-grams have {order} tokens, where {_LARGEST_ORDER} are the most")
    levels: list[dict[str, npt.NDArray[Any]]] = []
    for n in range(order):
        names = ["cost"] + ["token"] * (n > 0) + ["backoff", "children"] * (n < order - 1)
        for name in names:
            array = arrays.get(f"{name}_{n}")
            if array is None or array.ndim != 1:
                raise LanguageError(f"{name}_{n} is missing or has more than one dimension")
            kinds = {"cost": "u1", "backoff": "i1"}.get(name)
            if array.dtype.kind != "u" if kinds is None else array.dtype != np.dtype(kinds):
                raise LanguageError(f"{name}_{n} has values of type {array.dtype}")
        level = {name: arrays[f"{name}_{n}"] for name in names}
        sizes = {len(array) for array in level.values()}
        wanted = vocabulary
        if levels:
            children = levels[-1]["children"]
            if len(children) and children.max() > len(level["cost"]):  # its sum fits 64 bits
                raise LanguageError(f"level {n} has fewer n-grams than children_{n - 1} says")
            wanted = int(children.sum(dtype=np.int64))
        if sizes != {wanted}:
            raise LanguageError(f"level {n} has {sizes} n-grams, not {wanted}")
        if n:
            token = level["token"].astype(np.int64)
            parent = np.repeat(np.arange(len(levels[-1]["cost"])), levels[-1]["children"])
            if (token >= vocabulary).any() or (np.diff(parent * vocabulary + token) <= 0).any():
                raise LanguageError(f"token_{n} has tokens that do not exist, or out of order")
        levels.append(level)
    if not levels:
        raise LanguageError("it has no level")
    return LanguageModel(levels, start, weight, entropy)


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a .npz by name; none is larger than its header says, nor the other way round.

    Raises LanguageError: it is not whole.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    left = _LARGEST
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                left -= member.file_size
                if left < 0:
                    raise LanguageError(f"it unpacks to more than {_LARGEST} bytes")
                file = io.BytesIO(archive.read(member))
                np.lib.format.read_magic(file)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                content = file.read()
                name = member.filename.removesuffix(".npy")
                if len(shape) != 1 or fortran:
                    raise LanguageError(f"{name} has more than one dimension")
                if dtype.hasobject or len(content) != shape[0] * dtype.itemsize:
                    raise LanguageError(f"{name} has other than {shape[0]} values")
                arrays[name] = np.frombuffer(content, dtype)
    except LanguageError:
        raise
    # numpy raises these for a header that is none.
    except (*ZIP_ERRORS, TypeError, SyntaxError, MemoryError) as error:
        raise LanguageError(f"not a whole .npz ({error})") from error
    return arrays
