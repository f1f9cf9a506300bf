"""Presets: what `{name}` in their paths stands for, and what is wrong with them, before any work.

A preset is a file of `configs/` whose `get_config()` returns the configuration of a run. Flags may
change any value of it, so nothing that depends on another value is computed in `get_config()`:

    {name}     in a path of `config.corpus` stands for `config.name`, a flag that the run needs
    optional   a source with it is left out if its manifest does not exist

A source whose manifest is only `{name}` stands for as many sources as `config.name` names, with
commas between; they share its weight. None are named by "".
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from tf_speech_transformer.corpora import recipes
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.features import FRONTENDS
from tf_speech_transformer.model.dimensions import Dimensions
from tf_speech_transformer.text.tokenizer import CharacterTokenizer, SentencePieceTokenizer

OPTIMIZERS = ("adam", "muon", "adadelta")
TOKENIZERS = {x.kind: x for x in (CharacterTokenizer, SentencePieceTokenizer)}
SOURCES = ("sources", "dev_sources")
PATHS = ("records", "dev_records", "noises", "rooms")  # of `config.corpus`
_NAME = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Train:
    """`config.train`, what it may hold; without a default, what it must. See `train.py`."""

    steps: int
    batch_frames: int
    learning_rate: float
    warmup_steps: int
    clip_norm: float
    label_smoothing: float
    ctc_weight: float
    spec_augment: bool
    log_steps: int
    dev_steps: int
    checkpoint_steps: int
    optimizer: str = "adam"
    accumulate: int = 1
    warp: bool = False
    token_noise: float = 0.0
    average: int = 1
    initial: str | None = None
    initial_shared: str | None = None
    phone_weight: float = 0.0
    early_layers: tuple[int, ...] = ()
    early_weight: float = 0.0
    bfloat16: bool = False


@dataclasses.dataclass(frozen=True)
class Corpus:
    """`config.corpus`: see `recipes.of_preset`; `records` replace sources, `pool` a cache."""

    sources: tuple[Any, ...] = ()
    dev_sources: tuple[Any, ...] = ()
    train_examples: int = 0
    dev_examples: int = 0
    augmentation: Any = None
    noises: str = ""
    rooms: str = ""
    processes: int = 2
    records: tuple[str, ...] = ()
    dev_records: tuple[str, ...] = ()
    pool: Any = None


@dataclasses.dataclass(frozen=True)
class Quantization:
    """`config.quantization`."""

    range_steps: int
    steps: int
    learning_rate: float
    warmup_steps: int
    rotation: bool = False
    distillation: bool = False


@dataclasses.dataclass(frozen=True)
class Limits:
    """`config.limits`: frames and tokens of a device's window; letters, if tokens are longer."""

    frames: int
    tokens: int
    letters: int = 0


SECTIONS = {"corpus": Corpus, "train": Train, "quantization": Quantization, "limits": Limits}


