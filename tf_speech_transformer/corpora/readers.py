"""Sources of English that say phones with every text: voices that read, and people."""

import functools
import random
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soxr

from tf_speech_transformer.corpora.features import SAMPLE_RATE
from tf_speech_transformer.corpora.recording import Spoken, trim
from tf_speech_transformer.corpora.sources import Source
from tf_speech_transformer.text import phones
from tf_speech_transformer.text.excluded import excluded
from tf_speech_transformer.text.sentences import Line, Sentences
from tf_speech_transformer.voices import Synthesiser, engine, parametric


class Parametric:
    """Every line has a speaker of its own."""

    def __init__(self, sentences: Sentences):
        self.sentences = sentences
        self.texts: list[str] = []

    def draw(self, rng: np.random.Generator) -> Spoken:
        line = _draw(self.sentences, rng)
        speaker = parametric.draw_speaker(rng)
        audio = parametric.model().speak(line.words, line.pauses, speaker, rng)
        audio = soxr.resample(audio, parametric.SAMPLE_RATE, SAMPLE_RATE, quality="HQ")
        return Spoken([trim(audio)], line.text or "", "parametric", phones=_phones(line.words))


class Read:
    """Lines read by an engine that turns letters into phones itself."""

    def __init__(self, sentences: Sentences, name: str, speakers: list[str]):
        self.sentences, self.speakers = sentences, speakers
        self.engine: Synthesiser = engine(name)
        self.texts: list[str] = []

    def draw(self, rng: np.random.Generator) -> Spoken:
        line = _draw(self.sentences, rng)
        while line.text is None:
            line = _draw(self.sentences, rng)
        speaker = self.speakers[rng.integers(len(self.speakers))]
        audio = self.engine.synthesise(
            line.text,
            speaker,
            rate=float(rng.uniform(0.75, 1.4)),
            pitch=float(rng.uniform(0.8, 1.25)),
        )
        audio = soxr.resample(audio, self.engine.sample_rate, SAMPLE_RATE)
        return Spoken([trim(audio)], line.text, speaker, phones=_phones(line.words))


class Pronounced:
    """Another source, its texts in phones too; texts with unknown words are drawn again."""

    def __init__(self, source: Source):
        self.source = source
        self.texts: list[str] = []
        known = [text for text in source.texts if pronounce(text) is not None]
        if not known:
            raise ValueError("no text of the source is in the lexicon: are they English?")

    def draw(self, rng: np.random.Generator) -> Spoken:
        while True:
            spoken = self.source.draw(rng)
            words = pronounce(spoken.text)
            if words is None:
                continue
            # The usual pronunciation; in three of ten words any of them.
            chosen = [
                known[0] if rng.random() < 0.7 else known[rng.integers(len(known))]
                for known in words
            ]
            text = letters_of(spoken.text)
            return Spoken(spoken.pieces, text, spoken.speaker, phones=_phones(chosen))


def letters_of(text: str) -> str:
    """A transcript in lower case, without punctuation."""
    words = re.sub(
        r"[^a-z' ]+", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    ).split()
    return " ".join(stripped for word in words if (stripped := word.strip("'")))


@functools.lru_cache(maxsize=100_000)
def pronounce(text: str) -> tuple[tuple[phones.Pronunciation, ...], ...] | None:
    """The pronunciations of each word; None if one is not in the lexicon, or has figures."""
    if re.search(r"[0-9]", text):
        return None
    lexicon = phones.lexicon()
    words = tuple(tuple(lexicon.pronunciations(word)) for word in letters_of(text).split())
    return words if words and all(words) else None


def _phones(words: Iterable[phones.Pronunciation]) -> str:
    return " ".join(phone.rstrip("012") for word in words for phone in word)


def _draw(sentences: Sentences, rng: np.random.Generator) -> Line:
    return sentences.draw(random.Random(int(rng.integers(2**63))))


@functools.cache
def sentences_of(file: Path, grammars: tuple[str, ...]) -> Sentences:
    """What voices read, the sentences of a file, one a line, among it; no command of the grammars.

    All sources of a process share it: making it takes seconds.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    return Sentences(phones.lexicon(), lines, excluded(grammars))
