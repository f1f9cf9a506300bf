"""Raw PCM as it comes over a network: any rate, width and number of channels."""

import dataclasses

import numpy as np
import numpy.typing as npt

from firmware_sim.sound.audio import AudioError, Resampler


@dataclasses.dataclass
class Pcm:
    """PCM, block by block, however its samples are cut -> int16 [samples] at 16 kHz.

    Raises:
      AudioError: there is no such format.
    """

    rate: int  # Hz
    width: int  # bytes of a sample: 1 unsigned, 2 to 4 signed, little-endian
    channels: int

    def __post_init__(self) -> None:
        sizes = (self.rate, self.width, self.channels)
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in sizes):
            raise AudioError(f"rate, width and channels are {sizes}, not numbers")
        if not (1 <= self.width <= 4 and 1 <= self.channels <= 32):
            raise AudioError(
                f"{self.width} bytes a sample in {self.channels} channels: 1 to 4 bytes and 1 to "
                "32 channels are read"
            )
        self._resample = Resampler(self.rate)
        self._rest = b""

    def __call__(self, audio: bytes, last: bool = False) -> npt.NDArray[np.int16]:
        """The samples that the next bytes complete."""
        audio = self._rest + audio
        whole = len(audio) - len(audio) % (self.width * self.channels)
        self._rest = audio[whole:]
        parts = np.frombuffer(audio[:whole], np.uint8).reshape(-1, self.width)
        if self.width == 1:
            parts = parts ^ np.uint8(128)  # 8 bits are unsigned
        padded = np.zeros((len(parts), 4), np.uint8)
        padded[:, 4 - self.width :] = parts
        values = padded.view("<i4").reshape(-1, self.channels)
        mono = (values.astype(np.float64).mean(axis=1) / 2**31).astype(np.float32)
        return self._resample(mono, last)
