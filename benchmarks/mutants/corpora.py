"""Grammars, manifests, archives and records: what training and evaluation read."""

import contextlib
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.mutants.kind import Unequal
from benchmarks.mutants.mutation import mutate
from firmware_sim.compile import size
from firmware_sim.evaluate import EvaluationError
from firmware_sim.evaluate import read_manifest as read_test_set
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.source import Grammar as Source
from tf_speech_transformer.corpora import audio, corpus, records
from tf_speech_transformer.text.tokenizer import CharacterTokenizer

_GRAMMARS: Final = Path(__file__).parents[2] / "grammars"
_PIECES: Final = (
    "[", "]", "(", ")", ",", "$", "@", ":", "\n", "  ", "- ", '"', "'", "*a", "&a ", "? ", "{", "}",
    "$size:size ", "$pv.Percent ", "macros: {m: [x]}\n", "[a, b] ", "(a) ", "\u2019", "\0", "~",
)  # fmt: skip
_TEXTS: Final = ("one two", "it\u2019s three", "four", "five six", "seven")


class Grammar:
    """The grammars of the repository, damaged as text and as bytes."""

    refusals = (GrammarError,)

    def __init__(self) -> None:
        self._texts = [path.read_text() for path in sorted(_GRAMMARS.glob("*.yaml"))]

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        text = self._texts[rng.integers(len(self._texts))]
        if rng.random() < 0.3:
            data = mutate(text.encode(), rng, [x.encode() for x in self._texts])
        else:
            for _ in range(rng.integers(1, 6)):
                place, length = int(rng.integers(len(text) + 1)), int(rng.geometric(0.1))
                piece = str(_PIECES[rng.integers(len(_PIECES))])
                if rng.random() < 0.3:
                    piece = text[place : place + length] * int(rng.choice([0, 2, 3, 200]))
                text = text[:place] + piece + text[place + length * int(rng.integers(2)) :]
            data = text.encode()
        path = folder / "grammar.yaml"
        path.write_bytes(data)
        return path

    def use(self, path: Path) -> None:
        grammar = Source.read(path)
        size(grammar)
        command = grammar.sample(np.random.default_rng(0))
        if grammar.parse(command.text) is None:
            raise Unequal(f"{command.text!r} is drawn from it and is no sentence of it")


class Manifest:
    """Lists of recordings, read for training and for evaluation."""

    refusals = (corpus.CorpusError, EvaluationError)

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        rows = [f"{i}.wav\t{text}\tvoice {i % 2}\n" for i, text in enumerate(_TEXTS * 5)]
        for i in range(len(rows)):
            (folder / f"{i}.wav").touch()
        path = folder / "manifest.tsv"
        path.write_bytes(mutate(("audio\ttext\tspeaker\n" + "".join(rows)).encode(), rng))
        return path

    def use(self, path: Path) -> None:
        refusal: Exception | None = None
        try:
            read_test_set(path)
        except EvaluationError as error:
            refusal = error
        with contextlib.redirect_stdout(io.StringIO()):
            utterances = corpus.read_manifest(path)
            corpus.check_texts(path, utterances, CharacterTokenizer().encode)
        corpus.manifest_speakers(path)
        if refusal is not None:
            raise refusal


class Archive:
    """LibriSpeech as tar files of all compressions."""

    refusals = (corpus.CorpusError, audio.AudioError)

    def __init__(self) -> None:
        self._archives = [_archive(mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")]
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "whole.tar"
            path.write_bytes(self._archives[0])
            self.use(path)  # loads what decodes, which no mutant is to blame for

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        path = folder / "dev-clean.tar"
        path.write_bytes(mutate(self._archives[rng.integers(4)], rng))
        return path

    def use(self, path: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for utterance in corpus.read_librispeech(path):
                utterance.audio()


class Records:
    """Records and their descriptions; a changed byte of a record must not go unnoticed."""

    refusals = (corpus.CorpusError,)

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "dev.tar").write_bytes(_archive("w"))
            made = folder / "made"
            with contextlib.redirect_stdout(io.StringIO()):
                records.write(corpus.read_librispeech(folder / "dev.tar"), made, "wheel")
            self._files = {path.name: path.read_bytes() for path in made.iterdir()}
            self._features = list(records.Records([made], "wheel", 1000, 100))

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        damaged = "00000.tfrecord" if rng.random() < 0.7 else str(rng.choice(list(self._files)))
        for name, data in self._files.items():
            (folder / name).write_bytes(mutate(data, rng) if name == damaged else data)
        return folder

    def use(self, path: Path) -> None:
        found = list(records.Records([path], "wheel", 1000, 100))
        if len(found) == len(self._features) and not all(
            np.array_equal(x, y) for x, y in zip(found, self._features, strict=True)
        ):
            raise Unequal("other features than were written")


def _archive(mode: str) -> bytes:
    """A LibriSpeech corpus of five utterances."""
    rng = np.random.default_rng(1)
    content = io.BytesIO()
    directory = "LibriSpeech/dev-clean/84/121"
    lines = "".join(f"84-121-{i:04d} {text.upper()}\n" for i, text in enumerate(_TEXTS))
    files = {f"{directory}/84-121.trans.txt": lines.encode()}
    for i in range(len(_TEXTS)):
        sound = io.BytesIO()
        samples = rng.integers(-2000, 2000, 4000).astype(np.int16)
        soundfile.write(sound, samples, 16000, format="FLAC")
        files[f"{directory}/84-121-{i:04d}.flac"] = sound.getvalue()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()
