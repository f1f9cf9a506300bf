"""Word error rate of a Keras model, decoded greedily token by token as a device does it.

    python -m tf_speech_transformer.training.evaluate --workdir=runs/digits --manifest=TEST.tsv \
        [--stages=float,ptq,qat] [--limit=N]

prints a line for each stage of training and writes `keras.json` into the workdir. It holds `wer`
and `results` of each stage: `audio`, `reference` and `hypothesis` of each utterance, and whether it
was `cut` to the encoder's window. Models of 8 bits are evaluated in a device's own arithmetic
(`quantization.exact`).
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import tensorflow as tf
from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import corpus
from tf_speech_transformer.corpora.features import as_float, frontend_of, microfrontend
from tf_speech_transformer.model import quantization
from tf_speech_transformer.model.blocks import CausalConvolution
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import runs


class GreedyDecoder:
    """Decodes batches greedily, one token of each text at a time, as a device does."""

    def __init__(self, model: SpeechTransformer, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        signature = [
            tf.TensorSpec([None, None, model.dims.feature_channels], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
        self._decode = tf.function(self._tokens, input_signature=signature, autograph=False)

    def __call__(self, features: tf.Tensor, frames: tf.Tensor) -> list[str]:
        """B texts of features float32 [B, T, F] and frames int32 [B]."""
        rows, end = self._decode(features, frames).numpy(), self.tokenizer.end
        return [self.tokenizer.decode(row[: _length(row, end)].tolist()) for row in rows]

    def _tokens(self, features, frames):
        """int32 [B, U]"""
        dims = self.model.dims
        batch = tf.shape(features)[0]
        memory_mask = self.model.memory_mask(frames, tf.shape(features)[1] // TIME_REDUCTION)
        memory, _ = self.model.encode(features, memory_mask)
        caches = tuple(tf.zeros([batch, self.max_tokens, dims.d_model]) for _ in self.model.decoder)
        before = CausalConvolution.WIDTH - 1
        windows = tuple(tf.zeros([batch, before, channels]) for channels in dims.window_channels)
        token = tf.fill([batch, 1], self.tokenizer.start)
        texts = tf.fill([batch, 0], 0)
        done = tf.zeros([batch], tf.bool)

        def more(step, token, texts, done, caches, windows):
            unfinished = tf.logical_not(tf.reduce_all(done))
            return tf.logical_and(step < self.max_tokens, unfinished)

        def advance(*state):
            return self._advance(memory, memory_mask, *state)

        cache_shape = tf.TensorShape([None, self.max_tokens, dims.d_model])
        loop = tf.while_loop(
            more,
            advance,
            (0, token, texts, done, caches, windows),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, 1]),
                tf.TensorShape([None, None]),
                tf.TensorShape([None]),
                tuple(cache_shape for _ in caches),
                tuple(tf.TensorShape([None, before, size]) for size in dims.window_channels),
            ),
        )
        return loop[2]

    def _advance(self, memory, memory_mask, step, token, texts, done, caches, windows):
        """The state of the loop after one more token of each text."""
        model, tokenizer, dims = self.model, self.tokenizer, self.model.dims
        positions = tf.range(self.max_tokens + 1)
        valid = tf.logical_or(positions < step, tf.equal(positions, self.max_tokens))
        mask = tf.where(valid, 0.0, model.mask_value)[None, None, None, :]
        one_hot = tf.one_hot(token, dims.vocabulary)
        position = tf.one_hot(step, self.max_tokens)[None, None, :]
        logits, rows, newest = model.decode_step(
            one_hot, mask, memory_mask, caches, memory, windows, position
        )
        forbidden = tf.one_hot([tokenizer.start, tokenizer.blank], dims.vocabulary, 1e9, 0.0)
        best = tf.argmax(logits - tf.reduce_sum(forbidden, 0), -1, output_type=tf.int32)
        best = tf.where(done, tokenizer.end, best)
        slot = tf.one_hot(step, self.max_tokens)[None, :, None]
        caches = tuple(cache + slot * row for cache, row in zip(caches, rows, strict=True))
        windows = tuple(
            tf.concat([window[:, 1:], tf.convert_to_tensor(row)], 1)
            for window, row in zip(windows, newest, strict=True)
        )
        texts = tf.concat([texts, best[:, None]], 1)
        done = tf.logical_or(done, tf.equal(best, tokenizer.end))
        return step + 1, best[:, None], texts, done, caches, windows


def _length(row: np.ndarray, end: int) -> int:
    ends = np.flatnonzero(row == end)
    return int(ends[0]) if len(ends) else len(row)


def transcribe(
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    features: Iterable[np.ndarray],
    max_frames: int,
    max_tokens: int,
    batch_size: int = 100,
    description: str = "decoding",
) -> list[str]:
    """Texts of utterances given as float features [frames, F], each padded to `max_frames`."""
    utterances = list(features)
    decode = GreedyDecoder(model, tokenizer, max_tokens)
    texts: list[str] = []
    for first in tqdm(
        range(0, len(utterances), batch_size), description, leave=False, disable=None
    ):
        part = utterances[first : first + batch_size]
        padded = np.zeros([len(part), max_frames, model.dims.feature_channels], np.float32)
        for row, utterance in zip(padded, part, strict=True):
            row[: len(utterance)] = utterance
        frames = np.array([len(utterance) for utterance in part], np.int32)
        texts += decode(tf.constant(padded), tf.constant(frames))
    return texts


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    """Words wrong (substituted, deleted, inserted) per word of the references, by jiwer."""
    return float(jiwer.wer(references, hypotheses))


def evaluate(workdir: Path, stages: list[str], manifest: Path, limit: int) -> dict[str, Any]:
    """WER and transcripts of a run's stages on a manifest, in the manifest's order."""
    utterances = corpus.read_manifest(manifest)
    utterances = utterances[:limit] if limit else utterances
    frontend = frontend_of(runs.read_config(workdir))
    features = [
        as_float(microfrontend(utterance.audio(), frontend))
        for utterance in tqdm(utterances, "features", disable=None)
    ]
    references = [utterance.text for utterance in utterances]
    result = {}
    for stage in stages:
        model, tokenizer, config = runs.load(workdir, stage)
        window = config.limits.frames
        cut = sum(len(x) > window for x in features)
        if cut:
            print(f"{cut} utterances are longer than {window} frames: their ends are not heard")
        with quantization.exact():
            texts = transcribe(
                model,
                tokenizer,
                [x[:window] for x in features],
                window,
                config.limits.tokens,
                description=f"{stage} Keras",
            )
        rows = [
            {
                "audio": str(u.source.relative_to(manifest.parent)),
                "reference": r,
                "hypothesis": t,
                "cut": len(x) > window,
            }
            for u, r, t, x in zip(utterances, references, texts, features, strict=True)
        ]
        result[stage] = {"wer": word_error_rate(references, texts), "results": rows}
    return result


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    workdir = Path(flags.FLAGS.workdir)
    try:
        result = evaluate(
            workdir, flags.FLAGS.stages, Path(flags.FLAGS.manifest), flags.FLAGS.limit
        )
        out = Path(flags.FLAGS.json) if flags.FLAGS.json else workdir / "keras.json"
        temporary = out.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=1))
        temporary.replace(out)
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")
    for stage, figures in result.items():
        print(f"{stage:6s} WER {100 * figures['wer']:6.2f} %")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("workdir", None, "Directory of the training run.")
    flags.DEFINE_string("manifest", None, "Tab-separated file: audio, text, speaker.")
    flags.DEFINE_list("stages", list(runs.STAGES), "Which models of the run.")
    flags.DEFINE_integer("limit", 0, "Only the first utterances; 0 takes all.")
    flags.DEFINE_string("json", None, "Output; default: keras.json in the workdir.")
    flags.mark_flags_as_required(["workdir", "manifest"])
    tool.run(main)


if __name__ == "__main__":
    run()
