"""Phrases cut out of recorded sentences."""

import pathlib
import random

import numpy as np
import numpy.typing as npt
import soundfile

from firmware_sim import bundle as bundles
from firmware_sim.recognizer import Recognizer
from tests.conftest import REPOSITORY, run_module
from tf_speech_transformer import cut
from tf_speech_transformer.corpora import corpus

ENGLISH = REPOSITORY / "pretrained" / "english"


def test_words_lie_one_after_the_other_where_they_are_said(speech: npt.NDArray[np.int16]) -> None:
    aligner = cut.Aligner(Recognizer(bundles.load(ENGLISH)))
    spans = [span for span, _ in aligner.words(speech, ["one", "two", "three"])]
    middles = [(start + end) / 2 for start, end in spans]
    energy = np.square(speech.astype(float))
    said = np.flatnonzero(energy > energy.max() / 100)
    assert said[0] < middles[0] < middles[1] < middles[2] < said[-1]
    assert aligner.words(speech, ["one"] * 99) == []
    assert aligner.words(speech, ["1"]) == []
    unlike = aligner.words(speech, ["hippopotamus"])
    assert [heard for _, heard in unlike] == [False]


def test_pieces_cover_a_sentence_but_for_what_was_not_heard() -> None:
    texts = list("abcdefgh")
    words = [((10 * i, 10 * i + 12), text != "d") for i, text in enumerate(texts)]
    found = list(cut.pieces(words, texts, random.Random(3)))
    assert found == list(cut.pieces(words, texts, random.Random(3)))
    said = " ".join(text for _, text in found).split()
    assert said == sorted(set(said)) and "d" not in said and len(said) >= 4
    for (start, end), text in found:
        count = len(text.split())
        assert count <= cut.MOST and end - start == 10 * count + 2
        assert start == 10 * texts.index(text[0])


def test_the_command_writes_a_manifest_and_explains_mistakes(
    speech: npt.NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    lines = ["audio\ttext\tspeaker\n"]
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        soundfile.write(tmp_path / name, speech, 16000)
        lines.append(f"{name}\tOne, two, three!\tann\n")
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("".join(lines))
    out = tmp_path / "out"
    flags = (f"--manifest={manifest}", f"--out={out}")
    done = run_module("tf_speech_transformer.cut", *flags)
    assert done.returncode == 0, done.stderr
    found = corpus.read_manifest(out / "manifest.tsv")
    assert found and all(x.speaker == "ann" for x in found)
    assert {word for x in found for word in x.text.split()} <= {"one", "two", "three"}
    assert all(0 < len(x.audio()) < len(speech) for x in found)
    wrong = run_module("tf_speech_transformer.cut", "--bundle=digits", *flags)
    assert wrong.returncode == 1 and "understands only what it was trained for" in wrong.stderr
    assert "Traceback" not in wrong.stderr
