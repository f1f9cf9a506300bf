"""Makes a corpus of the commands of a grammar, spoken by synthetic voices.

    KOKORO_VOICES=package/voices python -m tf_speech_transformer.commands --grammar=FILE.yaml \
        --voices=kokoro --count=2000 --out=voices/kokoro --processes=2

writes audio and a manifest as `synthesise.py` does. People pause, say "um" and begin again, and so
do these voices; the manifest's text is the command that was meant. The same command goes on where a
killed one stopped.
"""

import sys
from pathlib import Path

from absl import app, flags

from firmware_sim.command_line import tool
from firmware_sim.grammar.source import Grammar
from tf_speech_transformer import voices
from tf_speech_transformer.corpora import spoken_commands
from tf_speech_transformer.voices import reading


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    out = Path(chosen.out)
    try:
        grammar = Grammar.read(Path(chosen.grammar))
        engine = reading.make_engine(chosen.voices, chosen.kokoro_voices, english_only=False)
        readings = spoken_commands.plan(grammar, engine, chosen.count, chosen.seed)
        made = reading.synthesise_corpus(
            readings, engine, out, chosen.processes, kokoro_voices=chosen.kokoro_voices
        )
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"commands: {error}")
    except KeyboardInterrupt:
        sys.exit("commands: stopped; the same command goes on from here")
    print(f"{made} files made, {len(readings) - made} were there: {out / reading.MANIFEST}")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("grammar", None, "What is said: a YAML file of phrases.")
    flags.DEFINE_enum("voices", "kokoro", voices.ENGINES, "Engine that speaks.")
    flags.DEFINE_integer("count", 2000, "Commands.", 1)
    flags.DEFINE_string("out", None, "Directory of the audio and its manifest.")
    flags.DEFINE_string(
        "kokoro_voices", None, "Directory of Kokoro's voice vectors; default: KOKORO_VOICES."
    )
    flags.DEFINE_integer("seed", 1, "Of commands, speakers, rates and pitches.")
    flags.DEFINE_integer("processes", 1, "Commands spoken at the same time.", 1)
    flags.mark_flags_as_required(["grammar", "out"])
    tool.run(main)


if __name__ == "__main__":
    run()
