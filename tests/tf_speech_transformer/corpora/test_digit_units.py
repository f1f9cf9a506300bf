"""Digit words cut out of longer recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tf_speech_transformer.corpora import digit_units
from tf_speech_transformer.corpora.recording import trim
from tf_speech_transformer.voices.espeak import Espeak
from tf_speech_transformer.voices.reading import SAMPLE_RATE, read_manifest


def spoken(words: str, pause: float) -> np.ndarray:
    """Words of espeak-ng, each followed by `pause` seconds of faint noise."""
    engine = Espeak()
    noise = np.random.default_rng(5)
    pieces = []
    for word in words.split():
        audio = engine.synthesise(word, "en-us+m3", 0.9)
        pieces.append(trim(soxr.resample(audio, engine.sample_rate, SAMPLE_RATE)))
        pieces.append(np.zeros(int(pause * SAMPLE_RATE), np.float32))
    audio = np.concatenate(pieces)
    return audio + 1e-4 * noise.standard_normal(len(audio)).astype(np.float32)


def test_words_are_cut_where_pauses_are() -> None:
    audio = spoken("nine six eight one", 0.25)
    pieces = digit_units.cut_at_pauses(audio, [1, 1, 1, 1])
    assert pieces is not None
    assert len(pieces) == 4
    for piece, word in zip(pieces, ("nine", "six", "eight", "one"), strict=True):
        alone = spoken(word, 0.0)
        assert abs(len(piece) - len(alone)) < 0.15 * SAMPLE_RATE
    assert sum(map(len, pieces)) < len(audio)  # none twice


@pytest.mark.parametrize(
    ("words", "pause", "wanted"),
    [("nine six eight", 0.0, 3), ("nine six eight", 0.3, 5)],
    ids=["no pauses", "fewer words than said to be"],
)
def test_what_pauses_do_not_tell_apart_is_left(words: str, pause: float, wanted: int) -> None:
    assert digit_units.cut_at_pauses(spoken(words, pause), [1] * wanted) is None


def test_nothing_is_cut_out_of_nothing() -> None:
    assert digit_units.cut_at_pauses(np.zeros(10, np.float32), [1]) is None
    assert digit_units.cut_at_pauses(np.zeros(SAMPLE_RATE, np.float32), [1]) is None


@pytest.fixture
def transcripts(tmp_path: Path) -> Path:
    """A corpus of three utterances, two of them digits."""
    rows = ["audio\tspeaker\ttext"]
    for name, text in (("a", "five two"), ("b", "Seven, one"), ("c", "two women")):
        pause = 0.3 if name == "a" else 0.0
        audio = soxr.resample(spoken(text.lower().replace(",", ""), pause), SAMPLE_RATE, 22050)
        soundfile.write(tmp_path / f"{name}.wav", audio, 22050)
        rows.append(f"{name}.wav\t7\t{text}")
    path = tmp_path / "transcripts.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_corpus_gives_its_digit_strings_and_the_words_of_those_with_pauses(
    transcripts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "voices" / "readers"
    assert digit_units.cut_corpus(transcripts, out) == (2, 2)
    whole = read_manifest(out / "manifest.tsv")
    assert [row[1:] for row in whole] == [
        ("five two", "readers_7"),
        ("seven one", "readers_7"),
    ]
    assert (out / whole[0][0]).resolve() == (tmp_path / "a.wav").resolve()
    units = read_manifest(tmp_path / "voices" / "readers_units" / "manifest.tsv")
    assert [row[1] for row in units] == ["five", "two"]
    audio, rate = soundfile.read(tmp_path / "voices" / "readers_units" / units[0][0])
    assert rate == SAMPLE_RATE
    assert 0.2 < len(audio) / rate < 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*transcripts.tsv"),
        ("path\tsentence\nx.wav\tone\n", "needs a header line with audio, text and speaker"),
        ("audio\tspeaker\ttext\nx.wav\t1\thello\n", "none of its 1 utterances"),
    ],
    ids=["missing", "another header", "no digits"],
)
def test_a_corpus_that_cannot_be_used_is_refused(
    content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "transcripts.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        digit_units.cut_corpus(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Bursts:
    """Stands in for Kokoro, which CI lacks: a burst of noise for each item of a list."""

    sample_rate = 24_000

    def __init__(self, gap: float):
        self.gap = gap
        self.said: list[str] = []

    def speakers(self) -> list[str]:
        return ["af_heart", "am_adam", "bm_lewis", "zm_yunxi"]

    def speak(self, phonemes: str, speaker: str, rate: float = 1.0) -> np.ndarray:
        self.said.append(phonemes)
        noise = np.random.default_rng(3)
        pieces = []
        for item in phonemes.split(digit_units.SEPARATOR):
            seconds = 0.35 * len(item.split())
            pieces.append(noise.normal(0, 0.1, int(seconds * self.sample_rate)))
            pieces.append(np.zeros(int(self.gap * self.sample_rate)))
        return np.concatenate(pieces).astype(np.float32)


def test_a_list_becomes_units_with_their_texts() -> None:
    engine = Bursts(gap=0.3)
    units = digit_units.speak_list(engine, 1)  # type: ignore[arg-type]
    assert sorted(text for text, _, _ in units) == sorted(digit_units.WORDS)
    assert len({speaker for _, _, speaker in units}) == 1
    strings = digit_units.speak_list(engine, 2 * len(digit_units.list_speakers(engine.speakers())))  # type: ignore[arg-type]
    assert sum(len(text.split()) for text, _, _ in strings) == 12
    again = Bursts(gap=0.3)
    digit_units.speak_list(again, 1)  # type: ignore[arg-type]
    assert again.said == engine.said[:1]


def test_a_list_without_pauses_gives_nothing() -> None:
    assert digit_units.speak_list(Bursts(gap=0.0), 1) == []  # type: ignore[arg-type]


def test_every_accent_spells_every_digit() -> None:
    for spelling in digit_units.PRONUNCIATIONS.values():
        assert len(spelling.split()) == len(digit_units.WORDS)
    assert {accent for home in digit_units.HOME.values() for accent in home} <= set(
        digit_units.PRONUNCIATIONS
    )
