"""Measures a bundle on a corpus: word and character errors, time, memory.

    python -m firmware_sim.evaluate --bundle=DIR --manifest=FILE.tsv --json=OUT.json
    python -m firmware_sim.evaluate ... --runtime=tflm --compare=litert-reference --limit=50

The manifest is tab-separated with a header: `audio` (relative to the manifest), `text`, and
optionally `speaker`; other columns are ignored. Texts are compared in lower case. Bad files are
skipped, counted and reported; more than --max_bad of them fail the run.

For a bundle with a grammar the text of its commands is measured, or with --nogrammar its text
without the grammar.
"""

import csv
import dataclasses
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import jiwer
import numpy as np
import tqdm
from absl import flags

from firmware_sim.bundle import BundleError
from firmware_sim.command_line import options, tool
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes.runtime import RUNTIMES, ExecutionError
from firmware_sim.search.results import Transcription
from firmware_sim.sound import audio

_MANIFEST = flags.DEFINE_string(
    "manifest", None, "Tab-separated corpus: audio, text, speaker.", required=True
)
_JSON = flags.DEFINE_string("json", None, "Where to write the figures.")
_COMPARE = flags.DEFINE_enum(
    "compare", None, list(RUNTIMES), "Also transcribe on this runtime, and compare the texts."
)
_LIMIT = flags.DEFINE_integer("limit", None, "Only the first utterances.", lower_bound=1)
_MAX_BAD = flags.DEFINE_float(
    "max_bad", 0.01, "Largest share of bad files.", lower_bound=0.0, upper_bound=1.0
)
_PERCENTILES: Final = (50, 90, 99)
_BAD_SHOWN: Final = 10


class EvaluationError(Exception):
    """A corpus that cannot be evaluated, or figures that cannot be written."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A line of the manifest."""

    audio: pathlib.Path
    name: str  # the audio as the manifest names it
    text: str
    speaker: str | None


@dataclasses.dataclass(frozen=True)
class Result:
    """An utterance and its transcription."""

    utterance: Utterance
    transcription: Transcription


@dataclasses.dataclass(frozen=True)
class ErrorRates:
    """Errors over reference words and characters; empty references count their insertions."""

    wer: float | None  # None without a single reference word
    cer: float | None
    words: int
    utterances: int


def read_manifest(path: str | pathlib.Path, limit: int | None = None) -> list[Utterance]:
    """Reads a tab-separated manifest.

    Raises:
      EvaluationError: if it cannot be read, lacks a column, has a short line or no utterance.
    """
    path = pathlib.Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path}: cannot be read as a manifest ({error}).") from error
    header = rows[0] if rows else []
    for column in ("audio", "text"):
        if column not in header:
            raise EvaluationError(
                f"{path}: the first line has no column {column!r}; it must name tab-separated "
                "columns audio, text and optionally speaker."
            )
    utterances = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise EvaluationError(
                f"{path}:{number}: {len(row)} columns where the first line has {len(header)}; "
                "separate them by single tabs."
            )
        cells = dict(zip(header, row, strict=True))
        utterances.append(
            Utterance(
                path.parent / cells["audio"], cells["audio"], cells["text"], cells.get("speaker")
            )
        )
    if not utterances:
        raise EvaluationError(f"{path}: lists no utterance.")
    return utterances[:limit]


