"""What a report reads of a training run."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tf_speech_transformer.corpora import audio, caches
from tf_speech_transformer.corpora.features import as_float, frontend_of, microfrontend
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import runs

STAGE_NAMES = {"float": "float", "ptq": "ranges", "qat": "quantization-aware"}


class MissingError(Exception):
    """A part of the run that is not there yet; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Speech:
    """An utterance of the run: its text, and the 8-bit Keras model's text of it, if known."""

    text: str
    hypothesis: str | None
    source: Path | np.ndarray  # a file, or int8 features [T, F]

    def features(self, run: "Run") -> np.ndarray:
        """float32 [T, F], cut to the run's window; raises audio.AudioError."""
        stored = self.source
        if isinstance(stored, Path):
            stored = microfrontend(audio.load(stored), frontend_of(run.config))
        return as_float(stored[: run.frames])


@dataclasses.dataclass
class Run:
    """A training run; what is slow to read is read once."""

    workdir: Path

    @functools.cached_property
    def config(self) -> ml_collections.ConfigDict:
        file = self.workdir / "config.json"
        if not file.exists():
            raise MissingError(f"{file} does not exist: --workdir must name a training run")
        return ml_collections.ConfigDict(json.loads(file.read_text()))

    @functools.cached_property
    def ladder(self) -> dict[str, Any]:
        file = self.workdir / "ladder.json"
        if not file.exists():
            raise MissingError(
                "No ladder yet: run python -m tflite_convert.ladder with this --workdir and a"
                " --manifest, then this report again."
            )
        return json.loads(file.read_text())

    @functools.cached_property
    def model(self) -> tuple[str, SpeechTransformer, Tokenizer]:
        """The latest stage of training, its model and the tokenizer."""
        for stage in ("qat", "ptq", "float"):
            if tf.train.latest_checkpoint(str(self.workdir / stage)) is not None:
                model, tokenizer, _ = runs.load(self.workdir, stage)
                return stage, model, tokenizer
        raise MissingError("No checkpoint yet: train first.")

    @functools.cached_property
    def speech(self) -> list[Speech]:
        """Utterances of the ladder's test set, or, without it, of the held-out corpus."""
        try:
            folder = Path(self.ladder["manifest"]).parent
            rows = self.ladder["utterances"]
        except MissingError:
            rows = []
        utterances = [
            Speech(row["reference"], row["texts"].get("qat"), folder / row["audio"])
            for row in rows
            if (folder / row["audio"]).is_file()
        ]
        if not utterances:
            for cache in sorted((self.workdir / "cache").glob("dev-*")):
                examples = caches.load_cache(cache)
                pairs = zip(examples.texts, examples.features, strict=True)
                utterances += [Speech(text, None, features) for text, features in pairs]
        if not utterances:
            raise MissingError("No speech to show: run python -m tflite_convert.ladder first.")
        return utterances

    @property
    def frames(self) -> int:
        """The encoder's window."""
        return self.config.limits.frames

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, as many as a device decodes."""
        _, _, tokenizer = self.model
        return tokenizer.encode(text)[: self.config.limits.tokens]
