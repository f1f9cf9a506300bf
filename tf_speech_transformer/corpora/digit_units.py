"""Recordings of single digit words, cut out of longer speech: people's, or Kokoro's.

    python -m tf_speech_transformer.corpora.digit_units --corpus=DIR/transcripts.tsv \
        --out=voices/NAME
    KOKORO_VOICES=package/voices python -m tf_speech_transformer.corpora.digit_units \
        --kokoro_lists=600 --out=voices/kokoro --processes=2

From a corpus come the utterances of which every word is a digit: whole (`OUT/manifest.tsv`, which
points to the corpus's own files), and, where pauses tell the words apart, cut into words
(`OUT_units/`). A single word is too short for Kokoro, which garbles it: it speaks lists of ten, in
the accents below, which are cut at their pauses. Lists that cannot be cut are left out.

FLAC files, 16 kHz mono, and `manifest.tsv` (`audio`, `text`, `speaker`). The same command goes on
where a killed one stopped.
"""

import concurrent.futures
import csv
import functools
import itertools
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora.digit_strings import WORDS
from tf_speech_transformer.voices import kokoro, reading
from tf_speech_transformer.voices.reading import SAMPLE_RATE

# ruff: noqa: RUF001 - IPA is meant, not the Latin letters it looks like
# Pronunciations in Kokoro's letters, by accent: of natives, and of speakers of other languages.
PRONUNCIATIONS = {
    "us": "zˈɪɹO|zˈiɹO wˈʌn tˈu θɹˈi fˈɔɹ fˈIv sˈɪks sˈɛvən|sˈɛvᵊn ˈAt nˈIn",
    "british": "zˈɪəɹQ wˈʌn|wˈɒn tˈuː θɹˈiː fˈɔː fˈIv sˈɪks sˈɛvən|sˈɛvn ˈAt nˈIn",
    "french": "zˈiʁo|zˈeʁo|zˈiɹo wˈan|wˈʌn|wˈɔn tˈu sɹˈi|tʁˈi|fɹˈi fˈɔʁ|fˈɔɹ fˈajv|fˈIv sˈiks"
    " sˈɛvɛn|sˈevən ˈɛjt|ˈet nˈajn|nˈIn",
    "german": "zˈiɹo|zˈɛɹo|zˈiəʁo vˈan|wˈan|wˈɔn tʰˈu|tˈuː sɹˈi|θʁˈi fˈɔɐ|fˈɔː fˈaɪf|fˈIf"
    " sˈɪks|zˈɪks sˈɛvn|zˈɛvən|sˈɛfən ˈeːt|ˈɛɪt nˈaɪn",
    "spanish": "sˈiɾo|zˈiɾoʊ|zˈeɾo wˈan|ɡwˈan tˈu tɾˈi|θɾˈi|sɾˈi fˈoɾ|fˈɔɾ fˈaiv|fˈaif sˈiks"
    " sˈeben|sˈɛven ˈeit nˈain",
    "indian": "zˈiɾo|ʤˈiɾo|zˈiɾoː ʋˈan|wˈan ʈˈu|tˈuː θɾˈiː|tɾˈi|tʰɾˈiː fˈoːɾ|fˈɔɾ fˈaiʋ|fˈaːiv"
    " sˈɪks|siks sˈeʋən|sˈɛvən ˈeʈ|ˈeːt nˈain",
    "greek": "zˈiɾo|zˈiɹo ɣwˈan|wˈan tˈu θɾˈi|θɹˈi fˈoɾ fˈaiv sˈiks sˈeven ˈeit nˈain",
    "chinese": "zˈɪɹo|zˈiɹoʊ wˈan|wˈʌn tˈu sɹˈi|swˈi|θɹˈi fˈɔ|fˈɔɹ fˈaɪf|fˈaiv sˈɪks|sˈikəs"
    " sˈɛvən|sˈɛvɛn ˈet|ˈeɪt nˈaɪn|nˈain",
}
# What the speakers of a voice's language (the first letter of its name) are likely to sound like.
HOME = {
    "a": ("us",),
    "b": ("british",),
    "e": ("spanish", "greek", "us"),
    "f": ("french", "us"),
    "h": ("indian", "us"),
    "i": ("spanish", "greek", "british"),
    "j": ("chinese", "us"),
    "p": ("spanish", "us"),
    "z": ("chinese", "us"),
}
# A full stop and an opening quotation mark: a pause long enough to cut, but the list goes on.
SEPARATOR = ". “"
RATES = (0.75, 1.35)
BLENDS = 150


