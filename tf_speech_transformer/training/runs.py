"""A run's workdir: its configuration, tokenizer and models.

TensorFlow is imported only where there is a model: it takes seconds.
"""

import dataclasses
import errno
import fcntl
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ml_collections
import numpy as np

from tf_speech_transformer.corpora import dataset
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

if TYPE_CHECKING:
    from tf_speech_transformer.model.transformer import SpeechTransformer

STAGES = ("float", "ptq", "qat")
WEIGHTS_FILE = "weights.npz"  # its float weights, for another run to start from
GRAMMAR_FILE = "grammar.yaml"  # a copy of the preset's
LOCK_FILE = ".lock"
LITTER = ("*/ckpt-*_temp*", "cache/*.[0-9]*[0-9]", "cache/*.tmp", "*.tmp", "tokenizer/*.tmp")


def set_seed(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow.

    Weights are those of Keras' `set_random_seed`, which Python 3.12 refuses: it draws whole numbers
    between floats.
    """
    import tensorflow as tf

    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)


def lock(workdir: Path) -> IO[str]:
    """Keeps other runs out of a workdir while the file that it returns is open.

    The system releases the lock when a run ends, however it ends.  What killed runs left behind is
    removed.

    Raises ValueError: another run is in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / LOCK_FILE).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise ValueError(
            f"another run is in {workdir}: wait until it ends, or choose another --workdir"
        ) from error
    for pattern in LITTER:
        for path in workdir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return file


def prepare(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes what names the run; refuses a workdir of another configuration."""
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(config.to_json()), indent=1, sort_keys=True)
    file = workdir / "config.json"
    if file.exists() and file.read_text() != text:
        raise ValueError(
            f"{file} holds another configuration: choose another --workdir, or delete this one"
        )
    if "grammar" in config:
        shutil.copyfile(config.grammar, workdir / GRAMMAR_FILE)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(file)


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The configuration of a run."""
    config_file = workdir / "config.json"
    if not config_file.exists():
        raise FileNotFoundError(f"{config_file} does not exist: train into {workdir} first")
    return ml_collections.ConfigDict(json.loads(config_file.read_text()))


def averaged(config: ml_collections.ConfigDict, stage: str) -> int:
    """Checkpoints, the last of a stage, whose mean the stage ends with."""
    return config.get("train", {}).get("average", 1) if stage == "float" else 1


def tokenizer_class(
    config: ml_collections.ConfigDict,
) -> type[CharacterTokenizer] | type[SentencePieceTokenizer]:
    """By `config.tokenizer.kind`; letters without it."""
    kinds = {x.kind: x for x in (CharacterTokenizer, SentencePieceTokenizer)}
    kind = config.tokenizer.kind if "tokenizer" in config else CharacterTokenizer.kind
    if kind not in kinds:
        raise ValueError(f"no tokenizer {kind!r}: config.tokenizer.kind is {' or '.join(kinds)}")
    return kinds[kind]


def make_tokenizer(config: ml_collections.ConfigDict, workdir: Path) -> Tokenizer:
    """The run's tokenizer, in its workdir from now on.

    A sentencepiece model of `config.tokenizer.pieces` is trained once, on the texts of the corpus.
    """
    directory = workdir / "tokenizer"
    kind = tokenizer_class(config)
    if kind is CharacterTokenizer:
        tokenizer: Tokenizer = CharacterTokenizer()
    elif (directory / SentencePieceTokenizer.FILE).exists():
        return SentencePieceTokenizer.load(directory)
    else:
        texts = dataset.corpus_texts(config, workdir / "cache")
        tokenizer = SentencePieceTokenizer.train(texts, config.tokenizer.pieces)
    tokenizer.save(directory)
    return tokenizer


def dimensions(config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> Dimensions:
    return Dimensions(vocabulary=tokenizer.size, **config.model.to_dict())


def quantized_dimensions(config: ml_collections.ConfigDict, dims: Dimensions) -> Dimensions:
    """Of the models of 8 bits."""
    rotated = config.get("quantization", {}).get("rotation", False)
    return dataclasses.replace(dims, rotated=rotated)


def load(
    workdir: Path, stage: str
) -> "tuple[SpeechTransformer, Tokenizer, ml_collections.ConfigDict]":
    """The model that a stage of training ended with, its tokenizer and its configuration."""
    from tf_speech_transformer.model.transformer import build
    from tf_speech_transformer.training.weights import restore_average

    if stage not in STAGES:
        raise ValueError(f"no stage {stage!r}: there are {', '.join(STAGES)}")
    config = read_config(workdir)
    tokenizer = tokenizer_class(config).load(workdir / "tokenizer")
    dims = dimensions(config, tokenizer)
    if stage != "float":
        dims = quantized_dimensions(config, dims)
    model = build(dims, quantized=stage != "float")
    restore_average(model, workdir / stage, averaged(config, stage))
    return model, tokenizer, config


def read_weights(source: Path) -> Mapping[str, Any]:
    """Float weights by path: of a run's workdir, or of a `WEIGHTS_FILE`.

    Raises ValueError for another file, OSError for what cannot be read.
    """
    from tf_speech_transformer.training.weights import by_path, read_archive

    if source.is_dir():
        return by_path(load(source, "float")[0])
    try:
        return read_archive(source)
    except ValueError as error:
        raise ValueError(
            f"{source} holds no weights: name a run's workdir or its {WEIGHTS_FILE}, copied whole"
        ) from error
