"""Makes a language model for a run, which the search on a device uses.

    python -m tf_speech_transformer.language --workdir=runs/speech [--texts=sentences.txt,...]

It learns from the transcripts that the run was trained on, and from --texts: files of sentences,
one a line, in the letters of the run's tokenizer. There are two models of n-grams of tokens: one of
the transcripts of the dev set's corpus, one of all texts. They are mixed with the weights that fit
the dev set's transcripts best, then pruned to --entries n-grams: see `text/ngrams.py`.

The workdir gets `language.npz`, as `firmware_sim/search/language.py` reads it, and `language.json`:
`weight` for the search and `entropy`, nats a token of the dev set. `tflite_convert.convert` puts
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

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import corpus, dataset
from tf_speech_transformer.text import ngrams
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import runs

FILE = "language.npz"  # of a workdir
DESCRIPTION = "language.json"
MOST_BAD = 0.1  # share of the lines of a file of texts that may have other letters


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
    config = runs.read_config(workdir)
    tokenizer = runs.tokenizer_class(config).load(workdir / "tokenizer")
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
    seen = ngrams.longest(held_out, tokenizer, order)
    texts_of = [own, own + others]
    progress = tqdm(texts_of, "language", unit="model", disable=None)
    models = [ngrams.absolute_discounting(x, tokenizer, order) for x in progress]
    weights, whole = ngrams.mixture(models, seen)
    mixed = ngrams.mix(models, weights)
    pruned = ngrams.prune(mixed, entries)
    _, entropy = ngrams.mixture([pruned], seen)
    arrays = ngrams.pack(pruned)
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
    tool.run(main)


if __name__ == "__main__":
    run()
