"""Examples of a recipe on disk.

A cache is a directory of shards (`00000.npz`: int8 features of many examples, their lengths, texts
and phones). Shards are made in parallel. A killed run leaves whole shards, and the next one makes
the missing ones. A shard depends only on the recipe and its number.
"""

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import sys
import threading
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tf_speech_transformer.corpora.augment import Places, read_pieces
from tf_speech_transformer.corpora.features import microfrontend
from tf_speech_transformer.corpora.processes import end_with_parent
from tf_speech_transformer.corpora.recipes import Recipe, build_sources, decode_sources
from tf_speech_transformer.corpora.recording import Spoken, record
from tf_speech_transformer.text.tokenizer import Tokenizer

RETRIES = 50
BABBLERS = 40  # utterances that may be heard in the background
CROWD = 5  # of them at once


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features int8 [frames, channels] and text of each example."""

    features: list[np.ndarray]
    texts: list[str]
    phones: list[str] = dataclasses.field(default_factory=list)  # of `Spoken`; may be none

    @property
    def lengths(self) -> list[int]:
        """Frames of each."""
        return [len(x) for x in self.features]

    def up_to(self, frames: int) -> "Examples":
        """Those that are no longer than this."""
        kept = [i for i, length in enumerate(self.lengths) if length <= frames]
        return Examples(
            [self.features[i] for i in kept],
            [self.texts[i] for i in kept],
            [self.phones[i] for i in kept] if self.phones else [],
        )


class Maker:
    """Makes examples of a recipe.

    Args:
        recordings: what `recipes.decode_source` returned for each of the recipe's sources.
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

    def draw(self, rng: np.random.Generator) -> Spoken:
        return self.sources[rng.choice(len(self.sources), p=self.weights)].draw(rng)

    def example(self, index: int) -> tuple[np.ndarray, str, str]:
        """Features int8 [frames, channels], text and phones."""
        rng = np.random.default_rng([self.recipe.seed, index])
        for _ in range(RETRIES):
            spoken = self.draw(rng)
            # One background voice is intelligible, so its words would need a transcript.
            babble = self.babble if spoken.text or spoken.phones else self.crowd
            audio = record(spoken, self.recipe.augmentation, rng, babble, self.places)
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


def _make_shard(recipe: Recipe, recordings: list[Path | None], index: int, directory: Path) -> None:
    end_with_parent()
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
        with tqdm(
            total=total, initial=done, desc=f"{name} corpus", unit="utt", disable=None
        ) as bar:
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
    features, texts, phones = list[np.ndarray](), list[str](), list[str]()
    for path in files:
        with np.load(path) as shard:
            features += np.split(shard["features"], np.cumsum(shard["lengths"])[:-1])
            texts += shard["texts"].tolist()
            silent = [""] * len(shard["lengths"])
            phones += shard["phones"].tolist() if "phones" in shard.files else silent
    return Examples(features, texts, phones if any(phones) else [])


class Pool:
    """Training examples without end, a window of shards at a time.

    Pass `e` reads the last `window` of the first `first + e * renewed` shards; meanwhile a process
    makes those of the next pass.  A shard depends on its number and the recipe only, so
    passes are the same again for the same recipe.

    Args:
        frames: of the longest example of the first pass, and how many more each further pass may
            have. CTC learns short utterances first; by long ones it stays at blanks for long.
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
        frames: tuple[int, int] = (10**6, 0),
    ):
        self.directory = root / f"train-{recipe.key()}"
        self.recipe, self.recordings, self.processes = recipe, recordings, processes
        self.first, self.window, self.renewed = first, window, renewed
        self.frames = frames
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
        examples = load_shards([shard_file(self.directory, i) for i in shards])
        return examples.up_to(self.frames[0] + epoch * self.frames[1])

    def _make(self, shards: Sequence[int], processes: int) -> None:
        make_shards(self.directory, "train", self.recipe, self.recordings, shards, processes)

    def _make_ahead(self, epoch: int) -> None:
        with contextlib.suppress(OSError):  # said when the pass comes and they are still missing
            self._make(self.shards(epoch), 1)
