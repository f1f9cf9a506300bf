"""What the voices of English read: sentences, words, numbers, letters, and words that do not exist.

Sentences come from texts that Debian carries: `fortunes` and the glosses of WordNet.  Commands are
made of a verb and random words, in the manner of what people say to devices.
"""

import dataclasses
import random
import re
from collections.abc import Container, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from firmware_sim.grammar.phones import VOWELS
from tf_speech_transformer.text.phones import Lexicon, Pronunciation

FREQUENT = 30_000  # words, the most frequent ones
_NUMBERS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
    ninety hundred thousand oh
"""
NUMBERS = tuple(_NUMBERS.split())
_VERBS = """
    turn switch set play stop open close call send show start find add remove lock dim raise
    lower mute pause skip read tell give bring take move put check cancel book remind wake
    schedule make change shut increase decrease activate run what's is are where's how's
"""
VERBS = tuple(_VERBS.split())
_PREPOSITIONS = """
    in to for at by on from with of into
"""
PREPOSITIONS = tuple(_PREPOSITIONS.split())
OPENINGS = ("please", "hey", "can you", "could you", "i want to", "i'd like to", "okay", "let's")
_FUNCTION_WORDS = """
    a an and are as at be but by can do for from had has have he her him his i if in is it me my
    of on or our she so some than that the them then there they to us was we were will with
    would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
KINDS = {
    "sentence": 0.30,
    "word": 0.20,
    "words": 0.13,
    "numbers": 0.08,
    "letters": 0.03,
    "command": 0.14,
    "invented": 0.12,
}


@dataclasses.dataclass(frozen=True)
class Line:
    """What is read: words and how each is pronounced.

    `text` is None if some of the words do not exist, and so have no spelling.
    """

    text: str | None
    words: tuple[Pronunciation, ...]
    pauses: frozenset[int] = frozenset()  # words after which the reader pauses


