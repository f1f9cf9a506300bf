"""Greedy decoding says what the whole decoder would, whatever else is in the batch."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import REPOSITORY, synthesise
from tests.tf_speech_transformer.model.test_transformer import TINY
from tf_speech_transformer.corpora.features import as_float, microfrontend
from tf_speech_transformer.model.transformer import SpeechTransformer, build
from tf_speech_transformer.text.tokenizer import CharacterTokenizer
from tf_speech_transformer.training import evaluate, runs

FRAMES, TOKENS = 128, 12
TOKENIZER = CharacterTokenizer()


@pytest.fixture(scope="module")
def model() -> SpeechTransformer:
    """Untrained, with weights large enough that its texts depend on the speech."""
    runs.set_seed(8)
    built = build(dataclasses.replace(TINY, vocabulary=TOKENIZER.size), quantized=False)
    for variable in built.trained_variables:
        variable.assign(2.0 * variable)
    return built


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    spoken = [synthesise(text) for text in ("one", "two six", "seven")]
    return [as_float(microfrontend(samples))[:FRAMES] for samples in spoken]


def greedy_with_the_whole_decoder(model: SpeechTransformer, features: np.ndarray) -> str:
    """The text by `decode` on ever longer prefixes, without caches."""
    padded = np.pad(features, [(0, FRAMES - len(features)), (0, 0)])[None]
    inputs = {"features": tf.constant(padded), "frames": tf.constant([len(features)])}
    tokens = [TOKENIZER.start]
    for _ in range(TOKENS):
        logits = model({**inputs, "tokens": tf.constant([tokens])})[0][0, -1].numpy()
        logits[[TOKENIZER.start, TOKENIZER.blank]] = -np.inf
        best = int(np.argmax(logits))
        if best == TOKENIZER.end:
            break
        tokens.append(best)
    return TOKENIZER.decode(tokens[1:])


@pytest.fixture(scope="module")
def texts(model: SpeechTransformer, features: list[np.ndarray]) -> list[str]:
    """Of all the features in one batch."""
    return evaluate.transcribe(model, TOKENIZER, features, FRAMES, TOKENS)


def test_texts_in_a_batch_equal_those_of_the_whole_decoder_alone(
    model: SpeechTransformer, features: list[np.ndarray], texts: list[str]
) -> None:
    assert texts == [greedy_with_the_whole_decoder(model, x) for x in features]
    assert len(set(texts)) > 1, "the texts must depend on the speech, or nothing is tested"
    assert max(len(set(text)) for text in texts) > 3


def test_word_error_rate_counts_every_kind_of_error() -> None:
    assert evaluate.word_error_rate(["one two three four"], ["one two three four"]) == 0.0
    # One substituted, one deleted, one inserted, of six words.
    references, hypotheses = ["one two three", "four five six"], ["one ten three", "five six two"]
    assert evaluate.word_error_rate(references, hypotheses) == pytest.approx(3 / 6)


def test_a_missing_manifest_is_one_clear_sentence(tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    workdir.mkdir()
    command = [
        sys.executable,
        "-m",
        "tf_speech_transformer.training.evaluate",
        f"--workdir={workdir}",
    ]
    done = subprocess.run(
        [*command, f"--manifest={tmp_path / 'missing.tsv'}"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode != 0
    assert "missing.tsv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workdir / "keras.json").exists()


def test_results_are_in_the_order_of_the_manifest(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, model: SpeechTransformer
) -> None:
    import soundfile

    texts = ["two six", "one", "seven"]
    for text in texts:
        soundfile.write(tmp_path / f"{text}.wav", synthesise(text), 16000)
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("audio\ttext\n" + "".join(f"{t}.wav\t{t}\n" for t in texts))
    config = ml_collections.ConfigDict({"limits": {"frames": FRAMES, "tokens": TOKENS}})
    (tmp_path / "config.json").write_text(config.to_json())
    monkeypatch.setattr(evaluate.runs, "load", lambda *_: (model, TOKENIZER, config))
    result = evaluate.evaluate(tmp_path, ["float"], manifest, limit=2)
    rows = result["float"]["results"]
    assert [(row["audio"], row["reference"], row["cut"]) for row in rows] == [
        ("two six.wav", "two six", False),
        ("one.wav", "one", False),
    ]
    assert result["float"]["wer"] >= 0
    assert json.loads(json.dumps(result)) == result
