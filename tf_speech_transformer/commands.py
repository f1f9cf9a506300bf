"""Spoken commands of a grammar, by synthetic voices.

    KOKORO_VOICES=package/voices python -m tf_speech_transformer.commands --grammar=FILE.yaml \
        --voices=kokoro --count=2000 --out=voices/kokoro --processes=2

writes audio and a manifest as `synthesise.py` does, with what was meant as the text: people pause,
say "um", begin again, and so do these voices. The same command goes on where a killed one stopped.
"""

import random
import sys
from pathlib import Path

import numpy as np
import soxr
from absl import app, flags

from firmware_sim.grammar.source import Command, Grammar
from tf_speech_transformer import synthesise, voices
from tf_speech_transformer.corpora.features import SAMPLE_RATE
from tf_speech_transformer.corpora.sources import Rarity, Spoken, trim

MANNERS = {"straight": 0.6, "pauses": 0.2, "filler": 0.08, "false start": 0.05, "framed": 0.07}
FILLERS = ("um", "uh", "er", "hmm", "so", "like")
OPENINGS = ("okay", "hi", "hey", "please", "hello", "yeah", "so", "well")
RATES = {"kokoro": (0.7, 1.35), "piper": (0.75, 1.4), "flite": (0.75, 1.4), "espeak": (0.75, 1.5)}
REFERENCE = 5_000  # commands that say which words are rare side by side
CANDIDATES = 16
PITCHES = {"kokoro": (0.94, 1.06), "piper": (0.8, 1.35), "flite": (0.8, 1.3), "espeak": (0.8, 1.25)}


def say(command: Command, rng: np.random.Generator) -> str:
    """The text of a command as somebody might say it: with pauses, fillers and false starts.

    Three in five are said straight; the words of the command are all there, in order.
    """
    words = command.text.split()
    manner = rng.choice(list(MANNERS), p=list(MANNERS.values()))
    # People pause between phrases rather than within them.
    borders = [i for i in range(1, len(words)) if words[i] in ("with", "and", "a", "an")]
    borders += [i for i in range(1, len(words)) if words[i - 1] in ("a", "an", "roast", "shot")]
    borders = borders or [len(words) - 1]
    if manner == "pauses":
        for i in sorted({int(rng.choice(borders)) for _ in range(rng.integers(1, 4))}):
            if i:
                words[i - 1] += ","
    elif manner == "filler":
        i = int(rng.choice(borders))
        words[i:i] = [f"{rng.choice(FILLERS)},"]
        if i:
            words[i - 1] += ","
    elif manner == "false start":
        last = int(rng.integers(1, min(4, len(words)) + 1))
        words = [*words[: last - 1], f"{words[last - 1]},", *words]
    elif manner == "framed":
        if rng.random() < 0.5:
            words.insert(0, f"{rng.choice(OPENINGS)},")
        else:
            words[-1] += ","
            words.append("please")
    return " ".join(words)


class Balanced:
    """Commands of a grammar, rare neighbours among their words about as often as others."""

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        rng = np.random.default_rng(0)
        self.rarity = Rarity([grammar.sample(rng).text for _ in range(REFERENCE)])

    def sample(self, rng: np.random.Generator) -> Command:
        """One of a few that the grammar draws, by its rarity."""
        commands = [self.grammar.sample(rng) for _ in range(CANDIDATES)]
        weights = np.array([self.rarity.of(command.text) for command in commands])
        return commands[rng.choice(CANDIDATES, p=weights / weights.sum())]


