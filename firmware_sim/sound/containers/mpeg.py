"""MPEG audio (MP3): frames without a container.

libsndfile plays as much as the first frame says, or as much as it guesses from the bit rate.  So
the frames are counted here, and their number is put in front of them in an information frame.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from firmware_sim.sound.containers.splice import (
    TRUNCATED,
    ContainerError,
    Splice,
    read_at,
    size_of,
)

# kbit/s by MPEG-1 or not and layer (ISO 11172-3 and 13818-3); 0 is free format.
_BIT_RATES: Final = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LONGEST_JUNK: Final = 1 << 16  # bytes before the first frame
_BLOCK: Final = 1 << 18
_INFO_BYTES: Final = 160  # smallest frame that holds a number of frames
_TAGS: Final = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # that follow the last frame
_CHAINED: Final = 3  # frames in a row are no accident
_SHORT_TAIL: Final = 512  # bytes of junk after fewer frames than that


@dataclass(frozen=True)
class Frame:
    """What four bytes of a frame's header say."""

    length: int  # bytes
    samples: int
    layer: int
    information: int  # offset of what a first frame may say of the others
    kind: tuple[int, int, int]  # version, layer, rate: the same in all frames of a file


@functools.lru_cache(4096)
def frame(header: bytes) -> Frame | None:
    """The header of a frame; None if it is none, or of free format."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rates, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in (0, 15) or rates == 3:
        return None
    first = version == 3
    bit_rate, rate = 1000 * _BIT_RATES[first, layer][bits], _RATES[version][rates]
    if layer == 1:
        length, samples = (12 * bit_rate // rate + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and not first else 1152
        length = samples // 8 * bit_rate // rate + padding
    mono = header[3] >> 6 == 3
    side = ((17 if mono else 32) if first else (9 if mono else 17)) if layer == 3 else 0
    return Frame(length, samples, layer, 4 + side, (version, layer, rates))


def begins(head: bytes) -> bool:
    """Whether bytes are the beginning of frames: all that they hold, but at least two."""
    at, count, kind = 0, 0, None
    while at + 4 <= len(head) and count < _CHAINED:
        found = frame(head[at : at + 4])
        if found is None or kind not in (None, found.kind):
            return False
        at, count, kind = at + found.length, count + 1, found.kind
    return count >= 2


def contains(head: bytes) -> bool:
    """Whether frames begin somewhere after junk; of layer 3, whose headers PCM hardly ever has."""
    at = head.find(b"\xff")
    while at >= 0:
        found = frame(head[at : at + 4])
        if found is not None and found.layer == 3 and _is_chain(head, at, False):
            return True
        at = head.find(b"\xff", at + 1)
    return False


def after_tags(stream: BinaryIO, at: int) -> int:
    """The position after tags of ID3v2 that begin at a position."""
    while (head := read_at(stream, at, 10)).startswith(b"ID3") and len(head) == 10:
        if any(byte & 0x80 for byte in head[6:]):
            break
        size = functools.reduce(lambda total, byte: total << 7 | byte, head[6:], 0)
        at += 10 + size + (10 if head[5] & 0x10 else 0)
    return at


def mend(stream: BinaryIO, start: int = 0, end: int | None = None) -> BinaryIO:
    """The frames between two positions, without tags, after a frame that says how many they are.

    Raises:
      ContainerError: the last frame is cut off, or there is something else between frames.
    """
    end = size_of(stream) if end is None else end
    at = _first(stream, after_tags(stream, start), end)
    if at is None:
        raise ContainerError("not an audio file that can be decoded; convert it to WAV or FLAC.")
    first = frame(read_at(stream, at, 4))
    assert first is not None
    spans = list(_spans(stream, at, end, first))
    count = sum(frames for _, _, frames in spans)
    head = read_at(stream, at, first.length)
    pieces: list[bytes | tuple[int, int]] = [(begin, stop) for begin, stop, _ in spans]
    if first.layer == 3:
        declared = _declared(head, first)
        if declared is not None:
            count -= 1
            if declared > count + 1:  # some writers count the frame that says it
                raise ContainerError(TRUNCATED)
        if declared != count:
            if declared is not None:
                pieces[0] = (at + first.length, spans[0][1])
            pieces.insert(0, _information(head, count))
    if not count:
        raise ContainerError("holds no samples.")
    return cast(BinaryIO, Splice(stream, pieces))


def _first(stream: BinaryIO, at: int, end: int) -> int | None:
    """Where the first of several frames in a row begins."""
    head = read_at(stream, at, min(2 * _LONGEST_JUNK, max(0, end - at)))
    offset = head.find(b"\xff")
    while 0 <= offset < _LONGEST_JUNK:
        if _is_chain(head, offset, at + len(head) == end):
            return at + offset
        offset = head.find(b"\xff", offset + 1)
    return None


def _is_chain(data: bytes, at: int, whole: bool) -> bool:
    """Whether three frames begin at an offset; if `whole`, fewer may reach the end."""
    kind = None
    for count in range(_CHAINED):
        found = frame(data[at : at + 4])
        if found is None or kind not in (None, found.kind):
            rest = data[at:]
            short = len(rest) <= _SHORT_TAIL or rest.startswith(_TAGS) or not any(rest)
            return whole and count > 1 and short and _is_tail(rest)
        at, kind = at + found.length, found.kind
    return True


def _spans(stream: BinaryIO, at: int, end: int, first: Frame) -> Iterator[tuple[int, int, int]]:
    """(start, end, number of frames) of what lies between tags."""
    begin, count = at, 0
    block, block_at = b"", 0
    while True:
        if not block_at <= at <= block_at + len(block) - 4:
            block, block_at = read_at(stream, at, min(_BLOCK, end - at)), at
        offset = at - block_at
        found = frame(block[offset : offset + 4])
        if found is not None and found.kind == first.kind:
            if at + found.length > end:
                raise ContainerError(TRUNCATED)
            at, count = at + found.length, count + 1
            continue
        yield begin, at, count
        after = after_tags(stream, at)
        if after == at or after >= end:
            break
        begin, at, count = after, after, 0
    rest = read_at(stream, at, min(end - at, 2 * _LONGEST_JUNK)) if after < end else b""
    if not _is_tail(rest):
        raise ContainerError(TRUNCATED)


def _is_tail(rest: bytes) -> bool:
    """Whether nothing that follows the last frame can be sound: tags, zeros or other junk."""
    if rest.startswith(_TAGS) or not any(rest):
        return True
    if rest[0] == 0xFF and (len(rest) < 4 or frame(rest[:4])):
        return False
    offset = rest.find(b"\xff")
    while offset >= 0:
        if _is_chain(rest, offset, False):
            return False
        offset = rest.find(b"\xff", offset + 1)
    return True


def _declared(head: bytes, first: Frame) -> int | None:
    """How many frames follow, if the first frame is there to say so."""
    at = first.information
    if head[at : at + 4] in (b"Xing", b"Info"):
        known = int.from_bytes(head[at + 4 : at + 8], "big") & 1
        return int.from_bytes(head[at + 8 : at + 12], "big") if known else -1
    if head[36:40] == b"VBRI":
        return int.from_bytes(head[50:54], "big")
    return None


def _information(head: bytes, count: int) -> bytes:
    """A silent frame, like the first one, that says how many follow."""
    for bits in range(1, 15):
        header = bytes([0xFF, head[1] | 1, bits << 4 | head[2] & 0x0C, head[3]])
        found = frame(header)
        if found is not None and found.length >= _INFO_BYTES:
            break
    assert found is not None
    said = header + bytes(found.information - 4) + b"Xing" + b"\0\0\0\1" + count.to_bytes(4, "big")
    return said + bytes(found.length - len(said))
