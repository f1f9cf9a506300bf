"""Spoken commands of real people: the barista benchmark, clean and in a kitchen, beside others.

    python -m benchmarks.commands --data=DIR --bundle=pretrained/barista --json=OUT.json \
        [--engines=bundle,greedy,free,pocketsphinx,whisper,moonshine] \
        [--peer_python=VENV/bin/python] [--not_commands=LIBRISPEECH]

DIR holds recordings in `audio/`, `labels.json`, `grammar.yaml` and `noise/kitchen.flac` of the
speech-to-intent benchmark of Picovoice (https://github.com/Picovoice/speech-to-intent-benchmark).
Its rules, of `benchmark/engine.py` and `benchmark/mixer.py` there:

- A recording is accepted if its intent is heard and every slot of its label with the label's value,
  white space around it aside; further slots do no harm. Nothing heard is an error. There is one
  intent and every label has a slot, so that the right slots say the intent too.
- Noise: a random stretch as long as the recording, scaled so that the energy of the loudest of the
  speech's frames of 2,048 samples has the ratio to that of the noise's, a last part of a frame left
  out; the mixture gets a peak of half scale, clean recordings stay as they are. It measures from 24
  down to 6 dB by steps of 3 dB. Here the recording's name decides on the stretch, the same for
  every engine and at every ratio.

`bundle` is held to its grammar, `greedy` too, but without a beam, as C sources of one hypothesis;
`free` is not. `free`, `whisper` and `moonshine` give a text, in which a slot is any of its values,
the longest first; some that are refused are printed. Each engine is a process of its own, on one
thread (`benchmarks/peers/worker.py`); the peers need the virtual environment of
`benchmarks/peers/requirements.txt`. What was measured already is kept beside OUT.json and not
measured again; the same command goes on where a killed one stopped.
"""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import tqdm
from absl import app, flags

from benchmarks import report
from firmware_sim.grammar.phrase import Choice, Phrase, Word
from firmware_sim.grammar.source import Grammar

HELD = ("bundle", "greedy")  # engines that give slots
OURS = (*HELD, "free")
ENGINES = (*OURS, "pocketsphinx", "whisper", "moonshine")
CLEAN = "clean"
FRAME = 2048  # samples, of the benchmark's ratio of energies
STRETCHES = (2, 10)  # seconds of noise without speech
REFUSED = 8  # texts printed of each engine
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
COMPACT = Path(__file__).parents[1] / "grammars" / "barista.yaml"  # the same language
WORKER = Path(__file__).parent / "peers" / "worker.py"

Slots = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Recording:
    """One order; without slots: speech that is no order."""

    name: str
    path: Path
    slots: Slots | None


# ----------------------------------------------------------------------------------------- sound


def loudest(audio: npt.NDArray[np.float64]) -> float:
    """Energy of the loudest whole frame."""
    whole = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    return float(np.square(whole).sum(axis=1).max())


def mix(
    speech: npt.NDArray[np.int16], noise: npt.NDArray[np.int16], snr_db: float, name: str
) -> npt.NDArray[np.int16]:
    """The speech with a stretch of the noise, which the name decides on; int16, as the speech.

    Raises:
        ValueError: there is less noise than speech.
    """
    if len(noise) <= len(speech):
        raise ValueError(f"the noise is shorter than {name}: give a longer noise/kitchen.flac")
    chance = np.random.default_rng(zlib.crc32(name.encode()))
    start = int(chance.integers(0, len(noise) - len(speech)))
    loud, around = speech.astype(np.float64), noise[start : start + len(speech)].astype(np.float64)
    scale = np.sqrt(loudest(loud) / (loudest(around) * 10 ** (snr_db / 10)))
    mixed = loud + scale * around
    return np.rint(mixed * (16_383.5 / np.abs(mixed).max())).astype(np.int16)


# --------------------------------------------------------------------------------------- meaning

SPELLINGS = {
    "8": "eight", "12": "twelve", "16": "sixteen", "20": "twenty", "oz": "ounce",
    "1": "single", "2": "double", "3": "triple", "ounces": "ounce", "shots": "shot",
    "ice": "iced", "roasted": "roast", "lite": "light", "alot": "a lot", "skimmed": "skim",
    "soya": "soy", "soymilk": "soy milk", "sweetner": "sweetener", "sweeteners": "sweetener",
    "expresso": "espresso", "cappucino": "cappuccino", "capuccino": "cappuccino",
    "moca": "mocha", "mocca": "mocha", "moka": "mocha",
}  # fmt: skip


