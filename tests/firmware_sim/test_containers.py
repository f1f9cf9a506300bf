"""Containers: headers that are streamed, unfinished, odd or wrong; the same samples everywhere."""

import io
import pathlib
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim.sound import audio
from firmware_sim.sound.containers import mpeg, ogg
from tf_speech_transformer.corpora import audio as corpora_audio

RATE = 16000
Sound = NDArray[np.int16]


def encode(samples: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, **options)
    return stream.getvalue()


def read(data: bytes, folder: pathlib.Path) -> Sound:
    """What the device reads from a file; standard input and training get the same."""
    path = folder / "sound"
    path.write_bytes(data)
    samples = audio.read(path)
    piped = audio.open_stream(io.BytesIO(data))
    np.testing.assert_array_equal(np.concatenate(list(piped)), samples)
    np.testing.assert_array_equal(corpora_audio.load(path), samples)
    np.testing.assert_array_equal(corpora_audio.decode(data, "sound"), samples)
    return samples


def refusal(data: bytes, folder: pathlib.Path) -> str:
    """Why all of them refuse a file."""
    path = folder / "sound"
    path.write_bytes(data)
    messages = []
    for reader in (
        lambda: audio.read(path),
        lambda: corpora_audio.load(path),
        lambda: list(audio.open_stream(io.BytesIO(data), str(path))),
    ):
        with pytest.raises(audio.AudioError) as raised:
            reader()
        messages.append(str(raised.value))
    assert len(set(messages)) == 1
    assert messages[0].startswith(f"{path}: ")
    return messages[0]


def chunk(name: bytes, content: bytes, size: int | None = None, order: str = "<") -> bytes:
    declared = len(content) if size is None else size
    return name + struct.pack(order + "I", declared) + content


def wave(
    samples: Sound,
    size: int | None = None,
    riff: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    align: int = 2,
    order: str = "<",
) -> bytes:
    """A WAV; `size` and `riff` are what its header says; `before` and `after`: the data."""
    form = struct.pack(order + "HHIIHH", 1, 1, RATE, 2 * RATE, align, 16)
    data = samples.astype(order + "i2").tobytes()
    body = b"WAVE" + chunk(b"fmt ", form, order=order) + before
    body += chunk(b"data", data, size, order) + after
    return chunk(b"RIFF" if order == "<" else b"RIFX", body, riff, order)


def test_sizes_of_a_pipe_are_read_to_the_end(speech: Sound, tmp_path: pathlib.Path) -> None:
    for size in (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36):
        data = wave(speech, size, min(size + 36, 0xFFFFFFFF))
        np.testing.assert_array_equal(read(data, tmp_path), speech)


def test_a_recorder_that_never_wrote_the_size_is_read_to_the_end(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    for riff in (0, 36, None):
        for before in (b"", chunk(b"FLLR", bytes(4044))):
            np.testing.assert_array_equal(read(wave(speech, 0, riff, before), tmp_path), speech)
    early = wave(speech, 2 * len(speech) // 4, 0)  # written now and then, until it was switched off
    np.testing.assert_array_equal(read(early, tmp_path), speech)


def test_an_empty_recording_is_no_unfinished_one(speech: Sound, tmp_path: pathlib.Path) -> None:
    for after in (b"", chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 4) + b"test")):
        assert "holds no samples" in refusal(wave(speech[:0], after=after), tmp_path)


@pytest.mark.parametrize("excess", [1, 2, 8, 36, 44])
def test_a_size_that_counts_the_header_is_read(
    excess: int, speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = wave(speech, 2 * len(speech) + excess)
    np.testing.assert_array_equal(read(data, tmp_path), speech)
    assert "truncated" in refusal(data[:-200], tmp_path)


def test_chunks_may_come_in_any_order_and_size(speech: Sound, tmp_path: pathlib.Path) -> None:
    comment = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"tests\0")
    odd = chunk(b"note", b"abc") + b"\0"
    for before in (comment, odd, odd + comment, chunk(b"note", b"abc") + comment):
        np.testing.assert_array_equal(read(wave(speech, before=before), tmp_path), speech)
        first = wave(speech)
        moved = first[:12] + before + first[12:]
        np.testing.assert_array_equal(read(moved, tmp_path), speech)
    plain = wave(speech)
    late = plain[:12] + plain[36:] + plain[12:36]  # format after data
    np.testing.assert_array_equal(read(late, tmp_path), speech)
    followed = wave(speech, after=comment)
    np.testing.assert_array_equal(read(followed, tmp_path), speech)


