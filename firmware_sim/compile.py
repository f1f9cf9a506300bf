"""Checks a grammar of spoken commands, and puts it on a general model: no training, no TensorFlow.

    python -m firmware_sim.compile --grammar=FILE.yaml [--sample=20] [--seed=1]
    python -m firmware_sim.compile --grammar=FILE.yaml --bundle=english --out=home.bundle
    python -m firmware_sim.compile --grammar=home-assistant --names=home.yaml

The file is in the form of `grammar/source.py`, or FILE.txt with a phrase in each line, or in Home
Assistant's form, which may be a directory too.  `home-assistant` are that project's own sentences.
`--names` has the names of a home.

Prints the size of the grammar, then a line for each of some random sentences: text, intent, and
slots.  With `--out` it writes a copy of the bundle that understands the grammar.  It names words
whose pronunciation was guessed, words that the model takes for one another, and sentences that are
too long.  `--reject_below` is the confidence below which speech is no command: a higher one takes
less other speech for commands, and misses more of them.  The exit status is 1 if the file cannot be
used; the message names its line.
"""

import json
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from absl import flags

from firmware_sim import bundle as bundles
from firmware_sim.bundle import BundleError
from firmware_sim.command_line import tool
from firmware_sim.grammar import home, pronunciation, templates
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.confusion import confusable
from firmware_sim.grammar.lexicon import LexiconError
from firmware_sim.grammar.pronunciation import PronunciationError, Pronunciations
from firmware_sim.grammar.source import REJECT_BELOW, Command, Grammar
from firmware_sim.sound.frontend import SAMPLE_RATE
from firmware_sim.storage.writing import described, write_whole

SECONDS_A_PHONE: Final = 0.08  # of people who speak calmly
_MOST_PRINTED: Final = 20  # lines of a kind

Findings = list[tuple[str, list[str]]]


def size(grammar: Grammar) -> str:
    """The numbers of a grammar in a line."""
    count = grammar.count()
    commands = f"{count:,}" if count < 10**30 else "10^30 or more"
    return (
        f"{grammar.name}: {len(grammar.intents)} intents, {len(grammar.slot_names)} slots, "
        f"{len(grammar.words)} words, {commands} commands, "
        f"{len(grammar.word_automaton.arcs)} states"
    )


def line(command: Command) -> str:
    """A sentence and its meaning."""
    slots = ", ".join(f"{name}: {value}" for name, value in command.slots.items())
    return f"{command.text}\t{command.intent}({slots})"


def compile_onto(
    grammar: Grammar,
    bundle: bundles.Bundle,
    out: pathlib.Path,
    reject_below: float = REJECT_BELOW,
) -> Findings:
    """Writes a copy of a general bundle that understands the grammar.

    Args:
      reject_below: confidence, 0 to 1, below which speech is no command.

    Returns:
      what may go wrong with it.

    Raises:
      BundleError: the bundle is of a model that knows only its own commands.
      OSError: the copy cannot be written; nothing of it stays.
    """
    pronunciations = bundle.pronunciations()
    compiled = grammar.compile_phones(pronunciations.of, reject_below)
    files = {**bundle.files, "grammar.json": f"{json.dumps(compiled)}\n".encode()}
    manifest = {
        **bundle.manifest,
        "grammar": {"file": "grammar.json"},
        "files": described(files),
    }
    write_whole(out.resolve(), files, manifest)
    return findings(grammar, bundle, pronunciations)


def findings(grammar: Grammar, bundle: bundles.Bundle, pronunciations: Pronunciations) -> Findings:
    """What may go wrong with a grammar on a bundle: of each kind, what it is and the cases."""
    ways = grammar.pronounced(pronunciations.of)
    guessed = [
        f"{word}: {pronunciation.names(pronunciations.of(word)[0])}"
        for word in grammar.spoken
        if word not in grammar.own and pronunciations.is_guessed(word)
    ]
    pairs = [
        f"{one} and {other}: {_how_often(nats)}"
        for nats, one, other in confusable(grammar.word_automaton, ways, bundle.confusions)
    ]
    lengths = {word: max(map(len, each)) for word, each in ways.items()}
    sentence = grammar.word_automaton.longest(lengths)
    seconds = SECONDS_A_PHONE * sum(lengths[word] for word in sentence)
    window = bundle.window / SAMPLE_RATE
    long = f"{' '.join(map(str, sentence))!r:.300}: about {seconds:.0f} s"
    return [
        (
            "words are not in the lexicon; their pronunciations are guesses (write better ones "
            "under `pronunciations:`)",
            guessed,
        ),
        ("pairs of words sound alike, and mean different things", pairs),
        (
            f"sentences take longer than the {window:.1f} s that the model hears at once",
            [long] if seconds > window else [],
        ),
    ]


def _how_often(nats: float) -> str:
    """How often the one is taken for the other."""
    return (
        "said alike" if nats == 0 else f"taken for one another 1 time in {1 + math.exp(nats):.0f}"
    )


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values: Any = flags.FLAGS
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}; name the file by --grammar.", file=sys.stderr)
        return 1
    if bool(values.bundle) != bool(values.out):
        missing = "--out" if values.bundle else "--bundle"
        print(f"{missing} is missing: --bundle and --out belong together.", file=sys.stderr)
        return 1
    try:
        names = home.read(pathlib.Path(values.names)) if values.names else None
        grammar = templates.read(pathlib.Path(values.grammar), names)
        print(size(grammar))
        report("templates are left out: they need names, or free words", grammar.left_out)
        report("sentences have two intents; the first holds", grammar.collisions or ())
        if values.out:
            out = pathlib.Path(values.out)
            bundle = bundles.load(values.bundle)
            for what, cases in compile_onto(grammar, bundle, out, values.reject_below):
                report(what, cases)
            print(f"bundle: {out}")
    except (GrammarError, BundleError, LexiconError, PronunciationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    rng = np.random.default_rng(values.seed)
    for _ in range(values.sample):
        print(line(grammar.sample(rng)))
    return 0


def report(what: str, lines: Sequence[str]) -> None:
    """Says how many of something there are, and which."""
    if lines:
        print(f"{len(lines)} {what}:")
    for each in lines[:_MOST_PRINTED]:
        print(f"  {each}")
    if len(lines) > _MOST_PRINTED:
        print(f"  and {len(lines) - _MOST_PRINTED} more")


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string(
        "grammar", None, "YAML file, .txt of phrases, or home-assistant.", required=True
    )
    flags.DEFINE_string("names", None, "YAML file of a home's names, for Home Assistant's form.")
    flags.DEFINE_string("bundle", None, "General bundle: its name, directory or .zip.")
    flags.DEFINE_string("out", None, "Directory of the new bundle.")
    flags.DEFINE_float(
        "reject_below", REJECT_BELOW, "Confidence below which speech is no command.", 0.0, 1.0
    )
    flags.DEFINE_integer("sample", 10, "Random commands to print.", 0)
    flags.DEFINE_integer("seed", 1, "Seed of the random commands.", 0)
    tool.run(main)


if __name__ == "__main__":
    run()