class SpokenCommands:
    """Commands spoken by a synthesiser as they are drawn; a `digits.Source`."""

    def __init__(self, grammar: Grammar, engine: str, speakers: list[str]):
        self.commands = Balanced(grammar)
        self.engine, self.speakers = voices.engine(engine), speakers
        self.texts = grammar.words

    def draw(self, rng: np.random.Generator) -> Spoken:
        command = self.commands.sample(rng)
        speaker = self.speakers[rng.integers(len(self.speakers))]
        audio = self.engine.synthesise(
            say(command, rng),
            speaker,
            rate=float(rng.uniform(*RATES[self.engine.name])),
            pitch=float(rng.uniform(*PITCHES[self.engine.name])),
        )
        audio = soxr.resample(audio, self.engine.sample_rate, SAMPLE_RATE)
        return Spoken([trim(audio)], command.text, speaker)


def kokoro_speakers(names: list[str], count: int, seed: int) -> list[str]:
    """`count` speakers: single voices and blends of two, some beyond either of them, half with the
    melody of a third; most with an accent that suits them.

    Of voices of other languages there are about as many as of English ones, and of men as of women.
    """
    chance = random.Random(seed)

    def pick() -> str:
        english, sex = chance.random() < 0.6, chance.choice("fm")
        pool = [x for x in names if (x[0] in "ab") == english and x[1] == sex]
        return chance.choice(pool or names)

    speakers = []
    for _ in range(count):
        one, other = pick(), pick()
        name = one
        if one != other and chance.random() < 0.75:
            weight = chance.choice((0.4, 0.5, 0.6, 0.7, 1.2, 1.4))
            name = voices.blend(one, other, weight)
        if chance.random() < 0.5:
            name = f"{name}/{pick()}"
        accents = voices.KOKORO_HOME[one[0]]
        if chance.random() < 0.15:
            accents = tuple(voices.KOKORO_ACCENTS)
        accent = chance.choice(accents)
        speakers.append(f"{name}@{accent}" if accent else name)
    return speakers


def plan(
    grammar: Grammar, engine: voices.Synthesiser, count: int, seed: int
) -> list[synthesise.Reading]:
    """Who says what, and how; more of them begin with the same ones."""
    rng = np.random.default_rng([seed, 7])
    commands = Balanced(grammar)
    if isinstance(engine, voices.Kokoro):
        speakers = kokoro_speakers(engine.speakers(), count, seed)
    else:
        known = engine.speakers()
        speakers = [known[i] for i in rng.integers(0, len(known), count)]
    readings = []
    for number, speaker in enumerate(speakers):
        rng = np.random.default_rng([seed, number])
        command = commands.sample(rng)
        rate, pitch = (
            round(float(rng.uniform(*limits[engine.name])), 3) for limits in (RATES, PITCHES)
        )
        text = say(command, rng)
        readings.append(synthesise.Reading(engine.name, speaker, text, rate, pitch, command.text))
    return readings


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    out = Path(chosen.out)
    try:
        grammar = Grammar.read(Path(chosen.grammar))
        engine = synthesise.make_engine(chosen.voices, chosen.kokoro_voices, english_only=False)
        readings = plan(grammar, engine, chosen.count, chosen.seed)
        made = synthesise.synthesise_corpus(
            readings, engine, out, chosen.processes, kokoro_voices=chosen.kokoro_voices
        )
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"commands: {error}")
    except KeyboardInterrupt:
        sys.exit("commands: stopped; the same command goes on from here")
    print(f"{made} files made, {len(readings) - made} were there: {out / synthesise.MANIFEST}")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("grammar", None, "What is said: see grammar.py.")
    flags.DEFINE_enum("voices", "kokoro", voices.ENGINES, "Engine that speaks.")
    flags.DEFINE_integer("count", 2000, "Commands.", 1)
    flags.DEFINE_string("out", None, "Directory of the audio and its manifest.")
    flags.DEFINE_string(
        "kokoro_voices", None, "Directory of Kokoro's voice vectors; default: KOKORO_VOICES."
    )
    flags.DEFINE_integer("seed", 1, "Of commands, speakers, rates and pitches.")
    flags.DEFINE_integer("processes", 1, "Commands spoken at the same time.", 1)
    flags.mark_flags_as_required(["grammar", "out"])
    app.run(main)


if __name__ == "__main__":
    run()
