"""How well a general bundle hears a home: Home Assistant's own sentences, with 40 names.

    python -m benchmarks.home speak --out=DIR [--sentences=300] [--voices=espeak,flite] [--seed=1]
    python -m benchmarks.home accuracy --bundle=english --recordings=DIR --json=OUT.json \
        [--others=DIR] [--names=10,100,1000]

- `speak` draws sentences of the server's default list, evenly by intent and template, and lets
  voices say them.  It writes WAV files with texts beside them, which `wyoming-bench` reads too.
- `accuracy` recognises them as the server does.  A text is right if Home Assistant's own reading of
  it (`hassil.recognize_best`) has the intent and the slots of what was said.
- `others` are recordings that are no sentences of a home, 50 of them; with them come the near
  misses that `speak` wrote.  What is not empty is a false accept.
- `names` gives the home so many further names, and measures again.

The home, its names and the near misses are in this file.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from absl import app, flags
from hassil import Intents, recognize_best
from hassil.intents import TextSlotList
from home_assistant_intents import get_intents
from tqdm import tqdm

from benchmarks import report
from firmware_sim import bundle as bundles
from firmware_sim.grammar.home import Name
from firmware_sim.grammar.phrase import draw, said
from firmware_sim.grammar.source import Grammar
from firmware_sim.grammar.templates import BUILT_IN, Templates
from firmware_sim.recognizer import Recognizer
from firmware_sim.sound import audio
from firmware_sim.wyoming import Homes
from tf_speech_transformer import voices

_DEVICES: Final = {
    "light": "Desk lamp, Ceiling light, Reading lamp, Fairy lights, Porch light, Night light",
    "switch": "Coffee machine, 3D printer, Water pump, Christmas tree",
    "fan": "Ceiling fan, Tower fan",
    "cover": "Left curtain, Garage door, Kitchen blinds",
    "lock": "Front door, Back door",
    "media_player": "TV, Kitchen radio, Living room speaker",
    "sensor": "PM2.5, Outdoor humidity, Freezer temperature",
    "climate": "Thermostat",
    "vacuum": "Robot vacuum",
    "scene": "Movie night",
    "script": "Good morning",
}
_AREAS: Final = "Kitchen, Living room, Bedroom, Bathroom, Hallway, Office, Bob's room, Guest room"
_FLOORS: Final = "Ground floor, First floor, Attic"
HOME: Final[dict[str, list[Name]]] = {
    "name": [Name(x, x, kind) for kind, names in _DEVICES.items() for x in names.split(", ")]
    + [Name("telly", "TV", "media_player"), Name("hoover", "Robot vacuum", "vacuum")],
    "area": [Name(x) for x in _AREAS.split(", ")],
    "floor": [Name(x) for x in _FLOORS.split(", ")],
}
_KINDS: Final = (
    "oak pine glass brass copper silver paper cotton marble velvet ivory cherry walnut amber "
    "crystal bamboo canvas leather linen bronze golden little tall round square narrow old "
    "new upper lower northern southern spare main second"
)
_THINGS: Final = (
    "lantern cabinet shelf heater kettle toaster mirror fountain aquarium projector speaker "
    "humidifier radiator doorbell dishwasher dryer oven freezer charger router keyboard "
    "monitor bookcase wardrobe sofa staircase balcony greenhouse mailbox treadmill"
)
NEAR_MISSES: Final = (
    "turn the page and read on",
    "the kitchen light was on all night",
    "set the table for five people please",
    "what time did they leave the house",
    "open your books at page twenty",
    "she turned off the motorway too early",
    "the lights of the city were beautiful",
    "is there any coffee in the kitchen",
    "the temperature of this soup is perfect",
    "lock him out of his own office",
    "the living room is too small for all of us",
    "start the car and close the window behind you",
    "add it to the bill",
    "the garage needs a new door",
    "pause for a minute before you answer",
    "how warm is your new coat",
    "bright stars above the hallway of the hotel",
    "cancel my subscription to the paper",
    "we broadcast the game every sunday",
    "set a good example for your brother",
)
UTTERANCES: Final = 50  # that are no sentences
SOUND: Final = (".flac", ".ogg", ".wav")

Samples = npt.NDArray[np.int16]
Meaning = tuple[str, dict[str, str]]
Figures = dict[str, Any]


class HomeAssistant:
    """Home Assistant's own reading of a text."""

    def __init__(self) -> None:
        self._intents = Intents.from_dict(get_intents("en"))  # type: ignore[arg-type]
        self._lists = {
            kind: TextSlotList.from_tuples(
                [(x.text, x.value or x.text, {"domain": x.domain} if x.domain else {}) for x in of]
            )
            for kind, of in HOME.items()
        }

    def __call__(self, text: str) -> Meaning | None:
        """Intent and slots; None if it is not understood."""
        found = recognize_best(
            text,
            self._intents,
            slot_lists=self._lists,  # type: ignore[arg-type]
            intent_context={"area": "Kitchen"},
            language="en",
        )
        if found is None:
            return None
        return found.intent.name, {key: f"{x.value}" for key, x in found.entities.items()}


