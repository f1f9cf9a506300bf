"""Parity: compares all bytes that two runtimes return for the same inputs.

    python -m firmware_sim.parity --bundle=DIR --runtime=tflm --reference=litert-reference AUDIO...

Prints the number of bytes compared and different, and the first difference.  The exit status is 0
if all bytes are equal.  Audio that is longer than the encoder's window is compared piece by piece.
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import flags

from firmware_sim import bundle as bundles
from firmware_sim.bundle import Bundle, BundleError
from firmware_sim.command_line import tool
from firmware_sim.recognizer import compute_features, encoder_inputs
from firmware_sim.runtimes import runtime
from firmware_sim.runtimes.runtime import RUNTIMES, ExecutionError, Tensors
from firmware_sim.search.beam import Decoder
from firmware_sim.sound import audio, segment


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first value in which the runtimes differ."""

    utterance: int
    model: str  # encoder or decoder_step
    step: int | None  # of the decoder
    tensor: str
    index: tuple[int, ...]
    value: float  # stored value on the tested runtime
    reference: float


@dataclasses.dataclass(frozen=True)
class Parity:
    """The comparison of all outputs of all invocations."""

    runtime: str
    reference: str
    utterances: int
    invocations: int  # of encoder and decoder step, on each runtime
    bytes_compared: int
    bytes_different: int
    first_difference: Difference | None

    @property
    def equal(self) -> bool:
        return self.bytes_compared > 0 and self.bytes_different == 0


def compare_runtimes(
    bundle: Bundle,
    features_list: Iterable[npt.NDArray[np.int8]],
    runtime_name: str = "tflm",
    reference_name: str = "litert-reference",
) -> Parity:
    """Runs the encoder and every decoder step on two runtimes, and compares all output bytes.

    Both runtimes get the reference's bytes at every invocation, so that a difference can neither
    hide nor cause others.  The decoder follows the reference's encoder outputs, caches and greedy
    tokens.

    Args:
      features_list: int8 [frames, 40] of each utterance, frames within the encoder's window.

    Raises:
      BundleError: if a runtime cannot load the bundle.
      ValueError: if a runtime does not exist, or features do not fit the window.
    """
    encoders, steps = (
        [runtime.load(name, model) for name in (runtime_name, reference_name)]
        for model in (bundle.encoder, bundle.decoder_step)
    )
    decoder = Decoder(bundle, steps[1])
    logits = bundle.decoder_step.output("logits").name
    counts = _Counts()
    utterance = -1
    for utterance, features in enumerate(features_list):
        inputs = encoder_inputs(bundle, features)
        tested, encoded = (encoder.invoke(inputs) for encoder in encoders)
        counts.add(tested, encoded, utterance, "encoder", None)

        state = decoder.start(encoded, len(features))
        for step in range(bundle.limits.tokens):
            tested, outputs = (loaded.invoke(state.inputs) for loaded in steps)
            counts.add(tested, outputs, utterance, "decoder_step", step)
            token = int(np.argmax(outputs[logits][0]))
            if token == bundle.tokenizer.end:
                break
            decoder.advance(state, outputs, step, token)
    return Parity(
        runtime=runtime_name,
        reference=reference_name,
        utterances=utterance + 1,
        invocations=counts.invocations,
        bytes_compared=counts.compared,
        bytes_different=counts.different,
        first_difference=counts.first,
    )


class _Counts:
    """Bytes compared so far."""

    def __init__(self) -> None:
        self.invocations = 0
        self.compared = 0
        self.different = 0
        self.first: Difference | None = None

    def add(
        self, tested: Tensors, reference: Tensors, utterance: int, model: str, step: int | None
    ) -> None:
        self.invocations += 1
        for name, expected in reference.items():
            actual = tested[name]
            unequal = _bytes(actual) != _bytes(expected)
            self.compared += unequal.size
            different = int(unequal.sum())
            self.different += different
            if different and self.first is None:
                position = int(np.argmax(unequal)) // expected.itemsize
                index = tuple(int(i) for i in np.unravel_index(position, expected.shape))
                self.first = Difference(
                    utterance,
                    model,
                    step,
                    name,
                    index,
                    float(actual[index]),
                    float(expected[index]),
                )


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def summary(parity: Parity) -> str:
    """The comparison in a line or two."""
    lines = [
        f"{parity.runtime} against {parity.reference}: {parity.bytes_different} of "
        f"{parity.bytes_compared} bytes differ, in {parity.utterances} utterances and "
        f"{parity.invocations} invocations"
    ]
    if (first := parity.first_difference) is not None:
        step = "" if first.step is None else f", step {first.step}"
        lines.append(
            f"first difference: utterance {first.utterance}, {first.model}{step}, {first.tensor}"
            f"{list(first.index)}: {first.value:g} instead of {first.reference:g}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 if all bytes are equal."""
    values: Any = flags.FLAGS
    if len(argv) < 2:
        print("No audio given: name audio files.", file=sys.stderr)
        return 1
    try:
        bundle = bundles.load(values.bundle)
        features = [
            compute_features(bundle, samples[start:end])
            for samples in map(audio.read, argv[1:])
            for start, end in segment.split(samples, bundle.window)
        ]
        pieces = [piece for piece in features if len(piece)]
        parity = compare_runtimes(bundle, pieces, values.runtime, values.reference)
    except (BundleError, ExecutionError, audio.AudioError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if not parity.bytes_compared:
        print("The audio is silent: nothing was compared; name recordings of speech.")
    else:
        print(summary(parity))
    return 0 if parity.equal else 1


def run() -> None:
    """Entry point of the console script."""
    names = list(RUNTIMES)
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_enum("runtime", "tflm", names, "Runtime to test.")
    flags.DEFINE_enum("reference", "litert-reference", names, "Runtime to compare with.")
    tool.run(main)


if __name__ == "__main__":
    run()
