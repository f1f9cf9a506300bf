"""Training examples on disk, and batches of them.

A cache is a directory of shards (`00000.npz`: int8 features of many examples, their lengths and
texts).  It is made in parallel, a shard at a time; a killed run leaves whole shards, and the next
one makes the missing ones.  A shard depends on the recipe and its number alone.

TensorFlow is imported where it is needed alone: `xla_train.py` makes examples without it.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
import numpy as np
from tqdm import tqdm

from firmware_sim.grammar.source import Grammar
from tf_speech_transformer import commands, voices
from tf_speech_transformer.corpora import augment, corpus, readers
from tf_speech_transformer.corpora import sources as digits
from tf_speech_transformer.corpora.augment import Augmentation, Places, read_pieces
from tf_speech_transformer.corpora.features import (
    WHEEL,
    FrontendParameters,
    as_float,
    frontend_of,
    microfrontend,
)
from tf_speech_transformer.records import Records
from tf_speech_transformer.text import phones
from tf_speech_transformer.text.sentences import known_sentences, sentences
from tf_speech_transformer.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

VERSION = 4  # raise it when the code makes other examples of the same recipe
SHARD_EXAMPLES = 1000
BUCKET_FRAMES = 32  # lengths are padded to a multiple of this
RETRIES = 50
BABBLERS = 40  # utterances that may be heard in the background
CROWD = 5  # of them at once


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a cache holds: everything that decides on its content.

    Args:
        sources: each a `kind`, a `weight` (how often it is drawn, relative to the others), and
            synthesised: `engine` and `part`, "train" or "test" voices: digit strings;
            joined: `manifest` of digit words and `part`, "all", "train" or "dev": digit strings;
            spoken: `engine`, `part` and `grammar`: commands of the grammar;
            recorded: `manifest` and `part`: its utterances, `balanced` by `digits.Rarity`;
            librispeech: `path` of a tree or tar file and `part`: its utterances;
            parametric: lines of `texts` (files), none of `excluded` ones, by speakers without end;
            read: the same by an `engine`;
            with `phones`, recorded ones in phones too;
            with `pairs`, a share of which are two examples in a row, a pause between.
        examples: how many.
        max_frames, max_tokens: longer examples are drawn again; tokens are counted as letters.
        augmentation: None for audio as it is.
    """

    sources: tuple[dict[str, Any], ...]
    examples: int
    seed: int
    max_frames: int
    max_tokens: int
    augmentation: Augmentation | None
    frontend: FrontendParameters = WHEEL
    noises: str = ""  # .npz files, see `augment.read_pieces`
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
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(source: dict[str, Any]) -> Path:
    path = Path(source["manifest"])
    if not path.is_file():
        raise corpus.CorpusError(f"{path} does not exist: name a manifest in the preset")
    return path


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features int8 [frames, channels] and text of each example."""

    features: list[np.ndarray]
    texts: list[str]
    phones: list[str] = dataclasses.field(default_factory=list)  # see `sources.Spoken`; may be none

    @property
    def lengths(self) -> list[int]:
        """Frames of each."""
        return [len(x) for x in self.features]


class Maker:
    """Makes examples of a recipe.

    Args:
        recordings: what `decode_source` returned for each of the recipe's sources.
    """

    def __init__(self, recipe: Recipe, recordings: list[Path | None]):
        self.recipe = recipe
        self.sources = build_sources(recipe, recordings)
        weights = np.array([source["weight"] for source in recipe.sources], np.float64)
        self.weights = weights / weights.sum()
        self.places = Places(
            *(read_pieces(Path(file)) if file else () for file in (recipe.noises, recipe.rooms))
        )
        self.babble: list[np.ndarray] = []
        self.crowd: list[np.ndarray] = []
        if recipe.augmentation is not None and recipe.augmentation.surroundings:
            rng = np.random.default_rng([recipe.seed, BABBLERS])
            self.babble = [np.concatenate(self.draw(rng).pieces) for _ in range(BABBLERS)]
            self.crowd = [crowd(self.babble, rng) for _ in range(BABBLERS)]

    def draw(self, rng: np.random.Generator) -> digits.Spoken:
        return self.sources[rng.choice(len(self.sources), p=self.weights)].draw(rng)

    def example(self, index: int) -> tuple[np.ndarray, str, str]:
        """Features int8 [frames, channels], text and phones."""
        rng = np.random.default_rng([self.recipe.seed, index])
        for _ in range(RETRIES):
            spoken = self.draw(rng)
            # Of one voice in the background alone the text would have to be written.
            babble = self.babble if spoken.text or spoken.phones else self.crowd
            audio = digits.record(spoken, self.recipe.augmentation, rng, babble, self.places)
            features = microfrontend(audio, self.recipe.frontend)
            if (
                0 < len(features) <= self.recipe.max_frames
                and len(spoken.text) < self.recipe.max_tokens
            ):
                return features, spoken.text, spoken.phones or ""
        raise ValueError(f"no example of {RETRIES} fits into {self.recipe.max_frames} frames")

    def shard(self, index: int) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
        first = index * self.recipe.shard_examples
        last = min(first + self.recipe.shard_examples, self.recipe.examples)
        made = (self.example(i) for i in range(first, last))
        features, texts, phones = zip(*made, strict=True)
        lengths = np.array([len(x) for x in features])
        return np.concatenate(features), lengths, list(texts), list(phones)


def crowd(babble: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """So many talk at once that none is understood: float32 [samples]."""
    talkers = [babble[i] for i in rng.integers(len(babble), size=CROWD)]
    length = max(map(len, talkers))
    return np.sum([np.resize(np.roll(x, rng.integers(length)), length) for x in talkers], axis=0)


def decode_source(source: dict[str, Any], root: Path) -> Path | None:
    """Decodes the recordings of a source into a directory of `root`, once; None if it has none."""
    kind = source["kind"]
    if kind in ("synthesised", "spoken", "nothing"):
        return None
    if kind in ("parametric", "read"):
        return write_sentences(source, root)
    if kind in ("joined", "recorded"):
        path = _manifest(source)
        return corpus.decode_all(path, corpus.read_manifest(path), root)
    if kind == "librispeech":
        path = Path(source["path"])
        return corpus.decode_all(path, corpus.read_librispeech(path), root)
    raise ValueError(
        f"no corpus source {kind!r}: "
        "there are synthesised, spoken, joined, recorded, librispeech and nothing"
    )


def write_sentences(source: dict[str, Any], root: Path) -> Path:
    """The sentences of the source's `texts`, files and patterns of files, in a file of `root`."""
    files = sorted(
        file
        for pattern in source["texts"]
        for file in Path("/").glob(str(Path(pattern).absolute())[1:])
        if file.is_file() and file.suffix != ".dat"
    )
    if not files:
        raise corpus.CorpusError(
            f"no file is called {' or '.join(source['texts'])}: install Debian's fortunes and"
            " wordnet-base, or name texts in --config.texts"
        )
    excluded = frozenset(text for file in source["excluded"] for text in sentences(Path(file)))
    target = root / f"sentences-{hashlib.sha256(repr(files).encode()).hexdigest()[:16]}.txt"
    if not target.exists():
        root.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        found = known_sentences(files, phones.lexicon(), excluded)
        temporary.write_text("\n".join(found) + "\n", encoding="utf-8")
        temporary.replace(target)
    return target


