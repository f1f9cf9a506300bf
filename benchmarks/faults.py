"""Faults: damages inputs on purpose, reads them, and counts what happens.

    python -m benchmarks.faults --kinds=sound --mutants=10000
    python -m benchmarks.faults --kinds=sound --first=4711 --mutants=1 --keep=DIR    one again

Mutant n of a kind follows from --seed and n.  Each is read in a process of its own kind, which ends
when a mutant ends it, and is started again:

    refused     one line says what is wrong
    accepted    it is read
    unequal     two readers accept it, and get different things
    crash       the process ends
    traceback   any other exception, or a message of several lines
    hang        more than --seconds of CPU, or ten times that of waiting
    memory      --megabytes more than before

The last five are faults; the exit status is 1 if there is one.  --keep copies their mutants.
"""

import collections
import contextlib
import enum
import importlib
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import tqdm
from absl import app, flags

from benchmarks import report
from benchmarks.mutants.kind import Kind, Unequal

KINDS: Final = {
    "sound": "benchmarks.mutants.sound:Sound",
    "bundle": "benchmarks.mutants.bundle:Bundle",
    "grammar": "benchmarks.mutants.corpora:Grammar",
    "manifest": "benchmarks.mutants.corpora:Manifest",
    "archive": "benchmarks.mutants.corpora:Archive",
    "records": "benchmarks.mutants.corpora:Records",
}
_SPARE_MB: Final = 3000  # a process gets no more than this beyond what it started with
_WAITING: Final = 10  # times the limit of CPU seconds
_START_SECONDS: Final = 600
_LONGEST_MESSAGE: Final = 1000  # characters


class Outcome(str, enum.Enum):
    """What became of a mutant; see the module."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    UNEQUAL = "unequal"
    CRASH = "crash"
    TRACEBACK = "traceback"
    HANG = "hang"
    MEMORY = "memory"


@dataclass(frozen=True)
class Limits:
    """Of one mutant."""

    seconds: float = 10.0  # of CPU
    megabytes: float = 500.0  # beyond what the process held before


@dataclass(frozen=True)
class Result:
    """What became of mutant `number`."""

    number: int
    outcome: Outcome
    detail: str = ""  # the message, or the end of the traceback
    seconds: float = 0.0  # of CPU
    megabytes: float = 0.0  # most memory beyond what the process held before

    @property
    def is_fault(self) -> bool:
        return self.outcome not in (Outcome.REFUSED, Outcome.ACCEPTED)


@dataclass
class Campaign:
    """Counts of a kind."""

    counts: collections.Counter[Outcome] = field(default_factory=collections.Counter)
    faults: list[Result] = field(default_factory=list)
    slowest: float = 0.0  # CPU seconds
    largest: float = 0.0  # megabytes

    def add(self, result: Result) -> None:
        self.counts[result.outcome] += 1
        self.slowest = max(self.slowest, result.seconds)
        self.largest = max(self.largest, result.megabytes)
        if result.is_fault:
            self.faults.append(result)


def run_kind(
    target: str,
    numbers: Sequence[int],
    seed: int,
    jobs: int = 1,
    limits: Limits | None = None,
    keep: Path | None = None,
) -> Campaign:
    """Reads mutants of one kind in `jobs` processes.

    Args:
      target: "module:class" of a `Kind`.
      numbers: of the mutants.
      keep: a folder for the mutants that are faults.

    Raises:
      RuntimeError: if the kind itself cannot be made.
    """
    campaign = Campaign()
    lock = threading.Lock()
    waiting = iter(
        tqdm.tqdm(numbers, target.rpartition(":")[2], unit="", file=sys.stderr, disable=None)
    )

    def take() -> int | None:
        with lock:
            return next(waiting, None)

    def work() -> None:
        with (
            tempfile.TemporaryDirectory() as name,
            contextlib.closing(_Process(target, seed, Path(name), limits or Limits())) as process,
        ):
            for number in iter(take, None):
                result = process.run(number)
                with lock:
                    campaign.add(result)
                    if keep and result.is_fault:
                        kept = keep / f"{target.rpartition(':')[2].lower()}-{seed}-{number}"
                        shutil.copytree(process.folder, kept, symlinks=True, dirs_exist_ok=True)

    with futures.ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    campaign.faults.sort(key=lambda x: x.number)
    return campaign


class _Process:
    """A process that reads mutants; it starts again after one that ended it."""

    def __init__(self, target: str, seed: int, root: Path, limits: Limits) -> None:
        self.folder = root / "mutant"  # the last mutant
        self._arguments = target, seed, self.folder
        self._limits = limits
        self._process: Any = None

    def run(self, number: int) -> Result:
        if self._process is None:
            self._start()
        begin, cpu = time.monotonic(), self._cpu_seconds()
        self._connection.send(number)
        while not self._connection.poll(min(1.0, self._limits.seconds)):
            used, waited = self._cpu_seconds() - cpu, time.monotonic() - begin
            if used > self._limits.seconds or waited > _WAITING * self._limits.seconds:
                self.close()
                return Result(number, Outcome.HANG, f"{waited:.1f} s", used)
        try:
            result: Result = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            name = signal.Signals(-code).name if code and code < 0 else f"exit status {code}"
            return Result(number, Outcome.CRASH, name)
        if result.megabytes > self._limits.megabytes and not result.is_fault:
            result = Result(number, Outcome.MEMORY, result.detail, result.seconds, result.megabytes)
        if result.outcome is Outcome.MEMORY:
            self.close()
        return result

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(*self._arguments, other), daemon=True)
        self._process.start()
        other.close()
        try:
            problem = "it does not start"
            if self._connection.poll(_START_SECONDS):
                problem = self._connection.recv()
        except EOFError:
            problem = "its process ended"
        if problem:
            self.close()
            raise RuntimeError(f"{self._arguments[0]}: {problem}")

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(target: str, seed: int, folder: Path, connection: Connection) -> None:
    """Reads mutants whose numbers come in, until the other end closes."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        module, _, name = target.partition(":")
        kind: Kind = getattr(importlib.import_module(module), name)()
    except Exception:
        connection.send(traceback.format_exc())
        return
    limit = (_status("VmSize") + _SPARE_MB) * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("")
    with contextlib.suppress(EOFError):
        while True:
            number = connection.recv()
            connection.send(_read(kind, seed, number, folder))


