# ruff: noqa: RUF001 - letters of a phonetic alphabet look like others
"""Speakers without end, from the small parametric model that the wheel `hibari-tts` carries.

The model takes phones, and gives pitch and the spectra of harmonics and of noise for every 12.5 ms.
Between the two, a speaker is made: accent, pace, pitch and its liveliness, length of the vocal
tract, breath and tilt.  A core makes about 66 seconds of speech a second.
"""

import dataclasses
import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from firmware_sim.grammar.phones import VOWELS
from tf_speech_transformer.text.phones import Pronunciation

SAMPLE_RATE = 24_000  # Hz
# Letters of the model (misaki's) for phones; vowels without stress come first.
_CONSONANTS = {
    "B": "b", "CH": "ʧ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "ʤ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t",
    "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_VOWELS = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "EH": "ɛ", "ER": "ɜɹ",
    "EY": "A", "IH": "ɪ", "IY": "i", "OW": "O", "OY": "Y", "UH": "ʊ", "UW": "u",
}  # fmt: skip
_REDUCED = {"AH": "ə", "ER": "əɹ"}
_VOWEL_LETTERS = "AIOQWYaeiouæɐɑɒɔəɚɛɜɪʊʌᵊᵻ"
# What a speaker of another first language may make of a letter.
_FOREIGN = """
    θ>t θ>s θ>f ð>d ð>z v>w w>v ɪ>i æ>ɛ ʌ>a ɑ>ɔ z>s ɹ>ɾ ŋ>n ʊ>u ɜ>ɛ ə>a O>ɔ A>e T>t
"""
FOREIGN = tuple(rule.partition(">")[::2] for rule in _FOREIGN.split())
_BRITISH = (
    (rf"ɜɹ(?![ˈˌ]?[{_VOWEL_LETTERS}])", "ɜː"),
    (rf"([ɑɔ])ɹ(?![ˈˌ]?[{_VOWEL_LETTERS}])", r"\1ː"),
    (rf"əɹ(?![ˈˌ]?[{_VOWEL_LETTERS}])", "ə"),
    (rf"ɹ(?![ˈˌ]?[{_VOWEL_LETTERS}])", "ə"),
    (r"ɑ(?!ː)", "ɒ"),
    ("O", "Q"),
    ("T", "t"),
    (r"æ(?=[fsθ]|n[ts])", "ɑː"),
)


@dataclasses.dataclass(frozen=True)
class Speaker:
    """How somebody speaks.

    Args:
        british: an accent without r after vowels.
        foreign: rules of `FOREIGN` that hold for all that is said.
        pace: 1.0 is the model's own.
        pitch: of the model's own.
        liveliness: 1.0 is the melody of the model; 0.0 is monotonous.
        tract: above 1.0, formants are higher, as of a shorter vocal tract.
        breath: added to the logarithm of the noise's magnitude.
        tilt: the same, of both spectra, rising to this at 12 kHz.
    """

    british: bool
    foreign: tuple[int, ...]
    pace: float
    pitch: float
    liveliness: float
    tract: float
    breath: float
    tilt: float


def draw_speaker(rng: np.random.Generator) -> Speaker:
    """Half speak as the model does, a quarter British, the others with a foreign accent."""
    pitch = float(np.exp(rng.uniform(np.log(0.42), np.log(1.6))))
    origin = rng.random()
    rules = rng.choice(len(FOREIGN), int(rng.integers(1, 4)), replace=False)
    return Speaker(
        british=0.5 <= origin < 0.75,
        foreign=tuple(map(int, rules)) if origin >= 0.75 else (),
        pace=float(np.exp(rng.uniform(np.log(0.75), np.log(1.5)))),
        pitch=pitch,
        liveliness=float(rng.uniform(0.3, 1.8)),
        # Low voices have long tracts.
        tract=float(np.clip(np.exp(0.28 * np.log(pitch) + rng.normal(0, 0.06)), 0.78, 1.28)),
        breath=float(rng.uniform(-0.5, 0.9)),
        tilt=float(rng.uniform(-0.9, 0.9)),
    )


