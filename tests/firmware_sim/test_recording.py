"""Recordings: warnings of suspicious sound, pipes, and memory that does not grow."""

import io
import os
import pathlib
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import firmware_sim
from firmware_sim.sound import audio, segment
from tests.conftest import pipe_module

RATE = 16000
Sound = NDArray[np.int16]


def warning(path: pathlib.Path, samples: NDArray[Any], **options: Any) -> tuple[Sound, str | None]:
    """What is read from a file of these samples, and the warning."""
    soundfile.write(path, samples, RATE, **options)
    recording = audio.open_file(path)
    read = np.concatenate(list(recording))
    return read, recording.warning


def test_ordinary_sound_has_no_warning(speech: Sound, tmp_path: pathlib.Path) -> None:
    for samples in (speech, speech // 20, np.stack([speech, speech], 1), speech / 32768):
        assert warning(tmp_path / "a.wav", samples)[1] is None


def test_floats_in_the_range_of_int16_are_taken_for_that(
    speech: Sound, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "a.wav"
    for subtype in ("FLOAT", "DOUBLE"):
        read, message = warning(path, speech.astype(np.float64), subtype=subtype)
        np.testing.assert_array_equal(read, speech)
        assert message and f"{path}: its float samples reach" in message
    loud, message = warning(
        path, speech / 8192, subtype="FLOAT"
    )  # over full scale, but no integers
    assert loud.max() == 32767 or loud.min() == -32768
    soundfile.write(path, speech * 1e6, RATE, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="between -1 and 1"):
        audio.read(path)


def test_channels_that_cancel_are_not_averaged(speech: Sound, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.wav"
    read, message = warning(path, np.stack([speech, -speech], 1))
    np.testing.assert_array_equal(read, speech)
    assert message and "cancel each other, so only channel 1" in message
    read, message = warning(path, np.stack([-speech // 2, speech // 2 + 1], 1))
    assert message and "cancel" in message
    assert warning(path, np.stack([speech, np.zeros_like(speech)], 1))[1] is None
    assert warning(path, np.stack([speech] + 7 * [np.zeros_like(speech)], 1))[1] is None


def test_clipped_quiet_and_silent_sound_is_said(speech: Sound, tmp_path: pathlib.Path) -> None:
    loud = np.clip(speech.astype(int) * 8, -32768, 32767).astype(np.int16)
    quiet = (speech / 400).astype(np.int16)
    for samples, expected in ((loud, "clipped"), (quiet, "very quiet"), (quiet * 0, "silent")):
        _, message = warning(tmp_path / "a.wav", samples)
        assert message and expected in message


def test_a_warning_is_one_line_on_standard_error(
    digits_bundle: pathlib.Path, speech: Sound, tmp_path: pathlib.Path
) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([speech, -speech], 1), RATE)
    done = pipe_module("firmware_sim.transcribe", f"--bundle={digits_bundle}", tmp_path / "a.wav")
    assert (done.returncode, done.stdout) == (0, b"one two three\n")
    assert done.stderr.count(b"\n") == 1
    assert b"cancel" in done.stderr


def test_a_pipe_with_a_name_is_read(speech: Sound, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    stream = io.BytesIO()
    soundfile.write(stream, speech, RATE, format="WAV")
    for data in (stream.getvalue(), speech.astype("<i2").tobytes()):
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        np.testing.assert_array_equal(audio.read(path), speech)
        writer.join()


def test_only_int16_of_one_channel_is_taken(digits_bundle: pathlib.Path, speech: Sound) -> None:
    recognizer = firmware_sim.load(digits_bundle)
    for wrong in (speech / 32768, speech.astype(np.int32), np.stack([speech, speech], 1), [1, 2]):
        with pytest.raises(ValueError, match="int16 \\[samples\\] at 16 kHz, not"):
            recognizer.transcribe(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="int16 \\[samples\\] at 16 kHz, not"):
            list(recognizer.listen([wrong]))  # type: ignore[list-item]


def long_sound(speech: Sound, minutes: int) -> list[Sound]:
    """A word every half a minute, between digital silence, in blocks of different sizes."""
    minute = np.zeros(60 * RATE, np.int16)
    minute[RATE : RATE + len(speech)] = minute[31 * RATE : 31 * RATE + len(speech)] = speech
    return [block for _ in range(minutes) for block in (minute[:100], minute[100:])]


def test_memory_does_not_grow_with_the_length_of_a_file(
    digits_bundle: pathlib.Path, speech: Sound, tmp_path: pathlib.Path
) -> None:
    recognizer = firmware_sim.load(digits_bundle)
    peaks = {}
    for minutes in (1, 12):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.concatenate(long_sound(speech, minutes)), RATE)
        tracemalloc.start()
        result = recognizer.transcribe(path)
        peaks[minutes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert result.audio_seconds == 60 * minutes
        assert result.text.count("one two three") == 2 * minutes
    assert peaks[12] - peaks[1] < 12_000_000  # bytes; the file has 23 MB


def test_passages_are_those_of_the_audio_whatever_its_blocks(speech: Sound) -> None:
    window = 5 * RATE
    gap = np.random.default_rng(0).normal(0, 15, RATE).astype(np.int16)
    whole = np.concatenate([speech, gap] * (400 * RATE // (len(speech) + RATE)))
    assert len(whole) > 2 * 180 * RATE
    cut = [[x for p in segment.passages(blocks, window) for x in p.pieces] for blocks in (
        [whole], np.array_split(whole, 977), [whole[:7], whole[7:]],
    )]  # fmt: skip
    assert cut[0] == cut[1] == cut[2]
    covered = np.zeros(len(whole), np.int8)
    for start, end in cut[0]:
        assert 0 < end - start <= window
        covered[start:end] += 1
    assert (covered == 1).all()
    for passage in segment.passages([whole], window):
        for start, end in passage.pieces:
            at = start - passage.first
            np.testing.assert_array_equal(passage.samples[at : at + end - start], whole[start:end])
            assert at >= min(window, start)
            assert passage.first + len(passage.samples) >= min(len(whole), end + window)


def test_short_audio_is_one_passage(speech: Sound) -> None:
    audio_of_a_minute = np.tile(speech, 40)
    (passage,) = segment.passages([audio_of_a_minute], 5 * RATE)
    assert passage.pieces == segment.split(audio_of_a_minute, 5 * RATE)
    (nothing,) = segment.passages([], 5 * RATE)
    assert (nothing.pieces, len(nothing.samples)) == ([], 0)


@pytest.mark.parametrize("kind", ["offset", "rumble", "drift"])
def test_what_is_slower_than_speech_hides_no_pause(kind: str, speech: Sound) -> None:
    gap = np.random.default_rng(0).normal(0, 4, RATE // 2).astype(np.int16)
    whole = np.concatenate([speech // 2, gap] * 12).astype(float)
    time = np.arange(len(whole)) / RATE
    slow = {
        "offset": np.full(len(whole), 1638.0),
        "rumble": 2000 * np.sin(2 * np.pi * 20 * time),
        "drift": 3000 * np.sin(2 * np.pi * time / 20),
    }[kind]
    loud = np.abs(whole) > 500
    pieces = segment.split(np.rint(whole + slow).astype(np.int16), 5 * RATE)
    assert len(pieces) > 3
    for _, end in pieces[:-1]:
        assert not loud[end - RATE // 20 : end + RATE // 20].any()
