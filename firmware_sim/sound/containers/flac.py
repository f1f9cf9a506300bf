"""FLAC (RFC 9639): the header's number of samples is put right.

Writers into a pipe leave it at 0, and libsndfile then loses the end.  A number that is too small
loses sound as well.  The last frame says which samples it holds, and its checksum whether it is
whole.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from firmware_sim.sound.containers.splice import (
    TRUNCATED,
    ContainerError,
    Splice,
    check_parts,
    read_at,
    size_of,
)

_SYNC: Final = (b"\xff\xf8", b"\xff\xf9")  # blocks of one size, or of several
_STREAM_INFO: Final = slice(8, 42)  # after the magic and the header of its block
_LONGEST_FRAME: Final = 1 << 18  # bytes that are searched for the last frame
_MOST_CANDIDATES: Final = 16
_BEGINNING: Final = b"fLaC"
_TAG_BYTES: Final = 128  # of ID3v1


@dataclass(frozen=True)
class StreamInfo:
    """What the header says."""

    block_samples: tuple[int, int]  # least, most
    rate: int  # Hz
    channels: int
    bits: int
    samples: int  # of each channel; 0: unknown
    md5: bytes  # of all samples; zeros: unknown


def stream_info(head: bytes) -> StreamInfo | None:
    """The header of a file; None if it does not begin with one."""
    content = head[_STREAM_INFO]
    if (
        not head.startswith(b"fLaC")
        or len(content) < 34
        or head[4] & 0x7F
        or head[5:8] != b"\0\0\x22"
    ):
        return None
    packed = int.from_bytes(content[10:18], "big")
    return StreamInfo(
        block_samples=(int.from_bytes(content[:2], "big"), int.from_bytes(content[2:4], "big")),
        rate=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        samples=packed & ((1 << 36) - 1),
        md5=content[18:],
    )


def is_clean(content: bytes) -> bool:
    """Whether the frames that follow the metadata are whole, as many as the header says, and all.

    Only both ends are looked at.
    """
    at = _after_metadata(io.BytesIO(content))
    info, tail = stream_info(content), content[max(at, len(content) - _LONGEST_FRAME) :]
    if info is None or not content.startswith(_SYNC, at) or b"fLaC" in content[at:]:
        return False
    end = _last_frame(tail, info)
    return end == (info.samples, len(tail))


def parts(stream: BinaryIO) -> list[BinaryIO]:
    """Files that follow each other: where one begins after the metadata of the one before."""
    size = size_of(stream)
    starts, at = [0], _after_metadata(stream)
    while at < size:
        block = read_at(stream, at, _LONGEST_FRAME)
        place = block.find(_BEGINNING)
        if place < 0:
            at += max(1, len(block) - len(_BEGINNING) + 1)
            continue
        if stream_info(read_at(stream, at + place, _STREAM_INFO.stop)):
            starts.append(at + place)
        at += place + len(_BEGINNING)
        check_parts(len(starts))
    return [
        cast(BinaryIO, Splice(stream, [span]))
        for span in zip(starts, [*starts[1:], size], strict=True)
    ]


def mend(stream: BinaryIO) -> BinaryIO:
    """The file with the number of samples that its last frame ends with.

    Raises:
      ContainerError: the file is cut off.
    """
    size = size_of(stream)
    head = read_at(stream, 0, _STREAM_INFO.stop)
    info = stream_info(head)
    if info is None:
        return stream
    if read_at(stream, max(0, size - _TAG_BYTES), 3) == b"TAG":
        size -= _TAG_BYTES
    start = max(len(head), size - _LONGEST_FRAME)
    end = _last_frame(read_at(stream, start, size - start), info)
    if end is None and info.samples:
        return stream  # libsndfile notices if there are fewer
    if end is None or end[0] < info.samples:
        raise ContainerError(TRUNCATED)
    packed = int.from_bytes(head[18:26], "big")
    packed = packed >> 36 << 36 | end[0] & ((1 << 36) - 1)
    header = head[:18] + packed.to_bytes(8, "big") + head[26:]
    first = _after_metadata(stream)
    if read_at(stream, first, 2) in _SYNC:  # comments may be damaged, and are not needed
        header = header[:4] + b"\x80" + header[5:]
    else:
        first = len(header)
    return cast(BinaryIO, Splice(stream, [header, (first, start + end[1])]))


def _after_metadata(stream: BinaryIO) -> int:
    """The position after the last block of metadata."""
    at, last = 4, False
    while not last and len(block := read_at(stream, at, 4)) == 4:
        last = bool(block[0] & 0x80)
        at += 4 + int.from_bytes(block[1:], "big")
    return at


def _last_frame(tail: bytes, info: StreamInfo) -> tuple[int, int] | None:
    """The number of samples up to the end of the last frame, and the offset of its end.

    None if it is not whole.  Zeros may follow it: they leave its checksum at 0.
    """
    stripped = len(tail.rstrip(b"\0"))
    at = len(tail)
    for _ in range(_MOST_CANDIDATES):
        at = max(tail.rfind(sync, 0, at) for sync in _SYNC)
        if at < 0:
            return None
        samples = _samples_at_end(tail[at : at + 16], info)
        if samples is None:
            continue
        crc = _crc16(tail[at:stripped])
        ends = [stripped] if crc == 0 else []
        for end in range(stripped + 1, min(stripped + 2, len(tail)) + 1):
            crc = _crc16(b"\0", crc)
            ends += [end] if crc == 0 else []
        if ends:  # a checksum may end with zeros itself
            return samples, len(tail) if len(tail) in ends else ends[0]
    return None


def _samples_at_end(header: bytes, info: StreamInfo) -> int | None:
    """The number of samples up to the end of a frame; None if this is no header of one."""
    header = header.ljust(16, b"\0")
    ones = next((i for i in range(8) if not header[4] >> (7 - i) & 1), 8)
    if ones in (1, 8):
        return None
    extra = max(0, ones - 1)  # bytes of the number after its first, as in UTF-8
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    at = 5 + extra
    code = header[2] >> 4
    if code in (6, 7):
        width = code - 5
        block = int.from_bytes(header[at : at + width], "big") + 1
        at += width
    elif code == 0:
        return None
    else:
        block = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if _crc8(header[: at + 1]):
        return None
    if header[1] & 1:
        return number + block
    least, most = info.block_samples
    return number * most + block if least == most else None


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc16(data: bytes, crc: int = 0) -> int:
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return table


_CRC8: Final = _table(0x07, 8)
_CRC16: Final = _table(0x8005, 16)
