"""Containers by their first bytes: which of them hold sound that can be read, and how."""

from typing import BinaryIO, Final

from firmware_sim.sound.containers import flac, mpeg, ogg, riff
from firmware_sim.sound.containers.splice import ContainerError, Splice, read_at, size_of

HEAD_BYTES: Final = 8192  # enough for three frames of MPEG audio
_WAVES: Final = (b"RIFF", b"RIFX", b"RF64", b"riff")
# What libsndfile reads as it is.
_OTHERS: Final = (b"FORM", b"Creative Voice File", b"NIST_1A", b" paf", b"fap ", b"2BIT", b"LM8953")
_UNREADABLE: Final = (
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (4, b"ftyp", "MPEG-4 (M4A, MP4, 3GP)"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b"FLV", "Flash video"),
    (0, b"ADIF", "AAC"),
    (0, b"MThd", "MIDI"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"DSD ", "DSD"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"\x7fELF", "a program"),
)
_TEXT: Final = frozenset((*range(0x20, 0x7F), *b"\t\n\r\f"))
_FEWEST_LETTERS: Final = 64


def is_container(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` bytes are of anything else than raw PCM.

    Raises:
      ContainerError: they are, but it cannot be read.
    """
    for offset, magic, name in _UNREADABLE:
        if head.startswith(magic, offset):
            raise ContainerError(f"this is {name}, which is not read; convert it to WAV or FLAC.")
    if len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and _is_adts(head):
        raise ContainerError("this is AAC, which is not read; convert it to WAV or FLAC.")
    if len(head) >= _FEWEST_LETTERS and _TEXT.issuperset(head):
        raise ContainerError("not an audio file, but a text; name the sound instead.")
    known = (*_WAVES, *_OTHERS, b"fLaC", b"OggS", b"caff", b".snd", b"dns.", b"ID3")
    return head.startswith(known) or mpeg.begins(head)


def mend(stream: BinaryIO) -> list[BinaryIO]:
    """A file -> files with right headers, to play one after the other.

    Args:
      stream: seekable.

    Raises:
      ContainerError: it is cut off, or of a kind that cannot be read.
    """
    start = mpeg.after_tags(stream, 0)
    head = read_at(stream, start, HEAD_BYTES)
    is_container(head)
    if start:
        stream = Splice(stream, [(start, size_of(stream))])  # type: ignore[assignment]
    if head.startswith(_WAVES):
        return [riff.mend_wave(stream)]
    if head.startswith(b"caff"):
        return [riff.mend_caf(stream)]
    if head.startswith((b".snd", b"dns.")):
        return [riff.mend_au(stream)]
    if head.startswith(b"fLaC"):
        return [flac.mend(stream)]
    if head.startswith(b"OggS"):
        return ogg.links(stream)
    if head.startswith(_OTHERS):
        return [stream]
    return [mpeg.mend(stream)]


def _is_adts(head: bytes) -> bool:
    """Whether two frames of AAC follow each other."""
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length >= 7 and (following == head[:2] or len(head) == length)
