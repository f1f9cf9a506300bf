"""The stream: audio without end, 10 ms at a time -> utterances, in buffers of fixed size.

A ring buffer holds the audio that may still be needed.  A voice activity detector tells where
speech begins and ends.  Features are computed while a user speaks.  The features of an utterance
start from the microfrontend's reset state at its first sample, pre-roll included, and again after a
cut: they are the same bytes as `recognizer.compute_features` gives for the same samples.

Memory for a window of 512 frames, besides the models' arenas and the microfrontend's state:

    ring buffer              164,480 bytes   int16 [82240], 5.14 s: a window of audio
    features                  20,480 bytes   int8 [512, 40], the encoder's own input
    variance of the blocks     2,056 bytes   uint32 [514], to find a pause to cut at
    voice activity detector      736 bytes   WebRTC's VadInstT

All of it is integers.  A ring of 16,000 bytes (0.5 s) is enough if the features may run on over a
cut.

The detector is WebRTC's (package `webrtcvad-wheels`, MIT; its C code BSD): a Gaussian mixture on 6
bands, in fixed point.  It missed none of 120 strings of digits; `pymicro-vad` 2.1.0, in float32,
missed 3.  `pymicro-vad` finds speech 0.3 s late in the median, and 0.6 s for one string in 20.
"""

import collections
import dataclasses
import enum
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from firmware_sim.sound import segment
from firmware_sim.sound.frontend import (
    SAMPLE_RATE,
    STEP_SAMPLES,
    FeatureQuantization,
    Frontend,
    frame_count,
    sample_count,
)

BLOCK_SAMPLES: Final = STEP_SAMPLES  # 10 ms
# Speech begins when half of the last 10 blocks are voiced.
_ONSET_VOICED: Final = 5
_ONSET_BLOCKS: Final = 10
PRE_ROLL_BLOCKS: Final = 20  # kept before the first voiced block: weak consonants take up to 10
# A loud first word that the detector does not take for voiced is kept too. A longer sound is noise.
_UNVOICED_BLOCKS: Final = 100
# The detector takes the first 80 ms of a noisy stream for speech. The pre-roll keeps real speech.
_SETTLING_BLOCKS: Final = PRE_ROLL_BLOCKS
HANGOVER_BLOCKS: Final = 80  # quiet that ends an utterance: people pause for 0.7 s within a number
POST_ROLL_BLOCKS: Final = 20  # of that quiet, kept after the last word
EARLY_BLOCKS: Final = 2  # quiet before an early text
_AGGRESSIVENESS: Final = 3  # 0 to 3; 3 takes the least noise for speech
_AUDIBLE: Final = 100  # variance; -70 dB of full scale
_ABOVE_BACKGROUND: Final = 16  # 12 dB
_BACKGROUND_RISE: Final = 8  # by 2^-8 a block, 1.7 dB a second


class RingBuffer:
    """The last samples of a stream, by their position in it; int16 [capacity]."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.int16)
        self.end = 0  # position after the last sample

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Appends at most `capacity` samples; they replace the oldest.

        Raises:
          ValueError: if there are more.
        """
        capacity = len(self._samples)
        if len(samples) > capacity:
            raise ValueError(f"{len(samples)} samples do not fit a ring buffer of {capacity}.")
        at = self.end % capacity
        first = min(len(samples), capacity - at)
        self._samples[at : at + first] = samples[:first]
        self._samples[: len(samples) - first] = samples[first:]
        self.end += len(samples)

    def read(self, start: int, end: int) -> npt.NDArray[np.int16]:
        """A copy of the samples [start, end) of the stream.

        Raises:
          ValueError: if the buffer does not hold them yet, or no longer.
        """
        capacity = len(self._samples)
        if not max(0, self.end - capacity) <= start <= end <= self.end:
            raise ValueError(f"Samples {start} to {end} are not in the ring buffer.")
        at = start % capacity
        first = min(end - start, capacity - at)
        return np.concatenate(
            [self._samples[at : at + first], self._samples[: end - start - first]]
        )


