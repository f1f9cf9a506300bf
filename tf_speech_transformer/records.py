"""Makes sharded TFRecords of a large corpus, which training reads from disk.

    python -m tf_speech_transformer.records --out=records/train --features=paper --processes=2 \
        --corpus=train-clean-100.tar.gz --corpus=train-clean-360.tar.gz --corpus=LibriSpeech/...

A corpus is a LibriSpeech tree or archive, or a manifest (`.tsv`). Each subset of LibriSpeech is
counted beside its published size. The same command goes on where a killed one stopped.

A preset that trains on records names their directories: `config.corpus.records` and `dev_records`.
"""

import collections
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from firmware_sim.command_line import tool
from tf_speech_transformer.corpora import records
from tf_speech_transformer.corpora.features import FRONTENDS
from tf_speech_transformer.corpora.records import PUBLISHED


def summary(descriptions: Sequence[dict[str, Any]]) -> list[str]:
    """Utterances, hours and speakers of each subset, beside the published ones."""
    seconds: dict[str, float] = collections.defaultdict(float)
    count: collections.Counter[str] = collections.Counter()
    speakers: dict[str, set[str]] = collections.defaultdict(set)
    for description in descriptions:
        for *_, speaker, length, where in description["records"]:
            seconds[where] += length
            count[where] += 1
            speakers[where].add(speaker)
    lines = []
    for where in (*PUBLISHED, "other"):
        if count[where]:
            line = f"{where}: {count[where]:,} utterances, {seconds[where] / 3600:.2f} h"
            line += f", {len(speakers[where])} speakers"
            if where in PUBLISHED:
                utterances, hours = PUBLISHED[where]
                missing = utterances - count[where]
                lacking = f"; {missing:,} are not here" if missing > 0 else ""
                line += f" (published: {utterances:,} utterances, {hours} h{lacking})"
            lines.append(line)
    return lines


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    chosen = flags.FLAGS
    began = time.monotonic()
    try:
        utterances = records.read([Path(path) for path in chosen.corpus])
        descriptions = records.write(
            utterances, Path(chosen.out), chosen.features, chosen.processes
        )
    except (ValueError, OSError) as error:
        sys.exit(f"records: {error}")
    except KeyboardInterrupt:
        sys.exit("records: stopped; the same command goes on from here")
    print("\n".join(summary(descriptions)))
    hours = sum(x[5] for description in descriptions for x in description["records"]) / 3600
    print(f"{hours:.2f} h in {chosen.out}; this run took {(time.monotonic() - began) / 60:.1f} min")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_multi_string("corpus", None, "A LibriSpeech tree or archive, or a manifest.")
    flags.DEFINE_string("out", None, "Directory of the records.")
    flags.DEFINE_enum("features", "wheel", list(FRONTENDS), "What computes the features.")
    flags.DEFINE_integer("processes", os.cpu_count(), "Shards made at the same time.", 1)
    flags.mark_flags_as_required(["corpus", "out"])
    tool.run(main)


if __name__ == "__main__":
    run()
