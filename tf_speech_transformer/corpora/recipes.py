"""Recipes of examples: which sources speak, how often, and how they are recorded."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from tqdm import tqdm

from firmware_sim.grammar.source import Grammar
from tf_speech_transformer import voices
from tf_speech_transformer.corpora import audio, corpus, digit_strings, readers
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.features import WHEEL, FrontendParameters, frontend_of
from tf_speech_transformer.corpora.sources import Nothing, Pairs, Recorded, Source
from tf_speech_transformer.corpora.spoken_commands import SpokenCommands
from tf_speech_transformer.text import phones
from tf_speech_transformer.text.excluded import excluded, fingerprint
from tf_speech_transformer.text.sentences import known_sentences
from tf_speech_transformer.text.tokenizer import Tokenizer

VERSION = 4  # raise it when the code makes other examples of the same recipe
SHARD_EXAMPLES = 1000
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
# What a source must hold besides `weight`, and what it may.
_ENGINE, _MANIFEST = ("engine", "part"), ("manifest",)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "synthesised": (_ENGINE, ("pairs",)),
    "spoken": ((*_ENGINE, "grammar"), ("pairs",)),
    "joined": (_MANIFEST, ("part", "pairs", "phones")),
    "recorded": (_MANIFEST, ("part", "pairs", "phones", "balanced")),
    "librispeech": (("path",), ("part", "pairs", "phones", "balanced")),
    "parametric": (("texts", "excluded"), ()),
    "read": (("engine", "texts", "excluded"), ()),
    "nothing": ((), ()),
}
PARTS = {False: ("all", "train", "dev"), True: ("train", "test")}  # by whether an engine speaks


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a cache holds: everything that decides on its content.

    Args:
        sources: a `kind` of `KINDS` each, what it needs, a `weight` (how often it is drawn,
            relative to the others), and `pairs`, the share of examples that are two in a row, with
            a pause between. The kinds are
            synthesised: digit strings by an `engine`, of `part` "train" or "test" of its voices;
            joined: digit strings of a `manifest` of digit words, `part` "all", "train" or "dev";
            spoken: commands of a `grammar` by an `engine`;
            recorded: utterances of a `manifest`; `balanced` draws them by `sources.Rarity`,
            with `phones` they have phones too;
            librispeech: utterances of a `path`, a tree or tar file;
            parametric: lines in the manner of `texts` (files), without what the `excluded`
            grammars accept (`text.excluded`), by speakers without end;
            read: the same by an `engine`;
            nothing: silence.
        examples: how many.
        max_frames, max_tokens: longer examples are drawn again; tokens are counted as letters.
        augmentation: None for audio as it is.
        noises, rooms: .npz files, see `augment.read_pieces`, or directories of recordings; "" for
        none.
    """

    sources: tuple[dict[str, Any], ...]
    examples: int
    seed: int
    max_frames: int
    max_tokens: int
    augmentation: Augmentation | None
    frontend: FrontendParameters = WHEEL
    noises: str = ""
    rooms: str = ""
    shard_examples: int = SHARD_EXAMPLES

    def key(self) -> str:
        """A hash that changes with anything in the recipe, manifests included."""
        content = {"version": VERSION, **dataclasses.asdict(self)}
        content["manifests"] = [
            hashlib.sha256(_manifest(source).read_bytes()).hexdigest()
            for source in self.sources
            if "manifest" in source
        ]
        content["grammars"] = [
            hashlib.sha256(Path(source["grammar"]).read_bytes()).hexdigest()
            for source in self.sources
            if "grammar" in source
        ]
        content["texts"] = [sentences_key(x) for x in self.sources if "excluded" in x]
        for name in ("noises", "rooms"):
            if content[name]:
                content[name] = hashlib.sha256(Path(content[name]).read_bytes()).hexdigest()
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(source: dict[str, Any]) -> Path:
    path = Path(source["manifest"])
    if not path.is_file():
        raise corpus.CorpusError(f"{path} does not exist: name a manifest in the preset")
    return path


