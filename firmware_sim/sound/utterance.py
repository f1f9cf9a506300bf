"""The utterance: audio of a client that sends one at a time, and where it ends."""

import collections
from typing import Final

import numpy as np
import numpy.typing as npt

from firmware_sim.sound.frontend import SAMPLE_RATE
from firmware_sim.sound.pcm import Pcm
from firmware_sim.sound.stream import Endpointer, Piece

LONGEST: Final = 30 * SAMPLE_RATE  # samples that are kept: the last ones
SILENCE: Final = 15 * SAMPLE_RATE  # samples without speech that end it
SHORTEST: Final = SAMPLE_RATE * 3 // 10  # samples of speech that may be a sentence

Samples = npt.NDArray[np.int16]


class Utterance:
    """What was said so far.

    Args:
      pcm: the form of its blocks; None: they are int16, 16 kHz.
      endpointer: finds its end; None: the client says it.
    """

    def __init__(self, pcm: Pcm | None = None, endpointer: Endpointer | None = None) -> None:
        self._pcm, self._endpointer = pcm or Pcm(SAMPLE_RATE, 2, 1), endpointer
        self._blocks: collections.deque[Samples] = collections.deque()
        self._kept = self._samples = 0
        self._speech = 0  # samples of the longest speech that has ended

    def hear(self, audio: bytes, last: bool = False) -> None:
        """Takes the next bytes; `last`: there are no more."""
        samples = self._pcm(audio, last)
        self._blocks.append(samples)
        self._kept += len(samples)
        self._samples += len(samples)
        while self._kept - len(self._blocks[0]) >= LONGEST:
            self._kept -= len(self._blocks.popleft())
        if self._endpointer is not None:
            for change in self._endpointer.feed(samples):
                if isinstance(change, Piece):
                    self._speech = max(self._speech, change.end - change.start)

    @property
    def has_ended(self) -> bool:
        """Whether the endpointer found its end."""
        if self._endpointer is None:
            return False
        silent = self._samples >= SILENCE and not self._endpointer.speaking
        return self._speech >= SHORTEST or silent or self._samples >= LONGEST

    def samples(self) -> Samples:
        """int16 [samples], 16 kHz."""
        return np.concatenate([np.zeros(0, np.int16), *self._blocks])