class Sentences:
    """Draws lines.

    Args:
        lexicon: of the pronunciations.
        sentences: in lower case, every word in the lexicon.
        excluded: commands that are never drawn.
    """

    def __init__(self, lexicon: Lexicon, sentences: list[str], excluded: Container[str] = ()):
        import wordfreq

        self.lexicon, self.sentences, self.excluded = lexicon, sentences, excluded
        self.frequent = [
            word
            for word in wordfreq.top_n_list("en", FREQUENT)
            if word in lexicon and (len(word) > 1 or word in ("a", "i"))
        ]
        weights = np.array([1 / (rank + 60) ** 0.7 for rank in range(len(self.frequent))])
        self.cumulative = np.cumsum(weights).tolist()
        self.invented = Invented(lexicon, self.frequent)

    def draw(self, chance: random.Random) -> Line:
        """A line that depends on the generator's state only."""
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "invented":
            return self._invented(chance)
        if kind == "letters":
            return self._letters(chance)
        text = self._text(kind, chance)
        while text in self.excluded:
            text = self._text(kind, chance)
        words = text.split()
        pauses = frozenset(i for i in range(len(words) - 1) if chance.random() < 0.04)
        return Line(text, tuple(self._pronounce(word, chance) for word in words), pauses)

    def _words(self, count: int, chance: random.Random) -> list[str]:
        return chance.choices(self.frequent, cum_weights=self.cumulative, k=count)

    def _text(self, kind: str, chance: random.Random) -> str:
        if kind == "sentence" and self.sentences:
            return chance.choice(self.sentences)
        if kind == "word":
            # Every second one regardless of how frequent it is: commands have rare words, too.
            rare = chance.random() < 0.5
            return chance.choice(self.frequent) if rare else self._words(1, chance)[0]
        if kind == "numbers":
            return " ".join(chance.choices(NUMBERS, k=chance.choice((1, 2, 2, 3, 4, 5))))
        if kind == "command":
            return self._command(chance)
        return " ".join(self._words(chance.choice((2, 3, 4)), chance))

    def _command(self, chance: random.Random) -> str:
        article = chance.choice(("the ", "my ", "a ", "", "on the ", "off the ", "up the ", "all "))
        object_ = " ".join(self._words(chance.choice((1, 1, 2)), chance))
        text = f"{chance.choice(VERBS)} {article}{object_}"
        if chance.random() < 0.5:
            rest = self._words(1, chance)
            if chance.random() < 0.5:
                rest = chance.choices(NUMBERS, k=chance.choice((1, 2)))
            elif chance.random() < 0.5:
                rest = ["the", *rest]
            text += f" {chance.choice(PREPOSITIONS)} {' '.join(rest)}"
        return f"{chance.choice(OPENINGS)} {text}" if chance.random() < 0.2 else text

    def _pronounce(self, word: str, chance: random.Random) -> Pronunciation:
        known = self.lexicon.pronunciations(word)
        if word in FUNCTION_WORDS:  # the dictionary has the weak form of most among several
            return chance.choice(known)
        return known[0] if chance.random() < 0.7 else chance.choice(known)

    def _letters(self, chance: random.Random) -> Line:
        letters = chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.choice((1, 2, 3, 3, 4, 5)))
        names = [self.lexicon.pronunciations(letter) for letter in letters]
        # "a" is a word with a weak form as well; its name is the strong one.
        words = tuple(("EY1",) if x == "a" else n[0] for x, n in zip(letters, names, strict=True))
        return Line(" ".join(letters), words, frozenset())

    def _invented(self, chance: random.Random) -> Line:
        words = [self.invented.draw(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        for _ in range(chance.choice((0, 0, 1, 3))):
            known = self._pronounce(self._words(1, chance)[0], chance)
            words.insert(chance.randint(0, len(words)), known)
        return Line(None, tuple(words))


class Invented:
    """Words that do not exist, but could: a chain over three phones of those that do."""

    def __init__(self, lexicon: Lexicon, words: Iterable[str]):
        self.after: dict[tuple[str, str], list[str]] = {}
        for word in words:
            phones = ("", "", *lexicon.pronunciations(word)[0], "")
            for first, second, third in zip(phones, phones[1:], phones[2:], strict=False):
                self.after.setdefault((first, second), []).append(third)

    def draw(self, chance: random.Random) -> Pronunciation:
        """Two to nine phones, with one main stress."""
        while True:
            phones = ["", ""]
            while len(phones) < 13:
                phones.append(chance.choice(self.after[phones[-2], phones[-1]]))
                if not phones[-1]:
                    break
            drawn = phones[2:-1]
            stressed = [i for i, phone in enumerate(drawn) if phone.endswith("1")]
            vowels = [i for i, phone in enumerate(drawn) if phone.rstrip("012") in VOWELS]
            if phones[-1] or not 2 <= len(drawn) <= 9 or not vowels:
                continue
            main = stressed[0] if stressed else vowels[0]
            return tuple(
                f"{phone[:-1]}1" if i == main else phone.replace("1", "2")
                for i, phone in enumerate(drawn)
            )


def known_sentences(files: Iterable[Path], lexicon: Lexicon, excluded: Container[str]) -> list[str]:
    """The sentences of files that the lexicon can pronounce, sorted, without the excluded ones."""
    every = sorted({text for file in files for text in sentences(file)})
    known = (text for text in every if all(word in lexicon for word in text.split()))
    return [text for text in tqdm(known, desc="sentences", disable=None) if text not in excluded]


def sentences(file: Path) -> list[str]:
    """The sentences of a file of three to twelve words, in lower case, without punctuation.

    Those with figures, addresses or capitals throughout are left out.
    """
    text = file.read_text(encoding="utf-8", errors="ignore").replace("\n%\n", " . ")
    if file.name.startswith("data."):  # WordNet: the gloss stands behind a bar
        text = " . ".join(re.findall(r"\| (.*)", text)).replace(";", " . ").replace('"', " . ")
    found = []
    for sentence in re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text)):
        if re.search(r"[0-9@_/\\|<>=*#]", sentence):
            continue
        words = re.sub(r"[^a-z' ]+", " ", sentence.lower()).split()
        words = [stripped for word in words if (stripped := word.strip("'"))]
        if 3 <= len(words) <= 12:
            found.append(" ".join(words))
    return found