def cut_at_pauses(audio: np.ndarray, words: Sequence[int]) -> list[np.ndarray] | None:
    """The pieces between pauses; None where pauses do not tell them apart.

    Both the level of a pause and its shortest length are searched, from the strictest on, until
    there are as many pieces as wanted, of plausible lengths.

    Args:
        audio: float32 [samples] at 16 kHz.
        words: how many words each piece holds.

    Returns:
        Views into `audio`, with about 40 ms before and 50 ms after the sound.
    """
    hop = SAMPLE_RATE // 200  # 5 ms
    blocks = audio[: len(audio) // hop * hop].reshape(-1, hop)
    if not len(blocks):
        return None
    level = np.sqrt(np.mean(np.square(blocks), axis=1) + 1e-12)
    floor, peak = np.percentile(level, 10), np.percentile(level, 95)
    for relative in (0.03, 0.05, 0.08, 0.12):  # higher ones cut "seven" at its v
        threshold = max(relative * peak, 2.5 * floor)
        if threshold > 0.3 * peak:
            continue
        for pause in (36, 28, 22):  # blocks
            pieces = sounds(level > threshold, pause)
            if len(pieces) == len(words) and all(
                32 * count <= last - first <= 190 * count and level[first:last].max() > 0.2 * peak
                for (first, last), count in zip(pieces, words, strict=True)
            ):
                return _with_margins(audio, pieces, hop)
    return None


def sounds(loud: np.ndarray, pause: int) -> list[tuple[int, int]]:
    """Runs (first, after the last) of loud blocks, joined over fewer than `pause` quiet ones; those
    of less than 12 blocks are clicks, and left out."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for first, last in edges.reshape(-1, 2).tolist():
        if runs and first - runs[-1][1] < pause:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return [run for run in runs if run[1] - run[0] >= 12]


def _with_margins(audio: np.ndarray, pieces: list[tuple[int, int]], hop: int) -> list[np.ndarray]:
    cut = []
    for i, (first, last) in enumerate(pieces):
        low = (pieces[i - 1][1] + first) // 2 if i else 0
        high = (last + pieces[i + 1][0]) // 2 if i + 1 < len(pieces) else len(audio) // hop
        cut.append(audio[max(low, first - 8) * hop : min(high, last + 10) * hop])
    return cut


# ---------------------------------------------------------------------------------- recordings


def digits_only(text: str) -> str | None:
    """The words of a text if all of them are digits."""
    words = text.lower().replace(",", " ").replace(".", " ").split()
    return " ".join(words) if words and all(word in WORDS for word in words) else None


def read_transcripts(path: Path) -> list[tuple[Path, str, str]]:
    """Audio file, digit words and speaker of each utterance that is digits and nothing else.

    Raises:
        ValueError: no such file, another header, or not one such utterance.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}: give a corpus's transcripts.tsv by --corpus")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"audio", "text", "speaker"} <= rows[0].keys():
        raise ValueError(f"{path} needs a header line with audio, text and speaker, and rows")
    chosen = [
        (path.parent / row["audio"], words, row["speaker"])
        for row in rows
        if (words := digits_only(row["text"]))
    ]
    if not chosen:
        raise ValueError(f"{path}: none of its {len(rows)} utterances holds only digits")
    return chosen


