"""What attention skips: repeated n-grams, and utterances longer than any in training.

    python -m benchmarks.repeats --bundle=B --spoken_digits=DIR --out=runs/repeats [--json=OUT.json]

Bie et al. (arXiv 1911.03604, section 5) report that a decoder without positions may go on from the
wrong one of two equal n-grams.  Four sets of strings are joined from recordings of people, each
clip another one (`benchmarks.people`): one to three digits said two to six times over, as many
digits that never repeat a pair, and 12 to 20 digits, longer than the window, of either kind.  Each
is decoded without CTC, and with the remedy: CTC at every token of the beam, which goes through the
speech once.  An utterance is skipped if its text is short of words, and doubled if it
has too many; the rest of the errors are words taken for others.
"""

import collections
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import tqdm
from absl import app, flags

from benchmarks import people, report
from benchmarks.manifest import read_manifest
from firmware_sim import bundle
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import audio

SEED = 3003
LONG = (12, 20)  # words
DECODINGS = {
    "greedy, without CTC": DecodingOptions(Decoding.GREEDY, ctc_weight=0.0),
    "beam, without CTC": DecodingOptions(Decoding.BEAM, ctc_weight=0.0),
    "beam, CTC 0.1": DecodingOptions(Decoding.BEAM, ctc_weight=0.1),
    "beam, CTC 0.3": DecodingOptions(Decoding.BEAM, ctc_weight=0.3),
    "beam, CTC 0.5": DecodingOptions(Decoding.BEAM, ctc_weight=0.5),
}


def repeated(rng: np.random.Generator) -> list[str]:
    """One to three words, said twice to six times over."""
    unit = _unit(rng)
    return [people.WORDS[i] for i in unit * int(rng.integers(2, 6 // len(unit) + 1))]


def distinct(rng: np.random.Generator) -> list[str]:
    """As many words as `repeated` has, and no pair of them twice."""
    return _without_pairs(rng, len(repeated(rng)))


def long_repeated(rng: np.random.Generator) -> list[str]:
    """One to three words, over and over."""
    unit = _unit(rng)
    times = int(rng.integers(LONG[0], LONG[1] + 1)) // len(unit)
    return [people.WORDS[i] for i in unit * times]


def long_distinct(rng: np.random.Generator) -> list[str]:
    """As long, and no pair of words twice."""
    return _without_pairs(rng, int(rng.integers(LONG[0], LONG[1] + 1)))


def _unit(rng: np.random.Generator) -> list[int]:
    return list(rng.permutation(10)[: rng.integers(1, 4)])


def _without_pairs(rng: np.random.Generator, count: int) -> list[str]:
    digits = [int(rng.integers(10))]
    pairs: set[tuple[int, int]] = set()
    while len(digits) < count:
        pair = (digits[-1], int(rng.integers(10)))
        if pair not in pairs and pair[0] != pair[1]:
            pairs.add(pair)
            digits.append(pair[1])
    return [people.WORDS[i] for i in digits]


SETS: dict[str, Callable[[np.random.Generator], list[str]]] = {
    "repeated": repeated,
    "distinct": distinct,
    "long_repeated": long_repeated,
    "long_distinct": long_distinct,
}


def measure(recognizer: Recognizer, manifest: Path, title: str) -> dict[str, Any]:
    """WER and the shares of utterances with words skipped and doubled."""
    lines = read_manifest(manifest)
    counts: collections.Counter[str] = collections.Counter()
    texts = []
    for line in tqdm.tqdm(lines, title, unit="utt", file=sys.stderr, disable=None):
        text = recognizer.transcribe(audio.read(line.audio)).text
        texts.append(text)
        difference = len(text.split()) - len(line.text.split())
        counts["skipped"] += difference < 0
        counts["doubled"] += difference > 0
    references = [line.text for line in lines]
    return {
        "utterances": len(lines),
        "wer": jiwer.wer(references, texts),
        "skipped": counts["skipped"] / len(lines),
        "doubled": counts["doubled"] / len(lines),
        "texts": texts,
    }


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    out = Path(arguments.out)
    try:
        loaded = bundle.load(Path(arguments.bundle))
        manifests = {
            name: people.write_joined(
                Path(arguments.spoken_digits), out / name, arguments.count, SEED, draw
            )
            for name, draw in SETS.items()
        }
        figures: dict[str, Any] = {"machine": report.machine(), "bundle": arguments.bundle}
        rows = []
        for title, options in DECODINGS.items():
            recognizer = Recognizer(loaded, "litert", options)
            for name, manifest in manifests.items():
                found = measure(recognizer, manifest, f"{name}, {title}")
                figures[f"{name}, {title}"] = found
                shares = (f"{100 * found[x]:.1f}" for x in ("wer", "skipped", "doubled"))
                rows.append([name, title, found["utterances"], *shares])
        rows.sort(key=lambda row: list(SETS).index(row[0]))
        report.write_json(arguments.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading("Repeated n-grams and long utterances", figures["machine"]))
    header = ["set", "decoding", "utterances", "WER %", "skipped %", "doubled %"]
    print(report.table(header, rows))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("spoken_digits", None, "Directory or tar of the clips.", required=True)
    flags.DEFINE_string("out", None, "Directory of the test sets.", required=True)
    flags.DEFINE_integer("count", 25, "Strings of each speaker in a set.", lower_bound=1)
    flags.DEFINE_string("json", None, "Where the figures go.")
    app.run(main)


if __name__ == "__main__":
    run()
