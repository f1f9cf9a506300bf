"""Voices speak, are told apart, and make a corpus that can be interrupted."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_speech_transformer import synthesise, voices


@pytest.fixture(scope="module")
def espeak() -> voices.Espeak:
    return voices.Espeak()


class Counting:
    """espeak-ng, counting its readings; stops working after `limit` of them."""

    name = "espeak"

    def __init__(self, limit: int | None = None) -> None:
        self.engine = voices.Espeak()
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


def fundamental(audio: np.ndarray, sample_rate: int) -> float:
    """Hz, of the middle of `audio`, by autocorrelation."""
    middle = len(audio) // 2 - 1024
    part = audio[middle : middle + 2048]
    correlation = np.correlate(part, part, "full")[2047:]
    shortest = sample_rate // 400
    return sample_rate / (shortest + int(correlation[shortest : sample_rate // 50].argmax()))


def speak_in_child(queue: "multiprocessing.Queue[int]") -> None:
    queue.put(len(voices.Espeak().synthesise("five", "en-us+m3")))


def test_espeak_speaks(espeak: voices.Espeak) -> None:
    audio = espeak.synthesise("four seven two", "en-us+m3")
    assert audio.dtype == np.float32 and audio.ndim == 1
    assert 0.5 < len(audio) / espeak.sample_rate < 2.0
    assert 0.1 < np.abs(audio).max() <= 1.0


def test_settings_of_one_reading_do_not_reach_the_next(espeak: voices.Espeak) -> None:
    first = espeak.synthesise("nine", "en-us+m3")
    espeak.synthesise("nine", "en-gb-scotland+f2", 2.0, 2.0)
    again = espeak.synthesise("nine", "en-us+m3")  # flutter goes on: alike, not equal
    assert len(again) == pytest.approx(len(first), rel=0.02)
    pitches = [fundamental(audio, espeak.sample_rate) for audio in (first, again)]
    assert pitches[1] == pytest.approx(pitches[0], rel=0.1)


def test_every_accent_sounds_different(espeak: voices.Espeak) -> None:
    spoken = {espeak.synthesise("zero four", f"{a}+m3").tobytes() for a in voices.ESPEAK_ACCENTS}
    assert len(spoken) == len(voices.ESPEAK_ACCENTS)


# ruff: noqa: RUF001 - IPA is meant, not the Latin letters it looks like
def test_casual_speech_is_connected() -> None:
    said = voices.with_accent("wɪð sˌʌm mˈɪlk ænd ə lˈɑt ʌv bɹˈWn ʃˈʊɡəɹ", "casual")
    assert said == "wɪ sə mˈɪlk ən ə lˈɑɾ ə bɹˈWn ʃˈʊɡəɹ"
    assert voices.with_accent("lˈIt ɹˈOst dˈʌbᵊl", "casual") == "lˈIt ɹˈOs dˈʌbᵊl"
    assert voices.with_accent("stˈɑp", "casual") == "stˈɑp"  # within a word nothing is lost
    assert voices.with_accent("hˈænd sˌʌm", "") == "hˈænd sˌʌm"


def test_rate_shortens_and_pitch_raises(espeak: voices.Espeak) -> None:
    slow, fast = (espeak.synthesise("nine", "en-us+m3", rate) for rate in (0.8, 1.6))
    assert len(fast) < 0.75 * len(slow)
    low, high = (
        fundamental(espeak.synthesise("nine", "en-us+m3", pitch=pitch), espeak.sample_rate)
        for pitch in (1.0, 1.5)
    )
    assert 1.2 < high / low < 1.8


def test_shift_pitch_multiplies_the_frequency() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    shifted = voices.shift_pitch(tone, 1.25)
    assert len(shifted) == pytest.approx(16_000 / 1.25, abs=2)
    assert fundamental(shifted, 16_000) == pytest.approx(250, rel=0.02)


def test_jokes_are_no_speakers(espeak: voices.Espeak) -> None:
    speakers = espeak.speakers()
    assert len(speakers) > 400
    assert not [name for name in speakers if "whisper" in name or "robo" in name.lower()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_espeak_works_in_a_forked_process(espeak: voices.Espeak) -> None:
    expected = len(espeak.synthesise("five", "en-us+m3"))
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=speak_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=10) == pytest.approx(expected, rel=0.05)
    child.join()


def test_voices_import_no_tensorflow() -> None:
    code = "import sys, tf_speech_transformer.voices; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("speaker", ["nobody", "en-us+nobody", "xx+m3", "en-us+whisper"])
def test_unknown_speakers_are_refused(espeak: voices.Espeak, speaker: str) -> None:
    with pytest.raises(ValueError, match="espeak has no speaker"):
        espeak.synthesise("one", speaker)


@pytest.mark.parametrize(
    ("text", "rate", "pitch", "sentence"),
    [("...", 1, 1, "nothing to say"), ("one", 5, 1, "rate 5"), ("one", 1, 0, "pitch 0")],
)
def test_unspeakable_requests_are_refused(
    espeak: voices.Espeak, text: str, rate: float, pitch: float, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        espeak.synthesise(text, "en-us+m3", rate, pitch)


def test_unknown_and_missing_engines_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="choose espeak"):
        voices.engine("parrot")
    monkeypatch.delenv("KOKORO_VOICES", raising=False)
    with pytest.raises(voices.EngineMissing, match="KOKORO_VOICES"):
        voices.engine("kokoro")
    with pytest.raises(voices.EngineMissing, match="no Kokoro voices"):
        voices.Kokoro(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(voices.EngineMissing, match="apt-get install flite"):
        voices.engine("flite")


def test_split_keeps_a_voice_on_one_side(espeak: voices.Espeak) -> None:
    train, test = voices.speaker_split(espeak.speakers(), seed=3)
    assert sorted(train + test) == sorted(espeak.speakers())
    heard_in_train = {voice for name in train for voice in voices.voice_identities(name)}
    heard_in_test = {voice for name in test for voice in voices.voice_identities(name)}
    assert heard_in_train and heard_in_test and not heard_in_train & heard_in_test
    assert voices.speaker_split(espeak.speakers(), seed=3) == (train, test)
    assert voices.speaker_split(espeak.speakers(), seed=4) != (train, test)


def test_split_leaves_out_blends_of_both_sides() -> None:
    names = ["af_a", "af_b", "bm_c", "bm_d"]
    blends = [f"{a}*0.5+{b}*0.5" for a in names for b in names if a < b]
    train, test = voices.speaker_split(names + blends, seed=0, test_share=0.5)
    assert sorted(map(len, (train, test))) == [3, 3]  # two voices and their blend on each side
    assert not set(train) & set(test)


def test_split_needs_two_voices() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        voices.speaker_split(["en+m3", "en-us+m3"], seed=0)


def test_identities_of_variants_and_blends() -> None:
    assert voices.voice_identities("en-us+klatt2") == voices.voice_identities("en-029+klatt")
    assert voices.voice_identities("en-us+m1") != voices.voice_identities("en-us+m2")
    assert voices.voice_identities("af_heart*0.6+bm_lewis*0.4") == {"af_heart", "bm_lewis"}


def test_plan_is_repeatable_and_spreads_speakers() -> None:
    arguments = ("espeak", ["one", "two"], ["a", "b", "c", "d"], 4, (0.8, 1.25))
    readings = synthesise.plan(*arguments)
    assert readings == synthesise.plan(*arguments)
    assert {reading.speaker for reading in readings[:4]} == {"a", "b", "c", "d"}
    assert all(0.8 <= reading.rate <= 1.25 for reading in readings)


def test_trim_leaves_thirty_milliseconds() -> None:
    speech = np.concatenate([np.zeros(8000), np.full(4000, 0.5), np.zeros(3000)])
    trimmed = synthesise.trim_silence(speech.astype(np.float32), 16_000)
    assert len(trimmed) == 480 + 4000 + 480
    with pytest.raises(ValueError, match="nothing is heard"):
        synthesise.trim_silence(np.zeros(800, np.float32), 16_000)


def test_corpus_resumes_and_never_repeats_work(tmp_path: Path) -> None:
    speakers = ["en-us+m3", "en+f2", "en-029+m7"]
    readings = synthesise.plan("espeak", ["four two", "nine"], speakers, 3, (0.9, 1.2))
    interrupted = Counting(limit=2)
    with pytest.raises(KeyboardInterrupt):
        synthesise.synthesise_corpus(readings, interrupted, tmp_path)
    manifest = tmp_path / synthesise.MANIFEST
    assert len(synthesise.read_manifest(manifest)) == 2

    resumed = Counting()
    made = synthesise.synthesise_corpus(readings, resumed, tmp_path)
    assert made == resumed.count == len(readings) - 2
    assert synthesise.synthesise_corpus(readings, Counting(limit=0), tmp_path) == 0

    rows = synthesise.read_manifest(manifest)
    said = [(reading.audio, reading.text, reading.speaker) for reading in readings]
    assert sorted(rows) == sorted(said)
    for audio, _, _ in rows:
        info = soundfile.info(tmp_path / audio)
        assert (info.format, info.subtype) == ("FLAC", "PCM_16")
        assert (info.samplerate, info.channels) == (16_000, 1)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_second_corpus_adds_to_the_manifest(tmp_path: Path) -> None:
    for text in ("one", "two"):
        readings = synthesise.plan("espeak", [text], ["en-us+m3"])
        synthesise.synthesise_corpus(readings, Counting(), tmp_path)
    rows = synthesise.read_manifest(tmp_path / synthesise.MANIFEST)
    assert [row[1] for row in rows] == ["one", "two"]


def test_a_foreign_manifest_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / synthesise.MANIFEST).write_text("path\tsentence\n")
    readings = synthesise.plan("espeak", ["one"], ["en-us+m3"])
    with pytest.raises(ValueError, match="choose another --out"):
        synthesise.synthesise_corpus(readings, Counting(), tmp_path)
    assert (tmp_path / synthesise.MANIFEST).read_text() == "path\tsentence\n"


def test_command_makes_a_corpus_and_explains_mistakes(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("seven\n")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        flags = [f"--texts={texts}", f"--out={tmp_path / 'out'}", *arguments]
        module = ["-m", "tf_speech_transformer.synthesise"]
        return subprocess.run(
            [sys.executable, *module, *flags], capture_output=True, text=True, check=False
        )

    done = command("--takes=2")
    assert done.returncode == 0, done.stderr
    assert "2 files made, 0 were there" in done.stdout
    failed = command("--speakers=bob")
    assert failed.returncode == 1
    assert "espeak has no speaker 'bob'" in failed.stderr and "Traceback" not in failed.stderr


def test_kokoro_blends_and_phonemes() -> None:
    try:
        kokoro = voices.Kokoro()
    except voices.EngineMissing as error:
        pytest.skip(str(error))
    assert kokoro.blends(5, seed=1) == kokoro.blends(5, seed=1)
    assert kokoro.phonemes("nine, zero", british=False) == "nˈIn, zˈɪɹO"
    with pytest.raises(ValueError, match="kokoro has no speaker"):
        kokoro.synthesise("one", "af_heart*x+bm_lewis*0.5")
    with pytest.raises(ValueError, match="kokoro has no speaker"):
        kokoro.synthesise("one", "af_heart/nobody")
    own, others, both = (
        kokoro.synthesise("one two", x) for x in ("af_heart", "am_adam", "af_heart/am_adam")
    )
    assert len(both) == len(others) != len(own)  # the rhythm is the other's, the sound is not
    assert not np.allclose(both, others, atol=0.01)
