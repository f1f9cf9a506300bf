"""Ogg (RFC 3533): pages with a checksum.

Telephones and messengers end a recording without the flag that marks the last page.  libsndfile
refuses such Opus, so the flag is set here.  It plays only the first of several streams that follow
each other, so they are taken apart here.
"""

import zlib
from typing import BinaryIO, Final, cast

from firmware_sim.sound.containers.splice import (
    TRUNCATED,
    ContainerError,
    Splice,
    read_at,
    size_of,
)

_HEADER: Final = 27  # bytes before the table of segments
_FIRST, _LAST = 0x02, 0x04  # flags of a page
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def links(stream: BinaryIO) -> list[BinaryIO]:
    """The streams that follow each other, each with its last page marked.

    Raises:
      ContainerError: a page is cut off or damaged.
    """
    size = size_of(stream)
    found: list[BinaryIO] = []
    at = start = last = 0
    numbers: dict[bytes, int] = {}  # of the next page, by stream
    page, audible = b"", False  # whether pages other than first ones came
    while at + 4 <= size and read_at(stream, at, 4) == b"OggS":
        following = _page(stream, at)
        stream_id, number = following[14:18], int.from_bytes(following[18:22], "little")
        if number > numbers.get(stream_id, number) and not following[5] & _FIRST:
            raise ContainerError(TRUNCATED)  # pages between are missing
        numbers[stream_id] = number + 1
        is_first = bool(following[5] & _FIRST)
        if is_first and audible:
            found.append(_marked(stream, start, last, page))
            start, audible = at, False
        audible |= not is_first
        page, last = following, at
        at += len(page)
    rest = read_at(stream, at, 1 << 17)
    if b"OggS" in rest or (0 < len(rest) < 4 and b"OggS".startswith(rest)):
        raise ContainerError(TRUNCATED)
    return [*found, _marked(stream, start, last, page)]


def _page(stream: BinaryIO, at: int) -> bytes:
    header = read_at(stream, at, _HEADER)
    segments = read_at(stream, at + _HEADER, header[26] if len(header) == _HEADER else 0)
    if len(header) < _HEADER or len(segments) < header[26]:
        raise ContainerError(TRUNCATED)
    body = read_at(stream, at + _HEADER + len(segments), sum(segments))
    page = header + segments + body
    if len(body) < sum(segments) or checksum(page) != page[22:26]:
        raise ContainerError(TRUNCATED)
    return page


def _marked(stream: BinaryIO, start: int, last: int, page: bytes) -> BinaryIO:
    """The pages from `start` on; the last one, which begins at `last`, gets its flag."""
    marked = page[:5] + bytes([page[5] | _LAST]) + page[6:]
    marked = marked[:22] + checksum(marked) + marked[26:]
    return cast(BinaryIO, Splice(stream, [(start, last), marked]))


def checksum(page: bytes) -> bytes:
    """Bytes 22 to 26 of a page: CRC-32, most significant bit first; zlib's, of reversed bytes."""
    data = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    crc = zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED)
