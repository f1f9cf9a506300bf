"""Partial transcripts: the words of speech that goes on, as far as they are certain."""

import itertools


class PartialText:
    """A transcript that is written word by word, while speech goes on."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._heard: list[str] = []  # by the latest attempt

    def agree(self, words: list[str]) -> str:
        """What a further attempt adds: only words that the last one had, too."""
        pairs = itertools.takewhile(lambda x: x[0] == x[1], zip(words, self._heard, strict=False))
        same = [word for word, _ in pairs]
        self._heard = words
        return self.add(same)

    def add(self, words: list[str]) -> str:
        """What has to be written to get these words; nothing if others were written before."""
        before = len(self._written)
        if words[:before] != self._written or len(words) == before:
            return ""
        self._written = words
        return (" " if before else "") + " ".join(words[before:])
