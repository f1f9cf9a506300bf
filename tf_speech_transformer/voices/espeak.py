"""espeak-ng: formant synthesis by its library, which the package espeakng-loader carries."""

import ctypes
import functools
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from tf_speech_transformer.voices import EngineMissing, check, required, unknown_speaker

ACCENTS = (
    "en",  # British
    "en-029",  # Caribbean
    "en-gb-scotland",
    "en-gb-x-gbclan",  # Lancaster
    "en-gb-x-gbcwmd",  # West Midlands
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)
# Effects, not speakers: robots, whispers, growls.
_EFFECTS = re.compile(r"(?i)robo|whisper|demonic|croak|tweaky|^storm$|^fast$|^klatt[56]$")

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS; retrieval (1) runs a thread that parameters race with
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report a missing data directory, do not exit()
_UTF8 = 1
_RATE, _PITCH = 1, 3
_WORDS_PER_MINUTE = 175  # espeak-ng's normal rate
_IPA_WITH_TIES = 0x02 | 0x80 | ord("^") << 8

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Library:
    """The one instance of espeak-ng in a process; the library itself is global state."""

    def __init__(self) -> None:
        loader = required("espeakng_loader", "espeak-ng", "espeakng-loader")
        self.data = Path(loader.get_data_path())
        self._espeak = ctypes.CDLL(loader.get_library_path())
        self._espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.sample_rate = self._espeak.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(self.data), _DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise EngineMissing(
                f"espeak-ng does not start with its data in {self.data}: "
                "reinstall the package espeakng-loader"
            )
        # espeak-ng seeds its noise from the clock; the same readings must give the same samples.
        self._espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._chunks: list[np.ndarray] = []
        self._callback = _Callback(self._receive)  # must outlive every call of the library
        self._espeak.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def set_voice(self, voice: str) -> None:
        if self._espeak.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def speak(self, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """int16 [samples]"""
        self.set_voice(voice)
        self._espeak.espeak_SetParameter(_RATE, rate, 0)
        self._espeak.espeak_SetParameter(_PITCH, pitch, 0)
        self._chunks = []
        data = text.encode()
        status = self._espeak.espeak_Synth(
            data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise RuntimeError(f"espeak-ng said nothing for {text!r} (status {status})")
        return np.concatenate(self._chunks)

    def phonemes(self, text: str, voice: str) -> str:
        """IPA of a text without punctuation; `^` ties diphthongs and affricates."""
        self.set_voice(voice)
        buffer = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        while rest.value:
            clause = self._espeak.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA_WITH_TIES)
            clauses.append(clause.decode().strip())
        return " ".join(filter(None, clauses))


@functools.cache
def library() -> _Library:
    # On first use, so that each process has its own; synchronous, so that a fork copies no thread.
    return _Library()


class Espeak:
    """espeak-ng: formant synthesis, very fast and very robotic; accents times voice variants.

    Speakers are named `accent+variant`, such as `en-us+m3`. Flutter and noise carry over
    from reading to reading: the same readings in the same order give the same samples, but a text
    sounds a little different after another.
    """

    name = "espeak"

    @property
    def sample_rate(self) -> int:
        return int(library().sample_rate)

    @functools.cached_property
    def _variants(self) -> list[str]:
        folder = library().data / "voices" / "!v"
        names = (path.name for path in folder.iterdir() if path.is_file())
        return sorted(name for name in names if not _EFFECTS.search(name))

    def speakers(self) -> list[str]:
        return [f"{accent}+{variant}" for accent in ACCENTS for variant in self._variants]

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        check(text, rate, pitch)
        accent, _, variant = speaker.partition("+")
        if accent not in ACCENTS or variant not in self._variants:
            raise unknown_speaker(self.name, speaker, self.speakers())
        # espeak-ng's pitch scale is logarithmic: 0 is half, 50 is the voice's own, 100 twice.
        samples = library().speak(
            text, speaker, round(_WORDS_PER_MINUTE * rate), round(50 + 50 * math.log2(pitch))
        )
        return samples.astype(np.float32) / 32768
