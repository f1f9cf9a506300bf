"""How the tensors of the two models connect, and whether the C core knows all of them."""

import dataclasses
import re
from typing import Final

from firmware_sim.bundle import Bundle
from firmware_sim.runtimes.model import TensorSpec
from firmware_sim.sound import frontend

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class ExportError(Exception):
    """A bundle, audio or directory that cannot be exported from or to; the message says why."""


@dataclasses.dataclass(frozen=True)
class Cache:
    """An input of the decoder step that gathers the rows of one of its outputs."""

    input: TensorSpec  # [1, N, d]
    row: TensorSpec  # [1, 1, d]


@dataclasses.dataclass(frozen=True)
class Signature:
    """What the inputs of the decoder step are, besides token and masks."""

    caches: tuple[Cache, ...]
    crossings: tuple[TensorSpec, ...]  # inputs that are outputs of the encoder


def read(bundle: Bundle) -> Signature:
    """The signature of a bundle's models.

    Raises:
      ExportError: if there is anything that the C decoder loop does not know.
    """
    if bundle.precision != "int8":
        raise ExportError(
            f"{bundle.path}: its precision is {bundle.precision}, and a microcontroller gets int8; "
            "export the bundle that was quantized."
        )
    if not isinstance(bundle.frontend, frontend.MicroFrontend):
        raise ExportError(
            f"{bundle.path}: its features are not those of the audio microfrontend; train with the "
            "frontend of firmware_sim.sound.frontend.MICROFRONTEND_PARAMETERS."
        )
    encoder, step = bundle.encoder, bundle.decoder_step
    caches = tuple(
        Cache(step.input(f"cache_{layer}"), step.output(f"row_{layer}"))
        for layer in range(bundle.decoder_layers)
    )
    own = {"token", "self_mask", "memory_mask", *(cache.input.name for cache in caches)}
    crossings = tuple(spec for spec in step.inputs if spec.name not in own)
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
    return Signature(caches, crossings)