def decode_sources(recipe: Recipe, root: Path, tokenizer: Tokenizer | None) -> list[Path | None]:
    """`decode_source` of each source, and what is wrong with any of them before the work.

    Raises ValueError: a source that cannot be used, or, with a tokenizer, a text that it cannot
    spell.
    """
    recordings = [decode_source(source, root) for source in recipe.sources]
    for source in build_sources(recipe, recordings):
        if tokenizer is not None:
            for text in source.texts:
                tokenizer.encode(text)
    return recordings


def build_sources(recipe: Recipe, recordings: list[Path | None]) -> list[digits.Source]:
    """The recipe's sources, in order; `recordings` is what `decode_source` returned for each."""
    return [
        build_source(source, directory)
        for source, directory in zip(recipe.sources, recordings, strict=True)
    ]


def build_source(source: dict[str, Any], recordings: Path | None) -> digits.Source:
    built: digits.Source
    if source["kind"] == "nothing":
        return digits.Nothing()
    if source["kind"] in ("parametric", "read"):
        assert recordings is not None
        lines = readers.sentences_of(recordings)
        if source["kind"] == "parametric":
            return readers.Parametric(lines)
        speakers = voices.speaker_split(voices.engine(source["engine"]).speakers(), seed=0)[0]
        return readers.Read(lines, source["engine"], speakers)
    if recordings is None:
        speakers = voices.engine(source["engine"]).speakers()
        train, test = voices.speaker_split(speakers, seed=0)
        speakers = test if source["part"] == "test" else train
        if source["kind"] == "spoken":
            grammar = Grammar.read(Path(source["grammar"]))
            built = commands.SpokenCommands(grammar, source["engine"], speakers)
        else:
            built = digits.Synthesised(source["engine"], speakers)
    else:
        decoded, part = corpus.Recordings(recordings), source.get("part", "all")
        if source["kind"] == "joined":
            built = digits.Joined(decoded, part)
        else:
            built = digits.Recorded(decoded, part, source.get("balanced", False))
        if source.get("phones"):
            built = readers.Pronounced(built)
    return digits.Pairs(built, source["pairs"]) if source.get("pairs") else built