def check_sources(name: str, sources: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError for a source that cannot be used; the message calls the sources `name`."""
    for i, source in enumerate(map(dict, sources)):
        try:
            check_source(source)
        except ValueError as error:
            raise ValueError(f"{name}[{i}]: {error}") from error
    if not any(source["weight"] for source in sources):
        raise ValueError(f"{name} has no source with a weight above 0: add one")


def check_source(source: dict[str, Any]) -> None:
    """Raises ValueError for what is missing, unknown, of another type, or not there."""
    kind = source.get("kind")
    if kind not in KINDS:
        raise ValueError(f"no corpus source {kind!r}: there are {', '.join(KINDS)}")
    needed, further = KINDS[kind]
    missing = [key for key in (*needed, "weight") if key not in source]
    unknown = source.keys() - {"kind", "weight", *needed, *further}
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"does not take {min(unknown)!r}"
        raise ValueError(
            f"a source of the kind {kind!r} {problem}: it holds {', '.join((*needed, 'weight'))}"
            f" and perhaps {', '.join(further) or 'nothing else'}"
        )
    for key, most in (("weight", 1e9), ("pairs", 1.0)):
        value = source.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise ValueError(f"{key} is {value!r}: it must be a number from 0 to {most:g}")
    parts = PARTS["engine" in source]
    if source.get("part", parts[0]) not in parts:
        raise ValueError(f"no part {source['part']!r}: there are {', '.join(parts)}")
    if "engine" in source and source["engine"] not in voices.ENGINES:
        raise ValueError(f"no engine {source['engine']!r}: there are {', '.join(voices.ENGINES)}")
    for key in ("manifest", "grammar", "path"):
        if key in source and not Path(source[key]).exists():
            raise ValueError(f"{source[key]} does not exist: name a {key}")
    if "manifest" in source:  # before its audio is decoded, which takes minutes
        speakers = corpus.manifest_speakers(Path(source["manifest"]))
        if speakers:
            corpus.part_of(speakers, source.get("part", "all"))
    if "grammar" in source:
        Grammar.read(Path(source["grammar"]))


def decode_source(
    source: dict[str, Any], root: Path, tokenizer: Tokenizer | None = None
) -> Path | None:
    """What the source reads, made once in `root`: decoded recordings, sentences; None for none.

    With a tokenizer, texts that it cannot spell are left out before anything is decoded.
    """
    kind = source["kind"]
    if kind in ("synthesised", "spoken", "nothing"):
        return None
    if kind in ("parametric", "read"):
        return write_sentences(source, root)
    if kind in ("joined", "recorded"):
        path, utterances = _manifest(source), corpus.read_manifest(_manifest(source))
    elif kind == "librispeech":
        path, utterances = Path(source["path"]), corpus.read_librispeech(Path(source["path"]))
    else:
        raise ValueError(f"no corpus source {kind!r}: there are {', '.join(KINDS)}")
    if tokenizer is not None:
        utterances = corpus.check_texts(path, utterances, tokenizer.encode)
    return corpus.decode_all(path, utterances, root)


def with_pieces(recipe: Recipe, root: Path) -> Recipe:
    """The recipe with an .npz file of `root` in the place of each directory of recordings."""
    found: dict[str, Any] = {}
    for name in ("noises", "rooms"):
        path = Path(getattr(recipe, name))
        if getattr(recipe, name) and path.is_dir():
            found[name] = str(write_pieces(path, root))
    return dataclasses.replace(recipe, **found)


def write_pieces(directory: Path, root: Path) -> Path:
    """All recordings of a directory in a file of `root`, for `augment.read_pieces`.

    Raises:
        CorpusError: there is none.
        AudioError: one of them cannot be decoded.
    """
    files = sorted(x for x in directory.rglob("*") if x.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise corpus.CorpusError(f"{directory} holds no recording: name another in the preset")
    content = repr([(str(x.relative_to(directory)), x.stat().st_size) for x in files])
    target = root / f"pieces-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npz"
    if not target.exists():
        root.mkdir(parents=True, exist_ok=True)
        pieces = [
            audio.load(x).astype(np.float16) / 32768 for x in tqdm(files, "noises", disable=None)
        ]
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            lengths = np.array([len(x) for x in pieces], np.int32)
            np.savez(file, samples=np.concatenate(pieces), lengths=lengths)
        temporary.replace(target)
    return target


def texts_of(source: dict[str, Any]) -> list[Path]:
    """The files that the source's `texts`, names and patterns of names, stand for.

    Raises:
        CorpusError: there is none.
    """
    files = sorted(
        file
        for pattern in source["texts"]
        for file in Path("/").glob(str(Path(pattern).absolute())[1:])
        if file.is_file() and file.suffix != ".dat"
    )
    if not files:
        raise corpus.CorpusError(
            f"no file is called {' or '.join(source['texts'])}: install Debian's fortunes and"
            " wordnet-base, or name other texts in the preset"
        )
    return files


def sentences_key(source: dict[str, Any]) -> str:
    """Changes with the texts, and with what is excluded from them."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in texts_of(source)]
    content = repr((digests, fingerprint(source["excluded"])))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_sentences(source: dict[str, Any], root: Path) -> Path:
    """The sentences of the source's texts in a file of `root`, made once."""
    files = texts_of(source)
    target = root / f"sentences-{sentences_key(source)}.txt"
    if not target.exists():
        root.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        found = known_sentences(files, phones.lexicon(), excluded(source["excluded"]))
        temporary.write_text("\n".join(found) + "\n", encoding="utf-8")
        temporary.replace(target)
    return target


def decode_sources(recipe: Recipe, root: Path, tokenizer: Tokenizer | None) -> list[Path | None]:
    """`decode_source` of each source; what is wrong with any of them is said before the work.

    Raises ValueError: a source that cannot be used, or, with a tokenizer, a text that it cannot
    spell.
    """
    check_sources("corpus.sources", recipe.sources)
    recordings = [decode_source(source, root, tokenizer) for source in recipe.sources]
    for source in build_sources(recipe, recordings):
        if tokenizer is not None:
            for text in source.texts:
                tokenizer.encode(text)
    return recordings


def build_sources(recipe: Recipe, recordings: list[Path | None]) -> list[Source]:
    """The recipe's sources, in order; `recordings` is what `decode_source` returned for each."""
    return [
        build_source(source, directory)
        for source, directory in zip(recipe.sources, recordings, strict=True)
    ]


def build_source(source: dict[str, Any], recordings: Path | None) -> Source:
    """`recordings`: what `decode_source` returned."""
    kind, part = source["kind"], source.get("part", "all")
    built: Source
    if kind == "nothing":
        return Nothing()
    if kind in ("parametric", "read"):
        assert recordings is not None
        lines = readers.sentences_of(recordings, source["excluded"])
        if kind == "parametric":
            return readers.Parametric(lines)
        return readers.Read(lines, source["engine"], speakers_of(source))
    if recordings is None:
        if kind == "spoken":
            grammar = Grammar.read(Path(source["grammar"]))
            built = SpokenCommands(grammar, source["engine"], speakers_of(source))
        else:
            built = digit_strings.Synthesised(source["engine"], speakers_of(source))
    elif kind == "joined":
        built = digit_strings.Joined(corpus.Recordings(recordings), part)
    else:
        built = Recorded(corpus.Recordings(recordings), part, source.get("balanced", False))
    if source.get("phones"):
        built = readers.Pronounced(built)
    return Pairs(built, source["pairs"]) if source.get("pairs") else built


def speakers_of(source: dict[str, Any]) -> list[str]:
    """Those of the source's engine that are for its part."""
    speakers = voices.engine(source["engine"]).speakers()
    train, test = voices.speaker_split(speakers, seed=0)
    return test if source.get("part") == "test" else train


def of_preset(config: ml_collections.ConfigDict) -> dict[str, Recipe]:
    """The recipes "train" and "dev" of a preset.

    `config.corpus` holds `sources` (see `Recipe`), `train_examples`, `dev_examples`, and may hold
    `dev_sources` (by default the same sources, from another seed) and `augmentation` (fields of
    `Augmentation` that differ from the defaults; None for none). `config.features` is one of
    `features.FRONTENDS`, by default what a device's wheel computes. A text's limit is
    `config.limits.tokens`, or `letters`, if tokens are longer.
    """
    chosen = config.corpus
    augmentation = chosen.get("augmentation", {})
    return {
        name: Recipe(
            sources=tuple(dict(source) for source in sources),
            examples=chosen[f"{name}_examples"],
            seed=seed,
            max_frames=config.limits.frames,
            max_tokens=config.limits.get("letters", config.limits.tokens),
            augmentation=None if augmentation is None else Augmentation(**dict(augmentation)),
            noises=chosen.get("noises", ""),
            rooms=chosen.get("rooms", ""),
            frontend=frontend_of(config),
        )
        for name, seed, sources in (
            ("train", config.seed, chosen.sources),
            ("dev", config.seed + 1000, chosen.get("dev_sources", chosen.sources)),
        )
    }
