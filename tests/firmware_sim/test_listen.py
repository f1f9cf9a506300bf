import functools
import io
import json
import pathlib
from collections.abc import Iterable

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import audio, bundle, listen, recognizer
from firmware_sim.recognizer import Recognizer
from firmware_sim.stream import Heard, Listener
from tests.conftest import pipe_module, synthesise

_run = functools.partial(pipe_module, "firmware_sim.listen")

Samples = NDArray[np.int16]


@pytest.fixture(scope="module")
def engine(digits_bundle: pathlib.Path) -> Recognizer:
    return Recognizer(bundle.load(digits_bundle))


class Recording(Listener):
    """A listener that keeps the features of each stretch that it recognised."""

    def __init__(self, engine: Recognizer) -> None:
        super().__init__(engine)
        self.features: list[tuple[Heard, NDArray[np.int8]]] = []

    def _recognize(self, frames: int, cut: bool) -> Heard:
        heard = super()._recognize(frames, cut)
        self.features.append((heard, self._features[:frames].copy()))
        return heard


def quiet(seconds: float, level: float = 5.0) -> Samples:
    noise = np.random.default_rng(0).normal(0, level, int(seconds * 16000))
    return np.rint(noise).astype(np.int16)


def blocks(samples: Samples) -> Iterable[Samples]:
    return np.pad(samples, (0, -len(samples) % 160)).reshape(-1, 160)


def heard_in(listener: Listener, samples: Samples) -> list[Heard]:
    heard = [h for block in blocks(samples) for h in listener.push(block)]
    return heard + listener.finish()


def test_stretches_of_speech_are_heard_where_they_are(engine: Recognizer) -> None:
    texts = ["one two three", "nine eight", "zero four five"]
    pieces, times, position = [], [], 0
    for text in texts:
        spoken = synthesise(text, "en-us+f2")
        pieces += [quiet(2.5), spoken]
        position += len(quiet(2.5))
        times.append((position / 16000, (position + len(spoken)) / 16000))
        position += len(spoken)
    heard = heard_in(Listener(engine), np.concatenate([*pieces, quiet(2)]))
    assert len(heard) == len(texts)
    for found, (start, end) in zip(heard, times, strict=True):
        assert start - 0.3 < found.start < start + 0.1
        assert end - 0.1 < found.end < end + 1.0
        assert not found.cut
        assert 0 < found.latency < 1
    assert heard[0].text == "one two three"


@pytest.mark.parametrize("speaker", ["en-us+m3", "en-us+f3", "en+m1"])
def test_features_are_those_of_the_whole_stretch(engine: Recognizer, speaker: str) -> None:
    listener = Recording(engine)
    samples = np.concatenate([quiet(1.73), synthesise("six seven eight", speaker), quiet(1.5)])
    (heard,) = heard_in(listener, samples)
    found, features = listener.features[-1]
    assert found == heard
    part = samples[round(heard.start * 16000) : round(heard.end * 16000)]
    np.testing.assert_array_equal(features, recognizer.compute_features(engine.bundle, part))


def test_speech_longer_than_the_window_is_cut_and_nothing_is_lost(engine: Recognizer) -> None:
    listener = Recording(engine)
    long = np.concatenate([synthesise("one two three four five six seven eight nine")] * 3)
    heard = heard_in(listener, np.concatenate([quiet(2), long, quiet(2)]))
    assert [h.cut for h in heard] == [True] * (len(heard) - 1) + [False]
    kept = [features for found, features in listener.features if found in heard]
    whole = np.concatenate([quiet(2), long, quiet(2)])[round(heard[0].start * 16000) :]
    expected = recognizer.compute_features(engine.bundle, whole)
    joined = np.concatenate(kept)
    np.testing.assert_array_equal(joined, expected[: len(joined)])
    assert heard[-1].end > 2 + len(long) / 16000
    assert len(" ".join(h.text for h in heard).split()) > 14


def test_a_stream_that_stops_in_a_word_gives_what_there_is(engine: Recognizer) -> None:
    spoken = synthesise("one two three")
    samples = np.concatenate([quiet(2), spoken[: int(0.8 * len(spoken))]])
    assert heard_in(Listener(engine), samples)[0].text.startswith("one two")


