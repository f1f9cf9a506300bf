"""Mutation: damages bytes as disks, networks, careless writers and liars do."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

_HEADER: Final = 160  # bytes: half of all damage hits them, since most fields stand there
_MOST_CHANGES: Final = 4
# Sizes, counts, rates and offsets that readers stumble over.
_NUMBERS: Final = (
    0, 1, 2, 3, 7, 8, 16, 255, 256, 32767, 32768, 65535, 65536, 1 << 20, 1 << 24,
    0x7FFFFFFF, 0x7FFFFFFE, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1,
    (1 << 64) - 1,
)  # fmt: skip


def mutate(data: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """Changes bytes in one to four places.

    Args:
      data: what is sound.
      rng: chooses places and changes.
      others: of the same kind; pieces of them may be mixed in.
    """
    damaged = bytearray(data)
    changes = [*_CHANGES, *([_splice(others)] if others else [])]
    for _ in range(rng.integers(1, _MOST_CHANGES + 1)):
        changes[rng.integers(len(changes))](damaged, rng)
    return bytes(damaged)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    if not data:
        return 0
    return int(rng.integers(min(len(data), _HEADER) if rng.random() < 0.5 else len(data)))


def _span(data: bytearray, rng: np.random.Generator) -> slice:
    start = _place(data, rng)
    return slice(start, start + int(rng.geometric(1 / 16 if rng.random() < 0.7 else 1 / 2000)))


def _flip_bit(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _set_byte(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[_place(data, rng)] = int(rng.integers(256))


def _set_number(data: bytearray, rng: np.random.Generator) -> None:
    width = int(rng.choice([1, 2, 4, 8]))
    order = "little" if rng.random() < 0.5 else "big"
    size = len(data) + int(rng.integers(-64, 65))
    number = max(0, size) if rng.random() < 0.2 else int(_NUMBERS[rng.integers(len(_NUMBERS))])
    place = _place(data, rng)
    stored = (number % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    data[place : place + width] = stored[: max(0, len(data) - place)]


def _add_to_number(data: bytearray, rng: np.random.Generator) -> None:
    width = int(rng.choice([1, 2, 4]))
    order = "little" if rng.random() < 0.5 else "big"
    place = _place(data, rng)
    number = int.from_bytes(data[place : place + width], order)  # type: ignore[arg-type]
    width = len(data[place : place + width])
    changed = (number + int(rng.integers(-48, 49))) % (1 << 8 * width)
    data[place : place + width] = changed.to_bytes(width, order)  # type: ignore[arg-type]


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _delete(data: bytearray, rng: np.random.Generator) -> None:
    del data[_span(data, rng)]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    span = _span(data, rng)
    data[span.start : span.start] = data[span]


def _move(data: bytearray, rng: np.random.Generator) -> None:
    span = _span(data, rng)
    moved = data[span]
    del data[span]
    place = _place(data, rng)
    data[place:place] = moved


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    span = _span(data, rng)
    size = len(data[span])
    fill = int(rng.integers(3))
    data[span] = rng.bytes(size) if fill == 0 else (b"\0", b"\xff")[fill - 1] * size


def _insert(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    data[place:place] = rng.bytes(int(rng.geometric(1 / 16)))


def _append(data: bytearray, rng: np.random.Generator) -> None:
    size = int(rng.geometric(1 / 200))
    data += rng.bytes(size) if rng.random() < 0.5 else bytes(size)


def _splice(others: Sequence[bytes]) -> Callable[[bytearray, np.random.Generator], None]:
    def splice(data: bytearray, rng: np.random.Generator) -> None:
        other = bytearray(others[rng.integers(len(others))])
        piece = other[_span(other, rng)]
        place = _place(data, rng)
        data[place : place + len(piece) * int(rng.integers(2))] = piece

    return splice


_CHANGES: Final = (
    _flip_bit, _set_byte, _set_number, _set_number, _add_to_number, _truncate, _delete, _repeat,
    _move, _overwrite, _insert, _append,
)  # fmt: skip
