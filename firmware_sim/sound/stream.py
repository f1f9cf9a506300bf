"""The stream: audio without end, 10 ms at a time -> utterances, in buffers of fixed size.

A ring buffer holds the audio that may still be needed, a voice activity detector says where speech
begins and ends, and features are computed while it is spoken.  An utterance's features start from
the microfrontend's reset state at its first sample, pre-roll included, and so does what follows a
cut: they are the bytes that `recognizer.compute_features` gives for the same samples.  What a
firmware needs for a window of 512 frames, besides the models' arenas and the microfrontend's state:

    ring buffer              164,480 bytes   int16 [82240], 5.14 s: a window of audio
    features                  20,480 bytes   int8 [512, 40], the encoder's own input
    variance of the blocks     2,056 bytes   uint32 [514], to find a pause to cut at
    voice activity detector      736 bytes   WebRTC's VadInstT

All of it is integers, but for the choice of a cut, which compares the 514 variances in dB.  A ring
of 16,000 bytes (0.5 s) is enough where the features may run on over a cut.

The detector is WebRTC's (package `webrtcvad-wheels`, MIT; its C code BSD): a Gaussian mixture on 6
bands, in fixed point.  `pymicro-vad` 2.1.0 was tried: it computes in float32, on a circular buffer
that its network reads as if it began at index 0, finds speech 0.3 s late in the median and 0.6 s
for one string in 20, and missed 3 of 120; WebRTC's missed none.
"""

import collections
import dataclasses
import enum
import time
from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from firmware_sim.recognizer import Recognizer, Segment, quantize_features
from firmware_sim.sound import segment
from firmware_sim.sound.frontend import (
    SAMPLE_RATE,
    STEP_SAMPLES,
    frame_count,
)

BLOCK_SAMPLES: Final = STEP_SAMPLES  # 10 ms
# Speech begins where half of the last 10 blocks are voiced.
_ONSET_VOICED: Final = 5
_ONSET_BLOCKS: Final = 10
PRE_ROLL_BLOCKS: Final = 20  # kept before the first voiced block: weak consonants take up to 10
# A first word that is loud, but not voiced to the detector, is kept too; a longer sound is noise.
_UNVOICED_BLOCKS: Final = 100
# The detector takes the first 80 ms of a noisy stream for speech; a pre-roll brings back what was.
_SETTLING_BLOCKS: Final = PRE_ROLL_BLOCKS
HANGOVER_BLOCKS: Final = 80  # quiet that ends an utterance: people pause for 0.7 s within a number
POST_ROLL_BLOCKS: Final = 20  # of which so many are kept
EARLY_BLOCKS: Final = 2  # quiet after which an early text is looked for
_AGGRESSIVENESS: Final = 3  # of 0 to 3: takes the least noise for speech
_AUDIBLE: Final = 100  # variance; -70 dB of full scale
_ABOVE_BACKGROUND: Final = 16  # 12 dB
_BACKGROUND_RISE: Final = 8  # by 2^-8 a block, 1.7 dB a second


class RingBuffer:
    """The last samples of a stream, by their position in it; int16 [capacity]."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.int16)
        self.end = 0  # position after the last sample

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Appends at most `capacity` samples, over the oldest.

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
          ValueError: if they are not there yet, or no longer.
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
    """Which blocks are speech."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_AGGRESSIVENESS)
        self._background = 1 << 30  # variance: falls with the signal, and rises slowly

    def __call__(self, block: npt.NDArray[np.int16]) -> tuple[bool, bool]:
        """Looks at the next block.

        Args:
          block: int16 [160], 16 kHz.

        Returns:
          voiced: whether it is speech to WebRTC's detector.
          audible: whether it is 12 dB above the background. That alone is no speech, but quiet
            words within an utterance, and some first words, are no more than this to the detector.
        """
        variance = _variance(block)
        self._background = min(
            variance, self._background + (self._background >> _BACKGROUND_RISE) + 1
        )
        audible = variance > max(_AUDIBLE, _ABOVE_BACKGROUND * self._background)
        return self._vad.is_speech(block.tobytes(), SAMPLE_RATE), audible


class Ending(str, enum.Enum):
    """Why an utterance ends where it does."""

    PAUSE = "pause"  # quiet for the hangover; where the window is full, for the post-roll
    WINDOW = "window"  # speech went on over the window's end: cut in a pause, the next one goes on
    STREAM = "stream"  # the stream ended
    EARLY = "early"  # quiet for 20 ms: what was said so far; an utterance of the same start follows


@dataclasses.dataclass(frozen=True)
class Utterance:
    """What was said between two pauses; or a piece of it, where it is longer than the window."""

    start: int  # samples into the stream, of the first voiced or audible block
    end: int  # after the last voiced or audible block, or where it was cut
    ending: Ending
    decided: int  # samples into the stream when the end was known
    seconds: float  # of computing, from then to the text
    clipped: float  # share of samples at the ends of int16
    offset: int  # mean of the samples
    recognized: Segment  # its start and end are those of the samples that were recognised

    @property
    def latency(self) -> float:
        """Seconds from the end of speech to the text."""
        return (self.decided - self.end) / SAMPLE_RATE + self.seconds


