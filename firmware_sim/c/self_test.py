"""The self-test of exported C sources: one utterance, and the bytes that the models must return."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim import recognizer
from firmware_sim.bundle import Bundle
from firmware_sim.c.signature import ExportError
from firmware_sim.c.source import array, define, string
from firmware_sim.runtimes.runtime import Runtime, Tensors
from firmware_sim.search.beam import Decoder, Hypothesis
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import frontend

_NOISE_SECONDS: Final = 2
_NOISE_PEAK: Final = 8000


@dataclasses.dataclass(frozen=True)
class Golden:
    """One utterance, and every byte that the models return on the way to its text."""

    features: npt.NDArray[np.int8]  # [frames, 40]
    encoded: Tensors
    steps: tuple[Tensors, ...]  # outputs of each decoder step
    hypothesis: Hypothesis
    commands: int  # of a bundle with a grammar


class _Recorder:
    """A decoder step that keeps its outputs."""

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


def golden(
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
    options = DecodingOptions(Decoding.GREEDY, ctc_weight=0.0)
    hypothesis = Decoder(bundle, recorder, options).decode(encoded, len(features))
    if not hypothesis.tokens:
        raise ExportError(
            "The self-test's audio has no text, so it would test no cache; name speech by --audio."
        )
    commands = 0
    if bundle.grammar is not None:
        greedy = recognizer.Recognizer(bundle, "tflm", DecodingOptions(Decoding.GREEDY))
        commands = len(greedy.recognize(features, 0, len(samples)).commands)
    return Golden(features, encoded, tuple(recorder.outputs), hypothesis, commands)


def header(bundle: Bundle, golden: Golden) -> str:
    hypothesis = golden.hypothesis
    text = bundle.tokenizer.text(hypothesis.tokens).encode()
    lines = [
        "/* Input of the self-test, and every byte that the models must return. */",
        "#ifndef SPEECH_GOLDEN_H",
        "#define SPEECH_GOLDEN_H",
        "",
        "#include <stdint.h>",
        "",
        define("GOLDEN_FRAMES", len(golden.features)),
        define("GOLDEN_TOKENS", len(hypothesis.tokens)),
        define("GOLDEN_ENDED", hypothesis.ended),
        define("GOLDEN_COMMANDS", golden.commands),
        "",
        f"static const char speech_golden_text[] = {string(text)};",
        *array("uint16_t", "tokens", np.asarray(hypothesis.tokens, np.uint16)),
        *array("int8_t", "features", golden.features),
    ]
    steps = {n: np.stack([step[n] for step in golden.steps]) for n in golden.steps[0]}
    for side, outputs in (("encoder", golden.encoded), ("decoder_step", steps)):
        for name, values in outputs.items():
            lines += array("int8_t", f"{side}_{name}", values)
    lines.append("/* Outputs of the decoder step: one step after the other. */")
    for side, model in (("encoder", bundle.encoder), ("decoder_step", bundle.decoder_step)):
        names = [spec.name for spec in model.outputs]
        size = f"SPEECH_GOLDEN_{side.upper()}_OUTPUTS"
        lines += [
            define(f"GOLDEN_{side.upper()}_OUTPUTS", len(names)),
            f"static const char *const speech_golden_{side}_output_names[{size}] = {{",
            *(f"    {string(name.encode())}," for name in names),
            "};",
            f"static const int8_t *const speech_golden_{side}_outputs[{size}] = {{",
            *(f"    speech_golden_{side}_{name}," for name in names),
            "};",
            "",
        ]
    return "\n".join([*lines, "#endif", ""])
