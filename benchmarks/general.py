"""A general bundle held to grammars that it was never trained on, by recordings of people.

    python -m benchmarks.people --spoken_digits=DIR --out=digits_people
    python -m benchmarks.general --bundle=english --json=OUT.json \
        [--digits=digits_people/manifest.tsv] [--noise=kitchen.flac] \
        [--sentences=MANIFEST,...] [--commands=GRAMMAR=MANIFEST,...] [--others=MANIFEST,...]

- `digits`: strings of 1 to 7 digits, WER, clean and with the noise at 12 dB;
- `sentences`: 30 short words of speakers that training held out, right of 100. Each is cut from its
  sentence where the bundle itself aligns the sentence's phones, so words that it does not find are
  cut badly; a quarter of a second of silence lies around;
- `commands`: those that mean what was said, of 100, of recordings that a grammar accepts, such as
  `phrases.txt` or a file of `grammars/`, read by voices that no training heard;
- `others`: speech that is no command, held to each of `grammars/`: utterances with a command.
  All of these by several thresholds of confidence, `reject_below` of a grammar;
- how long a grammar takes to become a bundle's, also one of 10,000 names.

Orders of the barista benchmark: `compile` the grammar onto the bundle, then `benchmarks.commands`.
"""

import functools
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import jiwer
import numpy as np
import numpy.typing as npt
from absl import app, flags
from tqdm import tqdm

from benchmarks import commands, people, report
from firmware_sim import bundle as bundles
from firmware_sim.grammar import templates
from firmware_sim.grammar.source import Grammar
from firmware_sim.recognizer import Recognizer, compute_features
from firmware_sim.sound.frontend import SAMPLE_RATE
from tf_speech_transformer import cut
from tf_speech_transformer.corpora import audio, corpus

# fmt: off
WORDS: Final = (
    "yes", "no", "up", "right", "on", "go", "one", "now", "good", "here", "why", "only", "again",
    "come", "day", "more", "help", "much", "love", "like", "done", "over", "back", "room",
    "morning", "work", "night", "three", "happy", "home",
)
# fmt: on
DIGITS: Final = ("oh", *people.WORDS)
LONGEST: Final = 7  # digits of a string
SILENCE: Final = 0.25  # seconds around what was cut
NOISE_DB: Final = 12.0
NAMES: Final = 10_000
THRESHOLDS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
GRAMMARS: Final = tuple(sorted((Path(__file__).parents[1] / "grammars").glob("*.yaml")))

Samples = npt.NDArray[np.int16]
Figures = dict[str, Any]


