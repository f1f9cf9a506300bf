"""C sources of a bundle: its numbers, its tables, and the operators of its models."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.runtimes import graph
from firmware_sim.runtimes.model import Model, TensorSpec
from firmware_sim.runtimes.runtime import Runtime
from firmware_sim.search.options import CTC_WEIGHT
from firmware_sim.search.speech_model import WORD_START, Tokenizer
from firmware_sim.sound import frontend

# Kernels optimised for a device need scratch memory. Those of CMSIS-NN on a Cortex-M55 need 0.7 %
# of the reference kernels' arena, for the shipped bundle.
ARENA_MARGIN: Final = 1 / 16
_ARENA_UNIT: Final = 1024  # bytes, to which arenas are rounded up
_WIDTH: Final = 100  # characters of a line
# Log probabilities are whole numbers of 1 / ONE nats.
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
class Cache:
    """An input of the decoder step that gathers the rows of one of its outputs."""

    input: TensorSpec  # [1, N, d]
    row: TensorSpec  # [1, 1, d]


def check(bundle: Bundle) -> tuple[list[Cache], list[TensorSpec]]:
    """The caches, and the inputs of the decoder step that are outputs of the encoder.

    Raises:
      ExportError: if there is anything that the C decoder loop does not know.
    """
    if bundle.precision != "int8":
        raise ExportError(
            f"{bundle.path}: its precision is {bundle.precision}, and a microcontroller gets int8; "
            "export the bundle that was quantized."
        )
    if bundle.phones is not None:
        raise ExportError(
            f"{bundle.path}: its grammars are over phones, which the C sources do not search yet; "
            "export a bundle that was trained for its commands."
        )
    if not isinstance(bundle.frontend, frontend.MicroFrontend):
        raise ExportError(
            f"{bundle.path}: its features are not those of speech_frontend.h; train with the "
            "frontend of firmware_sim.sound.frontend.MICROFRONTEND_PARAMETERS."
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


def arena(loaded: Runtime) -> tuple[int, int]:
    """Bytes of arena: measured on this machine, and with the margin."""
    measured = loaded.arena_bytes
    if measured is None:
        raise ExportError(f"The runtime {loaded.name} does not say how large its arena is.")
    units = -(-measured * (1 + ARENA_MARGIN) // _ARENA_UNIT)
    return measured, int(units) * _ARENA_UNIT


def parameters(
    bundle: Bundle,
    caches: Sequence[Cache],
    crossings: Sequence[TensorSpec],
    encoder_arena: tuple[int, int],
    step_arena: tuple[int, int],
    beam: int,
) -> str:
    encoder, step = bundle.encoder, bundle.decoder_step
    mask = {"VALID": 0.0, "MASKED": bundle.mask_value}
    lines = [
        "/* Every number of the bundle. */",
        "#ifndef SPEECH_PARAMETERS_H",
        "#define SPEECH_PARAMETERS_H",
        "",
        *_size_defines(bundle),
        "/* Tensor arenas: those of the reference kernels on a 64-bit machine, and, for scratch",
        f" * memory of device kernels, {ARENA_MARGIN:.2%} more, rounded up to {_ARENA_UNIT} bytes.",
        " * MicroInterpreter::arena_used_bytes() returns the size on your device.",
        " */",
        define("ENCODER_ARENA_BYTES", encoder_arena[1], f"measured: {encoder_arena[0]}"),
        define("DECODER_STEP_ARENA_BYTES", step_arena[1], f"measured: {step_arena[0]}"),
        "",
        "/* Sizes of the tables in speech_model.h. */",
        define("ENCODER_MODEL_BYTES", len(encoder.data)),
        define("DECODER_STEP_MODEL_BYTES", len(step.data)),
        define("CROSSINGS", len(crossings)),
        define("CACHES", len(caches)),
        define("CACHE_BYTES", sum(cache.input.bytes for cache in caches)),
        "",
        "/* The search; log probabilities are in 1/65536 nats. */",
        *_search_defines(bundle, beam),
        "",
        "/* The grammar; without states there is none. */",
        *_grammar_defines(bundle),
        "",
        "/* Stored values of a one-hot token. */",
        *_stored_defines("DECODER_STEP_INPUT", step.input("token"), {"ZERO": 0.0, "ONE": 1.0}),
        "",
        "/* Stored values of a mask: attention may look at VALID positions only. */",
        *_stored_defines("ENCODER_INPUT", encoder.input("memory_mask"), mask),
        *_stored_defines("DECODER_STEP_INPUT", step.input("memory_mask"), mask),
        *_stored_defines("DECODER_STEP_INPUT", step.input("self_mask"), mask),
        "",
    ]
    for side, specs in sides(bundle):
        lines += _tensor_defines(side, specs)
    return "\n".join([*lines, "#endif", ""])


def _size_defines(bundle: Bundle) -> list[str]:
    """Limits, token ids and the frontend."""
    limits, features, tokens = bundle.limits, bundle.features, bundle.tokenizer
    longest = max(len(piece) for piece in _pieces(tokens))
    return [
        "/* Limits. */",
        define("FRAMES", limits.frames, "longest utterance, in feature frames"),
        define("CHANNELS", frontend.CHANNELS, "values of a feature frame"),
        define("MEMORY_FRAMES", limits.memory_frames, "SPEECH_FRAMES after the encoder"),
        define("TOKENS", limits.tokens, "longest text"),
        define("TEXT_BYTES", limits.tokens * longest + 1, "longest text and its zero byte"),
        "",
        "/* Token ids. */",
        define("VOCABULARY", len(tokens.tokens)),
        define("TOKEN_START", tokens.start),
        define("TOKEN_END", tokens.end),
        define("TOKEN_BLANK", tokens.blank, "of CTC"),
        "",
        "/* feature = value of the microfrontend * NUMERATOR / DENOMINATOR + ZERO_POINT. */",
        define("FEATURE_NUMERATOR", features.numerator),
        define("FEATURE_DENOMINATOR", features.denominator),
        define("FEATURE_ZERO_POINT", features.zero_point),
        "",
        "/* The audio microfrontend: Hz, ms, and units of its own. */",
        *(define(f"FRONTEND_{k.upper()}", v) for k, v in frontend.MICROFRONTEND_PARAMETERS.items()),
        "",
    ]


def _search_defines(bundle: Bundle, beam: int) -> Iterable[str]:
    """Constants of the scores."""
    ctc = {spec.name: spec for spec in bundle.encoder.outputs}.get("ctc_logits")
    yield define("BEAM", beam, "hypotheses")
    yield define("CTC", ctc is not None, "whether the encoder has its logits")
    yield define("LOGIT_NATS", _nats(bundle.decoder_step.output("logits")), "of a unit, in 2^-24")
    if ctc is not None:
        yield define("CTC_LOGIT_NATS", _nats(ctc))
        yield define("CTC_WEIGHT", round(CTC_WEIGHT * _ONE), "in 1/65536, beside attention")
    yield define("LOG_ADD_BITS", _LOG_ADD_BITS)
    yield define("LOG_ADDS", _LOG_ADDS)


def _grammar_defines(bundle: Bundle) -> Iterable[str]:
    """Sizes of the automaton."""
    grammar = bundle.grammar
    if grammar is None:
        yield define("STATES", 0)
        return
    between = 0 if grammar.between is None else 1
    most = (bundle.limits.tokens + between) // (_shortest(grammar) + between)
    # e^-2^14, where every command is accepted: 0 has no logarithm.
    reject_below = math.log(grammar.reject_below) if grammar.reject_below else -float(1 << 14)
    yield define("STATES", len(grammar.arcs))
    yield define("STATE_BYTES", -(-len(grammar.arcs) // 8), "a bit for each")
    yield define("STATE_START", grammar.start)
    yield define("ARCS", grammar.arc_count)
    yield define("INTENTS", len(grammar.intents))
    yield define("SLOTS", len(grammar.slots))
    yield define("COMMANDS", max(1, most), "most in one text")
    yield define(
        "TOKEN_BETWEEN", -1 if grammar.between is None else grammar.between, "commands; -1: none"
    )
    yield define("REJECT_BELOW", round(_ONE * reject_below), "in 1/65536 nats")
    yield define("POWERS", _POWERS)


def _nats(spec: TensorSpec) -> int:
    """Of one unit of a logit, in 2^-24."""
    assert spec.scale is not None  # int8, as `check` demands
    return round(spec.scale * (1 << _LOGIT_BITS))


def _shortest(grammar: Grammar) -> int:
    """Tokens of the shortest command."""
    states, tokens = {grammar.start}, 0
    while not states & grammar.finals.keys():
        states = {to for x in states for ways in grammar.arcs[x].values() for *_, to in ways}
        tokens += 1
    return tokens


def _grammar_source(grammar: Grammar) -> list[str]:
    arcs, first = [], [0]
    for state in grammar.arcs:
        for token, ways in sorted(state.items()):
            arcs += [f"    {{{token}, {to}, {slot}}}," for slot, _, to in ways]
        first.append(len(arcs))
    finals = [grammar.finals.get(state, -1) for state in range(len(grammar.arcs))]
    powers = np.rint(2.0 ** -np.linspace(0, 1, _POWERS) * _ONE).astype(np.int64)
    return [
        "const speech_arc speech_arcs[SPEECH_ARCS] = {",
        *arcs,
        "};",
        "",
        "const uint16_t speech_first_arcs[SPEECH_STATES + 1] = {",
        numbers(np.array(first)),
        "};",
        "",
        "const int16_t speech_finals[SPEECH_STATES] = {",
        numbers(np.array(finals)),
        "};",
        "",
        "const char *const speech_intents[SPEECH_INTENTS] = {",
        *(f"    {string(name.encode())}," for name in grammar.intents),
        "};",
        "",
        "const char *const speech_slots[SPEECH_SLOTS + 1] = {",
        *(f"    {string(name.encode())}," for name in grammar.slots),
        "    NULL,",
        "};",
        "",
        "const int32_t speech_powers[SPEECH_POWERS] = {",
        numbers(powers),
        "};",
        "",
    ]


def model_source(bundle: Bundle, caches: Sequence[Cache], crossings: Sequence[TensorSpec]) -> str:
    lines = ["/* See speech_model.h. */", '#include "speech_model.h"', ""]
    for side, specs in sides(bundle):
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
    lines += [f"    {string(piece)}," for piece in _pieces(bundle.tokenizer)]
    lines += ["};", "", "const uint16_t speech_log_add[SPEECH_LOG_ADDS] = {"]
    apart = np.arange(_LOG_ADDS) * (1 << _LOG_ADD_BITS) / _ONE
    lines += [numbers(np.rint(np.log1p(np.exp(-apart)) * _ONE).astype(np.int64)), "};", ""]
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
            numbers(np.frombuffer(model.data, np.uint8)),
            "};",
            "",
        ]
    return "\n".join(lines)


def operators(bundle: Bundle) -> str:
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
    names = set()
    for operator in graph.read(model.data).operators:
        words = operator.name.split("_")
        name = "".join(word if word[0].isdigit() else word.capitalize() for word in words)
        names.add(_RESOLVER_NAMES.get(operator.name, name))
    return names


def sides(bundle: Bundle) -> tuple[tuple[str, tuple[TensorSpec, ...]], ...]:
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
        yield define(f"{name}_BYTES", spec.bytes)
        if spec.scale is not None and spec.zero_point is not None:
            yield define(f"{name}_SCALE", spec.scale)
            yield define(f"{name}_ZERO_POINT", spec.zero_point)
    yield ""


def _stored_defines(side: str, spec: TensorSpec, values: Mapping[str, float]) -> Iterable[str]:
    """Real values as the tensor stores them."""
    for name, real in values.items():
        yield define(f"{side}_{spec.name.upper()}_{name}", int(spec.quantize(real)))


def define(name: str, value: int | float | bool, comment: str = "") -> str:
    if isinstance(value, float):
        number = f"{value!r}f"
    else:
        number = str(int(value)) if value >= 0 else f"({int(value)})"
    return f"#define SPEECH_{name} {number}" + (f" /* {comment} */" if comment else "")


def array(ctype: str, name: str, values: npt.NDArray[Any]) -> list[str]:
    head = f"static const {ctype} speech_golden_{name}[{values.size}] = {{"
    return [head, numbers(values), "};", ""]


def numbers(values: npt.NDArray[Any]) -> str:
    """Comma-separated numbers in lines of some 100 characters."""
    numbers = [str(value) for value in values.reshape(-1).tolist()]
    per_line = _WIDTH // (max(map(len, numbers)) + 1)
    return "\n".join(
        ",".join(numbers[start : start + per_line]) + ","
        for start in range(0, len(numbers), per_line)
    )


def _pieces(tokenizer: Tokenizer) -> list[bytes]:
    """Text of each token in UTF-8, before stripping; empty for special ones."""
    special = (tokenizer.start, tokenizer.end, tokenizer.blank)
    texts = ["" if i in special else piece for i, piece in enumerate(tokenizer.tokens)]
    if tokenizer.kind == "characters":
        return [(" " if text == "<space>" else text).encode() for text in texts]
    return [text.replace(WORD_START, " ").encode() for text in texts]


def string(content: bytes) -> str:
    """A C string literal; only plain ASCII is not escaped, nor ?, which begins trigraphs."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in content) + '"'