class VoiceDetector:
    """Tells which blocks are speech."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_AGGRESSIVENESS)
        self._background = 1 << 30  # variance: falls with the signal, and rises slowly

    def __call__(self, block: npt.NDArray[np.int16]) -> tuple[bool, bool]:
        """Looks at the next block.

        Args:
          block: int16 [160], 16 kHz.

        Returns:
          voiced: whether WebRTC's detector takes it for speech.
          audible: whether it is 12 dB above the background. Noise can be that loud too, but quiet
            words within an utterance, and some first words, are audible and not voiced.
        """
        variance = _variance(block)
        self._background = min(
            variance, self._background + (self._background >> _BACKGROUND_RISE) + 1
        )
        audible = variance > max(_AUDIBLE, _ABOVE_BACKGROUND * self._background)
        return self._vad.is_speech(block.tobytes(), SAMPLE_RATE), audible


class Ending(str, enum.Enum):
    """Why an utterance ends."""

    PAUSE = "pause"  # quiet for the hangover, or for the post-roll if the window is full
    WINDOW = "window"  # speech went on over the window's end: cut in a pause, the next one goes on
    STREAM = "stream"  # the stream ended
    EARLY = "early"  # quiet for 20 ms: the speech so far; an utterance of the same start follows


@dataclasses.dataclass(frozen=True)
class Onset:
    """Speech has begun; samples into the stream."""

    start: int  # first voiced or audible block
    decided: int  # when that was known


@dataclasses.dataclass(frozen=True)
class Piece:
    """An utterance to recognise, or a piece of one that is longer than the window."""

    start: int  # samples into the stream, of the first voiced or audible block
    end: int  # after the last voiced or audible block, or where it was cut
    ending: Ending
    decided: int  # samples into the stream when the end was known
    first: int  # sample into the stream that the features start at, pre-roll included
    last: int  # the sample after the features' last one
    features: npt.NDArray[np.int8]  # [frames, channels]
    clipped: float  # share of samples at the ends of int16
    offset: int  # mean of the samples


class Endpointer:
    """Finds the utterances of a stream; its memory does not grow."""

    def __init__(
        self,
        frontend: Frontend,
        quantization: FeatureQuantization,
        frames: int,
        early: bool = False,
        hangover: int = HANGOVER_BLOCKS,
    ) -> None:
        """Args:
        frames: of the encoder's window.
        early: gives a piece at each pause too.
        hangover: blocks of quiet that end an utterance, at least `POST_ROLL_BLOCKS`.
        """
        window = sample_count(frames, frontend.window) // BLOCK_SAMPLES
        self._early, self._hangover = early, hangover
        self._ring = RingBuffer(window * BLOCK_SAMPLES)
        self._detector = VoiceDetector()
        self._recent: collections.deque[bool] = collections.deque(maxlen=_ONSET_BLOCKS)
        self._position = 0  # samples processed; all positions are whole blocks
        self._used = 0  # samples that belong to earlier utterances
        self._speaking = False
        self._start = 0  # of the first voiced block, or of an audible word right before it
        self._end = 0  # after the last voiced or audible block
        self._sound = 0  # before speech: start of the audible blocks, across short gaps
        self._sound_end = 0  # after the last of them
        self._window = _Window(frontend, quantization, frames, window)

    @property
    def speaking(self) -> bool:
        """Whether speech has begun and not ended."""
        return self._speaking

    def feed(self, samples: npt.NDArray[np.int16]) -> Iterator[Onset | Piece]:
        """Takes the next samples; yields the onsets and pieces that they complete.

        Args:
          samples: int16 [samples], 16 kHz, as many as there are.
        """
        for start in range(0, len(samples), BLOCK_SAMPLES):
            self._ring.write(samples[start : start + BLOCK_SAMPLES])
            if self._ring.end - self._position >= BLOCK_SAMPLES:
                block = self._ring.read(self._position, self._position + BLOCK_SAMPLES)
                self._position += BLOCK_SAMPLES
                if (change := self._process(block)) is not None:
                    yield change

    def finish(self) -> Iterator[Piece]:
        """Ends the stream; yields the last utterance if it is not complete."""
        if self._speaking:
            yield self._complete(Ending.STREAM)

    def _process(self, block: npt.NDArray[np.int16]) -> Onset | Piece | None:
        voiced, audible = self._detector(block)
        if not self._speaking:
            return self._wait(voiced, audible)
        full = self._window.is_full
        if not full:
            self._window.append(block)
        if voiced or audible:
            self._end = self._position
        quiet = (self._position - self._end) // BLOCK_SAMPLES
        if quiet >= self._hangover or (full and quiet >= POST_ROLL_BLOCKS):
            return self._complete(Ending.PAUSE)
        if self._early and quiet == EARLY_BLOCKS and not full:
            return self._piece(self._position, self._end, Ending.EARLY)
        return self._cut() if full and not quiet else None

    def _wait(self, voiced: bool, audible: bool) -> Onset | None:
        """Looks for the beginning of speech."""
        self._recent.append(voiced)
        if audible:
            if self._position - self._sound_end > PRE_ROLL_BLOCKS * BLOCK_SAMPLES:
                self._sound = self._position - BLOCK_SAMPLES
            self._sound_end = self._position
        settled = self._position >= _SETTLING_BLOCKS * BLOCK_SAMPLES
        if not settled or sum(self._recent) < _ONSET_VOICED:
            return None
        first = len(self._recent) - self._recent.index(True)
        self._recent.clear()
        self._speaking = True
        self._start = self._position - first * BLOCK_SAMPLES
        self._end = self._position
        pre_roll = PRE_ROLL_BLOCKS * BLOCK_SAMPLES
        if (
            self._start - self._sound_end <= pre_roll
            and pre_roll < self._start - self._sound <= _UNVOICED_BLOCKS * BLOCK_SAMPLES
        ):
            self._start = max(self._sound, self._used)
        self._fill(max(self._start - pre_roll, self._used, 0))
        return Onset(self._start, self._position)

    def _fill(self, start: int) -> None:
        """Starts the window anew at a position that the ring buffer still holds."""
        self._window.reset(start)
        for at in range(start, self._position, BLOCK_SAMPLES):
            self._window.append(self._ring.read(at, at + BLOCK_SAMPLES))

    def _cut(self) -> Piece:
        """The full window up to a pause; the rest of it goes on."""
        cut = self._window.pause()
        piece = self._piece(cut, cut, Ending.WINDOW)
        self._start = cut
        self._fill(cut)
        return piece

    def _complete(self, ending: Ending) -> Piece:
        """The utterance up to a little after the end of speech."""
        self._speaking = False
        last = min(self._end + POST_ROLL_BLOCKS * BLOCK_SAMPLES, self._position, self._window.end)
        return self._piece(last, self._end, ending)

    def _piece(self, last: int, end: int, ending: Ending) -> Piece:
        window = self._window
        if ending is not Ending.EARLY:
            self._used = last
        return Piece(
            start=self._start,
            end=end,
            ending=ending,
            decided=self._position,
            first=window.start,
            last=last,
            features=window.features(last),
            clipped=window.clipped / (window.end - window.start),
            offset=round(window.sum / (window.end - window.start)),
        )


class _Window:
    """Features of the current utterance, and the variance of its blocks."""

    def __init__(
        self, frontend: Frontend, quantization: FeatureQuantization, frames: int, blocks: int
    ) -> None:
        self._new_stream = frontend.stream
        self._frame_samples = frontend.window
        self._quantization = quantization
        self._features = np.zeros((frames, frontend.channels), np.int8)
        self._variances = np.zeros(blocks, np.uint32)
        self.reset(0)

    def reset(self, start: int) -> None:
        """Begins an utterance at sample `start` of the stream."""
        self.start = start
        self._frontend = self._new_stream()
        self._blocks = 0
        self._frames = 0
        self.sum = self.clipped = 0

    @property
    def end(self) -> int:
        """The position after its last sample."""
        return self.start + self._blocks * BLOCK_SAMPLES

    @property
    def is_full(self) -> bool:
        return self._blocks == len(self._variances)

    def append(self, block: npt.NDArray[np.int16]) -> None:
        self._variances[self._blocks] = _variance(block)
        self._blocks += 1
        for frame in self._quantization.quantize(self._frontend.process(block)):
            self._features[self._frames] = frame
            self._frames += 1
        self.sum += int(block.sum(dtype=np.int64))
        self.clipped += int(np.count_nonzero((block == 32767) | (block == -32768)))

    def features(self, end: int) -> npt.NDArray[np.int8]:
        """A copy, int8 [frames, channels], for the samples up to position `end` of the stream."""
        return self._features[: frame_count(end - self.start, self._frame_samples)].copy()

    def pause(self) -> int:
        """The position to cut a full window at."""
        return self.start + segment.find_pause(self._variances) * BLOCK_SAMPLES


def _variance(block: npt.NDArray[np.int16]) -> int:
    """Variance of a block: its mean square without the offset."""
    wide = block.astype(np.int64)
    return (len(wide) * int(wide @ wide) - int(wide.sum()) ** 2) // len(wide) ** 2