def _read(kind: Kind, seed: int, number: int, folder: Path) -> Result:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = kind.write(np.random.default_rng([seed, number]), folder)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    cpu = time.process_time()
    outcome, detail = Outcome.ACCEPTED, ""
    try:
        kind.use(path)
    except kind.refusals as error:
        detail = str(error)
        one_line = 0 < len(detail) <= _LONGEST_MESSAGE and len(detail.splitlines()) == 1
        outcome = Outcome.REFUSED if one_line else Outcome.TRACEBACK
    except Unequal as error:
        outcome, detail = Outcome.UNEQUAL, str(error)
    except MemoryError:
        outcome = Outcome.MEMORY
    except BaseException:
        outcome, detail = Outcome.TRACEBACK, traceback.format_exc()[-_LONGEST_MESSAGE:]
    seconds = time.process_time() - cpu
    return Result(number, outcome, detail, seconds, max(0.0, _status("VmHWM") - before))


def _status(name: str) -> float:
    """A size of this process in megabytes, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def _shown(faults: Sequence[Result], most: int = 20) -> Iterator[str]:
    for result in itertools.islice(faults, most):
        detail = result.detail.strip().splitlines()
        yield f"  {result.number}: {result.outcome.value}: {detail[-1] if detail else ''}"
    if len(faults) > most:
        yield f"  and {len(faults) - most} more"


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    machine = report.machine()
    limits = Limits(arguments.seconds, arguments.megabytes)
    numbers = range(arguments.first, arguments.first + arguments.mutants)
    figures: dict[str, Any] = {"machine": machine, "seed": arguments.seed, "kinds": {}}
    rows, faults = [], []
    keep = Path(arguments.keep) if arguments.keep else None
    for name in arguments.kinds:
        if name not in KINDS:
            return report.fail(ValueError(f"--kinds: {name} is none of {', '.join(KINDS)}."))
        done = run_kind(KINDS[name], numbers, arguments.seed, arguments.jobs, limits, keep)
        counts = [done.counts[outcome] for outcome in Outcome]
        rows.append([name, len(numbers), *counts, f"{done.slowest:.2f}", f"{done.largest:.0f}"])
        faults += [f"{name}:", *_shown(done.faults)] if done.faults else []
        figures["kinds"][name] = {
            **{outcome.value: done.counts[outcome] for outcome in Outcome},
            "first": arguments.first,
            "seconds": done.slowest,
            "megabytes": done.largest,
            "faults": [[x.number, x.outcome.value, x.detail] for x in done.faults],
        }
    report.write_json(arguments.json, figures)
    print(report.heading(f"mutants of seed {arguments.seed}", machine))
    outcomes = [outcome.value for outcome in Outcome]
    print(report.table(["kind", "mutants", *outcomes, "slowest s", "most MB"], rows))
    print("\n".join(faults))
    return 1 if faults else 0


def run() -> None:
    flags.DEFINE_list("kinds", list(KINDS), "Kinds of inputs.")
    flags.DEFINE_integer("mutants", 1000, "Mutants of each.", lower_bound=1)
    flags.DEFINE_integer("first", 0, "Number of the first one.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Chooses all of them.", lower_bound=0)
    flags.DEFINE_integer("jobs", os.cpu_count() or 1, "Processes at a time.", lower_bound=1)
    flags.DEFINE_float("seconds", Limits.seconds, "CPU seconds that a mutant may take.")
    flags.DEFINE_float("megabytes", Limits.megabytes, "Memory that a mutant may take.")
    flags.DEFINE_string("keep", None, "Folder for mutants that are faults.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
