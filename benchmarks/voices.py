"""What each voice adds: short runs with all voices and without each, heard by the same people.

    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/digits.py \
        --workdir=runs/digits                                   # its float stage is enough
    PRESET="--config=tf_speech_transformer/configs/commands.py:grammars/barista.yaml"
    PRESET="$PRESET --config.voices=DIR --config.train.initial=runs/digits/weights.npz"
    python -m benchmarks.voices $PRESET --data=BARISTA --out=runs/voices --json=OUT.json \
        [--rows=all,kokoro] [--steps=3000] [--examples=16000] [--seed=1]

Each row is a run of the preset in OUT/ROW without the row's voices. The others are drawn more
often, so that all rows have as many examples and steps. `talk` is people's speech other than
commands. The initial weights should have heard none of the voices; untrained weights take thousands
of steps before they listen.

So few steps train only a shallow encoder. The float32 bundles are compared, and none of what they
hear is rejected. The figures say what a row lacks beside `all`, not what a bundle can do;
`--rows=all` with another seed, in another OUT, shows the spread by chance. BARISTA is what
`benchmarks.commands` takes, which measures each. The same command goes on where a killed one
stopped.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from benchmarks import commands, report, wer
from firmware_sim.grammar.source import Grammar
from tf_speech_transformer.training import preset, runs

ALL = "all"
TALK, NOTHING = "talk", "nothing"  # people who say no command, and silence
LAYERS = 4  # of the encoder
CONDITIONS = (commands.CLEAN, "18", "12")


def voice_of(source: Any) -> str:
    """The row that a source of the preset is left out of."""
    if source["kind"] == "recorded":
        return Path(source["manifest"]).parent.name if source.get("balanced") else TALK
    return source.get("engine", source["kind"])


def rows(config: ml_collections.ConfigDict) -> list[str]:
    """All that there are."""
    names = map(voice_of, config.corpus.sources)
    return [ALL, *dict.fromkeys(name for name in names if name != NOTHING)]


def config_of(
    chosen: ml_collections.ConfigDict, row: str, steps: int, examples: int, seed: int = 1
) -> ml_collections.ConfigDict:
    """The preset, as `preset.read` gives it, without the row's voices, as a short float run.

    Raises ValueError for voices that it does not have.
    """
    config = chosen.copy_and_resolve_references()
    config.unlock()
    config.seed = seed
    sources = [dict(source) for source in config.corpus.sources]
    kept = tuple(source for source in sources if voice_of(source) != row)
    if row != ALL and len(kept) == len(sources):
        there = ", ".join(rows(config)[1:])
        raise ValueError(f"no voices {row!r} in config.voices or config.talk: there are {there}")
    if {voice_of(source) for source in kept} <= {NOTHING, TALK}:
        raise ValueError(f"without {row} nobody says a command: add voices to config.voices")
    config.corpus.sources = kept
    config.corpus.train_examples = examples
    config.corpus.dev_examples = 100  # those of rows are of other voices: not compared
    config.model.encoder_layers = LAYERS
    config.train.steps = steps
    config.quantization.range_steps = config.quantization.steps = 0
    return config


def bundle_of(row: str, config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """Trains the row and writes its float32 bundle, where that is not done.

    Raises ValueError for a workdir of another configuration.
    """
    runs.prepare(config, workdir)
    directory = workdir / "bundle_float32"
    if not directory.is_dir():
        # TensorFlow takes seconds to import.
        from tf_speech_transformer import train
        from tflite_convert import convert

        print(f"{row}: {', '.join(voice_of(source) for source in config.corpus.sources)}")
        train.train(config, workdir)
        model, tokenizer, config = runs.load(workdir, "float")
        grammar = Grammar.read(workdir / runs.GRAMMAR_FILE)
        convert.write(model, tokenizer, config, directory, {}, grammar, reject_below=0.0)
    return directory


def accepted(file: Path) -> dict[str, float]:
    """Share of orders accepted in each condition, of a file of `benchmarks.commands`."""
    measured = json.loads(file.read_text())["engines"]["bundle"]["conditions"]
    return {condition: measured[condition]["accepted"] for condition in CONDITIONS}


def table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Each row, its mean, and what it lacks beside `all`."""
    means = {row: sum(found.values()) / len(found) for row, found in measured.items()}
    lines = []
    for row, found in measured.items():
        cells = [f"{100 * share:.1f}" for share in (*found.values(), means[row])]
        less = f"{100 * (means[row] - means[ALL]):+.1f}" if ALL in measured else "-"
        lines.append([row if row == ALL else f"without {row}", *cells, less])
    header = ["voices", *(x if x == commands.CLEAN else f"{x} dB" for x in CONDITIONS)]
    return report.table([*header, "mean", "beside all"], lines)


def main(argv: Sequence[str]) -> int:
    arguments: Any = flags.FLAGS
    out, figures = Path(arguments.out), {"machine": report.machine(), "rows": {}}
    try:
        commands.read_recordings(Path(arguments.data), 0)  # all is there before the work begins
        chosen = preset.read(arguments.config)
        configs = {
            row: config_of(chosen, row, arguments.steps, arguments.examples, arguments.seed)
            for row in arguments.rows or rows(chosen)
        }
        for row, config in configs.items():
            bundle = bundle_of(row, config, out / row)
            measured = out / row / "commands.json"
            wer.call(
                "benchmarks.commands",
                *(f"--data={arguments.data}", f"--bundle={bundle}", f"--json={measured}"),
                f"--conditions={','.join(CONDITIONS)}",
            )
            figures["rows"][row] = accepted(measured)
            report.write_json(arguments.json, figures)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return report.fail(error)
    print(report.heading(f"Orders accepted, %, after {arguments.steps} steps", figures["machine"]))
    print(table(figures["rows"]))
    return 0


def run() -> None:
    config_flags.DEFINE_config_file("config", None, "The preset `commands`.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_string("data", None, "Directory of the barista benchmark.", required=True)
    flags.DEFINE_string("out", None, "Directory of the runs, one a row.", required=True)
    flags.DEFINE_list("rows", None, "all, and what is left out; default: each that is there.")
    flags.DEFINE_integer("steps", 3_000, "Of each run.", lower_bound=1)
    flags.DEFINE_integer("examples", 16_000, "That each run learns from.", lower_bound=1)
    flags.DEFINE_integer("seed", 1, "Of examples and training.", lower_bound=0)
    flags.DEFINE_string("json", None, "Where to write the figures.")
    app.run(main)


if __name__ == "__main__":
    run()
