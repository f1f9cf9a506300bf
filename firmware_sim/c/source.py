"""C sources of a bundle: its block and flatbuffers as constants, and the models' operators."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle
from firmware_sim.c.signature import ExportError
from firmware_sim.runtimes import graph
from firmware_sim.runtimes.model import Model
from firmware_sim.runtimes.runtime import Runtime

# Kernels optimised for a device need scratch memory. Those of CMSIS-NN on a Cortex-M55 need 0.7 %
# of the reference kernels' arena, for the shipped bundle.
ARENA_MARGIN: Final = 1 / 16
_ARENA_UNIT: Final = 1024  # bytes, to which arenas are rounded up
_WIDTH: Final = 100  # characters of a line
# Methods of MicroMutableOpResolver that are not named after their operator.
_RESOLVER_NAMES: Final = {"BATCH_MATMUL": "BatchMatMul"}
_ALIGNED: Final = """\
#if defined(__GNUC__)
#define SPEECH_ALIGNED __attribute__((aligned(16)))
#elif defined(__ICCARM__)
#define SPEECH_ALIGNED _Pragma("data_alignment=16")
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define SPEECH_ALIGNED _Alignas(16)
#else
#error "Say here how your compiler aligns data to 16 bytes."
#endif
"""


def arena(loaded: Runtime) -> tuple[int, int]:
    """Bytes of arena: measured on this machine, and with the margin."""
    measured = loaded.arena_bytes
    if measured is None:
        raise ExportError(f"The runtime {loaded.name} does not say how large its arena is.")
    units = -(-measured * (1 + ARENA_MARGIN) // _ARENA_UNIT)
    return measured, int(units) * _ARENA_UNIT


def header(bundle: Bundle, block: bytes, encoder: Runtime, step: Runtime) -> str:
    """Declares the constants of `constants`, and sizes the arenas.

    Raises:
      ExportError: if a runtime does not say how large its arena is.
    """
    lines = [
        "/* The bundle as constants, each aligned to 16 bytes. */",
        "#ifndef SPEECH_BUNDLE_H",
        "#define SPEECH_BUNDLE_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* Tensor arenas: those of the reference kernels on a 64-bit machine, and, for scratch",
        f" * memory of device kernels, {ARENA_MARGIN:.2%} more, rounded up to {_ARENA_UNIT} bytes.",
        " * MicroInterpreter::arena_used_bytes() returns the size on your device.",
        " */",
    ]
    for name, loaded in (("ENCODER", encoder), ("DECODER_STEP", step)):
        measured, size = arena(loaded)
        lines.append(define(f"{name}_ARENA_BYTES", size, f"measured: {measured}"))
    for name, data in _constants(bundle, block).items():
        size_name = f"{name.upper()}_BYTES"
        lines += ["", define(size_name, len(data))]
        lines.append(f"extern const uint8_t speech_{name}[SPEECH_{size_name}];")
    lines += ["", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
    return "\n".join(lines)


def constants(bundle: Bundle, block: bytes) -> str:
    """The parameters that speech_core.h describes, and the two flatbuffers."""
    lines = ["/* See speech_bundle.h. */", '#include "speech_bundle.h"', "", _ALIGNED]
    for name, data in _constants(bundle, block).items():
        lines += [
            f"SPEECH_ALIGNED const uint8_t speech_{name}[SPEECH_{name.upper()}_BYTES] = {{",
            numbers(np.frombuffer(data, np.uint8)),
            "};",
            "",
        ]
    return "\n".join(lines)


def _constants(bundle: Bundle, block: bytes) -> dict[str, bytes]:
    return {
        "core_block": block,
        "encoder_model": bundle.encoder.data,
        "decoder_step_model": bundle.decoder_step.data,
    }


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


def string(content: bytes) -> str:
    """A C string literal; only plain ASCII is not escaped, nor ?, which begins trigraphs."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in content) + '"'
