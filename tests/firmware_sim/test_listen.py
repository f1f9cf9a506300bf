import itertools
import json
import pathlib
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from firmware_sim import bundle
from firmware_sim.listen import Listener, Utterance
from firmware_sim.recognizer import Recognizer, compute_features
from firmware_sim.search.results import Segment
from firmware_sim.sound import frontend, stream
from firmware_sim.sound.stream import Ending, RingBuffer
from tests.conftest import REPOSITORY, pipe_module, synthesise

SECOND = 16000
TEXTS = {
    "five one four": "en-us+m3",
    "nine eight seven six": "en-us+f2",
    "two three": "en-us+m1",
}


class Recording(Recognizer):
    """Keeps the features that it is given."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(bundle.load(path))
        self.heard: list[tuple[NDArray[np.int8], int, int]] = []

    def recognize(self, features: NDArray[np.int8], start: int, end: int) -> Segment:
        self.heard.append((features.copy(), start, end))
        return super().recognize(features, start, end)


@pytest.fixture(scope="module")
def loaded(digits_bundle: pathlib.Path) -> Recognizer:
    return Recognizer(bundle.load(digits_bundle))


@pytest.fixture(scope="module")
def strings() -> list[NDArray[np.int16]]:
    return [synthesise(text, speaker) for text, speaker in TEXTS.items()]


@pytest.fixture(scope="module")
def conversation(strings: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    """The strings, each after 1.5 s of soft noise, and noise at the end."""
    return np.concatenate([piece for s in strings for piece in (pause(1.5), s)] + [pause(1.5)])


def pause(seconds: float, level: float = 4.0) -> NDArray[np.int16]:
    noise = np.random.default_rng(0).normal(0, level, int(seconds * SECOND))
    return np.rint(noise).astype(np.int16)


def hear(recognizer: Recognizer, audio: NDArray[np.int16], sizes: Sequence[int]) -> list[Utterance]:
    """What is heard where the audio comes in blocks of these sizes, over and over."""
    listener, heard, at = Listener(recognizer), [], 0
    for size in itertools.cycle(sizes):
        if at >= len(audio):
            return [*heard, *listener.finish()]
        heard += listener.feed(audio[at : at + size])
        at += size
    raise AssertionError


def texts(heard: Sequence[Utterance]) -> list[str]:
    return [utterance.recognized.text for utterance in heard]


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = pipe_module("firmware_sim.listen", *arguments, stdin=stdin)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def messages(result: subprocess.CompletedProcess[str]) -> list[str]:
    return result.stderr.splitlines()


def test_the_ring_buffer_holds_the_last_samples() -> None:
    ring = RingBuffer(10)
    for start in range(0, 24, 4):
        ring.write(np.arange(start, start + 4, dtype=np.int16))
    np.testing.assert_array_equal(ring.read(14, 24), np.arange(14, 24))
    np.testing.assert_array_equal(ring.read(19, 21), [19, 20])
    for start, end in ((13, 20), (20, 25)):
        with pytest.raises(ValueError, match="not in the ring"):
            ring.read(start, end)
    with pytest.raises(ValueError, match="11 samples"):
        ring.write(np.zeros(11, np.int16))


@pytest.mark.parametrize("sizes", [[160], [1, 479, 160], [37], [4096], [0, 161]])
def test_features_of_a_stream_are_those_of_the_whole_file(
    sizes: list[int], strings: list[NDArray[np.int16]]
) -> None:
    for audio in strings:
        state, at, frames = frontend.MicroFrontendStream(), 0, []
        for size in itertools.cycle(sizes):
            if at >= len(audio):
                break
            frames.append(state.process(audio[at : at + size]))
            at += size
        assert np.concatenate(frames).tobytes() == frontend.microfrontend(audio).tobytes()


def test_an_utterance_is_what_the_recognizer_makes_of_its_samples(
    digits_bundle: pathlib.Path, conversation: NDArray[np.int16]
) -> None:
    recognizer = Recording(digits_bundle)
    heard = hear(recognizer, conversation, [160])
    given = recognizer.heard.copy()
    assert len(given) == len(heard) == len(TEXTS)
    for utterance, (features, start, end) in zip(heard, given, strict=True):
        audio = conversation[start:end]
        assert features.tobytes() == compute_features(recognizer.bundle, audio).tobytes()
        whole = recognizer.transcribe(audio)
        assert (whole.text, whole.score) == (
            utterance.recognized.text,
            utterance.recognized.score,
        )


def test_utterances_are_found_with_the_silence_around_them(
    loaded: Recognizer, strings: list[NDArray[np.int16]], conversation: NDArray[np.int16]
) -> None:
    heard = hear(loaded, conversation, [160])
    assert texts(heard) == list(TEXTS)
    position = 0
    for audio, utterance in zip(strings, heard, strict=True):
        position += int(1.5 * SECOND)
        loud = np.flatnonzero(np.abs(audio.astype(int)) > 500) + position
        position += len(audio)
        assert utterance.recognized.start <= loud[0] - SECOND // 10
        assert utterance.recognized.end > loud[-1]
        assert abs(utterance.start - loud[0]) < SECOND // 5
        assert abs(utterance.end - loud[-1]) < SECOND // 5
        assert utterance.ending is Ending.PAUSE
        waited = utterance.decided - utterance.end
        assert waited == stream.HANGOVER_BLOCKS * stream.BLOCK_SAMPLES
        assert utterance.latency == pytest.approx(waited / SECOND + utterance.seconds)


@pytest.mark.parametrize("sizes", [[1, 479, 160], [37], [100_000]])
def test_the_size_of_the_blocks_does_not_matter(
    sizes: list[int], loaded: Recognizer, conversation: NDArray[np.int16]
) -> None:
    def key(utterance: Utterance) -> tuple[Any, ...]:
        recognized = utterance.recognized
        return utterance.start, utterance.end, recognized.start, recognized.end, recognized.score

    whole = [key(u) for u in hear(loaded, conversation, [160])]
    assert [key(u) for u in hear(loaded, conversation, sizes)] == whole


def test_speech_longer_than_the_window_is_cut_in_pauses_and_nothing_is_lost(
    digits_bundle: pathlib.Path, strings: list[NDArray[np.int16]]
) -> None:
    recognizer = Recording(digits_bundle)
    gap = pause(0.3)
    audio = np.concatenate([pause(1), *[p for _ in range(5) for s in strings for p in (s, gap)]])
    heard = hear(recognizer, audio, [160])
    assert len(heard) > 3
    assert sum(u.ending is Ending.WINDOW for u in heard) > 2
    used = np.zeros(len(audio), bool)
    for features, start, end in recognizer.heard:
        assert not used[start:end].any()
        used[start:end] = True
        assert 0 < len(features) <= recognizer.bundle.limits.frames
        whole = compute_features(recognizer.bundle, audio[start:end])
        assert features.tobytes() == whole.tobytes()
    assert used[np.abs(audio.astype(int)) > 300].all()
    assert " ".join(texts(heard)) == recognizer.transcribe(audio).text


def test_a_string_that_fills_the_window_is_not_cut(
    loaded: Recognizer, strings: list[NDArray[np.int16]]
) -> None:
    """Its end is heard, but the window has no room for the hangover."""
    window = frontend.sample_count(loaded.bundle.limits.frames)
    words = [*strings, strings[2]]
    gap = pause(((window - sum(map(len, words))) / SECOND - 0.4) / len(words[1:]))
    string = np.concatenate([words[0], *[piece for word in words[1:] for piece in (gap, word)]])
    audio = np.concatenate([pause(1), string, pause(1)])
    (utterance,) = hear(loaded, audio, [160])
    assert utterance.ending is Ending.PAUSE
    assert utterance.decided - utterance.end < stream.HANGOVER_BLOCKS * stream.BLOCK_SAMPLES
    loud = np.flatnonzero(np.abs(audio.astype(int)) > 500)
    assert utterance.recognized.start < loud[0] < loud[-1] < utterance.recognized.end


def test_a_stream_that_stops_in_a_word_gives_what_is_there(
    loaded: Recognizer, strings: list[NDArray[np.int16]]
) -> None:
    audio = strings[1]
    (utterance,) = hear(loaded, np.concatenate([pause(1), audio[: len(audio) * 3 // 5]]), [160])
    assert utterance.ending is Ending.STREAM
    assert utterance.recognized.text.startswith("nine eight")


@pytest.mark.parametrize("level", [0.0, 4.0, 100.0, 300.0])
def test_noise_is_no_speech(level: float, loaded: Recognizer) -> None:
    assert hear(loaded, pause(60, level), [160]) == []


def test_speech_at_the_very_beginning_is_heard(
    loaded: Recognizer, strings: list[NDArray[np.int16]]
) -> None:
    loud = np.flatnonzero(np.abs(strings[0].astype(int)) > 500)
    (utterance,) = hear(loaded, strings[0][loud[0] :], [160])
    assert utterance.recognized.start == 0
    assert utterance.recognized.text == "five one four"


@pytest.mark.parametrize(("seconds", "kept"), [(0.4, True), (0.8, True), (2.0, False)])
def test_an_unvoiced_sound_before_speech_is_kept_and_longer_noise_is_not(
    seconds: float, kept: bool, loaded: Recognizer, strings: list[NDArray[np.int16]]
) -> None:
    """A sibilant, 5 to 7 kHz: audible, but no speech to the detector."""
    noise = pause(seconds, 1000.0)
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(len(noise), 1 / SECOND)
    spectrum[(frequency < 5000) | (frequency > 7000)] = 0
    sibilant = np.rint(np.fft.irfft(spectrum, len(noise))).astype(np.int16)
    assert hear(loaded, np.concatenate([pause(2), sibilant, pause(1)]), [160]) == []
    (utterance,) = hear(
        loaded, np.concatenate([pause(2), sibilant, pause(0.1), strings[0], pause(1)]), [160]
    )
    begin = 2 * SECOND
    assert (utterance.start == begin) == kept
    assert (utterance.recognized.start < begin) == kept
    loud = np.flatnonzero(np.abs(strings[0].astype(int)) > 500)
    assert utterance.recognized.start < begin + len(sibilant) + SECOND // 10 + loud[0]


def test_memory_does_not_grow(loaded: Recognizer, conversation: NDArray[np.int16]) -> None:
    listener = Listener(loaded)

    def listen(times: int) -> int:
        for _ in range(times):
            assert len(listener.feed(conversation)) == len(TEXTS)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        warm = listen(2)
        assert listen(8) - warm < 16_000  # bytes; one conversation has 350,000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("offset", [3000, -8000])
def test_an_offset_and_clipping_are_survived(
    offset: int, loaded: Recognizer, conversation: NDArray[np.int16]
) -> None:
    wide = conversation.astype(int)
    shifted = hear(loaded, np.clip(wide + offset, -32768, 32767).astype(np.int16), [160])
    assert texts(shifted) == list(TEXTS)
    assert all(abs(u.offset - offset) < 300 for u in shifted)
    clipped = hear(loaded, np.clip(wide * 6, -32768, 32767).astype(np.int16), [160])
    assert len(clipped) == len(TEXTS)
    assert all(u.clipped > 0.01 for u in clipped)


def test_a_file_and_the_same_samples_on_standard_input_give_the_same_lines(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, conversation: NDArray[np.int16]
) -> None:
    soundfile.write(tmp_path / "a.wav", conversation, SECOND)
    file = run(f"--bundle={digits_bundle}", "--json", tmp_path / "a.wav")
    raw = conversation.astype("<i2").tobytes()
    piped = run(f"--bundle={digits_bundle}", "--json", "-", stdin=raw + b"\x01")
    assert file.returncode == piped.returncode == 0
    assert messages(file) == messages(piped) == []
    found = [[json.loads(line) for line in r.stdout.splitlines()] for r in (file, piped)]
    assert [line["text"] for line in found[0]] == list(TEXTS)
    for one, other in zip(*found, strict=True):
        assert one["latency"] == pytest.approx(0.8 + one["compute"], abs=1e-3)
        for line in (one, other):
            del line["latency"], line["compute"]
        assert one == other


def test_an_early_text_comes_right_after_the_end_of_speech(
    loaded: Recognizer, conversation: NDArray[np.int16]
) -> None:
    listener = Listener(loaded, early=True)
    heard = [*listener.feed(conversation), *listener.finish()]
    final = [u for u in heard if u.ending is not Ending.EARLY]
    usual = hear(loaded, conversation, [160])
    assert [(u.start, u.end, u.recognized.text) for u in final] == [
        (u.start, u.end, u.recognized.text) for u in usual
    ]
    for utterance in final:
        position = heard.index(utterance)
        early = heard[position - 1]
        assert (early.ending, early.start, early.end) == (
            Ending.EARLY, utterance.start, utterance.end,
        )  # fmt: skip
        waited = early.decided - early.end
        assert waited == stream.EARLY_BLOCKS * stream.BLOCK_SAMPLES == 320
        assert early.latency == pytest.approx(0.02 + early.seconds)
    assert (
        sum(
            u.recognized.text == e.recognized.text
            for e, u in itertools.pairwise(heard)
            if u.ending is not Ending.EARLY
        )
        >= len(final) - 1
    )


def test_early_lines_are_marked(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, conversation: NDArray[np.int16]
) -> None:
    soundfile.write(tmp_path / "a.wav", conversation, SECOND)
    lines = run(f"--bundle={digits_bundle}", "--early", tmp_path / "a.wav").stdout.splitlines()
    assert [line.split(" ", 2)[2] for line in lines if not line.startswith("? ")] == list(TEXTS)
    assert sum(line.startswith("? ") for line in lines) >= len(TEXTS)


def test_a_stream_that_stutters_is_a_stream(
    digits_bundle: pathlib.Path, strings: list[NDArray[np.int16]]
) -> None:
    """Writes odd numbers of bytes, and lets the reader wait in the middle of a sample."""
    data = np.concatenate([pause(1), strings[0]]).astype("<i2").tobytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim.listen", f"--bundle={digits_bundle}", "-"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    for start in range(0, len(data), 7777):
        process.stdin.write(data[start : start + 7777])
        process.stdin.flush()
    stdout, _ = process.communicate()
    assert process.returncode == 0
    (line,) = stdout.decode().splitlines()
    assert line.endswith(" five one four")


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates_are_resampled(
    rate: int,
    digits_bundle: pathlib.Path,
    tmp_path: pathlib.Path,
    conversation: NDArray[np.int16],
) -> None:
    other = np.rint(soxr.resample(conversation.astype(np.float32), SECOND, rate)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", other, rate)
    file = run(f"--bundle={digits_bundle}", "--json", tmp_path / "a.wav")
    raw = other.astype("<i2").tobytes()
    piped = run(f"--bundle={digits_bundle}", "--json", f"--rate={rate}", "-", stdin=raw)
    for result in (file, piped):
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert [line["text"] for line in found] == list(TEXTS)
        assert found[0]["start"] == pytest.approx(1.6, abs=0.2)
        assert result.returncode == 0


def test_a_file_at_its_own_speed_gives_the_same_text(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, strings: list[NDArray[np.int16]]
) -> None:
    soundfile.write(tmp_path / "a.wav", strings[2], SECOND)
    result = run(f"--bundle={digits_bundle}", "--own_speed", tmp_path / "a.wav")
    assert result.returncode == 0
    assert result.stdout.endswith(" two three\n")


def test_a_cut_is_said(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, strings: list[NDArray[np.int16]]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([*strings, *strings]), SECOND)
    lines = run(f"--bundle={digits_bundle}", tmp_path / "a.wav").stdout.splitlines()
    assert lines[0].endswith(" ...")
    assert len(lines) > 1
    assert not lines[-1].endswith(" ...")


def test_bad_sound_is_one_warning(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path, conversation: NDArray[np.int16]
) -> None:
    loud = np.clip(conversation.astype(int) * 6, -32768, 32767).astype(np.int16)
    for samples, message in ((loud, "clipped"), (conversation + np.int16(3000), "offset of 30")):
        soundfile.write(tmp_path / "a.wav", samples, SECOND)
        result = run(f"--bundle={digits_bundle}", tmp_path / "a.wav")
        assert result.returncode == 0
        (warning,) = messages(result)
        assert message in warning


@pytest.mark.parametrize(
    ("stdin", "message"),
    [(b"", "no audio"), (b"\x01", "no audio"), (b"RIFF" + bytes(400), "name the file")],
)
def test_a_stream_without_audio_is_one_sentence(
    stdin: bytes, message: str, digits_bundle: pathlib.Path
) -> None:
    result = run(f"--bundle={digits_bundle}", "-", stdin=stdin)
    assert result.returncode == 1
    assert result.stdout == ""
    (error,) = messages(result)
    assert message in error


def test_what_cannot_be_heard_is_one_sentence(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound" * 100)
    for arguments, message in (
        ([tmp_path / "none.wav"], "no such file"),
        ([tmp_path / "a.wav"], "not an audio file"),
        (["-", "-"], "One stream at a time"),
    ):
        result = run(f"--bundle={digits_bundle}", *arguments)
        assert result.returncode == 1
        (error,) = messages(result)
        assert message in error


def test_no_microphone_is_one_sentence(digits_bundle: pathlib.Path) -> None:
    try:
        import sounddevice

        if any(device["max_input_channels"] for device in sounddevice.query_devices()):
            pytest.skip("there is a microphone")
    except (ImportError, OSError):
        pass
    result = run(f"--bundle={digits_bundle}")
    assert result.returncode == 1
    (error,) = messages(result)
    assert "sounddevice" in error or "microphone" in error
