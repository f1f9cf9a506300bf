"""Synthetic voices: speech to train on where there are no recordings.

Each engine is a file here and a `Synthesiser`. espeak-ng is always installed, because its wheel
carries the library; the files of the others say what they need. `reading.py` makes a corpus of
what engines read.

Importing this package imports no engine, and no TensorFlow: a process that only speaks stays small.
"""

import importlib
import random
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol

import numpy as np
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


# Name -> its class; the module has the engine's name.
_CLASSES = {"espeak": "Espeak", "flite": "Flite", "kokoro": "Kokoro", "piper": "Piper"}
ENGINES = tuple(_CLASSES)
RATES = (0.5, 2.0)
PITCHES = (0.5, 2.0)


def engine(name: str, **options: Any) -> Synthesiser:
    """The engine of that name; `options` are its constructor's, its defaults without them.

    Raises:
        ValueError: there is no such engine.
        EngineMissing: it is not installed; the message says how to.
    """
    if name not in _CLASSES:
        raise ValueError(f"no voices of the name {name!r}: choose {', '.join(ENGINES)}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), _CLASSES[name])(**options)


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
        test_share: the share of the voices that is held out (at least one voice).

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


# ---------------------------------------------------------------------------- what engines share


def check(text: str, rate: float, pitch: float) -> None:
    """Raises ValueError for a text without words, or a rate or pitch out of range."""
    if not re.search(r"\w", text):
        raise ValueError(f"nothing to say in the text {text!r}: give it at least one word")
    for what, value, (low, high) in (("rate", rate, RATES), ("pitch", pitch, PITCHES)):
        if not low <= value <= high:
            raise ValueError(f"{what} {value:g} is out of range: choose {low:g} to {high:g}")


def unknown_speaker(engine: str, speaker: str, known: list[str]) -> ValueError:
    return ValueError(
        f"{engine} has no speaker {speaker!r}: choose one of its {len(known)}, "
        f"such as {', '.join(known[:4])}"
    )


def required(module: str, engine: str, package: str) -> ModuleType:
    """The imported module of an engine's package; raises EngineMissing without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineMissing(
            f"the voices of {engine} need the package {package}: pip install {package} ({error})"
        ) from error


def shift_pitch(audio: np.ndarray, pitch: float) -> np.ndarray:
    """Raises pitch and formants alike, as a faster tape does: for engines without a control.

    Args:
        audio: float32 [samples], spoken at 1 / pitch of the rate that is wanted.

    Returns:
        float32 [samples / pitch].
    """
    if pitch == 1.0:
        return audio
    return np.clip(soxr.resample(audio, pitch, 1.0), -1.0, 1.0).astype(np.float32)
