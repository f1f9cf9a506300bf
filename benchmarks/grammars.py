"""The compiler of grammars in C against Python's: random grammars, one in eight of them faulty.

    python -m benchmarks.grammars --count=1000 [--first=0] [--json=FILE]

Grammar n follows from n.  Both compile it, or both refuse it.  The bytes of the block must be
equal.  Limits of size differ a little, so grammars that one of them finds too large are only
counted.  --sanitize compiles with AddressSanitizer and UndefinedBehaviorSanitizer, which need
LD_PRELOAD=$(gcc -print-file-name=libasan.so) and ASAN_OPTIONS=detect_leaks=0.
"""

import collections
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from absl import app, flags
from tqdm import tqdm

from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim.grammar.automaton import GrammarError
from tests.firmware_sim import compiler, core

_WORDS: Final = """
    a the turn on off light lamp set to please kitchen hall two too tomato route data zebra and of
    for x tv hdtv blork wuggle don't o'clock kettle's theatres organised ice cream cats dogs' water
    twenty night can you it ON don\u2019t siobhan qzx
"""
WORDS: Final = _WORDS.split()
NUMBERS: Final = ("TwoDigitInteger", "SingleDigitOrdinal", "Percent", "SingleDigitInteger")
PRONUNCIATIONS: Final = {
    "siobhan": "SH AH V AO N",
    "Route": ["r uw1 t", "R AW T"],
    "cats": "K AE T",
}
DAMAGE: Final = ("", "[", "]", "(", ")", ",", "$", "@", "1", "-", " ", ":", "\u00e9")


class Writer:
    """Writes a random grammar."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.slots = [f"slot{i}" for i in range(self.chance.randint(0, 3))]
        self.macros = [f"macro{i}" for i in range(self.chance.randint(0, 2))]

    def grammar(self) -> dict[str, Any]:
        """What a grammar's file holds."""
        chance = self.chance
        context: dict[str, Any] = {"expressions": self.expressions()}
        slots = {x: self.phrases(self.slots[:i], []) for i, x in enumerate(self.slots)}
        macros = {x: self.phrases(self.slots, self.macros[:i]) for i, x in enumerate(self.macros)}
        context |= {kind: x for kind, x in (("slots", slots), ("macros", macros)) if x}
        if chance.random() < 0.2:
            context["pronunciations"] = PRONUNCIATIONS
        if chance.random() < 0.125:
            lists = context[chance.choice([x for x in context if x != "pronunciations"])]
            texts = lists[chance.choice(list(lists))]
            number = chance.randrange(len(texts))
            texts[number] = self.damaged(texts[number])
        return {"context": context}

    def expressions(self) -> dict[str, list[str]]:
        """Intents that begin or end with other words, most of them."""
        chance, made = self.chance, {}
        for number in range(chance.randint(1, 3)):
            end = f" end {WORDS[number]}" if chance.random() < 0.8 else ""
            made[f"intent{number}"] = [
                f"{chance.choice(WORDS)} {self.phrase(self.slots, self.macros)}{end}"
                for _ in range(chance.randint(1, 3))
            ]
        if len(made) > 1 and chance.random() < 0.1:
            made["intent1"].append(chance.choice(made["intent0"]))
        return made

    def phrases(self, slots: Sequence[str], macros: Sequence[str]) -> list[str]:
        """Values of a slot, or a macro."""
        return [self.phrase(slots, macros) for _ in range(self.chance.randint(1, 2))]

    def phrase(self, slots: Sequence[str], macros: Sequence[str], depth: int = 0) -> str:
        """A phrase that may use these slots and macros."""
        chance, parts = self.chance, []
        for _ in range(chance.randint(1, 2 if depth else 4)):
            kind = chance.random()
            if kind < 0.3 and depth < 3:
                inner = (self.phrase(slots, macros, depth + 1) for _ in range(chance.randint(1, 3)))
                parts.append(("[{}]" if kind < 0.17 else "({})").format(", ".join(inner)))
            elif slots and kind < 0.45:
                label = chance.choice(["", "", ":x", ":y", ":room"])
                parts.append(f"${chance.choice(slots)}{label}")
            elif macros and kind < 0.48:
                parts.append(f"@{chance.choice(macros)}")
            elif kind > 0.985:
                parts.append(f"$pv.{chance.choice(NUMBERS)}{chance.choice(['', ':n'])}")
            else:
                parts.append(chance.choice(WORDS))
        return " ".join(parts)

    def damaged(self, text: str) -> str:
        """A text with some characters more or less."""
        for _ in range(self.chance.randint(1, 3)):
            place = self.chance.randrange(len(text) + 1)
            dropped = self.chance.randint(0, 2)
            text = text[:place] + self.chance.choice(DAMAGE) + text[place + dropped :]
        return text


def compare(made: compiler.Compiler, numbers: Sequence[int], directory: Path) -> dict[str, Any]:
    """Counts of what became of grammars, and the numbers of those that differ."""
    counts: collections.Counter[str] = collections.Counter()
    different: list[int] = []
    seconds = {"python": 0.0, "c": 0.0}
    for number in tqdm(numbers, "grammars", disable=None):
        content = Writer(number).grammar()
        begin, expected, too_large = time.process_time(), None, False
        try:
            expected = made.python(content, directory)
        except GrammarError as error:
            too_large = "use fewer" in str(error)
        middle = time.process_time()
        found = made.compile(json.dumps(content), 1 << 24)
        seconds["python"] += middle - begin
        seconds["c"] += time.process_time() - middle
        if too_large or found.fault == "size" or found.status == compiler.MEMORY:
            counts["too large"] += 1
            continue
        counts["compiled" if found.block else f"refused: {found.fault}"] += 1
        if found.block != expected:
            different.append(number)
    return {"counts": dict(counts), "different": different, "seconds": seconds}


def main(argv: Sequence[str]) -> int:
    del argv
    arguments: Any = flags.FLAGS
    numbers = range(arguments.first, arguments.first + arguments.count)
    options = core.SANITIZERS if arguments.sanitize else []
    with tempfile.TemporaryDirectory() as name:
        library = compiler.build(Path(name), options)
        bundle = compiler.general(bundles.load("digits"))
        figures = compare(compiler.Compiler(library, bundle), numbers, Path(name))
    machine = report.machine()
    report.write_json(arguments.json, {"machine": machine, **figures})
    print(report.heading("The compiler of grammars in C against Python's", machine))
    rows: list[list[Any]] = [["grammars", arguments.count], *map(list, figures["counts"].items())]
    rows += [["different", len(figures["different"])]]
    rows += [
        [f"ms each, {x}", f"{1000 * y / len(numbers):.1f}"] for x, y in figures["seconds"].items()
    ]
    print(report.table(["", ""], sorted(rows, key=lambda row: str(row[0]))))
    print(*figures["different"][:20])
    return int(bool(figures["different"]))


def run() -> None:
    flags.DEFINE_integer("count", 1000, "Grammars.", 1)
    flags.DEFINE_integer("first", 0, "Number of the first one.", 0)
    flags.DEFINE_bool("sanitize", False, "Compile the compiler with sanitizers.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