def normalise(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def error_rates(pairs: Iterable[tuple[str, str]]) -> ErrorRates:
    """WER and CER of (reference, hypothesis) pairs, normalised, over the whole corpus."""
    word_errors = words = character_errors = characters = count = 0
    references, hypotheses = [], []
    for reference, hypothesis in ((normalise(r), normalise(h)) for r, h in pairs):
        count += 1
        if reference:
            references.append(reference)
            hypotheses.append(hypothesis)
        else:
            word_errors += len(hypothesis.split())
            character_errors += len(hypothesis)
    if references:
        by_word = jiwer.process_words(references, hypotheses)
        by_character = jiwer.process_characters(references, hypotheses)
        words = by_word.hits + by_word.substitutions + by_word.deletions
        word_errors += by_word.substitutions + by_word.deletions + by_word.insertions
        characters = by_character.hits + by_character.substitutions + by_character.deletions
        character_errors += (
            by_character.substitutions + by_character.deletions + by_character.insertions
        )
    return ErrorRates(
        wer=word_errors / words if words else None,
        cer=character_errors / characters if characters else None,
        words=words,
        utterances=count,
    )


def unspeakable(references: Sequence[str], tokens: Iterable[str]) -> str | None:
    """A warning of references with letters that no text of the bundle can have; None without.

    They count as errors, however well the words were recognised.
    """
    known = set(" ".join(tokens).lower()) | {" "}
    bad = [text for text in references if not set(normalise(text)) <= known]
    if not bad:
        return None
    letters = "".join(sorted(set().union(*(set(normalise(text)) for text in bad)) - known))
    return (
        f"warning: {len(bad)} of {len(references)} references have characters that the bundle "
        f"never writes ({letters[:40]}), as in {bad[0][:60]!r}: their words count as errors; write "
        "texts as they are spoken, without punctuation and figures"
    )


def transcribe_all(
    recognizer: Recognizer, utterances: Sequence[Utterance], max_bad: float
) -> tuple[list[Result], list[str]]:
    """Transcribes a corpus.

    Returns:
      the results in order, and a sentence for each bad file that was skipped.

    Raises:
      EvaluationError: if more than `max_bad` (a share) of the files are bad.
    """
    results: list[Result] = []
    bad: list[str] = []
    name = recognizer.runtime_name
    for utterance in tqdm.tqdm(utterances, desc=name, unit="utt", disable=None):  # on terminals
        try:
            samples = audio.read(utterance.audio)
        except audio.AudioError as error:
            bad.append(str(error))
            continue
        results.append(Result(utterance, recognizer.transcribe(samples)))
    if len(bad) > max_bad * len(utterances) or not results:
        shown = "\n".join(f"  {reason}" for reason in bad[:_BAD_SHOWN])
        raise EvaluationError(
            f"{len(bad)} of {len(utterances)} audio files are bad, more than --max_bad={max_bad}; "
            f"mend the corpus or raise the limit:\n{shown}"
        )
    return results, bad


def figures(
    recognizer: Recognizer, results: Sequence[Result], bad: Sequence[str], load_seconds: float
) -> dict[str, Any]:
    """Everything measured, ready for JSON; times in milliseconds unless the name says otherwise.

    `load_seconds`: from the bundle's path to a recogniser that is ready.
    """
    rates = error_rates((r.utterance.text, r.transcription.text) for r in results)
    audio_seconds = sum(r.transcription.audio_seconds for r in results)
    seconds = sum(r.transcription.seconds for r in results)
    segments = [s for r in results for s in r.transcription.segments]
    speakers: dict[str, list[Result]] = {}
    for result in results:
        if result.utterance.speaker is not None:
            speakers.setdefault(result.utterance.speaker, []).append(result)
    return {
        "bundle": str(recognizer.bundle.path),
        "preset": recognizer.bundle.preset,
        "precision": recognizer.bundle.precision,
        "runtime": recognizer.runtime_name,
        "wer": rates.wer,
        "cer": rates.cer,
        "words": rates.words,
        "utterances": rates.utterances,
        "bad": list(bad),
        "cut_off": sum(not s.ended for s in segments),
        "audio_seconds": audio_seconds,
        "seconds": seconds,
        "rtf": seconds / audio_seconds if audio_seconds else None,
        "model_bytes": sum(
            len(model.data) for model in (recognizer.bundle.encoder, recognizer.bundle.decoder_step)
        ),
        "load_seconds": load_seconds,
        "latency_ms": {
            "frontend": _percentiles([s.frontend_seconds for s in segments]),
            "encoder": _percentiles([s.encoder_seconds for s in segments]),
            "decoder_step": _percentiles([t for s in segments for t in s.step_seconds]),
            "utterance": _percentiles([r.transcription.seconds for r in results]),
        },
        # Linux counts it in KiB.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "arena_bytes": recognizer.arena_bytes,
        "wer_by_speaker": {
            speaker: error_rates((r.utterance.text, r.transcription.text) for r in own).wer
            for speaker, own in sorted(speakers.items())
        },
        "results": [
            {
                "audio": r.utterance.name,
                "reference": normalise(r.utterance.text),
                "hypothesis": normalise(r.transcription.text),
                "score": r.transcription.score,
                "seconds": r.transcription.seconds,
                **({"speaker": r.utterance.speaker} if r.utterance.speaker is not None else {}),
            }
            for r in results
        ],
    }


def compare(results: Sequence[Result], others: Sequence[Result]) -> dict[str, Any]:
    """Share of identical texts on two runtimes, and the other's error rates."""
    same = sum(
        normalise(a.transcription.text) == normalise(b.transcription.text)
        for a, b in zip(results, others, strict=True)
    )
    rates = error_rates((r.utterance.text, r.transcription.text) for r in others)
    return {"identical": same / len(results), "wer": rates.wer, "cer": rates.cer}


def table(measured: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        ("bundle", f"{measured['preset']}, {measured['precision']}, on {measured['runtime']}"),
        (
            "utterances",
            f"{measured['utterances']} ({measured['audio_seconds']:.1f} s, {measured['words']} "
            f"words; {len(measured['bad'])} bad files skipped, {measured['cut_off']} cut off)",
        ),
        ("WER", _percent(measured["wer"])),
        ("CER", _percent(measured["cer"])),
        ("RTF", "-" if measured["rtf"] is None else f"{measured['rtf']:.4f}"),
        ("models", f"{measured['model_bytes'] / 1e6:.2f} MB"),
        ("load time", f"{measured['load_seconds']:.2f} s"),
    ]
    for part, values in measured["latency_ms"].items():
        shown = "  ".join(f"{name} {value:.2f}" for name, value in values.items())
        lines.append((f"{part.replace('_', ' ')}, ms", shown or "-"))
    lines.append(("peak memory", f"{measured['peak_memory_bytes'] / 1e6:.0f} MB"))
    for model, size in measured["arena_bytes"].items():
        if size is not None:
            lines.append((f"arena, {model.replace('_', ' ')}", f"{size / 1024:.0f} KiB"))
    for speaker, wer in measured["wer_by_speaker"].items():
        lines.append((f"WER of {speaker}", _percent(wer)))
    if "compare" in measured:
        other = measured["compare"]
        lines.append((f"same text on {other['runtime']}", _percent(other["identical"])))
        lines.append((f"WER on {other['runtime']}", _percent(other["wer"])))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def write_json(path: str | pathlib.Path, content: dict[str, Any]) -> None:
    """Writes the whole file or nothing.

    Raises:
      EvaluationError: if it cannot be written; an older file of that name stays as it was.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EvaluationError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another "
            "--json."
        ) from error


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    try:
        if len(argv) > 1:
            raise EvaluationError(
                f"Unexpected argument {argv[1]!r}; name the corpus by --manifest."
            )
        if _JSON.value is not None and not pathlib.Path(_JSON.value).parent.is_dir():
            raise EvaluationError(f"{_JSON.value}: its directory does not exist; create it first.")
        utterances = read_manifest(_MANIFEST.value, _LIMIT.value)
        started = time.perf_counter()
        recognizer = options.recognizer()
        load_seconds = time.perf_counter() - started
        warning = unspeakable([x.text for x in utterances], recognizer.bundle.tokenizer.tokens)
        if warning:
            print(warning, file=sys.stderr)
        results, bad = transcribe_all(recognizer, utterances, _MAX_BAD.value)
        measured = figures(recognizer, results, bad, load_seconds)
        if _COMPARE.value is not None:
            other = options.recognizer(_COMPARE.value)
            others, _ = transcribe_all(other, utterances, _MAX_BAD.value)
            measured["compare"] = {"runtime": _COMPARE.value, **compare(results, others)}
        if _JSON.value is not None:
            write_json(_JSON.value, measured)
    except (EvaluationError, BundleError, ExecutionError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for reason in bad[:_BAD_SHOWN]:
        print(f"skipped: {reason}", file=sys.stderr)
    print(table(measured))
    return 0


def run() -> None:
    """Entry point of the console script."""
    tool.run(main)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds by name; nothing for no values."""
    if not seconds:
        return {}
    values = np.percentile(seconds, _PERCENTILES) * 1000.0
    return {f"p{p}": float(value) for p, value in zip(_PERCENTILES, values, strict=True)}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100.0 * share:.2f} %"


if __name__ == "__main__":
    run()
