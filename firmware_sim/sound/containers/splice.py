"""A file made of pieces: bytes, and spans of another file."""

import bisect
import io
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

_MOST_PARTS: Final = 1000  # files joined in one


class ContainerError(Exception):
    """A container that cannot be read; the message continues the file's name and a colon."""


def check_parts(count: int) -> None:
    """Raises ContainerError for too many files that are joined in one."""
    if count > _MOST_PARTS:
        raise ContainerError(f"more than {_MOST_PARTS} files are joined in it; take it apart.")


TRUNCATED: Final = "the audio is truncated or damaged; get the whole file again."


class Splice(io.RawIOBase):
    """Reads pieces one after the other, as if they were one file."""

    def __init__(self, base: BinaryIO, pieces: Sequence[bytes | tuple[int, int]]) -> None:
        """`pieces`: bytes, or (start, end) of `base`, which has to be seekable."""
        self._base = base
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._starts = [0]
        for piece in self._pieces:
            self._starts.append(self._starts[-1] + _length(piece))
        self._at = 0

    @property
    def size(self) -> int:
        return self._starts[-1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes no further than the ends: libsndfile follows offsets that a header makes up."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = min(max(0, origin + offset), self.size)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer unless the end comes first."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self.size:
            data = self._read(len(view) - filled)
            if not data:  # the file became shorter
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
            self._at += len(data)
        return filled

    def _read(self, most: int) -> bytes:
        number = bisect.bisect_right(self._starts, self._at) - 1
        piece, offset = self._pieces[number], self._at - self._starts[number]
        if isinstance(piece, bytes):
            return piece[offset : offset + most]
        self._base.seek(piece[0] + offset)
        return self._base.read(min(most, piece[1] - piece[0] - offset))


def size_of(stream: BinaryIO) -> int:
    """Bytes of a seekable stream."""
    return stream.seek(0, io.SEEK_END)


def read_at(stream: BinaryIO, position: int, count: int) -> bytes:
    """Up to `count` bytes from a position."""
    stream.seek(position)
    return stream.read(count)


def _length(piece: bytes | tuple[int, int]) -> int:
    return len(piece) if isinstance(piece, bytes) else max(0, piece[1] - piece[0])