class Listener:
    """Recognises a stream on a loaded bundle; its memory does not grow."""

    def __init__(self, recognizer: Recognizer, early: bool = False) -> None:
        """`early`: an utterance's text is given at each of its pauses too, before it is known to be
        the last one, and so right after the end of speech."""
        window = recognizer.bundle.window // BLOCK_SAMPLES
        self._recognizer = recognizer
        self._early = early
        self._ring = RingBuffer(window * BLOCK_SAMPLES)
        self._detector = VoiceDetector()
        self._recent: collections.deque[bool] = collections.deque(maxlen=_ONSET_BLOCKS)
        self._position = 0  # samples looked at; all positions are whole blocks
        self._used = 0  # samples that belong to earlier utterances
        self._speaking = False
        self._start = 0  # of the first voiced block, or of an audible word right before it
        self._end = 0  # after the last voiced or audible block
        self._sound = 0  # before speech: where the audible blocks began, but for short gaps
        self._sound_end = 0  # after the last of them
        self._window = _Window(recognizer, window)

    def feed(self, samples: npt.NDArray[np.int16]) -> list[Utterance]:
        """Takes the next samples, and gives the utterances that they complete.

        Args:
          samples: int16 [samples], 16 kHz, as many as there are.
        """
        found = []
        for start in range(0, len(samples), BLOCK_SAMPLES):
            self._ring.write(samples[start : start + BLOCK_SAMPLES])
            if self._ring.end - self._position >= BLOCK_SAMPLES:
                block = self._ring.read(self._position, self._position + BLOCK_SAMPLES)
                self._position += BLOCK_SAMPLES
                if utterance := self._hear(block):
                    found.append(utterance)
        return found

    def finish(self) -> list[Utterance]:
        """Ends the stream: gives what is there of the last utterance."""
        return [self._complete(Ending.STREAM)] if self._speaking else []

    def _hear(self, block: npt.NDArray[np.int16]) -> Utterance | None:
        voiced, audible = self._detector(block)
        if not self._speaking:
            self._recent.append(voiced)
            if audible:
                if self._position - self._sound_end > PRE_ROLL_BLOCKS * BLOCK_SAMPLES:
                    self._sound = self._position - BLOCK_SAMPLES
                self._sound_end = self._position
            settled = self._position >= _SETTLING_BLOCKS * BLOCK_SAMPLES
            if settled and sum(self._recent) >= _ONSET_VOICED:
                self._begin()
            return None
        full = self._window.is_full
        if not full:
            self._window.append(block)
        if voiced or audible:
            self._end = self._position
        quiet = (self._position - self._end) // BLOCK_SAMPLES
        if quiet >= HANGOVER_BLOCKS or (full and quiet >= POST_ROLL_BLOCKS):
            return self._complete(Ending.PAUSE)
        if self._early and quiet == EARLY_BLOCKS and not full:
            return self._recognize(self._position, self._end, Ending.EARLY)
        return self._cut() if full and not quiet else None

    def _begin(self) -> None:
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

    def _fill(self, start: int) -> None:
        """Starts the window anew at a position that the ring buffer still holds."""
        self._window.reset(start)
        for at in range(start, self._position, BLOCK_SAMPLES):
            self._window.append(self._ring.read(at, at + BLOCK_SAMPLES))

    def _cut(self) -> Utterance:
        """Recognises the full window up to a pause, and goes on with the rest of it."""
        cut = self._window.pause()
        utterance = self._recognize(cut, cut, Ending.WINDOW)
        self._start = cut
        self._fill(cut)
        return utterance

    def _complete(self, ending: Ending) -> Utterance:
        """Recognises up to a little after the end of speech, and waits for more of it."""
        self._speaking = False
        end = min(self._end + POST_ROLL_BLOCKS * BLOCK_SAMPLES, self._position, self._window.end)
        return self._recognize(end, self._end, ending)

    def _recognize(self, used: int, end: int, ending: Ending) -> Utterance:
        begin = time.perf_counter()
        window = self._window
        features = window.features(used)
        recognized = self._recognizer.recognize(features, window.start, used)
        if ending is not Ending.EARLY:
            self._used = used
        return Utterance(
            start=self._start,
            end=end,
            ending=ending,
            decided=self._position,
            seconds=time.perf_counter() - begin,
            clipped=window.clipped / (window.end - window.start),
            offset=round(window.sum / (window.end - window.start)),
            recognized=recognized,
        )


class _Window:
    """Features of the utterance being spoken, and the variance of its blocks."""

    def __init__(self, recognizer: Recognizer, blocks: int) -> None:
        self._bundle = recognizer.bundle
        shape = self._bundle.limits.frames, self._bundle.frontend.channels
        self._features = np.zeros(shape, np.int8)
        self._variances = np.zeros(blocks, np.uint32)
        self.reset(0)

    def reset(self, start: int) -> None:
        """Begins an utterance at sample `start` of the stream."""
        self.start = start
        self._frontend = self._bundle.frontend.stream()
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
        for frame in quantize_features(self._bundle, self._frontend.process(block)):
            self._features[self._frames] = frame
            self._frames += 1
        self.sum += int(block.sum(dtype=np.int64))
        self.clipped += int(np.count_nonzero((block == 32767) | (block == -32768)))

    def features(self, end: int) -> npt.NDArray[np.int8]:
        """int8 [frames, 40] of the samples up to position `end` of the stream."""
        return self._features[: frame_count(end - self.start, self._bundle.frontend.window)]

    def pause(self) -> int:
        """The position to cut a full window at."""
        return self.start + segment.find_pause(self._variances) * BLOCK_SAMPLES


def _variance(block: npt.NDArray[np.int16]) -> int:
    """Variance of a block: its mean square without the offset."""
    wide = block.astype(np.int64)
    return (len(wide) * int(wide @ wide) - int(wide.sum()) ** 2) // len(wide) ** 2
