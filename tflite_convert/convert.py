"""Turns a trained run into bundles and proves that the 8-bit one is all-integer.

    python -m tflite_convert.convert --workdir=runs/digits [--ptq] [--float32]

writes `bundle/` and `bundle.zip`, the quantization-aware model, into the workdir; for comparison,
with --ptq also `bundle_ptq/`, the float weights with ranges estimated after training, and with
--float32 also `bundle_float32/`, the float model.  A run's grammar and its language model
(`tf_speech_transformer.language`) go into all of them.
"""

import json
import sys
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

from firmware_sim.command_line import tool
from firmware_sim.grammar.confusion import Confusions
from firmware_sim.grammar.phones import PHONES
from firmware_sim.grammar.pronunciation import ENGLISH
from firmware_sim.grammar.source import Grammar
from firmware_sim.storage.writing import check_target
from tf_speech_transformer import language
from tf_speech_transformer.corpora.features import frontend_of
from tf_speech_transformer.model.dimensions import TIME_REDUCTION
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import Tokenizer
from tf_speech_transformer.training import confusions, runs
from tflite_convert import bundle, flatbuffer, inspect

REJECT_BELOW = 0.6  # confidence under which a device takes speech for no command


class ConversionError(Exception):
    """The flatbuffers are not what a device was promised."""


def convert_model(model: SpeechTransformer, limits: dict[str, int]) -> dict:
    """The two flatbuffers with their signatures.

    Raises:
      ConversionError: if a tensor is float, or a product not the same on every runtime (the model's
        ranges were not settled).
    """
    models = {
        "encoder": flatbuffer.convert_encoder(model, limits["frames"]),
        "decoder_step": flatbuffer.convert_decoder_step(model, limits["frames"], limits["tokens"]),
    }
    if model.quantized:
        violations = []
        for name, (content, _) in models.items():
            violations += inspect.inspect(f"{name}.tflite", content).violations()
        if violations:
            raise ConversionError(
                "not all-integer, or not on every runtime: " + "; ".join(violations[:5])
            )
        check_shared_scales(models)
    return models


def check_shared_scales(models: dict) -> None:
    """The bytes that one flatbuffer writes and the next reads must mean the same numbers."""
    written = {spec["name"]: spec for _, sig in models.values() for spec in sig["outputs"]}
    for spec in models["decoder_step"][1]["inputs"]:
        name = spec["name"]
        source = name.replace("cache", "row").replace("window", "newest")
        if source not in written:
            continue
        other = written[source]
        if (spec["scale"], spec["zero_point"]) != (other["scale"], other["zero_point"]):
            raise ConversionError(f"decoder_step reads {name} at another scale than {source} has")


def write(
    model: SpeechTransformer,
    tokenizer: Tokenizer,
    config,
    directory: Path,
    wer: dict,
    grammar: Grammar | None = None,
    language_model: tuple[bytes, dict[str, float]] | None = None,
    reject_below: float = REJECT_BELOW,
    heard: Confusions | None = None,
) -> None:
    """Converts a model and writes its bundle, with the run's grammar and language model.

    `heard`: the model's confusions of phones.
    """
    limits = {
        "frames": config.limits.frames,
        "memory_frames": config.limits.frames // TIME_REDUCTION,
        "tokens": config.limits.tokens,
    }
    general = None
    if model.phones is not None:
        learned = config.train.ctc_weight < 1  # else nobody has taught the decoder
        general = bundle.General(PHONES, ENGLISH.read_bytes(), heard, free_text=learned)
    bundle.write_bundle(
        directory,
        preset=config.preset,
        precision="int8" if model.quantized else "float32",
        limits=limits,
        mask_value=model.mask_value,
        frontend=frontend_of(config),
        tokenizer=tokenizer,
        models=convert_model(model, limits),
        wer=wer,
        grammar=None if grammar is None else grammar.compile(tokenizer, reject_below),
        language=language_model,
        general=general,
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    workdir = Path(flags.FLAGS.workdir)
    out = Path(flags.FLAGS.out) if flags.FLAGS.out else workdir / "bundle"
    try:
        wer_file = workdir / "wer.json"
        wer = json.loads(wer_file.read_text()) if wer_file.exists() else {}
        grammar_file = workdir / runs.GRAMMAR_FILE
        grammar = Grammar.read(grammar_file) if grammar_file.exists() else None
        language_model = language.read(workdir)
        bundles = [("qat", out)]
        if flags.FLAGS.ptq:
            bundles.append(("ptq", out.with_name(f"{out.name}_ptq")))
        if flags.FLAGS.float32:
            bundles.append(("float", out.with_name(f"{out.name}_float32")))
        for _, directory in bundles:
            check_target(directory)  # conversion takes minutes
        for stage, directory in tqdm(bundles, "converting", unit="bundle", disable=None):
            model, tokenizer, config = runs.load(workdir, stage)
            heard = confusions.measured(model, config, workdir)
            write(model, tokenizer, config, directory, wer, grammar, language_model, heard=heard)
        inspections = inspect.inspect_bundle(out)
    except (ValueError, OSError, ConversionError) as error:
        sys.exit(f"convert: {error}")
    print(inspect.table(inspections))
    print("all-integer: no float tensor, no DEQUANTIZE")


def run() -> None:
    # Defined here, not on import: other scripts use this module as a library.
    flags.DEFINE_string("workdir", None, "Directory of the training run.")
    flags.DEFINE_string("out", None, "Bundle directory; default: bundle/ in the workdir.")
    flags.DEFINE_bool("ptq", False, "Write the post-training bundle too.")
    flags.DEFINE_bool("float32", False, "Write the float32 twin too.")
    flags.mark_flag_as_required("workdir")
    tool.run(main)


if __name__ == "__main__":
    run()
