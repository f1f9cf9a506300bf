"""Live audio: blocks of 10 ms in, recognised stretches of speech out, in memory of a fixed size.

What a firmware does between microphone and recogniser: a voice activity detector (pymicro-vad,
Apache-2.0: the C++ and the int8 network of microcontrollers) finds speech; the microfrontend runs
block by block from a little before it; a pause ends it.  Buffers, for a window of 512 frames: the
pre-roll, 48,000 bytes of audio; features, 20,480; the frames' energies, 2,048 (float32; a double
here).  Detector and frontend have about 60 KiB and 11 KiB of their own.
"""

import dataclasses
import time
from typing import Final

import numpy as np
import numpy.typing as npt
import pymicro_vad

from firmware_sim import segment
from firmware_sim.frontend import CHANNELS, SAMPLE_RATE, STEP_SAMPLES, WINDOW_SAMPLES, Frontend
from firmware_sim.recognizer import Recognizer, quantize_features

BLOCK_SECONDS: Final = STEP_SAMPLES / SAMPLE_RATE
BEGINS: Final = 0.4  # probability of speech from which a stretch begins
STAYS: Final = 0.2  # and from which it goes on
# The detector takes up to 1 s to find speech; how long the pre-roll is. The stretch begins MARGIN
# before the first block of it that stands out from its quietest.
PRE_ROLL_BLOCKS: Final = 150
MARGIN_BLOCKS: Final = 20
_STANDS_OUT: Final = 16.0  # of power: 12 dB
_SILENCE: Final = 100.0  # mean square; what is quieter is all one
# Blocks without speech after which the text is looked for, and after which it is final. The
# detector's own answer lags about 0.2 s behind the last sound.
PAUSE_BLOCKS: Final = 10
HANGOVER_BLOCKS: Final = 70
_WINDOW_BLOCKS: Final = WINDOW_SAMPLES // STEP_SAMPLES  # of a feature frame


@dataclasses.dataclass(frozen=True)
class Heard:
    """A stretch of speech."""

    text: str
    start: float  # seconds from the beginning of the stream, pre-roll included
    end: float
    score: float  # log probability, see decoder.Hypothesis
    latency: float  # seconds that encoder and decoder took, from the last block that they needed
    cut: bool  # the window was full: the next stretch goes on where this one ends


class Listener:
    """Takes a stream of 16 kHz audio in blocks of 10 ms."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        window = recognizer.bundle.limits.frames
        self._vad = pymicro_vad.MicroVad()
        self._pre_roll = np.zeros((PRE_ROLL_BLOCKS, STEP_SAMPLES), np.int16)  # a ring
        self._features = np.zeros((window, CHANNELS), np.int8)
        self._energies = np.zeros(window)
        self._frames = 0  # of features and energies that are filled
        self._blocks = 0  # of the stream so far
        self._free = 0  # the first block that no stretch has taken
        self._start = 0  # the stretch's first block
        self._frontend: Frontend | None = None  # None: no speech
        self._quiet = 0  # blocks since the last speech
        self._found: Heard | None = None  # of the present pause

    def push(self, block: npt.NDArray[np.int16]) -> list[Heard]:
        """The next 10 ms.

        Args:
          block: int16 [160].

        Returns:
          what has come to its end with this block: nothing, or a stretch of speech in which there
          are words.
        """
        probability = self._vad.process_10ms(block.tobytes())
        speech = probability > (BEGINS if self._frontend is None else STAYS)
        self._pre_roll[self._blocks % PRE_ROLL_BLOCKS] = block
        self._blocks += 1
        if self._frontend is None:
            if speech:
                self._begin()
            return []
        self._append(block)
        if speech:  # the pause, if there was one, lay within the speech
            self._quiet, self._found = 0, None
        else:
            self._quiet += 1
        if self._quiet == PAUSE_BLOCKS:
            self._found = self._recognize(self._frames, cut=False)
        full = self._frames == len(self._features)
        if self._found and (full or self._quiet == HANGOVER_BLOCKS):
            return self._end(self._found)
        return self._cut() if full else []

    def finish(self) -> list[Heard]:
        """The stream has ended: what is left of it."""
        if self._frontend is None:
            return []
        return self._end(self._found or self._recognize(self._frames, cut=False))

    def _begin(self) -> None:
        self._frontend, self._frames, self._quiet = Frontend(), 0, 0
        first = max(self._free, self._blocks - PRE_ROLL_BLOCKS)
        blocks = [self._pre_roll[n % PRE_ROLL_BLOCKS] for n in range(first, self._blocks)]
        energies = np.maximum(_SILENCE, [_energy(block) for block in blocks])
        onset = int(np.argmax(energies > _STANDS_OUT * energies.min()))  # 0 if none does
        kept = max(0, onset - MARGIN_BLOCKS)
        self._start = first + kept
        for block in blocks[kept:]:
            self._append(block)

    def _append(self, block: npt.NDArray[np.int16]) -> None:
        assert self._frontend is not None
        for values in self._frontend.push(block):
            self._features[self._frames] = quantize_features(self._recognizer.bundle, values)
            self._energies[self._frames] = _energy(block)
            self._frames += 1

    def _recognize(self, frames: int, cut: bool) -> Heard:
        begin = time.perf_counter()
        found, _ = self._recognizer.recognize(self._features[:frames])
        latency = time.perf_counter() - begin
        return Heard(
            text=self._recognizer.bundle.tokenizer.text(found.tokens),
            start=self._start * BLOCK_SECONDS,
            end=(self._start + frames + _WINDOW_BLOCKS - 1) * BLOCK_SECONDS,
            score=found.score,
            latency=latency,
            cut=cut,
        )

    def _end(self, found: Heard) -> list[Heard]:
        self._free = round(found.end / BLOCK_SECONDS)
        self._frontend = self._found = None
        return [found] if found.text else []

    def _cut(self) -> list[Heard]:
        """Recognises the window up to its longest late pause; the rest begins the next stretch."""
        frames = segment.cut_frame(self._energies)
        heard = self._recognize(frames, cut=True)
        for buffer in (self._features, self._energies):
            buffer[: len(buffer) - frames] = buffer[frames:].copy()
        self._frames -= frames
        self._start += frames
        return [heard] if heard.text else []


def _energy(block: npt.NDArray[np.int16]) -> float:
    """The mean square."""
    return float(np.mean(np.square(block.astype(np.float64))))
