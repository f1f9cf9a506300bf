"""What Python makes of recordings with a general bundle and several grammars, for the JVM's tests.

    python -m tests.android_demo.general DIR

The bundle's model is not trained, so grammars have words that are what it hears.  Writes folders as
`android_demo.building.golden` does: `general`, without a grammar; `general-phrases` and
`general-slots`, with a grammar as a text; `general-own`, whose bundle has a grammar itself.
"""

import json
import pathlib
import shutil
import sys

import firmware_sim
from android_demo.building import golden
from firmware_sim import compile as compiling
from firmware_sim.grammar.source import Grammar
from tests import conftest

RECORDINGS = 6
HEARD = {"amber": 0, "birch": 1, "cedar": 2}  # a word is what is heard in the recording


def slots(bundle: pathlib.Path, recordings: list[tuple[str, golden.Samples]]) -> str:
    """A grammar over what the model hears in recordings, with the phones that it hears."""
    held = firmware_sim.load(bundle).use(phrases_file(bundle, "one two"))
    heard = {
        word: held.transcribe(recordings[number][1]).segments[0].free_text
        for word, number in HEARD.items()
    }
    expressions = {"say": ["$tree:tree (please)"], "count": ["[one, two] (three)"]}
    context = {"expressions": expressions, "slots": {"tree": list(heard)}, "pronunciations": heard}
    return json.dumps({"context": context})


def phrases_file(bundle: pathlib.Path, phrase: str) -> pathlib.Path:
    path = bundle.parent / "phrases.yaml"
    path.write_text(json.dumps({"context": {"expressions": {"phrase": [phrase]}}}))
    return path


def main(out: pathlib.Path) -> None:
    bundle = out / "model" / "bundle"
    shutil.rmtree(bundle.parent, ignore_errors=True)
    conftest.make_general(bundle, conftest.synthesise("one two three"))
    window = firmware_sim.load(bundle).bundle.window
    recordings = [(text, samples[:window]) for text, samples in golden.synthesised("digits")]
    recordings = recordings[:RECORDINGS]
    golden.record(str(bundle), recordings, out / "general")
    phrases = "one [two, three] (four)\n\noh a\nthe cows\n"
    golden.record(str(bundle), recordings, out / "general-phrases", phrases)
    grammar = slots(bundle, recordings)
    golden.record(str(bundle), recordings, out / "general-slots", grammar)
    (bundle.parent / "own.yaml").write_text(grammar)
    own = bundle.parent / "own"
    compiling.compile_onto(
        Grammar.read(bundle.parent / "own.yaml"), firmware_sim.load(bundle).bundle, own
    )
    golden.record(str(own), recordings, out / "general-own")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
