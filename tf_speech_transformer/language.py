"""Makes a language model for a run: what its texts look like, for the search on a device.

    python -m tf_speech_transformer.language --workdir=runs/speech [--texts=sentences.txt,...]

It learns from the transcripts that the run was trained on, and from --texts: files of sentences,
one a line, in the letters of the run's tokenizer.  Two models of n-grams of tokens, with absolute
discounts (Ney et al. 1994; one each for counts of one, two, and more), one of the transcripts of
the corpus that the dev set comes from and one of all texts, are mixed as the dev set's transcripts
want it, and pruned to --entries n-grams, those that say most (Seymore and Rosenfeld 1996).

The workdir gets `language.npz`, as `firmware_sim/search/language.py` reads it, and `language.json`:
`weight` for the search and `entropy`, nats a token of the dev set.  `tflite_convert.convert` puts
both into bundles.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from tf_speech_transformer import train
from tf_speech_transformer.corpora import corpus, dataset
from tf_speech_transformer.text.tokenizer import Tokenizer

FILE = "language.npz"  # of a workdir
DESCRIPTION = "language.json"
MOST_BAD = 0.1  # share of the lines of a file of texts that may have other letters
COST_STEPS = 16  # of a cost, a nat, as `firmware_sim/search/language.py` reads it
ROUNDS = 20  # of expectation and maximisation


class NGrams:
    """A back-off model: on level n, the n-grams of n + 1 tokens, which it knows by their keys.

    The key of an n-gram is the number whose digits its tokens are, in base V.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.keys: list[np.ndarray] = []  # int64 [N], in order
        self.probabilities: list[np.ndarray] = []  # float64 [N], of the last token
        self.shares: list[np.ndarray] = []  # float64 [N], of all n-grams of the level in the texts
        self.contexts: list[np.ndarray] = []  # int64, in order: n-grams of n tokens before others
        self.backoffs: list[np.ndarray] = []  # float64: what is left after each for shorter ones

    def probability(self, level: int, keys: np.ndarray) -> np.ndarray:
        """Of the last tokens of n-grams of level + 1 tokens, float64 [N], known or not."""
        if level < 0:
            return np.full(len(keys), 1 / self.vocabulary)
        places, known = find(self.keys[level], keys)
        result = np.empty(len(keys))
        result[known] = self.probabilities[level][places[known]]
        if not known.all():
            unknown = keys[~known]
            result[~known] = self.backoff(level, unknown // self.vocabulary) * self.probability(
                level - 1, unknown % self.vocabulary**level
            )
        return result

    def backoff(self, level: int, contexts: np.ndarray) -> np.ndarray:
        """Float64 [N]: 1 after what has nothing on the level."""
        return look_up(self.contexts[level], self.backoffs[level], contexts, 1.0)

    @property
    def order(self) -> int:
        return len(self.keys)


def find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where numbers are among sorted ones, and whether they are there."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return places, known[places] == wanted


def look_up(
    known: np.ndarray, values: np.ndarray, wanted: np.ndarray, otherwise: float
) -> np.ndarray:
    """The values of numbers among sorted ones: float64 [N]."""
    result = np.full(len(wanted), otherwise)
    places, there = find(known, wanted)
    result[there] = values[places[there]]
    return result


def windows(texts: Sequence[Sequence[int]], tokenizer: Tokenizer, order: int) -> list[np.ndarray]:
    """The keys of all n-grams in texts, with their starts and ends: int64 [N] for each level."""
    tokens = np.concatenate([[tokenizer.start, *text, tokenizer.end] for text in texts])
    lengths = np.array([len(text) + 2 for text in texts])
    places = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found, key = [], tokens.astype(np.int64)
    for level in range(order):
        if level:
            key = key.copy()
            key[level:] += tokens[:-level] * tokenizer.size**level
        found.append(key[places >= max(1, level)])
    return found