class Parametric:
    """The model.

    Raises:
        ModuleNotFoundError: `hibari-tts` is not installed.
    """

    def __init__(self) -> None:
        import hibari

        self._model = hibari.Hibari()

    def speak(
        self,
        words: Sequence[Pronunciation],
        pauses: Collection[int],
        speaker: Speaker,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Says words, with a pause after some: float32 [samples] at `SAMPLE_RATE`."""
        letters = with_accent(spell(words, pauses, rng), speaker)
        outputs = self._model.sess.run(
            None,
            {
                "ids": np.array([self._model.ids(letters)], np.int64),
                "speed": np.array([speaker.pace], np.float32),
            },
        )
        return self._synthesise([x[0] for x in outputs], speaker, rng)

    def _synthesise(
        self, outputs: list[np.ndarray], speaker: Speaker, rng: np.random.Generator
    ) -> np.ndarray:
        from hibari import dsp

        harmonics, phase, noise, free, free_phase, pitch = outputs
        harmonics, noise, free = (stretch(x, speaker.tract, -9.0) for x in (harmonics, noise, free))
        tilt = np.linspace(0, speaker.tilt, len(harmonics), dtype=np.float32)[:, None]
        return dsp.synth(
            harmonics + tilt,
            stretch(phase, speaker.tract, 0.0),
            noise + tilt + np.float32(speaker.breath),
            free,
            free_phase,
            change_pitch(pitch, speaker),
            rng,
        ).astype(np.float32)


@functools.cache
def model() -> Any:
    """The `Parametric` of this process."""
    return Parametric()


def spell(words: Sequence[Pronunciation], pauses: Collection[int], rng: np.random.Generator) -> str:
    """Words in the letters of the model; some short words of a sentence lose their stress."""
    spelled = []
    for number, word in enumerate(words):
        weak = len(words) > 2 and len(word) <= 3 and rng.random() < 0.35
        letters = "".join(_letter(phone, weak) for phone in word)
        # American: t and d between vowels, the second without stress, are a tap.
        letters = re.sub(rf"(?<=[{_VOWEL_LETTERS}ɹ])t(?=[{_VOWEL_LETTERS}])", "T", letters)
        spelled.append(letters + ("," if number in pauses else ""))
    return " ".join(spelled) + ("." if rng.random() < 0.7 else "")


def _letter(phone: str, weak: bool) -> str:
    name, stress = phone.rstrip("012"), phone[-1]
    if name not in VOWELS:
        return _CONSONANTS[name]
    if stress == "0" or weak:
        return _REDUCED.get(name, _VOWELS[name]) if stress == "0" else _VOWELS[name]
    return ("ˈ" if stress == "1" else "ˌ") + _VOWELS[name]


def with_accent(letters: str, speaker: Speaker) -> str:
    """The letters as the speaker says them."""
    if speaker.british:
        for old, new in _BRITISH:
            letters = re.sub(old, new, letters)
    for rule in speaker.foreign:
        letters = letters.replace(FOREIGN[rule][0], FOREIGN[rule][1])
    return letters


def stretch(spectrum: np.ndarray, factor: float, beyond: float) -> np.ndarray:
    """A spectrum [bins, frames] along its frequencies; `beyond` is what lies above the last."""
    places = np.arange(len(spectrum)) / factor
    low = np.clip(places.astype(np.int64), 0, len(spectrum) - 2)
    share = (places - low).astype(np.float32)[:, None]
    stretched = spectrum[low] * (1 - share) + spectrum[low + 1] * share
    stretched[places > len(spectrum) - 1] = beyond
    return stretched.astype(np.float32)


def change_pitch(pitch: np.ndarray, speaker: Speaker) -> np.ndarray:
    """Hz of each frame, 0.0 where there is no voice, as the speaker's: float32 [frames]."""
    voiced = pitch > 40
    changed = np.zeros(len(pitch), np.float32)
    if voiced.any():
        octaves = np.log(pitch[voiced])
        mean = octaves.mean()
        octaves = mean + np.log(speaker.pitch) + speaker.liveliness * (octaves - mean)
        changed[voiced] = np.clip(np.exp(octaves), 55, 500)
    return changed
