"""Commands of a grammar as people say them: with pauses, fillers and false starts."""

import numpy as np
import soxr

from firmware_sim.grammar.source import Command, Grammar
from tf_speech_transformer import voices
from tf_speech_transformer.corpora.features import SAMPLE_RATE
from tf_speech_transformer.corpora.recording import Spoken, trim
from tf_speech_transformer.corpora.sources import Rarity
from tf_speech_transformer.voices import kokoro
from tf_speech_transformer.voices.reading import Reading

MANNERS = {"straight": 0.6, "pauses": 0.2, "filler": 0.08, "false start": 0.05, "framed": 0.07}
FILLERS = ("um", "uh", "er", "hmm", "so", "like")
OPENINGS = ("okay", "hi", "hey", "please", "hello", "yeah", "so", "well")
RATES = {"kokoro": (0.7, 1.35), "piper": (0.75, 1.4), "flite": (0.75, 1.4), "espeak": (0.75, 1.5)}
PITCHES = {"kokoro": (0.94, 1.06), "piper": (0.8, 1.35), "flite": (0.8, 1.3), "espeak": (0.8, 1.25)}
REFERENCE = 5_000  # commands by which the rarity of pairs of words is counted
CANDIDATES = 16


def say(command: Command, rng: np.random.Generator) -> str:
    """The text of a command as somebody might say it: with pauses, fillers and false starts.

    Three in five are said straight. All words of the command are kept, in order.
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
    """Commands of a grammar; rare pairs of words come about as often as others."""

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        rng = np.random.default_rng(0)
        self.rarity = Rarity([grammar.sample(rng).text for _ in range(REFERENCE)])

    def sample(self, rng: np.random.Generator) -> Command:
        """One of `CANDIDATES` that the grammar draws, chosen by rarity."""
        commands = [self.grammar.sample(rng) for _ in range(CANDIDATES)]
        weights = np.array([self.rarity.of(command.text) for command in commands])
        return commands[rng.choice(CANDIDATES, p=weights / weights.sum())]


class SpokenCommands:
    """Commands spoken by a synthesiser as they are drawn; a `Source`."""

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


def plan(grammar: Grammar, engine: voices.Synthesiser, count: int, seed: int) -> list[Reading]:
    """Who says what, and how; a longer plan begins with a shorter one."""
    rng = np.random.default_rng([seed, 7])
    commands = Balanced(grammar)
    if isinstance(engine, kokoro.Kokoro):
        speakers = kokoro.varied_speakers(engine.speakers(), count, seed)
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
        readings.append(Reading(engine.name, speaker, text, rate, pitch, command.text))
    return readings