def normalised(text: str) -> list[str]:
    """Words as a grammar spells them: a writer's "12-oz" is a speaker's "twelve ounce".

    Other spellings of what sounds the same are credited ("ice coffee"), other words are not
    ("light rose").
    """
    text = re.sub(r"(\d)([a-z])", r"\1 \2", text.lower().replace("\u2019", "'"))
    words = re.sub(r"[^a-z0-9' ]", " ", text).split()
    return " ".join(SPELLINGS.get(word, word) for word in words).split()


def values_of(grammar: Grammar) -> dict[tuple[str, ...], str]:
    """The slot of each value, by its words; the grammar's values are plain texts."""
    found: dict[tuple[str, ...], str] = {}
    for slot, phrases in grammar.slots.items():
        for phrase in phrases:
            if not all(isinstance(item, Word) for item in phrase):
                raise ValueError(f"slot {slot} of {grammar.name} has values that are no plain text")
            found[tuple(item.text for item in phrase if isinstance(item, Word))] = slot
    return found


def spot(words: Sequence[str], values: dict[tuple[str, ...], str]) -> Slots:
    """The slots in a text: longer values first, so that "medium roast" is no size."""
    taken = [False] * len(words)
    found: Slots = {}
    for value, slot in sorted(values.items(), key=lambda item: -len(item[0])):
        for i in range(len(words) - len(value) + 1):
            free = not any(taken[i : i + len(value)])
            if slot not in found and free and tuple(words[i : i + len(value)]) == value:
                found[slot] = " ".join(value)
                taken[i : i + len(value)] = [True] * len(value)
    return found


def accepted(heard: Slots, label: Slots) -> bool:
    return all(heard.get(slot) == value for slot, value in label.items())


def jsgf(grammar: Grammar) -> str:
    """The grammar in Java Speech Grammar Format, for PocketSphinx, which takes hours to go through
    the benchmark's own file: that spells the orders of the parts out one by one."""

    def phrase(items: Phrase) -> str:
        parts = []
        for item in items:
            if isinstance(item, Word):
                parts.append(item.text)
            elif isinstance(item, Choice):
                options = " | ".join(phrase(x) for x in item.phrases if x)
                parts.append(f"[ {options} ]" if () in item.phrases else f"( {options} )")
            else:
                parts.append(f"<{item.slot}>")
        return " ".join(parts)

    expressions = [x for phrases in grammar.expressions.values() for x in phrases]
    rules = [f"public <command> = {' | '.join(map(phrase, expressions))};"]
    rules += [f"<{slot}> = {' | '.join(map(phrase, x))};" for slot, x in grammar.slots.items()]
    return "\n".join(["#JSGF V1.0;", "grammar commands;", *rules]) + "\n"


# --------------------------------------------------------------------------------------- engines