def cut_corpus(transcripts: Path, out: Path) -> tuple[int, int]:
    """Writes `out` and `out`_units; returns how many utterances and units there are."""
    utterances = read_transcripts(transcripts)
    name, units = out.name, out.with_name(f"{out.name}_units")
    whole = [
        (os.path.relpath(audio, out), words, f"{name}_{speaker}")
        for audio, words, speaker in utterances
    ]
    rows = []
    for audio, text, speaker in tqdm(utterances, "cutting", unit="utt", disable=None):
        samples, rate = soundfile.read(audio, dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
        words = text.split()
        pieces = cut_at_pauses(mono, [1] * len(words)) if len(words) > 1 else None
        for k, (word, piece) in enumerate(zip(words, pieces or (), strict=False)):
            file = f"audio/{audio.stem}_{k}.flac"
            reading.write_audio(units / file, piece)
            rows.append((file, word, f"{name}_{speaker}"))
    out.mkdir(parents=True, exist_ok=True)
    reading.write_manifest(out / reading.MANIFEST, whole)
    if rows:
        reading.write_manifest(units / reading.MANIFEST, rows)
    return len(whole), len(rows)


# -------------------------------------------------------------------------------------- Kokoro


def list_speakers(names: Sequence[str]) -> list[str]:
    """All voices, and blends of two: every third has a voice of another language in front."""
    chance = random.Random(20)
    english = [name for name in names if name[0] in "ab"]
    foreign = [name for name in names if name[0] not in "ab"]
    chance.shuffle(english)
    chance.shuffle(foreign)

    def pick(pool: Sequence[str]) -> str:
        sex = "m" if chance.random() < 0.65 else "f"
        return chance.choice([name for name in pool if name[1] == sex] or list(pool))

    blends: list[str] = []
    pairs: set[frozenset[str]] = set()
    most = len(names) * (len(names) - 1) // 2
    while len(blends) < min(BLENDS, most // 2):
        one = pick([*english, *foreign] if len(blends) % 3 == 0 else english or names)
        other = pick(names)
        weight = chance.choice((0.3, 0.4, 0.5, 0.6, 0.7))
        if one != other and frozenset((one, other)) not in pairs:
            pairs.add(frozenset((one, other)))
            blends.append(kokoro.blend(one, other, weight))
    return [*english, *foreign, *blends]


def speak_list(engine: kokoro.Kokoro, number: int) -> list[tuple[str, np.ndarray, str]]:
    """Text, audio (16 kHz) and speaker of what one list gave; the same for the same number.

    Two lists in three are ten single digits; the third is strings of two to five.
    """
    speakers = list_speakers(engine.speakers())
    turn, speaker = number // len(speakers), speakers[number % len(speakers)]
    chance = random.Random(f"{turn}/{speaker}")
    lead = chance.choice([part[0] for part in speaker.split("+")])
    anyone = chance.random() < 0.3
    accent = chance.choice(tuple(PRONUNCIATIONS) if anyone else HOME[lead])
    words = chance.sample(WORDS, len(WORDS))
    items = [[word] for word in words]
    if turn % 3 == 2:
        words += chance.choices(WORDS, k=2)
        ends = chance.choice(((0, 4, 8, 12), (0, 5, 9, 12), (0, 3, 7, 12), (0, 3, 6, 9, 12)))
        items = [words[a:b] for a, b in itertools.pairwise(ends)]
    letters = dict(zip(WORDS, PRONUNCIATIONS[accent].split(), strict=True))
    between = chance.choice((" ", " ", " ", ", "))
    said = [
        between.join(chance.choice(letters[word].split("|")) for word in item) for item in items
    ]
    rate = chance.uniform(*RATES)
    audio = engine.speak(SEPARATOR.join(said) + ".", speaker, rate)
    audio = soxr.resample(audio, engine.sample_rate, SAMPLE_RATE)
    pieces = cut_at_pauses(audio, [len(item) for item in items])
    if pieces is None:
        return []
    return [(" ".join(item), piece, speaker) for item, piece in zip(items, pieces, strict=True)]


@functools.cache
def _engine_of_process(kokoro_voices: str | None) -> kokoro.Kokoro:
    return kokoro.Kokoro(kokoro_voices, english_only=False)


def write_list(kokoro_voices: str | None, out: Path, number: int) -> None:
    """Speaks a list into files and a line of rows, `lists/NUMBER.json`; the latter comes last."""
    rows = []
    for k, (text, audio, speaker) in enumerate(
        speak_list(_engine_of_process(kokoro_voices), number)
    ):
        file = f"audio/{number:05d}_{k}.flac"
        reading.write_audio(out / file, audio)
        rows.append((file, text, speaker))
    journal = out / "lists" / f"{number:05d}.json"
    journal.parent.mkdir(parents=True, exist_ok=True)
    partial = journal.with_suffix(".partial")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(journal)


def speak_lists(kokoro_voices: str | None, out: Path, lists: int, processes: int) -> int:
    """Makes the lists missing in `out`, and its manifest; returns how many units it has."""
    _engine_of_process(kokoro_voices)  # what is missing shows before the work
    missing = [n for n in range(lists) if not (out / "lists" / f"{n:05d}.json").exists()]
    work = functools.partial(write_list, kokoro_voices, out)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, spawn) as pool:
        try:
            for _ in tqdm(
                pool.map(work, missing), "speaking", len(missing), unit="list", disable=None
            ):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    rows: list[tuple[str, ...]] = []
    for number in range(lists):
        rows += map(tuple, json.loads((out / "lists" / f"{number:05d}.json").read_text()))
    reading.write_manifest(out / reading.MANIFEST, rows)
    return len(rows)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    out = Path(chosen.out)
    try:
        if (chosen.corpus is None) == (chosen.kokoro_lists is None):
            raise ValueError("give either --corpus or --kokoro_lists")
        if chosen.corpus is not None:
            whole, units = cut_corpus(Path(chosen.corpus), out)
            print(f"{whole} utterances: {out}; {units} words cut from them: {out}_units")
        else:
            units = speak_lists(chosen.kokoro_voices, out, chosen.kokoro_lists, chosen.processes)
            print(f"{units} units of {chosen.kokoro_lists} lists: {out / reading.MANIFEST}")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"digit_units: {error}")
    except KeyboardInterrupt:
        sys.exit("digit_units: stopped; the same command goes on from here")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("corpus", None, "transcripts.tsv of a corpus of recordings.")
    flags.DEFINE_integer("kokoro_lists", None, "Lists for Kokoro to speak.", 1)
    flags.DEFINE_string(
        "kokoro_voices", None, "Directory of Kokoro's voice vectors; default: KOKORO_VOICES."
    )
    flags.DEFINE_string("out", None, "Directory of the audio and its manifest.")
    flags.DEFINE_integer("processes", 1, "Lists spoken at the same time.", 1)
    flags.mark_flag_as_required("out")
    tool.run(main)


if __name__ == "__main__":
    run()