def read(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The configuration of a run, with every path in its place.

    Raises ValueError, with the name of what is wrong, for a preset that no run can use.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name in SOURCES:
            if name in config.corpus:
                config.corpus[name] = sources(config, name)
        for name in PATHS:
            if name in config.corpus:
                config.corpus[name] = filled(config.corpus[name], config)
    check(config)
    return config


def sources(config: ml_collections.ConfigDict, name: str) -> tuple[dict[str, Any], ...]:
    """`config.corpus.sources` or `dev_sources` with every name replaced."""
    result = []
    for source in map(dict, config.corpus[name]):
        optional = source.pop("optional", False)
        whole = _NAME.fullmatch(str(source.get("manifest", "")))
        if whole:
            manifests = [x for x in value_of(whole[1], config, empty=True).split(",") if x]
            if isinstance(source.get("weight"), float):  # else `check` says what is wrong
                source["weight"] /= max(1, len(manifests))
            result += [{**source, "manifest": x} for x in manifests]
            continue
        source = {key: filled(value, config) for key, value in source.items()}
        if not (optional and not Path(source["manifest"]).is_file()):
            result.append(source)
    return tuple(result)


def filled(value: Any, config: ml_collections.ConfigDict) -> Any:
    """Texts with the values of the names in them; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return tuple(filled(x, config) for x in value)
    if not isinstance(value, str):
        return value
    for name in _NAME.findall(value):
        directory = value_of(name, config)
        if f"{{{name}}}/" in value and not Path(directory).is_dir():
            raise ValueError(f"--config.{name}={directory}: there is no such directory")
        value = value.replace(f"{{{name}}}", directory)
    return value


def value_of(name: str, config: ml_collections.ConfigDict, empty: bool = False) -> str:
    value = config.get(name)
    if value is None or not (value or empty):
        raise ValueError(
            f"config.{name} is not set: add --config.{name}=..., as the preset's docstring says"
        )
    return value


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for a name, type, path, part or weight that no run can use."""
    fixed = {"vocabulary": 0, "rotated": False}  # these two are not the preset's to choose
    check_section("model", {**config.model.to_dict(), **fixed}, Dimensions)
    for name, fields in SECTIONS.items():
        if name not in config:
            raise ValueError(f"config.{name} is missing: see configs/digits.py")
        check_section(name, config[name].to_dict(), fields)
    corpus = config.corpus
    for name in ("noises", "rooms"):
        if corpus.get(name) and not Path(corpus[name]).exists():
            raise ValueError(f"config.corpus.{name}: {corpus[name]} does not exist")
    if corpus.get("augmentation") is not None:
        check_section("corpus.augmentation", dict(corpus.augmentation), Augmentation)
    for name, value, known in (
        ("features", config.get("features", "wheel"), FRONTENDS),
        ("train.optimizer", config.train.get("optimizer", "adam"), OPTIMIZERS),
        ("tokenizer.kind", config.get("tokenizer", {}).get("kind", "characters"), TOKENIZERS),
    ):
        if value not in known:
            raise ValueError(f"config.{name} is {value!r}: choose {' or '.join(known)}")
    for name in ("initial", "initial_shared"):
        initial = config.train.get(name)
        if initial and not Path(initial).exists():
            raise ValueError(f"config.train.{name}: {initial} does not exist")
    early = config.train.get("early_layers", ())
    layers = range(config.model.get("encoder_layers", Dimensions.encoder_layers) - 1)
    if early and not (config.model.get("phones") and set(early) <= set(layers)):
        raise ValueError(
            f"config.train.early_layers is {early}: a model with phones is needed, and layers of"
            f" its encoder below the last, 0 to {len(layers) - 1}"
        )
    for name in SOURCES:
        if "records" not in corpus and name in corpus:
            recipes.check_sources(f"config.corpus.{name}", corpus[name])


def check_section(section: str, values: Mapping[str, Any], fields: Any) -> None:
    """Names and types of a section, by a dataclass of what it may hold."""
    hints = typing.get_type_hints(fields)
    for name, value in values.items():
        if name not in hints:
            close = difflib.get_close_matches(name, hints, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(hints)}"
            raise ValueError(f"config.{section}.{name} is unknown: {hint}")
        if not matches(value, hints[name]):
            wanted = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise ValueError(f"config.{section}.{name} is {value!r}: it must be of type {wanted}")
    for field in dataclasses.fields(fields):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise ValueError(f"config.{section}.{field.name} is missing: see configs/digits.py")


def matches(value: Any, hint: Any) -> bool:
    """Whether a value is of a type: bool, int, float, str, a tuple of these, or one of several."""
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType):
        return any(matches(value, x) for x in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        first, *rest = typing.get_args(hint)
        if not isinstance(value, (tuple, list)):
            return False
        return (rest[:1] == [...] or len(value) == 1 + len(rest)) and all(
            matches(x, first) for x in value
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