def test_silence_noise_and_nothing_are_no_speech(engine: Recognizer) -> None:
    for samples in (np.zeros(32000, np.int16), quiet(3, 300), np.zeros(0, np.int16)):
        assert heard_in(Listener(engine), samples) == []


def test_buffers_do_not_grow(engine: Recognizer) -> None:
    listener = Listener(engine)
    sizes = {k: v.nbytes for k, v in vars(listener).items() if isinstance(v, np.ndarray)}
    assert sizes == {"_pre_roll": 48000, "_features": 20480, "_energies": 4096}
    heard_in(listener, np.concatenate([quiet(2), *[synthesise("one two three")] * 5, quiet(1)]))
    assert sizes == {k: v.nbytes for k, v in vars(listener).items() if isinstance(v, np.ndarray)}


class Pipe(io.BytesIO):
    """Hands over few bytes at a time, often half a sample."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read([1, 7, 319, 2][self.tell() % 4])


def test_a_stuttering_pipe_gives_the_same_blocks() -> None:
    samples = quiet(0.5, 1000)
    came = list(listen.blocks_of_pcm(Pipe(samples.astype("<i2").tobytes()), 16000))
    np.testing.assert_array_equal(np.concatenate(came), samples)


def test_another_rate_is_resampled(engine: Recognizer) -> None:
    samples = np.concatenate([quiet(2), synthesise("one two three"), quiet(1.5)])
    slow = io.BytesIO(samples[::2].astype("<i2").tobytes())
    came = np.concatenate(list(listen.blocks_of_pcm(slow, 8000)))
    assert abs(len(came) - len(samples)) < 400
    assert len(heard_in(Listener(engine), came)) == 1


@pytest.mark.parametrize(("content", "message"), [(b"", "no audio came"), (b"abc", "whole number")])
def test_no_pcm_is_one_sentence(content: bytes, message: str) -> None:
    with pytest.raises(audio.AudioError, match=message):
        list(listen.blocks_of_pcm(io.BytesIO(content), 16000))


def test_a_badly_set_microphone_is_told_once() -> None:
    inspector = listen.Inspector()
    loud = np.clip(quiet(3, 40000.0).astype(np.int32) * 4, -32768, 32767).astype(np.int16)
    offset = quiet(3) + np.int16(8000)
    warnings = [inspector.push(b) for x in (quiet(3), loud, offset) for b in blocks(x)]
    assert [w.split(":")[0] for w in warnings if w] == [
        "The audio is clipped",
        "The audio has a constant offset",
    ]


def test_a_file_and_a_pipe_print_the_same(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    samples = np.concatenate([quiet(2), synthesise("one two three"), quiet(1)])
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    file = _run(f"--bundle={digits_bundle}", "--json", tmp_path / "a.wav")
    piped = _run(f"--bundle={digits_bundle}", "--json", "-", stdin=samples.tobytes())
    assert file.returncode == piped.returncode == 0
    one, other = (json.loads(run.stdout) for run in (file, piped))
    assert one.keys() == {"text", "start", "end", "score", "latency", "cut"}
    assert {**one, "latency": 0} == {**other, "latency": 0}
    assert one["text"] == "one two three"


def test_what_was_heard_before_a_pipe_broke_is_printed(digits_bundle: pathlib.Path) -> None:
    samples = np.concatenate([quiet(2), synthesise("one two three")])
    result = _run(f"--bundle={digits_bundle}", "-", stdin=samples.tobytes() + b"x")
    assert result.returncode == 1
    assert b"one two three" in result.stdout
    assert b"whole number" in result.stderr
    assert result.stderr.count(b"\n") <= 2  # LiteRT writes a line of its own


def test_no_microphone_is_one_sentence(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}")
    assert result.returncode == 1
    assert result.stdout == b""
    assert b"icrophone" in result.stderr
    assert b"Traceback" not in result.stderr
    missing = _run(f"--bundle={digits_bundle}", tmp_path / "none.wav")
    assert missing.returncode == 1
    assert b"no such file" in missing.stderr