def grammar_of(text: str) -> Grammar:
    """The grammar of a file's content."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "grammar.yaml"
        path.write_text(text)
        return Grammar.read(path)


def of_digits() -> Grammar:
    """Strings of up to `LONGEST` digits."""
    phrase = ""
    for _ in range(LONGEST):
        phrase = f"$digit ({phrase})" if phrase else "$digit"
    values = ", ".join(DIGITS)
    return grammar_of(
        f"context: {{expressions: {{d: ['{phrase}']}}, slots: {{digit: [{values}]}}}}"
    )


def of_words(words: Sequence[str]) -> Grammar:
    """Each word is a command."""
    values = ", ".join(f'"{word}"' for word in words)
    return grammar_of(f"context: {{expressions: {{say: [$word]}}, slots: {{word: [{values}]}}}}")


def heard(recognizer: Recognizer, samples: Samples) -> tuple[str, float]:
    """The likeliest sentence of the grammar, and how certain it is; "" if there is none."""
    features = compute_features(recognizer.bundle, samples)[: recognizer.bundle.limits.frames]
    segment = recognizer.recognize(features, 0, len(samples))
    return segment.text, segment.confidence or 0.0


def by_threshold(function: Callable[[float], float]) -> dict[str, float]:
    """A figure at each of the thresholds."""
    return {str(threshold): function(threshold) for threshold in THRESHOLDS}


def digits(recognizer: Recognizer, manifest: Path, noise: Samples | None) -> Figures:
    """WER of strings of digits, without and with noise, by threshold."""
    held = recognizer.use(of_digits(), reject_below=0.0)
    said: list[str] = []
    texts = {
        name: list[tuple[str, float]]() for name in ("clean", "12 dB")[: 1 if noise is None else 2]
    }
    for utterance in tqdm(corpus.read_manifest(manifest), "digits", unit="file", disable=None):
        samples = utterance.audio()
        said.append(utterance.text.replace("oh", "zero"))
        texts["clean"].append(heard(held, samples))
        if noise is not None:
            mixed = commands.mix(samples, noise, NOISE_DB, utterance.source.name)
            texts["12 dB"].append(heard(held, mixed))

    def wer(found: list[tuple[str, float]], threshold: float) -> float:
        kept = [text if sure >= threshold else "" for text, sure in found]
        return 100 * jiwer.wer(said, [text.replace("oh", "zero") for text in kept])

    return {name: by_threshold(functools.partial(wer, found)) for name, found in texts.items()}


def cut_words(
    recognizer: Recognizer, manifests: Sequence[Path], words: Sequence[str]
) -> Iterator[tuple[str, Samples]]:
    """Those of the words that held-out speakers say, cut from their sentences."""
    aligner = cut.Aligner(recognizer)
    silence = np.zeros(round(SILENCE * SAMPLE_RATE), np.int16)
    for manifest in manifests:
        utterances = corpus.read_manifest(manifest)
        speakers = {x.speaker or corpus.UNKNOWN for x in utterances}
        held_out = set(corpus.part_of(speakers, "dev"))
        for utterance in tqdm(utterances, manifest.parent.name, unit="file", disable=None):
            if (utterance.speaker or corpus.UNKNOWN) not in held_out:
                continue
            texts = utterance.text.split()
            if not set(words).isdisjoint(texts):
                samples = utterance.audio()
                spans = aligner.words(samples, texts)
                for word, ((start, end), _) in zip(texts, spans, strict=False):
                    if word in words:
                        yield word, np.concatenate([silence, samples[start:end], silence])


def single_words(recognizer: Recognizer, manifests: Sequence[Path]) -> Figures:
    """How many are right, of 100, by threshold."""
    held = recognizer.use(of_words(WORDS), reject_below=0.0)
    pairs = [(word, heard(held, x)) for word, x in cut_words(recognizer, manifests, WORDS)]
    right = [sure for word, (text, sure) in pairs if text == word]
    count = max(1, len(pairs))
    shares = by_threshold(lambda least: 100 * sum(sure >= least for sure in right) / count)
    return {"words": len(pairs), "right": shares}


def command_share(recognizer: Recognizer, grammar: Path, manifest: Path) -> Figures:
    """How many commands are right, intent and slots, of 100, by threshold.

    Raises ValueError: the grammar does not accept a text of the manifest.
    """
    accepted = templates.read(grammar)
    held = recognizer.use(accepted, reject_below=0.0)
    utterances = corpus.read_manifest(manifest)
    right: list[float] = []
    for utterance in tqdm(utterances, grammar.stem, unit="file", disable=None):
        meant = accepted.parse(utterance.text)
        if meant is None:
            raise ValueError(f"{manifest}: {utterance.text!r} is no command of {grammar}")
        found = held.transcribe(utterance.audio())
        if [(x.intent, x.slots) for x in found.commands] == [(meant.intent, meant.slots)]:
            right.append(found.commands[0].confidence)
    shares = by_threshold(lambda least: 100 * sum(x >= least for x in right) / len(utterances))
    return {"commands": len(utterances), "right": shares}


def others(recognizer: Recognizer, manifests: Sequence[Path]) -> Figures:
    """Utterances of each manifest that a grammar takes for a command, by grammar and threshold."""
    figures: Figures = {}
    held = {path.stem: recognizer.use(path, reject_below=0.0) for path in GRAMMARS}
    for manifest in manifests:
        utterances = corpus.read_manifest(manifest)
        found: dict[str, list[float]] = {name: [] for name in held}
        for utterance in tqdm(utterances, manifest.parent.name, unit="file", disable=None):
            samples = utterance.audio()
            for name, each in held.items():
                pieces = each.transcribe(samples).segments
                found[name].append(max((x.command_confidence for x in pieces), default=0.0))
        figures[manifest.parent.name] = {
            "utterances": len(utterances),
            **{name: by_threshold(functools.partial(_taken, sure)) for name, sure in found.items()},
        }
    return figures


def _taken(confidences: list[float], threshold: float) -> int:
    """How many are no less certain, of those that are commands at all."""
    return sum(x > 0 and x >= threshold for x in confidences)


def compile_seconds(recognizer: Recognizer) -> Figures:
    """From a grammar's file to a recogniser that knows it."""
    letters = random.Random(1)
    names = ["".join(letters.choices("aeioubdfgklmnprst", k=7)) for _ in range(NAMES)]
    values = ", ".join(f"{name} {other}" for name, other in itertools.pairwise([*names, names[0]]))
    text = f"context: {{expressions: {{call: [call $who]}}, slots: {{who: [{values}]}}}}"
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        many = Path(directory) / "10,000 names.yaml"
        many.write_text(text)
        for path in (*GRAMMARS, many):
            begin = time.perf_counter()
            recognizer.use(path)
            figures[path.stem] = time.perf_counter() - begin
    return figures