def _make_shard(recipe: Recipe, recordings: list[Path | None], index: int, directory: Path) -> None:
    path = directory / f"{index:05d}.npz"
    temporary = path.with_suffix(".tmp")
    try:
        features, lengths, texts, phones = Maker(recipe, recordings).shard(index)
        content = {"features": features, "lengths": lengths, "texts": np.array(texts)}
        if any(phones):
            content["phones"] = np.array(phones)
        with temporary.open("wb") as file:
            np.savez(file, **content)
        temporary.replace(path)
    except (ValueError, OSError) as error:
        sys.exit(f"{path}: {error}")
    finally:
        temporary.unlink(missing_ok=True)


def build_cache(
    root: Path, name: str, recipe: Recipe, processes: int = 2, tokenizer: Tokenizer | None = None
) -> Path:
    """Makes (or completes) the cache of a recipe; returns its directory.

    Raises:
        ValueError: a source that cannot be used, or, with a tokenizer, a text that it cannot spell.
        OSError: a process died or could not write; whole shards stay.
    """
    directory = root / f"{name}-{recipe.key()}"
    shards = range(-(-recipe.examples // recipe.shard_examples))
    if any(not shard_file(directory, i).exists() for i in shards):
        recordings = decode_sources(recipe, root, tokenizer)
        make_shards(directory, name, recipe, recordings, shards, processes)
    return directory


def shard_file(directory: Path, index: int) -> Path:
    return directory / f"{index:05d}.npz"


def make_shards(
    directory: Path,
    name: str,
    recipe: Recipe,
    recordings: list[Path | None],
    shards: Sequence[int],
    processes: int,
) -> None:
    """Makes those of the shards that are missing.

    Raises:
        OSError: a process died or could not write; whole shards stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [i for i in shards if not shard_file(directory, i).exists()]
    if not missing:
        return
    # A new process for each shard: what espeak-ng says depends on all that it said before.
    # forkserver: no TensorFlow thread runs yet where it forks, and TensorFlow is loaded once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    shard = recipe.shard_examples
    size = {i: min(shard, recipe.examples - i * shard) for i in shards}
    total = sum(size.values())
    done = total - sum(size[i] for i in missing)
    running: dict[int, ForkServerProcess] = {}  # by shard
    try:
        with tqdm(total=total, initial=done, desc=f"{name} corpus", unit="utt") as bar:
            while missing or running:
                while missing and len(running) < processes:
                    index = missing.pop(0)
                    arguments = (recipe, recordings, index, directory)
                    running[index] = context.Process(target=_make_shard, args=arguments)
                    running[index].start()
                multiprocessing.connection.wait([x.sentinel for x in running.values()])
                for index in [i for i, process in running.items() if not process.is_alive()]:
                    code = running.pop(index).exitcode
                    if code:
                        raise OSError(
                            f"{directory}: the process for shard {index} ended with {code}: see its"
                            " message above, and run the same command again to go on"
                        )
                    bar.update(size[index])
    finally:
        for process in running.values():
            process.terminate()


def load_cache(directory: Path) -> Examples:
    """All examples of a cache, in order."""
    return load_shards(sorted(directory.glob("*.npz")))


def load_shards(files: Sequence[Path]) -> Examples:
    """The examples of shards, in order."""
    examples = Examples([], [])
    for path in files:
        with np.load(path) as shard:
            examples.features.extend(np.split(shard["features"], np.cumsum(shard["lengths"])[:-1]))
            examples.texts.extend(shard["texts"].tolist())
            if "phones" in shard.files:
                examples.phones.extend(shard["phones"].tolist())
    return examples


class Pool:
    """Training examples without end, a window of shards at a time.

    Pass `e` reads the last `window` of the first `first + e * renewed` shards; meanwhile a process
    makes those of the next pass.  A shard depends on its number and the recipe only, so
    passes are the same again for the same recipe.
    """

    def __init__(
        self,
        root: Path,
        recipe: Recipe,
        recordings: list[Path | None],
        *,
        first: int,
        window: int,
        renewed: int,
        processes: int,
    ):
        self.directory = root / f"train-{recipe.key()}"
        self.recipe, self.recordings, self.processes = recipe, recordings, processes
        self.first, self.window, self.renewed = first, window, renewed
        self.maker: threading.Thread | None = None

    def shards(self, epoch: int) -> range:
        end = self.first + epoch * self.renewed
        return range(max(0, end - self.window), end)

    def at(self, epoch: int) -> Examples:
        """The examples of a pass; waits until they are made."""
        if self.maker is not None:
            self.maker.join()
        shards = self.shards(epoch)
        self._make(shards, self.processes)
        for index in range(shards.start):
            shard_file(self.directory, index).unlink(missing_ok=True)
        self.maker = threading.Thread(target=self._make_ahead, args=(epoch + 1,), daemon=True)
        self.maker.start()
        return load_shards([shard_file(self.directory, i) for i in shards])

    def _make(self, shards: Sequence[int], processes: int) -> None:
        make_shards(self.directory, "train", self.recipe, self.recordings, shards, processes)

    def _make_ahead(self, epoch: int) -> None:
        with contextlib.suppress(OSError):  # said when the pass comes and they are still missing
            self._make(self.shards(epoch), 1)


def recipes(config: ml_collections.ConfigDict) -> dict[str, Recipe]:
    """The recipes "train" and "dev" of a preset.

    `config.corpus` holds `sources` (see `Recipe`), `train_examples`, `dev_examples`, and may hold
    `dev_sources` (by default the same sources, from another seed) and `augmentation` (fields of
    `Augmentation` that differ from the defaults; None for none). `config.features` is one of
    `features.FRONTENDS`, by default what a device's wheel computes. A text's limit is
    `config.limits.tokens`, or `letters`, where tokens are longer.
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


def prepare_caches(
    config: ml_collections.ConfigDict, root: Path, tokenizer: Tokenizer | None = None
) -> tuple[list[Examples | Records | Pool], Examples | Records]:
    """Training and dev examples of a preset, made by `config.corpus.processes`, 2 by default.

    A preset with `config.corpus.records` and `dev_records` reads those directories instead.
    """
    if "records" in config.corpus:
        return [read_records(config, config.corpus.records)], read_records(
            config, config.corpus.dev_records
        )
    processes = config.corpus.get("processes", 2)
    if "pool" in config.corpus:
        chosen = recipes(config)
        recordings = decode_sources(chosen["train"], root, tokenizer)
        pool = Pool(
            root, chosen["train"], recordings, processes=processes, **config.corpus.pool.to_dict()
        )
        return [pool], load_cache(build_cache(root, "dev", chosen["dev"], processes, tokenizer))
    parts = {
        name: load_cache(build_cache(root, name, recipe, processes, tokenizer))
        for name, recipe in recipes(config).items()
    }
    return [parts["train"]], parts["dev"]


def read_records(config: ml_collections.ConfigDict, directories: Sequence[str]) -> Records:
    """Those that are within the preset's limits."""
    limits = config.limits
    found = Records(
        [Path(directory) for directory in directories],
        config.get("features", "wheel"),
        limits.frames,
        limits.get("letters", limits.tokens),
    )
    if found.left_out:
        print(
            f"{found.left_out} of {found.left_out + len(found)} utterances are too long: left out"
        )
    return found


def corpus_texts(config: ml_collections.ConfigDict, root: Path) -> list[str]:
    """All texts of a preset's training sources; recordings are decoded into `root` on the way."""
    if "records" in config.corpus:
        return read_records(config, config.corpus.records).texts
    recipe = recipes(config)["train"]
    sources = build_sources(recipe, decode_sources(recipe, root, None))
    return [text for source in sources for text in source.texts]


def batches(
    caches: Sequence[Examples | Records],
    tokenizer: Tokenizer,
    *,
    batch_frames: int,
    seed: int,
    epoch: int,
    training: bool,
    spec_augment: bool,
    warp: FrontendParameters | None = None,
    part: tuple[int, int] = (0, 1),
) -> "tf.data.Dataset":
    """Batches of utterances of about one length, the same for the same seed and epoch.

    Each batch depends on its number alone, so `.skip(n)` resumes an epoch where it was left.

    features float32 [B, T, channels] (T a multiple of 32, padded with 0.0, silence), frames int32
    [B], tokens int32 [B, U] (padded with `</s>`), token_lengths int32 [B]; B * T is about
    `batch_frames`.

    `warp`: each utterance is warped as `augment.warp` says, in training; the frontend it is from.

    `part` (k, n) is every n-th utterance of each batch, from the k-th on, padded as the whole batch
    is; batches of fewer than n, which end an epoch, are left out.
    """
    import tensorflow as tf

    places = [(cache, i) for cache in caches for i in range(len(cache.texts))]
    lengths = [length for cache in caches for length in cache.lengths]
    channels = caches[0].features[0].shape[1]
    tokens = [tokenizer.encode(text) for cache in caches for text in cache.texts]
    pronounced = [phones.ids(x.split()) for cache in caches for x in getattr(cache, "phones", [])]
    first, parts = part
    plan = plan_batches(lengths, batch_frames, seed, epoch, training)

    def generate() -> Iterator[dict[str, np.ndarray]]:
        for number, (indices, length) in enumerate(plan):
            if len(indices) < parts:
                continue
            longest = max(len(tokens[i]) for i in indices)
            mine = indices[first::parts]
            examples = [(places[i][0].features[places[i][1]], tokens[i]) for i in mine]
            batch = padded(examples, length, longest, tokenizer.end)
            if pronounced:
                batch |= padded_phones([pronounced[i] for i in mine])
            for row, features in enumerate(batch["features"] if training else ()):
                frames = int(batch["frames"][row])
                rng = np.random.default_rng([seed, epoch, number, first + row * parts])
                if spec_augment:
                    augment.spec_augment(features, frames, rng)
                if warp is not None:
                    features[:frames] = augment.warp(features[:frames], warp, rng)
            yield batch

    signature = {
        "features": tf.TensorSpec([None, None, channels], tf.float32),
        "frames": tf.TensorSpec([None], tf.int32),
        "tokens": tf.TensorSpec([None, None], tf.int32),
        "token_lengths": tf.TensorSpec([None], tf.int32),
    }
    if pronounced:
        signature["phones"] = tf.TensorSpec([None, None], tf.int32)
        signature["phone_lengths"] = tf.TensorSpec([None], tf.int32)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.prefetch(4)


def padded(
    examples: list[tuple[np.ndarray, list[int]]], frames: int, tokens: int, end: int
) -> dict[str, np.ndarray]:
    """A batch (see `batches`) of int8 features [T, channels] and token ids, all padded alike."""
    batch = {
        "features": np.zeros([len(examples), frames, examples[0][0].shape[1]], np.float32),
        "frames": np.array([len(features) for features, _ in examples], np.int32),
        "tokens": np.full([len(examples), tokens], end, np.int32),
        "token_lengths": np.array([len(ids) for _, ids in examples], np.int32),
    }
    for row, (features, ids) in enumerate(examples):
        batch["features"][row, : len(features)] = as_float(features)
        batch["tokens"][row, : len(ids)] = ids
    return batch


def padded_phones(ids: list[list[int]]) -> dict[str, np.ndarray]:
    """`phones` int32 [B, P], padded with 0, and `phone_lengths` int32 [B]."""
    lengths = np.array([len(x) for x in ids], np.int32)
    padded_ids = np.zeros([len(ids), max(1, lengths.max())], np.int32)
    for row, x in enumerate(ids):
        padded_ids[row, : len(x)] = x
    return {"phones": padded_ids, "phone_lengths": lengths}


def plan_batches(
    lengths: list[int], batch_frames: int, seed: int, epoch: int, shuffle: bool
) -> list[tuple[np.ndarray, int]]:
    """Which examples form each batch, and its padded length."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    buckets: dict[int, list[int]] = {}
    plan = []
    for i in order:
        length = -(-lengths[i] // BUCKET_FRAMES) * BUCKET_FRAMES
        bucket = buckets.setdefault(length, [])
        bucket.append(int(i))
        if len(bucket) * length >= batch_frames:
            plan.append((np.array(bucket), length))
            buckets[length] = []
    plan += [(np.array(bucket), length) for length, bucket in buckets.items() if bucket]
    if shuffle:
        plan = [plan[i] for i in rng.permutation(len(plan))]
    return plan