def longest(texts: Sequence[Sequence[int]], tokenizer: Tokenizer, order: int) -> list[np.ndarray]:
    """The key of the longest n-gram that ends in each token of texts and in their ends: int64 [N]
    for each level from 1 on."""
    _, *keys = windows(texts, tokenizer, order)
    # An n-gram is not longer where it begins with the start.
    first = [x // tokenizer.size**level for level, x in enumerate(keys, 1)]
    return [
        x if level == order - 1 else x[token == tokenizer.start]
        for level, (x, token) in enumerate(zip(keys, first, strict=True), 1)
    ]


def absolute_discounting(
    texts: Sequence[Sequence[int]], tokenizer: Tokenizer, order: int
) -> NGrams:
    """The model of texts, lists of tokens."""
    model, size = NGrams(tokenizer.size), tokenizer.size
    for level, occurring in enumerate(windows(texts, tokenizer, order)):
        keys, counts = np.unique(occurring, return_counts=True)
        contexts, number = np.unique(keys // size, return_inverse=True)
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(number, counts)
        backoffs = np.bincount(number, discounts) / totals
        shorter = model.probability(level - 1, keys % size**level)
        model.keys.append(keys)
        model.probabilities.append(
            (counts - discounts) / totals[number] + backoffs[number] * shorter
        )
        model.shares.append(counts / len(occurring))
        model.contexts.append(contexts)
        model.backoffs.append(backoffs)
    return model


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2, and 3 or more; bounded, where few counts say little."""
    once, twice, thrice, four = (np.count_nonzero(counts == n) + 1e-9 for n in (1, 2, 3, 4))
    share = once / (once + 2 * twice)
    found = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice]
    found.append(3 - 4 * share * four / thrice)
    return np.array([0.0, *(np.clip(x, 0.1, n) for n, x in enumerate(found, 1))])


def mixture(models: Sequence[NGrams], seen: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The weights with which models say best what is in texts, and the nats a token that it takes.

    `seen`: of the texts, by `longest`.
    """
    chances = np.array(
        [
            np.concatenate([model.probability(level, x) for level, x in enumerate(seen, 1)])
            for model in models
        ]
    )
    weights = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        parts = weights[:, None] * chances
        weights = (parts / parts.sum(0)).mean(1)
    return weights, float(-np.log(weights @ chances).mean())


def mix(models: Sequence[NGrams], weights: np.ndarray) -> NGrams:
    """One model with the n-grams of all, each as likely as the models together say."""
    mixed = NGrams(models[0].vocabulary)
    for level in range(models[0].order):
        keys = np.unique(np.concatenate([model.keys[level] for model in models]))
        chances, shares = [], []
        for model in models:
            chances.append(model.probability(level, keys))
            shares.append(look_up(model.keys[level], model.shares[level], keys, 0.0))
        mixed.keys.append(keys)
        mixed.probabilities.append(weights @ np.array(chances))
        mixed.shares.append(weights @ np.array(shares))
    _leave_rest(mixed)
    return mixed


def _leave_rest(model: NGrams) -> None:
    """Sets the back-offs so that all tokens together have a probability of 1 after any context."""
    size = model.vocabulary
    for level, (keys, chances) in enumerate(zip(model.keys, model.probabilities, strict=True)):
        contexts, number = np.unique(keys // size, return_inverse=True)
        shorter = model.probability(level - 1, keys % size**level)
        rest = 1 - np.bincount(number, chances)
        without = 1 - np.bincount(number, shorter)
        model.contexts.append(contexts)
        # Where everything was seen, nothing is left for what was not.
        model.backoffs.append(np.maximum(rest, 1e-6) / np.maximum(without, 1e-6))


def prune(model: NGrams, entries: int) -> NGrams:
    """The model with as many n-grams at most, besides single tokens: those without which it would
    say other things of the texts that it was made of."""
    size = model.vocabulary
    worth: list[np.ndarray] = [np.full(len(model.keys[0]), np.inf)]
    for level in range(1, model.order):
        keys = model.keys[level]
        without = model.backoff(level, keys // size) * model.probability(
            level - 1, keys % size**level
        )
        change = np.abs(np.log(model.probabilities[level] / without))
        worth.append(model.shares[level] * change)
    for level in reversed(range(1, model.order)):  # an n-gram is kept for those that begin with it
        places, known = find(model.keys[level - 1], model.keys[level] // size)
        np.maximum.at(worth[level - 1], places[known], worth[level][known])
    descending = np.sort(np.concatenate(worth[1:]))[::-1]
    least = descending[entries] if entries < len(descending) else -1.0
    pruned = NGrams(size)
    for level, values in enumerate(worth):
        kept = values > least
        pruned.keys.append(model.keys[level][kept])
        pruned.probabilities.append(model.probabilities[level][kept])
    _leave_rest(pruned)
    return pruned


def pack(model: NGrams) -> dict[str, np.ndarray]:
    """The arrays of `language.npz`."""
    size = model.vocabulary
    token_type = np.min_scalar_type(size)
    parents = np.arange(size)
    arrays: dict[str, np.ndarray] = {"cost_0": costs(model.probability(0, parents))}
    for level, keys in enumerate(model.keys[1:], 1):
        if not len(keys):  # nor on the levels after it
            break
        children = np.bincount(np.searchsorted(parents, keys // size), minlength=len(parents))
        after = model.backoff(level, parents)
        steps = np.clip(np.rint(-np.log(after) * COST_STEPS), -128, 127)
        arrays[f"backoff_{level - 1}"] = steps.astype(np.int8)
        arrays[f"children_{level - 1}"] = children.astype(np.min_scalar_type(children.max()))
        arrays[f"token_{level}"] = (keys % size).astype(token_type)
        arrays[f"cost_{level}"] = costs(model.probabilities[level])
        parents = keys
    return arrays


def costs(probabilities: np.ndarray) -> np.ndarray:
    """Uint8, see `firmware_sim.search.language`."""
    steps = np.rint(-np.log(probabilities) * COST_STEPS)
    return np.clip(steps, 0, 255).astype(np.uint8)


def read_texts(file: Path, tokenizer: Tokenizer) -> list[list[int]]:
    """The sentences of a file, as tokens; few lines with other letters are left out.

    Raises CorpusError for too many of them, and for a file without sentences.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise corpus.CorpusError(
            f"{file} is not text in UTF-8: save it as such ({error})"
        ) from error
    found, bad = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(tokenizer.encode(line))
        except ValueError as error:
            bad.append(f"line {number}: {error}")
    if len(bad) > MOST_BAD * (len(bad) + len(found)) or not found:
        first = f"; {len(bad)} lines have others, first {bad[0]}" if bad else ""
        raise corpus.CorpusError(
            f"{file}: a sentence a line is wanted, in the tokenizer's letters{first}"
        )
    if bad:
        print(f"{file}: {len(bad)} lines are left out, first {bad[0]}")
    return found


def transcripts(sources: Sequence[Any], tokenizer: Tokenizer) -> list[list[int]]:
    """The texts of the recordings among the sources of a preset."""
    found = []
    for source in sources:
        if source["kind"] == "recorded":
            utterances = corpus.read_manifest(Path(source["manifest"]))
        elif source["kind"] == "librispeech":
            utterances = corpus.read_librispeech(Path(source["path"]))
        else:
            continue
        speakers = [u.speaker or corpus.UNKNOWN for u in utterances]
        chosen = set(corpus.part_of(speakers, source.get("part", "all")))
        spoken = zip(speakers, utterances, strict=True)
        found += [tokenizer.encode(u.text) for speaker, u in spoken if speaker in chosen]
    return found


def place(source: Any) -> str | None:
    """Where the recordings of a source are; None if it has none."""
    return source.get("manifest") or source.get("path")


def make(
    workdir: Path, texts: Sequence[Path], order: int, entries: int, weight: float
) -> dict[str, Any]:
    """Writes a run's language model; returns what `language.json` holds and how large it is."""
    config = train.read_config(workdir)
    tokenizer = train.tokenizer_class(config).load(workdir / "tokenizer")
    others: list[list[int]] = []
    if "records" in config.corpus:
        own, held_out = (
            [tokenizer.encode(text) for text in dataset.read_records(config, directories).texts]
            for directories in (config.corpus.records, config.corpus.dev_records)
        )
    else:
        sources = config.corpus.sources
        heard = {place(source) for source in config.corpus.dev_sources} - {None}
        own = transcripts([x for x in sources if place(x) in heard], tokenizer)
        others = transcripts([x for x in sources if place(x) not in heard], tokenizer)
        held_out = transcripts(config.corpus.dev_sources, tokenizer)
    if not own or not held_out:
        raise corpus.CorpusError(
            f"{workdir}: its preset has no recordings with a dev set of their own speakers, whose "
            "texts a language model is made for"
        )
    for file in texts:
        others += read_texts(file, tokenizer)
    order = min(order, int(63 / math.log2(tokenizer.size)))
    seen = longest(held_out, tokenizer, order)
    texts_of = [own, own + others]
    progress = tqdm(texts_of, "language", unit="model")
    models = [absolute_discounting(x, tokenizer, order) for x in progress]
    weights, whole = mixture(models, seen)
    mixed = mix(models, weights)
    pruned = prune(mixed, entries)
    _, entropy = mixture([pruned], seen)
    arrays = pack(pruned)
    description = {"weight": weight, "entropy": round(entropy, 4)}
    temporary = workdir / f"{FILE}.tmp"
    try:
        with temporary.open("wb") as out:
            np.savez_compressed(out, **arrays)
        (workdir / DESCRIPTION).write_text(json.dumps(description) + "\n")
        temporary.replace(workdir / FILE)
    finally:
        temporary.unlink(missing_ok=True)
    words = sum(len(tokenizer.decode(text).split()) + 1 for text in held_out)
    tokens = sum(len(text) + 1 for text in held_out)
    return {
        **description,
        "texts": len(own) + len(others),
        "share of the dev set's corpus": round(float(weights[0]), 3),
        "perplexity of words": round(float(np.exp(entropy * tokens / words)), 1),
        "perplexity before pruning": round(float(np.exp(whole * tokens / words)), 1),
        "entries": sum(len(keys) for keys in pruned.keys),
        "bytes": (workdir / FILE).stat().st_size,
    }


def read(workdir: Path) -> tuple[bytes, dict[str, float]] | None:
    """The language model of a run and its `language.json`; None if it has none."""
    file = workdir / FILE
    if not file.exists():
        return None
    return file.read_bytes(), json.loads((workdir / DESCRIPTION).read_text())


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: files of texts are named by --texts")
    arguments: Any = flags.FLAGS
    try:
        made = make(
            Path(arguments.workdir),
            [Path(name) for name in arguments.texts],
            arguments.order,
            arguments.entries,
            arguments.weight,
        )
    except (OSError, ValueError) as error:
        sys.exit(f"language: {error}")
    for name, value in made.items():
        print(f"{name}: {value}")


def run() -> None:
    flags.DEFINE_string("workdir", None, "Directory of the training run.", required=True)
    flags.DEFINE_list("texts", [], "Files of further sentences, one a line.")
    flags.DEFINE_integer(
        "order", 7, "Tokens of the longest n-grams; fewer in large vocabularies.", lower_bound=2
    )
    flags.DEFINE_integer("entries", 200_000, "N-grams that are kept.", lower_bound=1)
    flags.DEFINE_float("weight", 0.5, "Of the model in a device's search.", lower_bound=0.0)
    app.run(main)


if __name__ == "__main__":
    run()
