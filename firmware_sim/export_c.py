"""Writes a bundle as C: what a firmware with TensorFlow Lite Micro compiles to have the recogniser.

    python -m firmware_sim.export_c --bundle=DIR --out=DIR [--audio=FILE] [--beam=1]

| file | |
| --- | --- |
| `speech_parameters.h` | shapes, scales, token ids, limits, frontend, arena sizes |
| `speech_model.h`, `.c` | the two flatbuffers, the token table, which tensor goes where |
| `speech_decoder.h`, `.c` | the decoder loop in C99: features in, text out |
| `speech_search.h`, `.c` | the beam of hypotheses, by attention and CTC, in integers |
| `speech_grammar.h`, `.c` | of a bundle with a grammar: commands, their slots and confidence |
| `speech_frontend.h` | settings of the audio microfrontend |
| `speech_operators.h`, `speech_tflm.h`, `.cc` | both models on TensorFlow Lite Micro, in C++ |
| `speech_self_test.h`, `.c`, `speech_golden.h` | the loop on recorded features, byte for byte |
| `SHA256SUMS` | hashes of these files; a directory is replaced only if they fit |

The self-test's features are those of --audio, or of noise if none is given; what it expects is
what TensorFlow Lite Micro returns on this machine.  The same bundle and audio give the same bytes.

The search finds the texts that `firmware_sim.transcribe` does (a language model apart): with a beam
of four it takes up to four times the decoder steps and caches of one; --beam=1 is greedy.
"""

import dataclasses
import hashlib
import math
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from absl import app, flags

from firmware_sim import bundle as bundles
from firmware_sim import recognizer
from firmware_sim.bundle import Bundle, BundleError, Model, TensorSpec, Tokenizer
from firmware_sim.fitting import graph
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.runtime import Runtime, Tensors
from firmware_sim.search.decoder import CTC_WEIGHT, Decoder, DecodingOptions, Hypothesis
from firmware_sim.sound import audio, frontend

SUMS: Final = "SHA256SUMS"
_SUMS_HEAD: Final = "# Made by firmware_sim.export_c\n"
SOURCES: Final = pathlib.Path(__file__).parent / "c"
# Kernels optimised for a device want scratch memory of their own: those of CMSIS-NN on a Cortex-M55
# 0.7 % of what TFLite Micro takes here, for the shipped bundle.
ARENA_MARGIN: Final = 1 / 16
_ARENA_UNIT: Final = 1024  # bytes, to which arenas are rounded up
_NOISE_SECONDS: Final = 2
_NOISE_PEAK: Final = 8000
_WIDTH: Final = 100  # characters of a line
# Log probabilities are whole numbers of 1 / ONE nats; what tables hold, and how finely.
_ONE: Final = 1 << 16
_LOG_ADD_NATS: Final = 12  # beyond these the smaller of two probabilities adds nothing
_LOG_ADD_BITS: Final = 11  # 2^11 / ONE nats from one entry to the next
_LOG_ADDS: Final = (_LOG_ADD_NATS * _ONE >> _LOG_ADD_BITS) + 1  # entries
_POWERS: Final = 65  # of 2^-x for x from 0 to 1
_LOGIT_BITS: Final = 24  # of the fraction of a logit's unit, in nats
_MOST: Final = 1 << 16  # of states, arcs and tokens, numbered by uint16_t
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Methods of MicroMutableOpResolver that are not named after their operator.
_RESOLVER_NAMES: Final = {"BATCH_MATMUL": "BatchMatMul"}