class Engine:
    """A worker process; `hello` is its first answer."""

    def __init__(self, python: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **ONE_THREAD},
        )
        self.name = " ".join(arguments[:1])
        self.hello = self._answer()

    def recognise(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(
                f"the worker of {self.name} ended with {self._process.wait()}: run "
                f"{' '.join(map(str, self._process.args))} to see why"  # type: ignore[arg-type]
            )
        return json.loads(line)


def start(name: str, bundle: str, peer_python: str, grammar_file: Path) -> Engine:
    if name in OURS:
        return Engine(sys.executable, ["bundle", bundle, f"--{name}"])
    return Engine(peer_python, [name, *([str(grammar_file)] if name == "pocketsphinx" else [])])


# --------------------------------------------------------------------------------------- measure


def read_recordings(data: Path, limit: int) -> list[Recording]:
    """The labelled orders.  Raises ValueError where something is missing."""
    labels = data / "labels.json"
    if not labels.is_file():
        raise ValueError(f"{labels} does not exist: give the benchmark's directory by --data")
    found = [
        Recording(
            name,
            data / "audio" / f"{name}.flac",
            {slot: " ".join(value.split()) for slot, value in label["slots"].items()},
        )
        for name, label in sorted(json.loads(labels.read_text()).items())
    ]
    return found[: limit or None]


def read_others(directory: Path, limit: int) -> list[Recording]:
    """Speech that is no order.  Raises ValueError if there is none."""
    paths = sorted(directory.rglob("*.flac"))
    if not paths:
        raise ValueError(f"{directory} holds no FLAC file: give a directory by --not_commands")
    return [Recording(path.stem, path, None) for path in paths[: limit or None]]


def read_noise(noise: npt.NDArray[np.int16], seconds: int, directory: Path) -> list[Recording]:
    """Stretches of the noise, of so many seconds, written to files: nobody orders anything."""
    directory.mkdir(exist_ok=True)
    found = []
    stretch = 16_000 * seconds
    for start in range(0, max(1, len(noise) - stretch + 1), stretch):
        path = directory / f"noise_{seconds}s_{start // 16_000:04d}.wav"
        soundfile.write(path, noise[start : start + stretch], 16_000)
        found.append(Recording(path.stem, path, None))
    return found


def measure(
    engine: Engine,
    recordings: Sequence[Recording],
    noise: npt.NDArray[np.int16],
    condition: str,
    journal: Path,
    title: str,
) -> list[dict[str, Any]]:
    """What the engine hears in each recording; `journal` keeps it, a line each."""
    known, rows = {}, []
    if journal.is_file():
        whole, _, part = journal.read_text().rpartition("\n")
        if part:  # a line that was being written when the run was killed
            journal.write_text(f"{whole}\n" if whole else "")
        known = {row["name"]: row for row in map(json.loads, whole.splitlines())}
    with tempfile.TemporaryDirectory() as directory, journal.open("a") as file:
        path = Path(directory) / "mixed.wav"
        for recording in tqdm.tqdm(recordings, title, unit="utt", file=sys.stderr, disable=None):
            if recording.name not in known:
                audio, _ = soundfile.read(recording.path, dtype="int16")
                if condition != CLEAN:
                    audio = mix(audio, noise, float(condition), recording.name)
                soundfile.write(path, audio, 16_000)
                row = engine.recognise(path)
                known[recording.name] = {
                    "name": recording.name, "audio_seconds": len(audio) / 16_000, **row,
                }  # fmt: skip
                file.write(json.dumps(known[recording.name]) + "\n")
                file.flush()
            rows.append(known[recording.name])
    return rows


def summary(
    name: str,
    rows: Sequence[dict[str, Any]],
    recordings: Sequence[Recording],
    values: dict[tuple[str, ...], str],
) -> dict[str, Any]:
    """Acceptance and speed; of speech that is no order, how often an order was heard."""
    details = []
    for row, recording in zip(rows, recordings, strict=True):
        slots = row["slots"] if name in HELD else spot(normalised(row["text"]), values)
        detail = {"name": recording.name, "text": row["text"], "slots": slots}
        if recording.slots is not None:
            detail |= {"label": recording.slots, "accepted": accepted(slots, recording.slots)}
        else:
            # An order names a drink; free text that merely has "some" or "milk" in it is none.
            detail["order"] = bool(row["intent"]) if name in HELD else "coffeeDrink" in slots
        details.append({**detail, "confidence": row.get("confidence")})
    key = "accepted" if recordings[0].slots is not None else "order"
    return {
        key: sum(detail[key] for detail in details) / len(details),
        "count": len(details),
        "rtf": sum(row["seconds"] for row in rows) / sum(row["audio_seconds"] for row in rows),
        "peak_memory": max(row["peak_memory"] for row in rows),
        "recordings": details,
    }


def conditions(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name != CLEAN and not re.fullmatch(r"-?\d+(\.\d+)?", name):
            raise ValueError(f"condition {name!r}: give clean, or a ratio in dB")
        yield name


def main(argv: Sequence[str]) -> int:
    values = flags.FLAGS
    if len(argv) > 1:
        return report.fail(ValueError(f"unknown argument {argv[1]!r}"))
    data, out = Path(values.data), Path(values.json)
    try:
        recordings = read_recordings(data, values.limit)
        chosen = list(conditions(values.conditions))
        noise, _ = soundfile.read(data / "noise" / "kitchen.flac", dtype="int16")
        slots = values_of(Grammar.read(data / "grammar.yaml"))
        others = read_others(Path(values.not_commands), values.limit) if values.not_commands else []
        figures: dict[str, Any] = {"machine": report.machine(), "engines": {}}
        journals = out.with_name(f"{out.stem}.journal")
        journals.mkdir(parents=True, exist_ok=True)
        stretches = {
            seconds: read_noise(noise, seconds, journals / "noise")[: values.limit or None]
            for seconds in STRETCHES
        }
        grammar_file = journals / "commands.jsgf"
        grammar_file.write_text(jsgf(Grammar.read(COMPACT)))
        for name in values.engines:
            engine = start(name, values.bundle, values.peer_python, grammar_file)
            label = name
            if name in OURS:  # another bundle is measured anew
                manifest = (Path(values.bundle) / "manifest.json").read_bytes()
                label = f"{name}-{hashlib.sha256(manifest).hexdigest()[:8]}"
            found: dict[str, Any] = {"bytes": engine.hello["bytes"], "conditions": {}}
            for condition in chosen:
                journal = journals / f"{label}-{condition}.jsonl"
                rows = measure(engine, recordings, noise, condition, journal, f"{name} {condition}")
                found["conditions"][condition] = summary(name, rows, recordings, slots)
            if others:
                journal = journals / f"{label}-not_commands.jsonl"
                rows = measure(engine, others, noise, CLEAN, journal, f"{name} no commands")
                found["not_commands"] = summary(name, rows, others, slots)
            found["noise"] = {}
            for seconds, pieces in stretches.items():
                journal = journals / f"{label}-noise_{seconds}s.jsonl"
                title = f"{name} noise without speech, {seconds} s"
                rows = measure(engine, pieces, noise, CLEAN, journal, title)
                found["noise"][str(seconds)] = summary(name, rows, pieces, slots)
            engine.close()
            figures["engines"][name] = found
            report.write_json(str(out), figures)
    except (ValueError, OSError) as error:
        return report.fail(error)
    print(report.heading(f"Commands: {len(recordings)} recordings", figures["machine"]))
    print(table(figures, chosen))
    print(refused(figures, chosen[0]))
    return 0


def table(figures: dict[str, Any], chosen: Sequence[str]) -> str:
    rows = []
    for name, found in figures["engines"].items():
        accepts = [found["conditions"][x]["accepted"] for x in chosen]
        noisy = [y for x, y in zip(chosen, accepts, strict=True) if x != CLEAN]
        false, noise = found.get("not_commands"), found["noise"]
        first = found["conditions"][chosen[0]]
        rows.append(
            [
                name,
                *(f"{100 * share:.1f}" for share in accepts),
                f"{100 * sum(noisy) / len(noisy):.1f}" if noisy else "-",
                f"{first['rtf']:.4f}",
                f"{found['bytes'] / 1e6:.2f}",
                f"{first['peak_memory'] / 1e6:.0f}",
                orders(false) if false else "-",
                *(orders(noise[str(seconds)]) for seconds in STRETCHES),
            ]
        )
    header = ["accepted, %", *chosen, "mean of noise", "RTF", "MB", "peak MB", "false"]
    return report.table([*header, *(f"in {x} s of noise" for x in STRETCHES)], rows)


def orders(found: dict[str, Any]) -> str:
    return f"{round(found['order'] * found['count'])} of {found['count']}"


def refused(figures: dict[str, Any], condition: str) -> str:
    """The first texts that were not accepted, with what is missing in them."""
    lines = []
    for name, found in figures["engines"].items():
        rows = [x for x in found["conditions"][condition]["recordings"] if not x["accepted"]]
        lines.append(f"\n{name}, {condition}: {len(rows)} refused")
        for row in rows[:REFUSED]:
            missing = (v for slot, v in row["label"].items() if row["slots"].get(slot) != v)
            lines.append(f"  {row['text']!r} lacks {', '.join(missing)}")
    return "\n".join(lines)


def run() -> None:
    # Defined here, not on import: tests use this module as a library.
    flags.DEFINE_string("data", None, "Directory of the benchmark.", required=True)
    flags.DEFINE_string("bundle", "pretrained/barista", "Bundle with that grammar.")
    flags.DEFINE_list("engines", ["bundle"], f"Of {', '.join(ENGINES)}.")
    flags.DEFINE_list(
        "conditions", [CLEAN, *map(str, range(6, 25, 3))], "clean, or kitchen noise at so many dB."
    )
    flags.DEFINE_string("not_commands", None, "Directory of FLAC files that hold no command.")
    flags.DEFINE_string("peer_python", sys.executable, "Python that the peers are installed for.")
    flags.DEFINE_integer(
        "limit", 0, "Recordings, and of those without a command; 0: all.", lower_bound=0
    )
    flags.DEFINE_string("json", None, "File of the figures.", required=True)
    flags.register_validator(
        "engines", lambda names: set(names) <= set(ENGINES), f"choose of {', '.join(ENGINES)}"
    )
    app.run(main)


if __name__ == "__main__":
    run()