def further_names(count: int) -> list[Name]:
    """Names of devices that a home may have, too; the same ones for the same number."""
    pairs = [f"{kind} {thing}".capitalize() for kind in _KINDS.split() for thing in _THINGS.split()]
    return [Name(x, x) for x in random.Random(1).sample(pairs, count)]


def sentences(grammar: Grammar, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Different sentences: as they are written, and as they are said."""
    drawn: dict[str, str] = {}
    while len(drawn) < count:
        phrases = grammar.expressions[grammar.intents[rng.integers(len(grammar.intents))]]
        phrase = phrases[rng.integers(len(phrases))]
        words = [word for word, _ in draw(phrase, None, grammar.slots, rng)]
        drawn.setdefault(" ".join(word.text for word in words), said(words))
    return list(drawn.items())


def speak(out: Path, count: int, engines: Sequence[str], seed: int) -> str:
    """Writes recordings of sentences and of near misses; returns what was done."""
    understand, rng = HomeAssistant(), np.random.default_rng(seed)
    grammar = Templates.read(Path(BUILT_IN)).grammar(HOME)
    texts = sentences(grammar, count, rng)
    strange = [text for text, _ in texts if understand(text) is None]
    if strange:
        raise ValueError(f"Home Assistant does not understand {strange[0]!r}")
    known = [x for x in NEAR_MISSES if understand(x) is not None or grammar.parse(x)]
    if known:
        raise ValueError(f"{known[0]!r} is no near miss: Home Assistant understands it")
    readers = [voices.engine(name) for name in engines]
    for folder, lines in (
        ("sentences", texts),
        ("near_misses", [(x, x) for x in NEAR_MISSES]),
    ):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for number, (text, spoken) in enumerate(tqdm(lines, folder, disable=None)):
            reader = readers[number % len(readers)]
            speaker = str(rng.choice(reader.speakers()))
            sound = reader.synthesise(spoken.lower().replace("pm", "p m"), speaker)
            sound = soxr.resample(sound, reader.sample_rate, 16_000)
            samples = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16)
            file = out / folder / f"{number:04}_{reader.name}.wav"
            soundfile.write(file, np.pad(samples, 4_000), 16_000)
            file.with_suffix(".txt").write_text(f"{text}\n")
    return f"{len(texts)} sentences and {len(NEAR_MISSES)} near misses: {out}"


def recordings(folder: Path) -> list[tuple[str, str, Samples]]:
    """Name, text and samples of each recording that `speak` made."""
    return [
        (
            path.stem,
            path.with_suffix(".txt").read_text().strip(),
            soundfile.read(path, dtype="int16")[0],
        )
        for path in sorted(folder.glob("*.wav"))
    ]


def at_home(recognizer: Recognizer, further: int) -> tuple[Recognizer, float]:
    """The server's recogniser of the home, and the seconds until it knew one name more."""
    names = {**HOME, "name": [*HOME["name"], *further_names(further)]}

    async def build() -> tuple[Recognizer, float]:
        homes = Homes(recognizer, Path(BUILT_IN), names)
        await homes.recognizer(())
        begin = time.perf_counter()
        return await homes.recognizer(["Zeppelin lamp"]), time.perf_counter() - begin

    return asyncio.run(build())


def heard(recognizer: Recognizer, folder: Path, understand: HomeAssistant) -> Figures:
    """Sentences that Home Assistant takes as they were meant, of 100, by voices."""
    results: dict[str, list[bool]] = {}
    seconds = taken = 0.0
    wrong: list[list[str]] = []
    for name, text, samples in tqdm(recordings(folder), "sentences", disable=None):
        result = recognizer.transcribe(samples)
        seconds, taken = seconds + result.audio_seconds, taken + result.seconds
        right = bool(result.text) and understand(result.text) == understand(text)
        results.setdefault(name.partition("_")[2], []).append(right)
        if not right:
            wrong.append([text, result.text])
    every = list(itertools.chain(*results.values()))
    return {
        "sentences": len(every),
        "right": 100 * float(np.mean(every)),
        "voices": {name: 100 * float(np.mean(x)) for name, x in results.items()},
        "rejected": 100 * sum(not x for _, x in wrong) / len(every),
        "real_time_factor": taken / seconds,
        "wrong": wrong,
    }


def taken(recognizer: Recognizer, samples: Sequence[Samples]) -> list[str]:
    """The texts of those recordings that are taken for sentences."""
    texts = (recognizer.transcribe(x).text for x in tqdm(samples, "others", disable=None))
    return [text for text in texts if text]


def other_speech(folder: Path) -> list[Samples]:
    """Utterances of a folder, evenly from all that it has."""
    files = sorted(x for x in folder.rglob("*") if x.suffix in SOUND)
    if not files:
        raise ValueError(f"{folder} has no recordings: name a folder of FLAC or WAV files")
    chosen = files[:: max(1, len(files) // UTTERANCES)][:UTTERANCES]
    return [audio.read(path) for path in chosen]


def accuracy(bundle: str, folder: Path, others: str | None, further: Sequence[int]) -> Figures:
    """All figures of `accuracy`."""
    recognizer = Recognizer(bundles.load(bundle))
    understand = HomeAssistant()
    figures: Figures = {"names": {}}
    for count in (0, *further):
        held, seconds = at_home(recognizer, count)
        found = {**heard(held, folder / "sentences", understand), "seconds_a_name": seconds}
        figures["names"][sum(map(len, HOME.values())) + count] = found
        if count == 0:
            misses = [x for *_, x in recordings(folder / "near_misses")]
            figures["near misses"] = {"of": len(misses), "taken": taken(held, misses)}
            if others:
                speech = other_speech(Path(others))
                figures["other speech"] = {"of": len(speech), "taken": taken(held, speech)}
    return figures


def rows(figures: Figures) -> list[list[str]]:
    """Lines of the table."""
    lines = []
    for count, found in figures["names"].items():
        lines.append([f"{count} names: right of {found['sentences']}", f"{found['right']:.1f} %"])
        lines += [[f"  {name}", f"{x:.1f} %"] for name, x in found["voices"].items()]
        lines.append(["  rejected", f"{found['rejected']:.1f} %"])
        lines.append(["  real-time factor", f"{found['real_time_factor']:.3f}"])
        lines.append(["  one name more", f"{found['seconds_a_name']:.2f} s"])
    for name in ("near misses", "other speech"):
        if name in figures:
            found = figures[name]
            lines.append([f"{name} taken, of {found['of']}", str(len(found["taken"]))])
    return lines


def main(argv: Sequence[str]) -> int:
    chosen: Any = flags.FLAGS
    what = argv[1] if len(argv) == 2 else ""
    try:
        if what == "speak" and chosen.out:
            print(speak(Path(chosen.out), chosen.sentences, chosen.voices, chosen.seed))
            return 0
        if what != "accuracy" or not chosen.recordings:
            raise ValueError("say what to do: speak --out=DIR, or accuracy --recordings=DIR")
        figures = {"machine": report.machine()} | accuracy(
            chosen.bundle, Path(chosen.recordings), chosen.others, [int(x) for x in chosen.names]
        )
        report.write_json(chosen.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading(f"{chosen.bundle} at home", figures["machine"]))
    print(report.table(["line", "figure"], rows(figures)))
    return 0


def run() -> None:
    flags.DEFINE_string("out", None, "Where `speak` writes recordings.")
    flags.DEFINE_integer("sentences", 300, "Sentences to draw.", lower_bound=1)
    flags.DEFINE_list("voices", ["espeak", "flite"], "Engines that say them in turn.")
    flags.DEFINE_integer("seed", 1, "Seed of sentences and speakers.")
    flags.DEFINE_string("bundle", "english", "A general bundle: name, directory or .zip.")
    flags.DEFINE_string("recordings", None, "What `speak` wrote.")
    flags.DEFINE_string(
        "others", None, "Folder of speech that is no sentence, such as LibriSpeech."
    )
    flags.DEFINE_list("names", [], "Numbers of further names to measure with.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
