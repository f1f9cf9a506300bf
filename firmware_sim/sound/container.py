"""Containers by their first bytes: which of them hold sound that can be read, and how."""

import codecs
from typing import BinaryIO, Final, cast

from firmware_sim.sound.containers import flac, mpeg, ogg, riff
from firmware_sim.sound.containers.splice import ContainerError, Splice, read_at, size_of

HEAD_BYTES: Final = 8192  # enough for three frames of MPEG audio
_WAVES: Final = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff")
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
    (0, b"#!SILK", "SILK"),
    (0, b"\x02#!SILK", "SILK"),
    (0, b"VAGp", "PlayStation audio"),
    (0, b"TWIN", "TwinVQ"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"PVF1", "portable voice format"),
    (0, b"ALawSoundFile", "Psion audio"),
    (0, b"Extended Instrument", "an instrument of FastTracker"),
    (0, b"MATLAB", "a file of MATLAB"),
    (1, b"\xa3\x01\0", "IRCAM"),
    (1, b"\xa3\x02\0", "IRCAM"),
    (1, b"\xa3\x03\0", "IRCAM"),
    (1, b"\xa3\x04\0", "IRCAM"),
    (0, b"\0\0\1\xba", "MPEG video"),
    (0, b"%PDF", "PDF"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (257, b"ustar", "a tar archive"),
    (0, b"GIF8", "a picture"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"\x7fELF", "a program"),
)
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
    if len(head) >= _FEWEST_LETTERS and _is_text(head):
        raise ContainerError("not an audio file, but a text; name the sound instead.")
    known = (*_WAVES, *_OTHERS, b"fLaC", b"OggS", b"caff", b".snd", b"dns.", b"ID3")
    return head.startswith(known) or mpeg.begins(head) or mpeg.contains(head)


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
    # Always: libsndfile would seek before the beginning, and soundfile heed the file's name.
    stream = cast(BinaryIO, Splice(stream, [(start, size_of(stream))]))
    if head.startswith(_WAVES):
        return riff.mend_waves(stream)
    if head.startswith(b"caff"):
        return [riff.mend_caf(stream)]
    if head.startswith((b".snd", b"dns.")):
        return [riff.mend_au(stream)]
    if head.startswith(b"fLaC"):
        return [flac.mend(part) for part in flac.parts(stream)]
    if head.startswith(b"OggS"):
        return ogg.links(stream)
    if head.startswith(b"NIST_1A"):
        riff.check_nist(stream)
    if head.startswith(_OTHERS):
        return [stream]
    return [mpeg.mend(stream)]


def _is_text(head: bytes) -> bool:
    """Whether bytes are text in UTF-8, or UTF-16 with its mark."""
    try:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = codecs.getincrementaldecoder("utf-16")().decode(head)
        else:
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _is_adts(head: bytes) -> bool:
    """Whether two frames of AAC follow each other."""
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length >= 7 and (following == head[:2] or len(head) == length)
