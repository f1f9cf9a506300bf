"""Sources of speech: each draws an utterance and its text from a random generator."""

import collections
import itertools
from typing import Protocol

import numpy as np

from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.corpora.augment import silence
from tf_speech_transformer.corpora.recording import Spoken, trim


class Source(Protocol):
    texts: list[str]  # examples of what is said, to check a vocabulary against

    def draw(self, rng: np.random.Generator) -> Spoken:
        """Speech that depends on the generator's state only."""
        ...


class Rarity:
    """How seldom the words of a text stand side by side among other texts.

    If sentences are drawn evenly, some pairs of words are hardly ever heard. A decoder that has
    learnt its texts by heart then writes the pairs that it knows. Examples drawn by their rarity
    are the remedy.
    """

    def __init__(self, texts: list[str]):
        self.counts = collections.Counter(pair for text in texts for pair in self._pairs(text))

    @staticmethod
    def _pairs(text: str) -> set[tuple[str, str]]:
        words = ["", *text.split(), ""]
        return set(itertools.pairwise(words))

    def of(self, text: str) -> float:
        """1 / how many of the texts have its rarest pair of words; beginning and end count."""
        return max(1 / max(1, self.counts[pair]) for pair in self._pairs(text))


class Recorded:
    """Whole recordings with their transcripts; `balanced` draws them by the transcripts' rarity."""

    def __init__(self, recordings: corpus.Recordings, part: str = "all", balanced: bool = False):
        self.recordings, self.texts = recordings, recordings.texts
        chosen = set(corpus.part_of(recordings.speakers, part))
        self.chosen = [i for i, x in enumerate(recordings.speakers) if x in chosen]
        self.weights = None
        if balanced:
            rarity = Rarity([self.texts[i] for i in self.chosen])
            weights = np.array([rarity.of(self.texts[i]) for i in self.chosen])
            self.weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Spoken:
        if self.weights is None:
            i = self.chosen[rng.integers(len(self.chosen))]
        else:
            i = self.chosen[rng.choice(len(self.chosen), p=self.weights)]
        audio = trim(self.recordings.audio(i), margin=0.1)
        return Spoken([audio], self.texts[i], self.recordings.speakers[i])


class Nothing:
    """Silence with an empty text: only what augmentation adds is heard."""

    seconds = (0.5, 8.0)

    def __init__(self) -> None:
        self.texts: list[str] = []

    def draw(self, rng: np.random.Generator) -> Spoken:
        return Spoken([silence(rng.uniform(*self.seconds))], "", "nobody")


class Pairs:
    """Another source; a `share` of its examples are two of them with a pause between."""

    def __init__(self, source: Source, share: float, pause: tuple[float, float] = (0.3, 1.5)):
        self.source, self.share, self.pause = source, share, pause
        self.texts = source.texts

    def draw(self, rng: np.random.Generator) -> Spoken:
        spoken = self.source.draw(rng)
        if rng.random() >= self.share:
            return spoken
        more = self.source.draw(rng)
        phones = None
        if spoken.phones is not None and more.phones is not None:
            phones = f"{spoken.phones} {more.phones}"
        return Spoken(
            spoken.pieces + more.pieces,
            f"{spoken.text} {more.text}",
            spoken.speaker,
            self.pause,
            phones,
        )
