"""The C core against Python: events of recordings, and the time of both without the models.

    python -m benchmarks.core --bundle=english --grammar=grammars/home.yaml --recordings=DIR \
        [--count=100] [--json=FILE]

Each recording is a stream of its own, with a second of silence behind it.  Models run once for the
same inputs, so both have the same outputs.  It compiles the core with gcc.
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim.c import third_party
from firmware_sim.c.signature import ExportError
from firmware_sim.recognizer import Recognizer
from firmware_sim.sound import audio
from firmware_sim.sound.frontend import SAMPLE_RATE
from tests.firmware_sim import core

SILENCE = np.zeros(SAMPLE_RATE, np.int16)
CLOSE = 0.001  # confidences


@dataclasses.dataclass
class Counts:
    """What both made of some recordings."""

    recordings: int = 0
    seconds: float = 0.0  # of sound
    different: int = 0  # recordings
    events: int = 0
    commands: int = 0
    rejected: int = 0
    slots: int = 0
    apart: float = 0.0  # largest difference of two confidences
    python_seconds: float = 0.0
    core_seconds: float = 0.0  # with the calls from C into Python

    def add(self, found: list[core.Event], expected: list[core.Event]) -> None:
        """Compares the events of a recording."""
        same = [*map(core.without_confidence, found)] == [*map(core.without_confidence, expected)]
        apart = 0.0
        for x, y in zip(found, expected, strict=False):
            pairs = [(x.confidence, y.confidence)]
            pairs += [(x.slots[k][1], y.slots[k][1]) for k in x.slots.keys() & y.slots]
            apart = max([apart, *(abs((a or 0.0) - (b or 0.0)) for a, b in pairs)])
        self.apart = max(self.apart, apart)
        self.different += not same or apart > CLOSE
        self.events += len(expected)
        self.commands += sum(event.kind == "command" for event in expected)
        self.rejected += sum(event.kind == "rejected" for event in expected)
        self.slots += sum(len(event.slots) for event in expected)


def compare(bundle: bundles.Bundle, files: Sequence[Path], directory: Path) -> Counts:
    """Gives recordings to both; the library lies in `directory`."""
    library = core.build(third_party.fetch(directory), directory)
    invoke = core.remembered(bundle, "litert")
    recognizer = core.Recognizer(library, core.block_of(bundle), core.Models(bundle, invoke))
    python = core.python_recognizer(bundle, invoke)
    counts = Counts()
    for file in tqdm(files, "recordings", disable=None):
        samples = np.concatenate([audio.read(str(file)), SILENCE])
        expected = [core.converted(event) for event in python.listen([samples])]
        counts.add(recognizer.hear(samples, 4096), expected)
        begin = time.process_time()
        list(python.listen([samples]))  # again: the outputs of the models are known now
        middle = time.process_time()
        recognizer.hear(samples, 4096)
        counts.python_seconds += middle - begin
        counts.core_seconds += time.process_time() - middle
        counts.seconds += len(samples) / SAMPLE_RATE
        counts.recordings += 1
    return counts


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    try:
        bundle = bundles.load(arguments.bundle)
        if arguments.grammar:
            bundle = Recognizer(bundle).use(arguments.grammar).bundle
        files = sorted(path for path in Path(arguments.recordings).iterdir() if path.is_file())
        files = files[:: max(1, len(files) // arguments.count)][: arguments.count]
        with tempfile.TemporaryDirectory() as directory:
            counts = compare(bundle, files, Path(directory))
        machine = report.machine()
        report.write_json(arguments.json, {"machine": machine, **dataclasses.asdict(counts)})
    except (OSError, ValueError, ExportError, bundles.BundleError) as error:
        return report.fail(error)
    print(report.heading(f"The C core against Python, {arguments.bundle}", machine))
    rows: list[list[Any]] = [
        ["recordings that differ", f"{counts.different} of {counts.recordings}"],
        ["seconds of sound", f"{counts.seconds:.0f}"],
        ["events, commands, rejected", f"{counts.events}, {counts.commands}, {counts.rejected}"],
        ["slots", counts.slots],
        ["largest difference of confidences", f"{counts.apart:.6f}"],
        ["ms a second of sound, Python", f"{1000 * counts.python_seconds / counts.seconds:.2f}"],
        ["ms a second of sound, C", f"{1000 * counts.core_seconds / counts.seconds:.2f}"],
    ]
    print(report.table(["", ""], rows))
    return int(counts.different > 0)


def run() -> None:
    flags.DEFINE_string("bundle", None, "Name, directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("grammar", None, "YAML file that a general bundle is held to.")
    flags.DEFINE_string("recordings", None, "Directory of sound files.", required=True)
    flags.DEFINE_integer("count", 100, "Recordings, spread over the directory.", 1)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