class ExportError(Exception):
    """A bundle, audio or directory that cannot be exported from or to; the message says why."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """One utterance, and every byte that the models return on the way to its text."""

    features: npt.NDArray[np.int8]  # [frames, 40]
    encoded: Tensors
    steps: tuple[Tensors, ...]  # outputs of each decoder step
    found: Hypothesis
    commands: int  # of a bundle with a grammar


@dataclasses.dataclass(frozen=True)
class Cache:
    """An input of the decoder step that gathers the rows of one of its outputs."""

    input: TensorSpec  # [1, N, d]
    row: TensorSpec  # [1, 1, d]


class _Recorder:
    """A decoder step that remembers its outputs."""

    name = "recorder"

    def __init__(self, step: Runtime) -> None:
        self._step = step
        self.outputs: list[Tensors] = []

    @property
    def arena_bytes(self) -> int | None:
        return self._step.arena_bytes

    def invoke(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        self.outputs.append(self._step.invoke(inputs))
        return self.outputs[-1]


def noise() -> npt.NDArray[np.int16]:
    """Bursts of noise, the same on every machine: int16 [samples], 16 kHz."""
    samples = _NOISE_SECONDS * frontend.SAMPLE_RATE
    values = np.random.default_rng(0).integers(-_NOISE_PEAK, _NOISE_PEAK, samples)
    burst = frontend.SAMPLE_RATE // 4
    values[np.arange(samples) // burst % 2 == 1] //= 32
    return values.astype(np.int16)


def export(
    bundle: Bundle, samples: npt.NDArray[np.int16], beam: int = DecodingOptions.beam
) -> dict[str, str]:
    """The C sources of a bundle, by file name.

    Args:
      samples: int16 [samples], 16 kHz, which the self-test recognises.
      beam: hypotheses that there is memory for.

    Raises:
      ExportError: if the bundle is not int8 or has tensors that the decoder loop does not know,
        if the samples do not fit the window, or if nothing is heard in them.
      BundleError: if TFLite Micro cannot load the bundle.
      ValueError: if TFLite Micro is not installed.
    """
    caches, crossings = _check(bundle)
    encoder, step = (runtime.load("tflm", m) for m in (bundle.encoder, bundle.decoder_step))
    golden = _golden(bundle, encoder, step, samples)
    files = {
        "speech_parameters.h": _parameters(
            bundle, caches, crossings, _arena(encoder), _arena(step), beam
        ),
        "speech_model.c": _model_source(bundle, caches, crossings),
        "speech_operators.h": _operators(bundle),
        "speech_golden.h": _golden_header(bundle, golden),
        **{
            path.name: path.read_text("ascii")
            for path in SOURCES.glob("speech_*")
            if bundle.grammar or path.stem != "speech_grammar"
        },
    }
    name = re.sub(r"[^\w.-]", "_", bundle.preset, flags=re.ASCII)
    origin = (
        f'/* Made by firmware_sim.export_c from the bundle "{name}": export it again\n'
        " * instead of editing this file. SHA-256 of what it was made from:\n"
        f" *   {_digest(bundle.encoder.data)}  {bundle.encoder.file}\n"
        f" *   {_digest(bundle.decoder_step.data)}  {bundle.decoder_step.file}\n"
        " */\n"
    )
    return {name: origin + files[name] for name in sorted(files)}


def write(files: Mapping[str, str], target: pathlib.Path) -> None:
    """Makes the directory `target`, whole or not at all; an earlier export there is replaced.

    Raises:
      ExportError: if `target` holds anything but an unchanged export, or cannot be written.
    """
    target = target.resolve()
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent}: no such directory; create it first.")
    _check_replaceable(target)
    sums = "".join(f"{_digest(files[n].encode('ascii'))}  {n}\n" for n in sorted(files))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            new, old = pathlib.Path(scratch, "new"), pathlib.Path(scratch, "old")
            new.mkdir()
            for name, content in {**files, SUMS: _SUMS_HEAD + sums}.items():
                (new / name).write_text(content, "ascii", newline="\n")
            if target.exists():
                target.replace(old)
            try:
                new.replace(target)
            except OSError:
                old.replace(target)
                raise
    except OSError as error:
        raise ExportError(
            f"{target}: cannot be written ({error.strerror}); free some space or choose another "
            "--out."
        ) from error


def _check_replaceable(target: pathlib.Path) -> None:
    """Refuses a target that holds what `write` did not write."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target}: is a file; choose another --out.")
    found = {path.name: path for path in target.iterdir()}
    if not found:
        return
    try:
        head, *lines = (target / SUMS).read_text("ascii").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError, ValueError):
        head, lines = "", []
    sums = {name.strip(): digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, path in sorted(found.items()):
        if name == SUMS and head == _SUMS_HEAD:
            continue
        if (
            head != _SUMS_HEAD
            or name not in sums
            or not path.is_file()
            or _digest(path.read_bytes()) != sums[name]
        ):
            raise ExportError(
                f"{path}: is not as an export wrote it, and would be lost; move it elsewhere or "
                "choose another --out."
            )


def _check(bundle: Bundle) -> tuple[list[Cache], list[TensorSpec]]:
    """The caches, and the inputs of the decoder step that are outputs of the encoder.

    Raises:
      ExportError: if there is anything that the C decoder loop does not know.
    """
    if bundle.precision != "int8":
        raise ExportError(
            f"{bundle.path}: its precision is {bundle.precision}, and a microcontroller gets int8; "
            "export the bundle that was quantized."
        )
    if not isinstance(bundle.frontend, frontend.Wheel):
        raise ExportError(
            f"{bundle.path}: its features are not those of speech_frontend.h; train with the "
            "frontend of firmware_sim.sound.frontend.WHEEL_PARAMETERS."
        )
    encoder, step = bundle.encoder, bundle.decoder_step
    if bundle.grammar is not None:
        arcs = bundle.grammar.arc_count
        largest = max(len(bundle.grammar.arcs), arcs, len(bundle.tokenizer.tokens))
        if largest >= _MOST:
            raise ExportError(
                f"{bundle.path}: its grammar has {len(bundle.grammar.arcs)} states and {arcs} arcs "
                f"over {len(bundle.tokenizer.tokens)} tokens; C counts each to {_MOST - 1}: write "
                "a smaller grammar."
            )
    caches = [
        Cache(step.input(f"cache_{layer}"), step.output(f"row_{layer}"))
        for layer in range(bundle.decoder_layers)
    ]
    own = {"token", "self_mask", "memory_mask", *(cache.input.name for cache in caches)}
    crossings = [spec for spec in step.inputs if spec.name not in own]
    for spec in crossings:
        if spec not in encoder.outputs:
            raise ExportError(
                f"{bundle.path}: {step.file} reads {spec.name}, but {encoder.file} writes nothing "
                "of that name, shape and scale; convert the model again."
            )
    for spec in encoder.inputs:
        if spec.name not in ("features", "memory_mask"):
            raise ExportError(f"{bundle.path}: nothing is known to fill {spec.name} with.")
    for spec in (*encoder.inputs, *encoder.outputs, *step.inputs, *step.outputs):
        if spec.dtype != "int8":
            raise ExportError(f"{bundle.path}: {spec.name} is {spec.dtype}, not int8.")
        if not _NAME.fullmatch(spec.name):
            raise ExportError(f"{bundle.path}: {spec.name!r} cannot be a name in C.")
    return caches, crossings


def _golden(
    bundle: Bundle, encoder: Runtime, step: Runtime, samples: npt.NDArray[np.int16]
) -> Golden:
    features = recognizer.compute_features(bundle, samples)
    if not 0 < len(features) <= bundle.limits.frames:
        longest = bundle.window / frontend.SAMPLE_RATE
        raise ExportError(
            f"The self-test's audio is {len(samples) / frontend.SAMPLE_RATE:.2f} s long; name one "
            f"of 0.03 to {longest:.2f} s by --audio."
        )
    encoded = encoder.invoke(recognizer.encoder_inputs(bundle, features))
    recorder = _Recorder(step)
    found = Decoder(bundle, recorder, DecodingOptions()).decode(encoded, len(features))
    if not found.tokens:
        raise ExportError(
            "Nothing is heard in the self-test's audio, which would test no cache; name speech by "
            "--audio."
        )
    commands = 0
    if bundle.grammar is not None:
        listener = recognizer.Recognizer(bundle, "tflm", DecodingOptions(ctc_weight=None))
        commands = len(listener.recognize(features, 0, len(samples)).commands)
    return Golden(features, encoded, tuple(recorder.outputs), found, commands)


def _arena(loaded: Runtime) -> tuple[int, int]:
    """Bytes of arena: measured here, and with the margin."""
    measured = loaded.arena_bytes
    if measured is None:
        raise ExportError(f"The runtime {loaded.name} does not say how large its arena is.")
    units = -(-measured * (1 + ARENA_MARGIN) // _ARENA_UNIT)
    return measured, int(units) * _ARENA_UNIT


def _parameters(
    bundle: Bundle,
    caches: Sequence[Cache],
    crossings: Sequence[TensorSpec],
    encoder_arena: tuple[int, int],
    step_arena: tuple[int, int],
    beam: int,
) -> str:
    limits, features, tokens = bundle.limits, bundle.features, bundle.tokenizer
    encoder, step = bundle.encoder, bundle.decoder_step
    longest = max(len(piece) for piece in _pieces(tokens))
    mask = {"VALID": 0.0, "MASKED": bundle.mask_value}
    lines = [
        "/* Every number of the bundle. */",
        "#ifndef SPEECH_PARAMETERS_H",
        "#define SPEECH_PARAMETERS_H",
        "",
        "/* Limits. */",
        _define("FRAMES", limits.frames, "longest utterance, in feature frames"),
        _define("CHANNELS", frontend.CHANNELS, "values of a feature frame"),
        _define("MEMORY_FRAMES", limits.memory_frames, "what SPEECH_FRAMES become in the encoder"),
        _define("TOKENS", limits.tokens, "longest text"),
        _define("TEXT_BYTES", limits.tokens * longest + 1, "longest text and its zero byte"),
        "",
        "/* Token ids. */",
        _define("VOCABULARY", len(tokens.tokens)),
        _define("TOKEN_START", tokens.start),
        _define("TOKEN_END", tokens.end),
        _define("TOKEN_BLANK", tokens.blank, "of CTC"),
        "",
        "/* feature = value of the microfrontend * NUMERATOR / DENOMINATOR + ZERO_POINT. */",
        _define("FEATURE_NUMERATOR", features.numerator),
        _define("FEATURE_DENOMINATOR", features.denominator),
        _define("FEATURE_ZERO_POINT", features.zero_point),
        "",
        "/* The audio microfrontend: Hz, ms, and units of its own. */",
        *(_define(f"FRONTEND_{k.upper()}", v) for k, v in frontend.WHEEL_PARAMETERS.items()),
        "",
        "/* Tensor arenas: what reference kernels take on a 64-bit machine, and for the scratch",
        f" * memory of a device's kernels {ARENA_MARGIN:.2%} more, rounded up to {_ARENA_UNIT}.",
        " * MicroInterpreter::arena_used_bytes() says what yours take.",
        " */",
        _define("ENCODER_ARENA_BYTES", encoder_arena[1], f"measured: {encoder_arena[0]}"),
        _define("DECODER_STEP_ARENA_BYTES", step_arena[1], f"measured: {step_arena[0]}"),
        "",
        "/* Sizes of the tables in speech_model.h. */",
        _define("ENCODER_MODEL_BYTES", len(encoder.data)),
        _define("DECODER_STEP_MODEL_BYTES", len(step.data)),
        _define("CROSSINGS", len(crossings)),
        _define("CACHES", len(caches)),
        _define("CACHE_BYTES", sum(cache.input.bytes for cache in caches)),
        "",
        "/* The search; log probabilities are in 1/65536 nats. */",
        *_search_defines(bundle, beam),
        "",
        "/* The grammar; without states there is none. */",
        *_grammar_defines(bundle),
        "",
        "/* What a one-hot token holds. */",
        *_level_defines("DECODER_STEP_INPUT", step.input("token"), {"ZERO": 0.0, "ONE": 1.0}),
        "",
        "/* What a mask holds where attention may look, and where it may not. */",
        *_level_defines("ENCODER_INPUT", encoder.input("memory_mask"), mask),
        *_level_defines("DECODER_STEP_INPUT", step.input("memory_mask"), mask),
        *_level_defines("DECODER_STEP_INPUT", step.input("self_mask"), mask),
        "",
    ]
    for side, specs in _sides(bundle):
        lines += _tensor_defines(side, specs)
    return "\n".join([*lines, "#endif", ""])


def _search_defines(bundle: Bundle, beam: int) -> Iterable[str]:
    """What scores are made of."""
    ctc = {spec.name: spec for spec in bundle.encoder.outputs}.get("ctc_logits")
    yield _define("BEAM", beam, "hypotheses")
    yield _define("CTC", ctc is not None, "whether the encoder has its logits")
    yield _define("LOGIT_NATS", _nats(bundle.decoder_step.output("logits")), "of a unit, in 2^-24")
    if ctc is not None:
        yield _define("CTC_LOGIT_NATS", _nats(ctc))
        yield _define("CTC_WEIGHT", round(CTC_WEIGHT * _ONE), "in 1/65536, beside attention")
    yield _define("LOG_ADD_BITS", _LOG_ADD_BITS)
    yield _define("LOG_ADDS", _LOG_ADDS)


def _grammar_defines(bundle: Bundle) -> Iterable[str]:
    """Sizes of the automaton."""
    grammar = bundle.grammar
    if grammar is None:
        yield _define("STATES", 0)
        return
    between = 0 if grammar.between is None else 1
    most = (bundle.limits.tokens + between) // (_shortest(grammar) + between)
    # e^-2^14, where every command is accepted: 0 has no logarithm.
    reject_below = math.log(grammar.reject_below) if grammar.reject_below else -float(1 << 14)
    yield _define("STATES", len(grammar.arcs))
    yield _define("STATE_BYTES", -(-len(grammar.arcs) // 8), "a bit for each")
    yield _define("STATE_START", grammar.start)
    yield _define("ARCS", grammar.arc_count)
    yield _define("INTENTS", len(grammar.intents))
    yield _define("SLOTS", len(grammar.slots))
    yield _define("COMMANDS", max(1, most), "most in one text")
    yield _define(
        "TOKEN_BETWEEN", -1 if grammar.between is None else grammar.between, "commands; -1: none"
    )
    yield _define("REJECT_BELOW", round(_ONE * reject_below), "in 1/65536 nats")
    yield _define("POWERS", _POWERS)


def _nats(spec: TensorSpec) -> int:
    """Of one unit of a logit, in 2^-24."""
    assert spec.scale is not None  # int8, says _check
    return round(spec.scale * (1 << _LOGIT_BITS))


def _shortest(grammar: Grammar) -> int:
    """Tokens of the shortest command."""
    states, tokens = {grammar.start}, 0
    while not states & grammar.finals.keys():
        states = {to for x in states for ways in grammar.arcs[x].values() for _, to in ways}
        tokens += 1
    return tokens


def _grammar_source(grammar: Grammar) -> list[str]:
    arcs, first = [], [0]
    for state in grammar.arcs:
        for token, ways in sorted(state.items()):
            arcs += [f"    {{{token}, {to}, {slot}}}," for slot, to in ways]
        first.append(len(arcs))
    finals = [grammar.finals.get(state, -1) for state in range(len(grammar.arcs))]
    powers = np.rint(2.0 ** -np.linspace(0, 1, _POWERS) * _ONE).astype(np.int64)
    return [
        "const speech_arc speech_arcs[SPEECH_ARCS] = {",
        *arcs,
        "};",
        "",
        "const uint16_t speech_first_arcs[SPEECH_STATES + 1] = {",
        _numbers(np.array(first)),
        "};",
        "",
        "const int16_t speech_finals[SPEECH_STATES] = {",
        _numbers(np.array(finals)),
        "};",
        "",
        "const char *const speech_intents[SPEECH_INTENTS] = {",
        *(f"    {_string(name.encode())}," for name in grammar.intents),
        "};",
        "",
        "const char *const speech_slots[SPEECH_SLOTS + 1] = {",
        *(f"    {_string(name.encode())}," for name in grammar.slots),
        "    NULL,",
        "};",
        "",
        "const int32_t speech_powers[SPEECH_POWERS] = {",
        _numbers(powers),
        "};",
        "",
    ]


def _model_source(bundle: Bundle, caches: Sequence[Cache], crossings: Sequence[TensorSpec]) -> str:
    lines = ["/* See speech_model.h. */", '#include "speech_model.h"', ""]
    for side, specs in _sides(bundle):
        lines.append(f"const speech_tensor speech_{side}s[SPEECH_{side.upper()}S] = {{")
        lines += [f'    {{"{spec.name}", {spec.bytes}}},' for spec in specs]
        lines += ["};", ""]
    lines.append("const speech_crossing speech_crossings[SPEECH_CROSSINGS] = {")
    for spec in crossings:
        name = spec.name.upper()
        lines.append(f"    {{SPEECH_DECODER_STEP_INPUT_{name}, SPEECH_ENCODER_OUTPUT_{name}}},")
    lines += ["};", "", "const speech_cache speech_caches[SPEECH_CACHES] = {"]
    offset = 0
    for cache in caches:
        lines.append(
            f"    {{SPEECH_DECODER_STEP_INPUT_{cache.input.name.upper()}, "
            f"SPEECH_DECODER_STEP_OUTPUT_{cache.row.name.upper()},\n"
            f"     {offset}, {cache.row.bytes}, {int(cache.input.quantize(0.0))}}},"
        )
        offset += cache.input.bytes
    lines += ["};", "", "const char *const speech_tokens[SPEECH_VOCABULARY] = {"]
    lines += [f"    {_string(piece)}," for piece in _pieces(bundle.tokenizer)]
    lines += ["};", "", "const uint16_t speech_log_add[SPEECH_LOG_ADDS] = {"]
    apart = np.arange(_LOG_ADDS) * (1 << _LOG_ADD_BITS) / _ONE
    lines += [_numbers(np.rint(np.log1p(np.exp(-apart)) * _ONE).astype(np.int64)), "};", ""]
    if bundle.grammar is not None:
        lines += _grammar_source(bundle.grammar)
    lines += [
        "#if defined(__GNUC__)",
        "#define SPEECH_ALIGNED __attribute__((aligned(16)))",
        "#elif defined(__ICCARM__)",
        '#define SPEECH_ALIGNED _Pragma("data_alignment=16")',
        "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L",
        "#define SPEECH_ALIGNED _Alignas(16)",
        "#else",
        '#error "Say here how your compiler aligns data to 16 bytes."',
        "#endif",
        "",
    ]
    for name, model in (("encoder", bundle.encoder), ("decoder_step", bundle.decoder_step)):
        size = f"SPEECH_{name.upper()}_MODEL_BYTES"
        lines += [
            f"SPEECH_ALIGNED const uint8_t speech_{name}_model[{size}] = {{",
            _numbers(np.frombuffer(model.data, np.uint8)),
            "};",
            "",
        ]
    return "\n".join(lines)


def _operators(bundle: Bundle) -> str:
    names = sorted(_operator_names(bundle.encoder) | _operator_names(bundle.decoder_step))
    calls = (f"  if (resolver.Add{name}() != kTfLiteOk) return kTfLiteError;\n" for name in names)
    return (
        "/* The operators of both models, and no others. */\n"
        "#ifndef SPEECH_OPERATORS_H\n"
        "#define SPEECH_OPERATORS_H\n\n"
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        f"typedef tflite::MicroMutableOpResolver<{len(names)}> SpeechOpResolver;\n\n"
        "inline TfLiteStatus SpeechAddOperators(SpeechOpResolver& resolver) {\n"
        f"{''.join(calls)}"
        "  return kTfLiteOk;\n"
        "}\n\n"
        "#endif\n"
    )


def _operator_names(model: Model) -> set[str]:
    """Operators of a flatbuffer as MicroMutableOpResolver's methods call them."""
    found = set()
    for operator in graph.read(model.data).operators:
        words = operator.name.split("_")
        name = "".join(word if word[0].isdigit() else word.capitalize() for word in words)
        found.add(_RESOLVER_NAMES.get(operator.name, name))
    return found


def _golden_header(bundle: Bundle, golden: Golden) -> str:
    found = golden.found
    text = bundle.tokenizer.text(found.tokens).encode()
    lines = [
        "/* What the self-test hears, and every byte that the models must return. */",
        "#ifndef SPEECH_GOLDEN_H",
        "#define SPEECH_GOLDEN_H",
        "",
        '#include "speech_model.h"',
        "",
        _define("GOLDEN_FRAMES", len(golden.features)),
        _define("GOLDEN_TOKENS", len(found.tokens)),
        _define("GOLDEN_ENDED", found.ended),
        _define("GOLDEN_COMMANDS", golden.commands),
        "",
        f"static const char speech_golden_text[] = {_string(text)};",
        *_array("int32_t", "tokens", np.asarray(found.tokens, np.int32)),
        *_array("int8_t", "features", golden.features),
    ]
    steps = {n: np.stack([step[n] for step in golden.steps]) for n in golden.steps[0]}
    for side, outputs in (("encoder", golden.encoded), ("decoder_step", steps)):
        for name, values in outputs.items():
            lines += _array("int8_t", f"{side}_{name}", values)
    lines.append("/* Outputs of the decoder step: one step after the other. */")
    for side, specs in _sides(bundle):
        model, direction = side.rsplit("_", 1)
        if direction == "output":
            size = f"SPEECH_{side.upper()}S"
            lines.append(f"static const int8_t *const speech_golden_{side}s[{size}] = {{")
            lines += [f"    speech_golden_{model}_{spec.name}," for spec in specs]
            lines += ["};", ""]
    return "\n".join([*lines, "#endif", ""])


def _sides(bundle: Bundle) -> tuple[tuple[str, tuple[TensorSpec, ...]], ...]:
    """Inputs and outputs of both models, under their names in C."""
    return (
        ("encoder_input", bundle.encoder.inputs),
        ("encoder_output", bundle.encoder.outputs),
        ("decoder_step_input", bundle.decoder_step.inputs),
        ("decoder_step_output", bundle.decoder_step.outputs),
    )


def _tensor_defines(side: str, specs: Sequence[TensorSpec]) -> Iterable[str]:
    """Position, shape, size and quantization of each input or output."""
    words = side.replace("_", " ")
    yield f"/* Every {words}: place in the flatbuffer, then shape, bytes, scale and zero point. */"
    side = side.upper()
    yield "enum {"
    for spec in specs:
        yield f"  SPEECH_{side}_{spec.name.upper()},"
    yield f"  SPEECH_{side}S /* their number */"
    yield "};"
    for spec in specs:
        name = f"{side}_{spec.name.upper()}"
        yield f"#define SPEECH_{name}_SHAPE {{{', '.join(map(str, spec.shape))}}}"
        yield _define(f"{name}_BYTES", spec.bytes)
        if spec.scale is not None and spec.zero_point is not None:
            yield _define(f"{name}_SCALE", spec.scale)
            yield _define(f"{name}_ZERO_POINT", spec.zero_point)
    yield ""


def _level_defines(side: str, spec: TensorSpec, levels: Mapping[str, float]) -> Iterable[str]:
    for level, real in levels.items():
        yield _define(f"{side}_{spec.name.upper()}_{level}", int(spec.quantize(real)))


def _define(name: str, value: int | float | bool, comment: str = "") -> str:
    if isinstance(value, float):
        number = f"{value!r}f"
    else:
        number = str(int(value)) if value >= 0 else f"({int(value)})"
    return f"#define SPEECH_{name} {number}" + (f" /* {comment} */" if comment else "")


def _array(ctype: str, name: str, values: npt.NDArray[Any]) -> list[str]:
    head = f"static const {ctype} speech_golden_{name}[{values.size}] = {{"
    return [head, _numbers(values), "};", ""]


def _numbers(values: npt.NDArray[Any]) -> str:
    """Comma-separated numbers in lines of some 100 characters."""
    numbers = [str(value) for value in values.reshape(-1).tolist()]
    per_line = _WIDTH // (max(map(len, numbers)) + 1)
    return "\n".join(
        ",".join(numbers[start : start + per_line]) + ","
        for start in range(0, len(numbers), per_line)
    )


def _pieces(tokenizer: Tokenizer) -> list[bytes]:
    """What each token adds to the text before it is stripped, UTF-8; nothing for special ones."""
    special = (tokenizer.start, tokenizer.end, tokenizer.blank)
    texts = ["" if i in special else piece for i, piece in enumerate(tokenizer.tokens)]
    if tokenizer.kind == "characters":
        return [(" " if text == "<space>" else text).encode() for text in texts]
    return [text.replace(bundles.WORD_START, " ").encode() for text in texts]


def _string(content: bytes) -> str:
    """A C string literal; what is not plain ASCII is escaped, and ? for the sake of trigraphs."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in content) + '"'


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    try:
        if len(argv) > 1:
            raise ExportError(f"Unexpected argument {argv[1]!r}; name the directory by --out.")
        loaded = bundles.load(flags.FLAGS.bundle)
        speech = audio.read(flags.FLAGS.audio) if flags.FLAGS.audio else noise()
        write(export(loaded, speech, flags.FLAGS.beam), pathlib.Path(flags.FLAGS.out))
    except (ExportError, BundleError, audio.AudioError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("bundle", None, "Directory or .zip of the bundle.", required=True)
    flags.DEFINE_string("out", None, "Directory to write.", required=True)
    flags.DEFINE_integer("beam", DecodingOptions.beam, "Hypotheses that are kept.", 1)
    flags.DEFINE_string("audio", None, "Speech for the self-test, at most one window long.")
    app.run(main)


if __name__ == "__main__":
    run()