def rows(figures: Figures) -> list[list[str]]:
    """Lines of the table: seconds, then figures at each threshold."""
    empty = [""] * (len(THRESHOLDS) - 1)
    lines = [["compile " + name, f"{x:.2f} s", *empty] for name, x in figures["compile"].items()]
    lines.append(["rejected below", *(f"{x:g}" for x in THRESHOLDS)])
    for name, wer in figures.get("digits", {}).items():
        lines.append([f"digits, {name}, WER", *(f"{x:.1f} %" for x in wer.values())])
    if "words" in figures:
        found = figures["words"]
        shares = (f"{x:.1f} %" for x in found["right"].values())
        lines.append([f"single words, right of {found['words']}", *shares])
    for name, found in figures.get("commands", {}).items():
        shares = (f"{x:.1f} %" for x in found["right"].values())
        lines.append([f"{name}, right of {found['commands']}", *shares])
    for name, found in figures.get("others", {}).items():
        count = found["utterances"]
        for grammar in (x for x in found if x != "utterances"):
            label = f"{name}, commands of {grammar} in {count}"
            lines.append([label, *map(str, found[grammar].values())])
    return lines


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    figures: Figures = {"machine": report.machine()}
    try:
        recognizer = Recognizer(bundles.load(arguments.bundle), arguments.runtime)
        figures["compile"] = compile_seconds(recognizer)
        if arguments.digits:
            noise = None
            if arguments.noise:
                noise = audio.load(Path(arguments.noise))
            figures["digits"] = digits(recognizer, Path(arguments.digits), noise)
        if arguments.sentences:
            figures["words"] = single_words(recognizer, [Path(x) for x in arguments.sentences])
        figures["commands"] = {
            Path(grammar).stem: command_share(recognizer, Path(grammar), Path(manifest))
            for grammar, _, manifest in (pair.partition("=") for pair in arguments.commands)
        }
        if arguments.others:
            figures["others"] = others(recognizer, [Path(x) for x in arguments.others])
        report.write_json(arguments.json, figures)
    except (OSError, ValueError) as error:
        return report.fail(error)
    print(report.heading(f"{arguments.bundle} on {arguments.runtime}", figures["machine"]))
    print(report.table(["line", "figure", *[""] * (len(THRESHOLDS) - 1)], rows(figures)))
    return 0


def run() -> None:
    flags.DEFINE_string("bundle", "english", "A general bundle: name, directory or .zip.")
    flags.DEFINE_string("runtime", "litert", "Runtime of the models.")
    flags.DEFINE_string("digits", None, "Manifest of strings of digits (benchmarks.people).")
    flags.DEFINE_string("noise", None, "Recording of noise, 16 kHz, for the digits.")
    flags.DEFINE_list("sentences", [], "Manifests with held-out speakers, for single words.")
    flags.DEFINE_list("commands", [], "GRAMMAR=MANIFEST of what voices say of a grammar.")
    flags.DEFINE_list("others", [], "Manifests of speech that is no command.")
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
