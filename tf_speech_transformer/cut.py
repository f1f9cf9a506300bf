"""Cuts phrases of a few words out of recorded sentences: more beginnings, endings and neighbours.

    python -m tf_speech_transformer.cut --manifest=DATA/readers/transcripts.tsv --out=DATA/pieces

A model that trains for long knows the sentences of few people by heart.  Their pieces are others,
and as short as commands are.  A general bundle aligns each sentence's phones; words
that it does not hear are in no piece.  `--out` gets 16 kHz mono FLAC files and `manifest.tsv`
(`audio`, `text`, `speaker`); the manifest comes last.
"""

import hashlib
import itertools
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from absl import app, flags
from tqdm import tqdm

from firmware_sim import bundle as bundles
from firmware_sim.command_line import tool
from firmware_sim.grammar.pronunciation import PronunciationError
from firmware_sim.recognizer import Recognizer, compute_features, encoder_inputs
from firmware_sim.runtimes import runtime
from firmware_sim.search.ctc import ctc_align, merge_repeats
from firmware_sim.sound.frontend import SAMPLE_RATE
from tf_speech_transformer.corpora import corpus, readers
from tf_speech_transformer.voices import reading

MOST: Final = 4  # words of a piece
MARGIN: Final = 0.04  # seconds around a word
HEARD: Final = 0.5  # least share of a word's phones
_SECONDS_A_FRAME: Final = 0.04  # of the encoder's memory
_SEED: Final = 1

Samples = npt.NDArray[np.int16]
Span = tuple[int, int]


class Aligner:
    """Finds words in recordings by a general bundle; raises BundleError for another one."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer, self._pronunciations = recognizer, recognizer.pronunciations
        self._encoder = runtime.load(recognizer.runtime_name, recognizer.bundle.encoder, 1)

    def words(self, samples: Samples, texts: Sequence[str]) -> list[tuple[Span, bool]]:
        """First sample of each word, the one after its last, and whether it was heard.

        Empty if they cannot be aligned: a word that cannot be said, or a longer recording than the
        window.
        """
        bundle = self.recognizer.bundle
        assert bundle.phones is not None
        features = compute_features(bundle, samples)
        if not 0 < len(features) <= bundle.limits.frames:
            return []
        try:
            ways = [self._pronunciations.of(word)[0] for word in texts]
        except PronunciationError:
            return []
        outputs = self._encoder.invoke(encoder_inputs(bundle, features))
        count = bundle.limits.memory_positions(len(features))
        logits = outputs["phone_logits"][0, :count]  # as they are: a frame's scale is one for all
        phones, blank = tuple(itertools.chain(*ways)), bundle.phones.blank
        spans = ctc_align(logits, phones, blank)
        if spans is None:
            return []
        ends = np.cumsum([len(way) for way in ways])
        firsts = spans[ends - [len(way) for way in ways], 0]
        # Phones peak early; a word ends where the next begins.
        lasts = np.append(
            firsts[1:] * _SECONDS_A_FRAME, spans[-1, 1] * _SECONDS_A_FRAME + 2 * MARGIN
        )
        places = np.stack([firsts * _SECONDS_A_FRAME - MARGIN, lasts + MARGIN], 1)
        best = logits.argmax(1)
        heard = [
            len(set(way) & set(merge_repeats(best[first:last], blank))) >= HEARD * len(set(way))
            for way, first, last in zip(ways, firsts, [*firsts[1:], spans[-1, 1]], strict=True)
        ]
        samples_of = np.rint(np.clip(places, 0, None) * SAMPLE_RATE).astype(int).tolist()
        return [((a, b), x) for (a, b), x in zip(samples_of, heard, strict=True)]


def pieces(
    words: Sequence[tuple[Span, bool]], texts: Sequence[str], chance: random.Random
) -> Iterator[tuple[Span, str]]:
    """Pieces of one to `MOST` words beside one another, which cover a sentence, and their texts.

    A piece with a word that was not heard is left out, as is the whole sentence.
    """
    first = 0
    while first < len(words):
        last = min(len(words), first + chance.randint(1, MOST))
        chosen = words[first:last]
        if last - first < len(words) and all(heard for _, heard in chosen):
            yield (chosen[0][0][0], chosen[-1][0][1]), " ".join(texts[first:last])
        first = last


def cut(manifest: Path, aligner: Aligner, out: Path) -> int:
    """Cuts the sentences of a manifest; returns how many pieces `out` has then.

    Raises:
        CorpusError: the manifest cannot be used.
        AudioError: a recording cannot be decoded.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    for utterance in tqdm(corpus.read_manifest(manifest), "cutting", unit="file", disable=None):
        texts = readers.letters_of(utterance.text).split()
        source = os.path.relpath(utterance.source, manifest.parent)
        name = hashlib.sha256(f"{source}{utterance.name}".encode()).hexdigest()[:16]
        chance = random.Random(f"{_SEED} {name}")
        samples = utterance.audio()
        words = aligner.words(samples, texts) if texts else []
        for number, ((start, end), text) in enumerate(pieces(words, texts, chance)):
            file = f"audio/{name[:2]}/{name}_{number}.flac"
            if not (out / file).is_file():
                reading.write_audio(out / file, samples[start:end].astype(np.float32) / 32768)
            rows.append((file, text, utterance.speaker or corpus.UNKNOWN))
    reading.write_manifest(out / reading.MANIFEST, rows)
    return len(rows)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    out = Path(flags.FLAGS.out)
    try:
        aligner = Aligner(Recognizer(bundles.load(flags.FLAGS.bundle)))
        made = cut(Path(flags.FLAGS.manifest), aligner, out)
        print(f"{made} pieces: {out / reading.MANIFEST}")
    except (bundles.BundleError, ValueError, OSError, RuntimeError) as error:
        sys.exit(f"cut: {error}")
    except KeyboardInterrupt:
        sys.exit("cut: stopped; the same command begins again")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("bundle", "english", "A general bundle: name, directory or .zip.")
    flags.DEFINE_string("manifest", None, "Sentences of people, with their transcripts.")
    flags.DEFINE_string("out", None, "Directory of the pieces and their manifest.")
    flags.mark_flags_as_required(["manifest", "out"])
    tool.run(main)


if __name__ == "__main__":
    run()
