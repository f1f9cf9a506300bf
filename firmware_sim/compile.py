"""Checks a grammar of spoken commands, and prints random sentences of it.

    python -m firmware_sim.compile --grammar=FILE.yaml [--sample=20] [--seed=1]

Prints the size of the grammar, then a line for each sentence: text, intent, and slots.  The exit
status is 1 if the file cannot be used; the message names its line.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.source import Command, Grammar


def size(grammar: Grammar) -> str:
    """The numbers of a grammar in a line."""
    return (
        f"{grammar.name}: {len(grammar.intents)} intents, {len(grammar.slot_names)} slots, "
        f"{len(grammar.words)} words, {grammar.count():,} commands, "
        f"{len(grammar.word_automaton.arcs)} states"
    )


def line(command: Command) -> str:
    """A sentence and its meaning."""
    slots = ", ".join(f"{name}: {value}" for name, value in command.slots.items())
    return f"{command.text}\t{command.intent}({slots})"


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values: Any = flags.FLAGS
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}; name the file by --grammar.", file=sys.stderr)
        return 1
    try:
        grammar = Grammar.read(pathlib.Path(values.grammar))
        print(size(grammar))
    except GrammarError as error:
        print(error, file=sys.stderr)
        return 1
    rng = np.random.default_rng(values.seed)
    for _ in range(values.sample):
        print(line(grammar.sample(rng)))
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("grammar", None, "YAML file of the grammar.", required=True)
    flags.DEFINE_integer("sample", 10, "Random commands to print.", 0)
    flags.DEFINE_integer("seed", 1, "Seed of the random commands.", 0)
    app.run(main)


if __name__ == "__main__":
    run()
