"""A corpus of what voices read: planned, interrupted, resumed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_speech_transformer.voices import reading
from tf_speech_transformer.voices.espeak import Espeak


class Counting:
    """espeak-ng, counting its readings; stops working after `limit` of them."""

    name = "espeak"

    def __init__(self, limit: int | None = None) -> None:
        self.engine = Espeak()
        self.limit = limit
        self.count = 0

    @property
    def sample_rate(self) -> int:
        return self.engine.sample_rate

    def speakers(self) -> list[str]:
        return self.engine.speakers()

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        if self.count == self.limit:
            raise KeyboardInterrupt
        self.count += 1
        return self.engine.synthesise(text, speaker, rate, pitch)


def test_plan_is_repeatable_and_spreads_speakers() -> None:
    arguments = ("espeak", ["one", "two"], ["a", "b", "c", "d"], 4, (0.8, 1.25))
    readings = reading.plan(*arguments)
    assert readings == reading.plan(*arguments)
    assert {x.speaker for x in readings[:4]} == {"a", "b", "c", "d"}
    assert all(0.8 <= x.rate <= 1.25 for x in readings)


def test_trim_leaves_thirty_milliseconds() -> None:
    speech = np.concatenate([np.zeros(8000), np.full(4000, 0.5), np.zeros(3000)])
    trimmed = reading.trim_silence(speech.astype(np.float32), 16_000)
    assert len(trimmed) == 480 + 4000 + 480
    with pytest.raises(ValueError, match="nothing is heard"):
        reading.trim_silence(np.zeros(800, np.float32), 16_000)


def test_corpus_resumes_and_never_repeats_work(tmp_path: Path) -> None:
    speakers = ["en-us+m3", "en+f2", "en-029+m7"]
    readings = reading.plan("espeak", ["four two", "nine"], speakers, 3, (0.9, 1.2))
    interrupted = Counting(limit=2)
    with pytest.raises(KeyboardInterrupt):
        reading.synthesise_corpus(readings, interrupted, tmp_path)
    manifest = tmp_path / reading.MANIFEST
    assert len(reading.read_manifest(manifest)) == 2

    resumed = Counting()
    made = reading.synthesise_corpus(readings, resumed, tmp_path)
    assert made == resumed.count == len(readings) - 2
    assert reading.synthesise_corpus(readings, Counting(limit=0), tmp_path) == 0

    rows = reading.read_manifest(manifest)
    said = [(x.audio, x.text, x.speaker) for x in readings]
    assert sorted(rows) == sorted(said)
    for audio, _, _ in rows:
        info = soundfile.info(tmp_path / audio)
        assert (info.format, info.subtype) == ("FLAC", "PCM_16")
        assert (info.samplerate, info.channels) == (16_000, 1)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_second_corpus_adds_to_the_manifest(tmp_path: Path) -> None:
    for text in ("one", "two"):
        readings = reading.plan("espeak", [text], ["en-us+m3"])
        reading.synthesise_corpus(readings, Counting(), tmp_path)
    rows = reading.read_manifest(tmp_path / reading.MANIFEST)
    assert [row[1] for row in rows] == ["one", "two"]


def test_a_foreign_manifest_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / reading.MANIFEST).write_text("path\tsentence\n")
    readings = reading.plan("espeak", ["one"], ["en-us+m3"])
    with pytest.raises(ValueError, match="choose another --out"):
        reading.synthesise_corpus(readings, Counting(), tmp_path)
    assert (tmp_path / reading.MANIFEST).read_text() == "path\tsentence\n"
