"""Makes a corpus of synthetic speech from a file of texts, one to a line.

    python -m tf_speech_transformer.synthesise --voices=espeak --texts=digits.txt --out=speech
    KOKORO_VOICES=package/voices python -m tf_speech_transformer.synthesise --voices=kokoro \
        --texts=digits.txt --out=speech --blends=100 --takes=3 --processes=2

or a test set of connected digits, by voices of espeak-ng that training never hears:

    python -m tf_speech_transformer.synthesise --digits=1000 --out=test

or lines of general English, drawn as the preset `english` draws them. Kokoro's are each by one of
`SPEAKERS` blends and accents; the voices of `kokoro.HELD_OUT` are in none, and are left for tests:

    KOKORO_VOICES=package/voices python -m tf_speech_transformer.synthesise --voices=kokoro \
        --english=4000 --out=DATA/kokoro --processes=2

`--out` gets 16 kHz mono FLAC files and `manifest.tsv` (`audio`, `text`, `speaker`; audio relative
to it). The same command goes on where a killed one stopped, and another command into the same
directory adds to it. The manifest is kept up to date while the run goes on, so it can be used at
any time.
"""

import itertools
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from firmware_sim.command_line import tool
from tf_speech_transformer import voices
from tf_speech_transformer.configs import english
from tf_speech_transformer.corpora import digit_strings, readers, recipes
from tf_speech_transformer.voices import kokoro, reading

SPEAKERS = 400
LINE_LETTERS = 75  # the longest line: a voice takes up to 5 s for it


def choose_speakers(
    synthesiser: voices.Synthesiser, named: Sequence[str], blends: int, part: str, seed: int
) -> list[str]:
    """The speakers that the flags ask for; ValueError for blends of an engine that has none."""
    speakers = list(named) or synthesiser.speakers()
    if blends:
        if not isinstance(synthesiser, kokoro.Kokoro):
            raise ValueError(f"--blends is for kokoro: {synthesiser.name} cannot blend voices")
        speakers += synthesiser.blends(blends, seed)
    if part != "all":
        train, test = voices.speaker_split(speakers, seed)
        speakers = train if part == "train" else test
    return speakers


def _limits(flag: str, values: list[str]) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in values)
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.0 < low <= high:
        raise ValueError(f"--{flag}={','.join(values)}: give lowest and highest, such as 0.8,1.25")
    return low, high


def read_texts(path: Path) -> list[str]:
    """The lines of a file that are not empty, white space made single spaces."""
    if not path.is_file():
        raise ValueError(f"no file of texts at {path}: give one by --texts, a text to a line")
    lines = (" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines())
    return list(filter(None, lines))


def english_lines(count: int, seed: int, out: Path) -> list[str]:
    """Lines of words that exist; the sentences among them are kept in a file of `out`.

    Raises CorpusError: the texts of the preset are not installed.
    """
    source = {"kind": "read", "texts": english.TEXTS, "excluded": english.GRAMMARS}
    lines = readers.sentences_of(recipes.write_sentences(source, out), english.GRAMMARS)
    chance = random.Random(seed)
    drawn = (lines.draw(chance).text for _ in itertools.count())
    short = (text for text in drawn if text is not None and len(text) <= LINE_LETTERS)
    return list(itertools.islice(short, count))


def english_speakers(synthesiser: voices.Synthesiser, named: Sequence[str], seed: int) -> list[str]:
    """The named ones, or as various ones as the engine has."""
    if named:
        return list(named)
    if isinstance(synthesiser, kokoro.Kokoro):
        names = [x for x in synthesiser.speakers() if x not in kokoro.HELD_OUT]
        return kokoro.varied_speakers(names, SPEAKERS, seed)
    return voices.speaker_split(synthesiser.speakers(), seed=0)[0]


def speak_texts(chosen: flags.FlagValues, out: Path) -> str:
    """Makes the corpus that the flags describe; returns what was made, in a sentence."""
    general = chosen.english is not None
    synthesiser = reading.make_engine(chosen.voices, chosen.kokoro_voices, english_only=not general)
    seed = 1 if chosen.seed is None else chosen.seed
    if general:
        texts = english_lines(chosen.english, seed, out)
        speakers = english_speakers(synthesiser, chosen.speakers, seed)
    else:
        texts = read_texts(Path(chosen.texts))
        speakers = choose_speakers(synthesiser, chosen.speakers, chosen.blends, chosen.part, seed)
    rates, pitches = _limits("rate", chosen.rate), _limits("pitch", chosen.pitch)
    readings = reading.plan(synthesiser.name, texts, speakers, chosen.takes, rates, pitches, seed)
    made = reading.synthesise_corpus(
        readings, synthesiser, out, chosen.processes, kokoro_voices=chosen.kokoro_voices
    )
    there = len(readings) - made
    return f"{made} files made, {there} were there: {out / reading.MANIFEST}"


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    out = Path(chosen.out)
    if sum(x is not None for x in (chosen.texts, chosen.digits, chosen.english)) != 1:
        raise app.UsageError("give either --texts or --digits or --english")
    try:
        if chosen.digits is None:
            print(speak_texts(chosen, out))
        else:
            seed = digit_strings.TEST_SEED if chosen.seed is None else chosen.seed
            print(digit_strings.write_test_set(out, chosen.digits, seed))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"synthesise: {error}")
    except KeyboardInterrupt:
        sys.exit("synthesise: stopped; the same command goes on from here")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_enum("voices", "espeak", voices.ENGINES, "Engine that speaks.")
    flags.DEFINE_string("texts", None, "File of texts, one to a line.")
    flags.DEFINE_integer("digits", None, "Strings of a test set of digits, instead of --texts.", 1)
    flags.DEFINE_integer("english", None, "Lines of general English, instead of --texts.", 1)
    flags.DEFINE_string("out", None, "Directory of the audio and its manifest.")
    flags.DEFINE_list("speakers", [], "Speakers (commas between); default: all.")
    flags.DEFINE_enum(
        "part",
        "all",
        ("all", "train", "test"),
        "Which side of a split by voice (by --seed) speaks.",
    )
    flags.DEFINE_integer("blends", 0, "Speakers blended of two voices, to add (kokoro).", 0)
    flags.DEFINE_string(
        "kokoro_voices", None, "Directory of Kokoro's voice vectors; default: KOKORO_VOICES."
    )
    flags.DEFINE_integer("takes", 1, "Readings of each text, each by a random speaker.", 1)
    flags.DEFINE_list("rate", ["0.8", "1.25"], "Slowest and fastest; 1 is the voice's own.")
    flags.DEFINE_list("pitch", ["1", "1"], "Lowest and highest; 1 is the voice's own.")
    flags.DEFINE_integer(
        "seed", None, "Of speakers, rates and pitches; default: 1, with --digits 2001."
    )
    flags.DEFINE_integer("processes", 1, "Readings made at the same time.", 1)
    flags.mark_flag_as_required("out")
    tool.run(main)


if __name__ == "__main__":
    run()
