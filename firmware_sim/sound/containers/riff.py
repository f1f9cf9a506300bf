"""Containers of chunks, or of one header: RIFF (WAV, RIFX, RF64), Wave64, CAF and AU.

Writers into a pipe cannot know the sizes that stand in a header.  Recorders that are switched off
never write them.  Others count the header too.  So a WAV gets a new header here: its format, and
one chunk of data that is as long as what is there.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from firmware_sim.sound.containers import mpeg
from firmware_sim.sound.containers.splice import (
    TRUNCATED,
    ContainerError,
    Splice,
    check_parts,
    read_at,
    size_of,
)

_UNKNOWN: Final = 0x7F000000  # writers into a pipe put sizes from here up into the header
_SLIP: Final = 44  # bytes by which a size may be too large: some writers count the header
_MOST_CHUNKS: Final = 10_000
_LONGEST_FORMAT: Final = 1 << 16  # bytes
_MPEG_FORMATS: Final = (0x50, 0x55)
_TRAILING: Final = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"PEAK", b"JUNK")
_JOINED: Final = (b"RIFF", b"RIFX")
_NAME: Final = re.compile(rb"[\x20-\x7e]{4}")
# Wave64 names a chunk by 16 bytes; all but the first four are the same in those that matter.
_WAVE64: Final = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    start: int  # of its content
    size: int  # as declared


def mend_waves(stream: BinaryIO) -> list[BinaryIO]:
    """All WAVs that follow each other in a file, each as `_mend_wave`."""
    size, start = size_of(stream), 0
    waves: list[BinaryIO] = []
    while True:
        head = read_at(stream, start, 8)
        order = "big" if head.startswith(b"RIFX") else "little"
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        after = start + 8 + length + length % 2
        following = read_at(stream, after, 12)
        last = not following.startswith(_JOINED) or following[8:] != b"WAVE"
        end = size if last or not head.startswith(_JOINED) else after
        part = cast(BinaryIO, Splice(stream, [(start, end)]))
        waves.extend(mend_wave(part))
        if end == size:
            return waves
        check_parts(len(waves))
        start = end


def mend_wave(stream: BinaryIO) -> list[BinaryIO]:
    """RIFF, RIFX, RF64 or Wave64 -> a WAV whose sizes are right, or frames of MPEG audio.

    Raises:
      ContainerError: it is cut off, or has no format or no data.
    """
    size = size_of(stream)
    head = read_at(stream, 0, 12)
    wide = head.startswith(b"riff")
    order = "big" if head.startswith(b"RIFX") else "little"
    kept: dict[bytes, bytes] = {}
    found: list[_Chunk] = []  # of sound
    long_size = 0
    chunks = _wave64_chunks(stream, size) if wide else _riff_chunks(stream, size, order)
    for chunk in chunks:
        if chunk.name in (b"fmt ", b"fact") and chunk.name not in kept:
            content = read_at(stream, chunk.start, min(chunk.size, _LONGEST_FORMAT))
            if len(content) < chunk.size:
                raise ContainerError(TRUNCATED)
            kept[chunk.name] = content
        elif chunk.name == b"ds64":
            long_size = int.from_bytes(read_at(stream, chunk.start + 8, 8), "little")
        elif chunk.name == b"data":
            found.append(chunk)
    if not found or b"fmt " not in kept:
        what = "format" if found else "sound"
        raise ContainerError(f"its header has no chunk of {what}; it is cut off or damaged.")
    data, earlier = found[0], []
    if len(found) > 1 and _is_chunks(stream, data.start + data.size, size, order):
        *earlier, data = found  # some recorders write several
    declared = data.size
    if declared == 0xFFFFFFFF and head.startswith((b"RF64", b"BW64")):
        declared = long_size or declared
    riff_size = size if wide else int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    covered = riff_size + 9 >= size or riff_size == 0
    end = data.start + _true_size(stream, data, declared, size, order, covered)
    if int.from_bytes(kept[b"fmt "][:2], order) in _MPEG_FORMATS:  # type: ignore[arg-type]
        return [mpeg.mend(stream, data.start, end)]
    spans = [*((chunk.start, chunk.start + chunk.size) for chunk in earlier), (data.start, end)]
    header = _header(kept, sum(stop - start for start, stop in spans), order)
    return [cast(BinaryIO, Splice(stream, [header, *spans]))]


def check_nist(stream: BinaryIO) -> None:
    """SPHERE, of NIST: libsndfile does not compare the number of samples with what is there."""
    head = read_at(stream, 0, 1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,18})\s*$", head, re.MULTILINE))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    declared = math.prod(int(fields.get(name, name == b"channel_count")) for name in names)
    if declared > size_of(stream) - len(head) + _SLIP:
        raise ContainerError(TRUNCATED)


def mend_caf(stream: BinaryIO) -> BinaryIO:
    """Core Audio: a chunk of data may be of unknown size."""
    size = size_of(stream)
    at = 8
    for _ in range(_MOST_CHUNKS):
        header = read_at(stream, at, 12)
        if len(header) < 12:
            break
        declared = int.from_bytes(header[4:], "big", signed=True)
        if header.startswith(b"data"):
            rest = size - at - 12
            if declared in (-1, 0) or rest < declared <= rest + _SLIP:
                sized = rest.to_bytes(8, "big")
                return cast(BinaryIO, Splice(stream, [(0, at + 4), sized, (at + 12, size)]))
            if declared > rest:
                raise ContainerError(TRUNCATED)
            return stream
        at += 12 + max(0, declared)
    raise ContainerError("its header has no chunk of sound; it is cut off or damaged.")


def mend_au(stream: BinaryIO) -> BinaryIO:
    """Sun and NeXT: the size may be unknown, or never written."""
    size = size_of(stream)
    header = read_at(stream, 0, 12)
    if len(header) < 12:
        raise ContainerError(TRUNCATED)
    order = "big" if header.startswith(b".snd") else "little"
    start, declared = (
        int.from_bytes(header[i : i + 4], order)  # type: ignore[arg-type]
        for i in (4, 8)
    )
    rest = max(0, size - start)
    if declared and declared <= rest:
        return stream
    if rest + _SLIP < declared < _UNKNOWN:
        raise ContainerError(TRUNCATED)
    sized = min(rest, 0xFFFFFFFF).to_bytes(4, order)  # type: ignore[arg-type]
    return cast(BinaryIO, Splice(stream, [header[:8], sized, (12, size)]))


def _riff_chunks(stream: BinaryIO, size: int, order: str) -> Iterator[_Chunk]:
    at = 12
    for _ in range(_MOST_CHUNKS):
        header = read_at(stream, at, 8)
        if len(header) < 8:
            return
        chunk = _Chunk(header[:4], at + 8, int.from_bytes(header[4:], order))  # type: ignore[arg-type]
        yield chunk
        at = chunk.start + chunk.size
        # Content of odd size is padded, but some writers forget that.
        if chunk.size % 2 and (
            _NAME.fullmatch(read_at(stream, at + 1, 4))
            or not _NAME.fullmatch(read_at(stream, at, 4))
        ):
            at += 1
        if at >= size:
            return


def _wave64_chunks(stream: BinaryIO, size: int) -> Iterator[_Chunk]:
    at = 40
    for _ in range(_MOST_CHUNKS):
        header = read_at(stream, at, 24)
        if len(header) < 24:
            return
        name = header[:4] if header[4:16] == _WAVE64 else b""
        content = max(0, int.from_bytes(header[16:], "little") - 24)
        yield _Chunk(name, at + 24, content)
        at += 24 + -(-content // 8) * 8
        if at >= size:
            return


def _true_size(
    stream: BinaryIO, data: _Chunk, declared: int, size: int, order: str, covered: bool
) -> int:
    """Bytes of sound.

    Args:
      covered: whether the container's own size says that it goes on to the end of the file.
    """
    rest = size - data.start
    if declared <= rest:
        unwritten = declared == 0 or covered
        if unwritten and not _is_chunks(stream, data.start + declared, size, order):
            return rest
        return declared
    if declared >= _UNKNOWN or declared - rest <= _SLIP:
        return rest
    if declared - rest in (data.start, data.start - 8):  # the whole file's, or the container's
        return rest
    raise ContainerError(TRUNCATED)


def _is_chunks(stream: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether nothing but chunks lies between a position and the end of the file."""
    for _ in range(_MOST_CHUNKS):
        if size - at < 8:
            return True
        header = read_at(stream, at, 8)
        if not _NAME.fullmatch(header[:4]):
            at += 1  # after content of odd size
            header = read_at(stream, at, 8)
            if not _NAME.fullmatch(header[:4]):
                return not any(header) and not any(read_at(stream, at, 1 << 16))
        at += 8 + int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        if at > size + _SLIP:
            return header[:4] in _TRAILING  # cut off after the sound
    return False


def _header(kept: dict[bytes, bytes], size: int, order: str) -> bytes:
    """All of a WAV before its sound."""

    def number(value: int, width: int = 4) -> bytes:
        return value.to_bytes(width, order)  # type: ignore[arg-type]

    chunks = b"".join(
        name + number(len(content)) + content + bytes(len(content) % 2)
        for name, content in sorted(kept.items(), reverse=True)  # fmt before fact
    )
    total = 4 + len(chunks) + 8 + size
    if total <= 0xFFFFFFFF:
        magic = b"RIFF" if order == "little" else b"RIFX"
        return magic + number(total) + b"WAVE" + chunks + b"data" + number(size)
    sizes = number(total + 36, 8) + number(size, 8) + bytes(12)
    unknown = b"\xff" * 4
    ds64 = b"ds64" + number(len(sizes)) + sizes
    return b"RF64" + unknown + b"WAVE" + ds64 + chunks + b"data" + unknown
