"""Plans: a model as the engine of the browser runs it, one block of bytes.

`web/engine/engine.h` defines the format.  Numbers and fields are taken from it, so that there is
one definition.
"""

import math
import pathlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from firmware_sim.runtimes.flatbuffer import Graph

_HEADER: Final = (
    pathlib.Path(__file__).parents[1].joinpath("web/engine/engine.h").read_text("ascii")
)
_ALIGNMENT: Final = 16
_BEYOND: Final = 64  # bytes that vectors may read behind a region


def constant(name: str) -> int:
    """A number that engine.h defines."""
    found = re.search(rf"{name} *=? *(0x[0-9a-f]+|\d+)", _HEADER)
    assert found is not None, name
    return int(found[1], 0)


def _fields(structure: str) -> dict[str, int]:
    """The fields of a structure in engine.h, and how many numbers each has."""
    found = re.search(rf"typedef struct {{([^}}]*)}} {structure};", _HEADER)
    assert found is not None, structure
    fields: dict[str, int] = {}
    for kind, name, count in re.findall(r"^ *(\w+) (\w+)(?:\[(\d)\])?;", found[1], re.MULTILINE):
        fields.update({name: int(count or 1)} if kind == "int32_t" else _fields(kind))
    return fields


COLUMNS: Final = constant("ENGINE_COLUMNS")
_HEAD: Final = list(_fields("engine_header"))


class Place(NamedTuple):
    """Bytes from the beginning of a region."""

    region: str  # constants, tensors, prepared or scratch
    offset: int
    tensor: int = -1

    def plus(self, offset: int) -> "Place":
        return self._replace(offset=self.offset + offset)


class _Record(NamedTuple):
    operator: str
    structure: str
    values: Mapping[str, Any]


def rounded(size: int, multiple: int = _ALIGNMENT) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def memory(content: bytes) -> int:
    """Bytes that a plan takes with its working memory."""
    return _header(content)["memory"]


def tensors(content: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Place and bytes of each input of a plan, and of each output."""
    header = _header(content)
    count = header["inputs"] + header["outputs"]
    numbers = struct.unpack_from(f"<{2 * count}i", content, 4 * len(_HEAD))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return pairs[: header["inputs"]], pairs[header["inputs"] :]


def _header(content: bytes) -> dict[str, int]:
    return dict(zip(_HEAD, struct.unpack_from(f"<{len(_HEAD)}i", content), strict=True))


class Plan:
    """Collects the records of a graph, and the memory that they need."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._constants = bytearray()
        self._places: dict[bytes, int] = {}  # of constants
        self._views: dict[int, tuple[int, int]] = {}  # tensor -> the one it lies in, and offset
        self._records: list[_Record] = []
        self._uses: dict[int, list[int]] = {}  # records that touch a tensor
        self._prepared = self._scratch = 0
        for index in graph.inputs:
            self._uses[index] = [-1]

    def view(self, tensor: int, of: int, offset: int = 0) -> None:
        """Lets a tensor lie in another one, `offset` bytes behind its beginning."""
        self._views[tensor] = (of, offset)

    def add(self, operator: str, structure: str, used: Sequence[int], **values: Any) -> None:
        """Adds a record; `used` are the tensors that it reads or writes."""
        for index in used:
            root, _ = self._root(index)
            if self._graph.tensors[root].data is None:
                self._uses.setdefault(root, []).append(len(self._records))
        self._records.append(_Record(operator, structure, values))

    def place(self, tensor: int) -> Place:
        root, offset = self._root(tensor)
        data = self._graph.tensors[root].data
        if data is None:
            return Place("tensors", offset, root)
        return self.constant(bytes(data)).plus(offset)

    def constant(self, data: bytes) -> Place:
        if data not in self._places:
            self._constants += bytes(-len(self._constants) % _ALIGNMENT)
            self._places[data] = len(self._constants)
            self._constants += data
        return Place("constants", self._places[data])

    def prepare(self, size: int) -> Place:
        """Memory of one record, which opening a plan fills."""
        place = Place("prepared", self._prepared)
        self._prepared += rounded(size)
        return place

    def borrow(self, *sizes: int) -> list[Place]:
        """Memory that all records share."""
        places, used = [], 0
        for size in sizes:
            places.append(Place("scratch", used))
            used += rounded(size)
        self._scratch = max(self._scratch, used)
        return places

    def content(self) -> bytes:
        """Header, tensors, records and constants, with all places in bytes."""
        graph = self._graph
        for index in graph.outputs:
            self._uses.setdefault(self._root(index)[0], []).append(len(self._records))
        sides = [*graph.inputs, *graph.outputs]
        lengths = [sum(_fields(record.structure).values()) for record in self._records]
        starts = {"constants": rounded(4 * (len(_HEAD) + 2 * len(sides) + sum(lengths)))}
        size = starts["tensors"] = rounded(starts["constants"] + len(self._constants))
        arena, used = self._arena()
        starts["prepared"] = starts["tensors"] + used + _BEYOND
        starts["scratch"] = starts["prepared"] + self._prepared

        def number(value: Any) -> int:
            if not isinstance(value, Place):
                return int(value)
            return starts[value.region] + arena.get(value.tensor, 0) + value.offset

        header = {
            "magic": constant("ENGINE_MAGIC"),
            "version": constant("ENGINE_VERSION"),
            "bytes": size,
            "memory": starts["scratch"] + self._scratch + _BEYOND,
            "inputs": len(graph.inputs),
            "outputs": len(graph.outputs),
            "records": len(self._records),
        }
        numbers = [header[name] for name in _HEAD]
        for index in sides:
            numbers += [number(self.place(index)), math.prod(graph.tensors[index].shape)]
        for record, length in zip(self._records, lengths, strict=True):
            head = {"operation": constant(f"ENGINE_{record.operator}"), "length": length}
            values = {**head, **record.values}
            for name, count in _fields(record.structure).items():
                numbers += map(number, values[name] if count > 1 else [values[name]])
        head_bytes = np.array(numbers, "<i4").tobytes().ljust(starts["constants"], b"\0")
        return (head_bytes + self._constants).ljust(size, b"\0")

    def _root(self, tensor: int) -> tuple[int, int]:
        """The tensor whose memory holds a tensor, and the offset in it."""
        offset = 0
        while tensor in self._views:
            tensor, inside = self._views[tensor]
            offset += inside
        return tensor, offset

    def _arena(self) -> tuple[dict[int, int], int]:
        """Offsets of all tensors but constants, and the bytes that they take together.

        The largest comes first, as low as it fits beside those that are there at the same time.
        """
        lives = {tensor: (min(uses), max(uses)) for tensor, uses in self._uses.items()}
        sizes = {i: rounded(math.prod(self._graph.tensors[i].shape)) for i in lives}
        placed: list[tuple[int, int]] = []  # offset, tensor
        for tensor in sorted(lives, key=lambda i: (-sizes[i], i)):
            first, last = lives[tensor]
            offset = 0
            for low, other in sorted(placed):
                together = lives[other][0] <= last and first <= lives[other][1]
                if together and low < offset + sizes[tensor] and offset < low + sizes[other]:
                    offset = low + sizes[other]
            placed.append((offset, tensor))
        return {i: low for low, i in placed}, max(low + sizes[i] for low, i in placed)