def test_a_wrong_block_align_and_an_odd_byte_change_nothing(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    for align in (0, 1, 4):
        np.testing.assert_array_equal(read(wave(speech, align=align), tmp_path), speech)
    odd = wave(speech, 2 * len(speech) - 1)
    np.testing.assert_array_equal(read(odd, tmp_path), speech[:-1])


def test_a_big_endian_wave_is_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    np.testing.assert_array_equal(read(wave(speech, order=">"), tmp_path), speech)
    piped = wave(speech, 0xFFFFFFFF, 0xFFFFFFFF, order=">")
    np.testing.assert_array_equal(read(piped, tmp_path), speech)


@pytest.mark.parametrize("form", ["RF64", "W64", "CAF", "AU", "AIFF"])
def test_other_containers_of_unknown_size_are_read(
    form: str, speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = encode(speech, format=form, subtype="PCM_16")
    np.testing.assert_array_equal(read(data, tmp_path), speech)
    size = 2 * len(speech)
    fields = {
        "RF64": [struct.pack("<Q", size)],
        "W64": [struct.pack("<Q", size + 24)],
        "CAF": [struct.pack(">q", size + 4)],
        "AU": [struct.pack(">I", size)],
        "AIFF": [struct.pack(">I", size + 8)],
    }[form]
    for field in fields:
        assert data.count(field) == 1
        for unknown in (bytes(len(field)), b"\xff" * len(field)):
            np.testing.assert_array_equal(read(data.replace(field, unknown), tmp_path), speech)


def without_information(data: bytes) -> bytes:
    """An MP3 as a writer into a pipe leaves it: without the frame that counts the others."""
    first = mpeg.frame(data[:4])
    assert first
    assert b"Xing" in data[: first.length] or b"Info" in data[: first.length]
    return data[first.length :]


@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
def test_an_mp3_without_a_count_of_frames_is_read_to_its_end(
    mode: str, speech: Sound, tmp_path: pathlib.Path
) -> None:
    quiet = np.concatenate([np.zeros(RATE, np.int16), speech])  # the rate varies
    data = encode(quiet, format="MP3", bitrate_mode=mode, compression_level=0.3)
    piped = without_information(data)
    tagged = b"ID3\4\0\0\0\0\1\0" + bytes(128) + piped + b"TAG" + bytes(125)
    after_junk = bytes(range(1, 200)) + piped
    np.testing.assert_array_equal(
        audio.decode(io.BytesIO(after_junk), "a"), audio.decode(io.BytesIO(piped), "a")
    )
    for variant in (piped, tagged, piped + bytes(300)):
        samples = read(variant, tmp_path)
        assert len(quiet) - 576 <= len(samples) <= len(quiet) + 3 * 1152
        late = quiet[-len(speech) :]
        products = np.correlate(samples.astype(float), late, "valid")
        at = int(products.argmax())  # some samples later: the coder's delay
        assert np.corrcoef(samples[at : at + len(late)], late)[0, 1] > 0.9
        assert at > len(quiet) - len(late) - 1
    assert "truncated" in refusal(piped[:-20], tmp_path)
    assert "truncated" in refusal(data[: len(data) * 2 // 3], tmp_path)


def test_joined_mp3s_are_read_to_their_end(speech: Sound, tmp_path: pathlib.Path) -> None:
    data = encode(speech, format="MP3")
    assert len(read(data + data, tmp_path)) >= 2 * len(speech)
    assert "truncated" in refusal(data + b"no frame" * 40 + data, tmp_path)


def unmarked(data: bytes) -> tuple[bytes, int]:
    """An Ogg without the flag of its last page, and where that page begins."""
    at = data.rindex(b"OggS")
    page = data[at : at + 5] + bytes([data[at + 5] & ~4]) + data[at + 6 :]
    return data[:at] + page[:22] + ogg.checksum(page) + page[26:], at


@pytest.mark.parametrize("coding", ["OPUS", "VORBIS"])
def test_an_ogg_without_its_flag_is_read_to_its_last_sample(
    coding: str, speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = encode(speech, format="OGG", subtype=coding)
    plain, last = unmarked(data)
    assert plain != data
    whole = read(data, tmp_path)
    assert len(whole) == len(speech)
    np.testing.assert_array_equal(read(plain, tmp_path), whole)
    for cut in (last + 3, last + 20, len(data) - 1):
        assert "truncated" in refusal(data[:cut], tmp_path)
    flipped = bytearray(data)
    flipped[-10] ^= 1
    assert "truncated or damaged" in refusal(bytes(flipped), tmp_path)


def test_oggs_that_follow_each_other_are_all_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    data = encode(speech, format="OGG", subtype="OPUS")
    once = read(data, tmp_path)
    np.testing.assert_array_equal(read(data + data, tmp_path), np.concatenate([once, once]))


def with_samples(data: bytes, samples: int, checksum: bool = True) -> bytes:
    """A FLAC whose header says another number of samples."""
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return (
        data[:18] + packed.to_bytes(8, "big") + (data[26:42] if checksum else bytes(16)) + data[42:]
    )


def test_a_flac_with_a_wrong_number_of_samples_is_read(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = encode(speech, format="FLAC", subtype="PCM_16")
    for samples in (0, 1000, len(speech) - 1):
        for checksum in (True, False):
            lying = with_samples(data, samples, checksum)
            np.testing.assert_array_equal(read(lying, tmp_path), speech)
    tagged = b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data + b"TAG" + bytes(125)
    at = data.index(b"libFLAC")  # in the comments, which say how long they are
    commented = data[: at - 14] + b"\xff" * 40 + data[at + 26 :]
    for variant in (tagged, data + bytes(99), commented):
        np.testing.assert_array_equal(read(variant, tmp_path), speech)
    assert "truncated" in refusal(with_samples(data, len(speech) + 1), tmp_path)
    assert "truncated" in refusal(with_samples(data, 0)[:-100], tmp_path)


def test_a_flac_whose_checksum_ends_with_zero_is_whole(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    for size in range(1000, 5000):
        data = encode(speech[:size], format="FLAC", subtype="PCM_16")
        if data[-1] == 0:
            break
    assert data[-1] == 0
    np.testing.assert_array_equal(read(data, tmp_path), speech[:size])


def test_tensorflow_io_and_the_reader_give_the_same_samples(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = encode(speech, format="FLAC", subtype="PCM_16")
    decoded = corpora_audio._decode_flac(data)
    np.testing.assert_array_equal(decoded, audio.decode(io.BytesIO(data), "sound"))
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 16
    assert corpora_audio._decode_flac(bytes(damaged)) is None
    assert "truncated or damaged" in refusal(bytes(damaged), tmp_path)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "MPEG-4"),
        (b"\0\0\0\x18ftyp3gp4\0\0\0\0", "MPEG-4"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1", "Matroska or WebM"),
        (b"#!AMR\n\x3c\x08", "AMR"),
        (b"#!AMR-WB\n\x04", "AMR"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
        (b"PK\3\4\x14\0", "ZIP"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xff\xf1\x60\x40\1\0\xfc\0" + b"\xff\xf1\x60\x40", "AAC"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    head: bytes, name: str, tmp_path: pathlib.Path
) -> None:
    assert f"this is {name}" in refusal(head + bytes(range(256)) * 8, tmp_path).replace(
        "a ZIP", "ZIP"
    )


def test_a_text_is_no_sound(tmp_path: pathlib.Path) -> None:
    assert "a text" in refusal(b"<html>There is no such recording.</html>\n" * 9, tmp_path)


@pytest.mark.parametrize("rate", [1, 2, 8, 3999, 768_001, 2_000_000_000])
def test_rates_of_no_microphone_are_refused(rate: int, tmp_path: pathlib.Path) -> None:
    data = wave(np.arange(10_000, dtype=np.int16))
    data = data[:24] + struct.pack("<I", rate) + data[28:]
    assert f"rate is {rate} Hz" in refusal(data, tmp_path)


@pytest.mark.parametrize("rate", [4000, 192_000, 768_000])
def test_rates_of_microphones_are_read(rate: int, tmp_path: pathlib.Path) -> None:
    data = wave(np.arange(12_000, dtype=np.int16))
    data = data[:24] + struct.pack("<I", rate) + data[28:]
    assert len(read(data, tmp_path)) == 12_000 * RATE // rate


def test_joined_files_are_all_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    for kind in ("WAV", "FLAC"):
        first, second = (encode(x, format=kind) for x in (speech[:3000], speech))
        joined = np.concatenate([speech[:3000], speech])
        np.testing.assert_array_equal(read(first + second, tmp_path), joined)
    stereo = encode(np.stack([speech, speech], axis=1), format="WAV")
    floats = encode(speech / 32768, format="WAV", subtype="FLOAT")
    mixed = read(stereo + encode(speech, format="WAV") + floats, tmp_path)
    np.testing.assert_array_equal(mixed, np.tile(speech, 3))
    assert "1000 files are joined" in refusal(encode(speech[:4], format="WAV") * 1100, tmp_path)


def test_several_chunks_of_sound_are_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    header = encode(speech, format="WAV")[12:36]
    parts = b"".join(
        chunk(b"data", x.tobytes()) for x in (speech[:0], speech[:5000], speech[5000:])
    )
    wave = b"RIFF" + struct.pack("<I", 4 + len(header + parts)) + b"WAVE" + header + parts
    np.testing.assert_array_equal(read(wave, tmp_path), speech)


def test_the_wave_of_broadcasters_is_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    wave = encode(speech, format="RF64")
    np.testing.assert_array_equal(read(b"BW64" + wave[4:], tmp_path), speech)


def test_an_aiff_out_of_a_pipe_is_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    """As SoX writes it."""
    aiff = encode(speech, format="AIFF")
    at = aiff.index(b"SSND") + 4
    sizes = struct.pack(">I", 0x7F000024), struct.pack(">I", 0x7F000008)
    streamed = aiff[:4] + sizes[0] + aiff[8:at] + sizes[1] + aiff[at + 4 :]
    np.testing.assert_array_equal(read(streamed, tmp_path), speech)


@pytest.mark.parametrize("kind", ["AIFF", "CAF", "VOC", "NIST", "AU"])
def test_the_name_of_a_file_does_not_matter(
    kind: str, speech: Sound, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "sound.raw"
    path.write_bytes(encode(speech, format=kind))
    np.testing.assert_array_equal(audio.read(path), speech)


@pytest.mark.parametrize("kind", ["VOC", "NIST", "SVX", "AVR"])
def test_old_containers_that_are_cut_off_are_refused(
    kind: str, speech: Sound, tmp_path: pathlib.Path
) -> None:
    data = encode(speech, format=kind)
    np.testing.assert_array_equal(read(data, tmp_path), speech)
    assert "truncated" in refusal(data[: len(data) // 2], tmp_path)


def test_an_ogg_without_a_page_is_refused(speech: Sound, tmp_path: pathlib.Path) -> None:
    data = encode(np.tile(speech, 4), format="OGG", subtype="VORBIS")
    pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]
    assert len(pages) > 4
    assert "truncated" in refusal(b"".join(pages[:3] + pages[4:]), tmp_path)


def test_an_mp3_after_junk_is_no_raw_pcm(speech: Sound, tmp_path: pathlib.Path) -> None:
    data = encode(speech, format="MP3")
    np.testing.assert_array_equal(read(bytes(3000) + data, tmp_path), read(data, tmp_path))


def test_quiet_pcm_is_no_container() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 1 + 3 * seed, 8000).astype("<i2")
        read_back = np.concatenate(list(audio.open_stream(io.BytesIO(noise.tobytes()))))
        np.testing.assert_array_equal(read_back, noise)


@pytest.mark.parametrize(
    "head",
    [b"\x02#!SILK_V3", b"PVF1\n1 16000 16\n", b"d\xa3\x03\0", b"%PDF-1.7", bytes(257) + b"ustar"],
)
def test_other_kinds_are_no_raw_pcm(head: bytes, tmp_path: pathlib.Path) -> None:
    assert "not read" in refusal(head + bytes(range(256)) * 40, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_any_script_is_no_sound(encoding: str, tmp_path: pathlib.Path) -> None:
    text = "\u043f\u0440\u0438\u0432\u0435\u0442 \u65e5\u672c\n" * 900
    assert "a text" in refusal(text.encode(encoding), tmp_path)


def test_a_damaged_header_prints_nothing_of_its_own(
    speech: Sound, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    aiff = encode(speech, format="AIFF")
    refusal(aiff[: aiff.index(b"SSND")], tmp_path)
    assert capfd.readouterr().err == ""
