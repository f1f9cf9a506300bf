"""Tells whether a bundle fits a device: its flash, its RAM, and an estimate of the time.

    python -m firmware_sim.fit --bundle=DIR --device=corstone-300 [--operators] [--arena_map=M.svg]

Prints a table.  The exit status is 0 if the bundle fits, and 1 if it does not or on an error.

For a device with an Ethos-U, Vela compiles the models (extra `firmware`), and the table has its
file sizes, SRAM and cycles.  Otherwise, or with --noaccelerator, the arena is measured on TFLite
Micro (extra `tflm`) with its reference kernels; optimised kernels may need more scratch memory.
The time of a Cortex-M55 or M85 is estimated from the instructions that `cortex_m55` counts.
"""

import collections
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Final

from absl import flags

from firmware_sim import bundle
from firmware_sim.bundle import Bundle, BundleError
from firmware_sim.c import block
from firmware_sim.c.signature import ExportError
from firmware_sim.command_line import tool
from firmware_sim.fitting import arena, device, vela
from firmware_sim.fitting.device import Device, Memory
from firmware_sim.runtimes import cortex_m55, runtime
from firmware_sim.runtimes.model import Model
from firmware_sim.runtimes.runtime import ExecutionError
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import frontend

_KIB: Final = 1024
_STEP_BUFFERS: Final = 2  # one fills while the frontend reads the other
# Heap that `create_frontend` of pymicro-features takes, by glibc's mallinfo2 on x86-64: 9.5 to 11.
_FRONTEND_BYTES: Final = 11 * _KIB
_NUMBER_BYTES: Final = 4
_ARMV8_1_M: Final = ("Cortex-M55", "Cortex-M85")  # run the image that instructions are counted in


@dataclasses.dataclass(frozen=True)
class Need:
    """A use of memory."""

    what: str
    bytes: int
    memory: Memory | None = None  # its place, for RAM; None: it fits nowhere


@dataclasses.dataclass(frozen=True)
class Fit:
    """A bundle on a device."""

    device: Device
    flash: tuple[Need, ...]
    ram: tuple[Need, ...]  # one for each buffer
    compiled: dict[str, vela.Compilation]  # by the name of the file; empty without an accelerator
    time: tuple[str, ...]  # sentences

    @property
    def flash_left(self) -> int:
        """Bytes; negative if the bundle is too large."""
        return self.device.flash - sum(need.bytes for need in self.flash)

    def ram_left(self, memory: Memory) -> int:
        """Bytes of one memory."""
        return memory.bytes - sum(need.bytes for need in self.ram if need.memory == memory)

    @property
    def refusals(self) -> list[str]:
        """Why the bundle does not fit, a sentence each."""
        reasons = []
        if self.flash_left < 0:
            reasons.append(
                f"Flash: the bundle takes {_size(self.device.flash - self.flash_left)}, "
                f"{self.device.name} has {_size(self.device.flash)}."
            )
        largest = max((self.ram_left(memory) for memory in self.device.ram), default=0)
        unplaced = {need.what: need for need in self.ram if need.memory is None}
        reasons += [
            f"RAM for {need.what}: {_size(need.bytes)} in one piece are needed, {_size(largest)} "
            f"of {self.device.name} are left."
            for need in unplaced.values()
        ]
        return reasons


def fit(loaded: Bundle, target: Device, options: DecodingOptions) -> Fit:
    """Computes the memory and time of a bundle on a device.

    Args:
      loaded: the bundle.
      target: the device; its accelerator, if any, runs the models.
      options: of the search: a beam keeps caches for each hypothesis.

    Raises:
      BundleError: if the device lacks an operator, or Vela cannot compile a model.
      ExecutionError: if the emulated Cortex-M55 fails, which counts instructions.
      ExportError: if the grammar is too large for the C core.
      ValueError: if Vela is needed and not installed.
    """
    models = _models(loaded, options)
    compiled = {}
    if target.accelerator is not None:
        compiled = {m.file: vela.compile_model(m, target.accelerator) for m in models}
    arenas = {}
    for model in models:
        result = compiled.get(model.file)
        size = result.arena_bytes if result is not None else 0
        if result is None or result.on_cpu:
            measured = runtime.load("tflm", model).arena_bytes
            assert measured is not None  # TFLite Micro knows
            size = max(size, measured)
        arenas[model.file] = size
    flash = [
        Need(
            f"{m.file}, compiled by Vela" if compiled else m.file,
            compiled[m.file].file_bytes if compiled else len(m.data),
        )
        for m in models
    ]
    flash.append(Need("tokens", sum(len(t.encode()) + 1 for t in loaded.tokenizer.tokens)))
    if grammar := options.grammar_of(loaded):
        flash.append(Need("grammar", len(block.automaton(grammar, loaded.limits))))
    if loaded.language and options.language_weight_of(loaded):
        flash.append(Need("language model, not compressed", loaded.language.bytes))
    ram = _ram(loaded, options, arenas)
    time = _time(loaded, options, target, compiled)
    return Fit(target, tuple(flash), place(ram, target.ram), compiled, time)


def _models(loaded: Bundle, options: DecodingOptions) -> tuple[Model, ...]:
    """Those that run: a grammar over phones needs no decoder."""
    grammar = options.grammar_of(loaded)
    of_phones = grammar is not None and grammar.of_phones
    return (loaded.encoder,) if of_phones else (loaded.encoder, loaded.decoder_step)


def _ram(loaded: Bundle, options: DecodingOptions, arenas: dict[str, int]) -> list[Need]:
    """What lies in RAM, as in the C sources; both models take turns in one arena, so what one hands
    on is copied."""
    shown = ", ".join(f"{file.removesuffix('.tflite')} {_kib(n)}" for file, n in arenas.items())
    needs = [
        Need(f"tensor arena: {shown}" + ", in turn" * (len(arenas) > 1), max(arenas.values())),
        Need("features of one window", loaded.encoder.input("features").bytes),
        Need(
            "audio, two steps of 10 ms, and the frontend's state",
            _STEP_BUFFERS * frontend.STEP_SAMPLES * 2 + _FRONTEND_BYTES,
        ),
    ]
    if len(_models(loaded, options)) == 1:
        return [*needs, Need("paths through the grammar", block.first_pass_bytes(loaded))]
    return needs + _decoder_ram(loaded, options)


def _decoder_ram(loaded: Bundle, options: DecodingOptions) -> list[Need]:
    """What the decoder adds."""
    encoder, step = loaded.encoder, loaded.decoder_step
    handed_on = {spec.name for spec in encoder.outputs}
    given = {"token", "memory_mask"}  # made anew for each step
    caches = sum(s.bytes for s in step.inputs if s.name not in handed_on | given)
    hypotheses = options.beam_of(loaded)
    frames, tokens = loaded.limits.memory_frames, loaded.limits.tokens
    needs = [
        Need("encoder outputs, for the decoder", sum(spec.bytes for spec in encoder.outputs)),
        *[Need("self-attention caches of a hypothesis", caches)] * hypotheses,
        Need("tokens and their scores", 2 * _NUMBER_BYTES * tokens * (hypotheses + 1)),
    ]
    grammar = options.grammar_of(loaded)
    if "ctc_logits" in handed_on and (hypotheses > 1 or grammar):
        needs.append(Need("CTC prefix scores", _NUMBER_BYTES * frames * (2 * hypotheses + 1)))
    if grammar:
        states = _NUMBER_BYTES * (block.concurrent(grammar) + 1)  # of a set, and their number
        needs.append(Need("states of the grammar", states * (tokens + 1 + hypotheses)))
    return needs


def place(needs: Sequence[Need], memories: Sequence[Memory]) -> tuple[Need, ...]:
    """Puts each need, the largest first, into the first memory that has room for it."""
    free = {memory: memory.bytes for memory in memories}
    placed = list(needs)
    for i in sorted(range(len(needs)), key=lambda i: -needs[i].bytes):
        room = next((memory for memory in memories if free[memory] >= needs[i].bytes), None)
        if room is not None:
            free[room] -= needs[i].bytes
        placed[i] = dataclasses.replace(needs[i], memory=room)
    return tuple(placed)


def _time(
    loaded: Bundle,
    options: DecodingOptions,
    target: Device,
    compiled: dict[str, vela.Compilation],
) -> tuple[str, ...]:
    """Sentences on the time for a second of speech; each says that it is an estimate."""
    models = _models(loaded, options)
    if any(result.on_cpu for result in compiled.values()):
        return ("Time: not estimated: Vela counts no cycles of operators that stay on the core.",)
    if compiled:
        clock, unit = compiled[models[0].file].clock, "cycles"
        counts = [compiled[model.file].cycles for model in models]
        source = f"Vela's estimate at {clock / 1e6:.0f} MHz, not measured"
    elif target.core not in _ARMV8_1_M:
        return (f"Time: not estimated: there is no count of instructions for {target.core}.",)
    elif reason := cortex_m55.missing():
        return (f"Time: not estimated: {reason}",)
    else:
        clock, unit = target.clock_mhz * 1e6, "instructions"
        counts = [cortex_m55.instructions(model) for model in models]
        source = (
            f"an estimate: instructions counted in QEMU, at one a cycle of {clock / 1e6:.0f} MHz "
            "(the core takes one or several)"
        )
    encoder, *steps = (count / clock for count in counts)
    window = loaded.limits.frames * frontend.STEP_SAMPLES / frontend.SAMPLE_RATE
    head = (
        f"Time, {source}:",
        f"  encoder {counts[0]:,} {unit}, {encoder * 1e3:.1f} ms a window of {window:.2f} s",
    )
    if not steps:
        each = encoder / window * 1e3
        return (*head, f"  {each:.0f} ms for a second of speech; without features and search")
    (step,) = steps
    hypotheses, tokens = options.beam_of(loaded), loaded.limits.tokens
    longest = (encoder + tokens * hypotheses * step) / window
    return (
        *head,
        f"  decoder step {counts[1]:,} {unit}, {step * 1e3:.2f} ms a token and hypothesis",
        f"  {longest * 1e3:.0f} ms for a second of speech, if a window holds {tokens} tokens and "
        f"the search {hypotheses} hypotheses; without features and search",
    )


def table(loaded: Bundle, result: Fit) -> str:
    """The answer, and the figures behind it."""
    answer = "no" if result.refusals else "yes"
    target = result.device
    lines = [f"{loaded.preset} on {target.name} ({target.title}): {answer}", *result.refusals, ""]
    lines.append(_row("Flash", _size(target.flash)))
    lines += [_row(f"  {need.what}", _size(need.bytes)) for need in result.flash]
    lines.append(_row("  left for the program", _size(result.flash_left)))
    lines += ["", _row("RAM", _size(sum(memory.bytes for memory in target.ram)))]
    for need, count in collections.Counter(result.ram).items():
        what = need.what if count == 1 else f"{need.what}, {count} x {_kib(need.bytes)}"
        where = need.memory.name if need.memory else "does not fit"
        lines.append(_row(f"  {what}", _size(count * need.bytes), where))
    for memory in target.ram:
        left = _size(result.ram_left(memory))
        lines.append(_row("  left for stack, heap and the program", left, memory.name))
    lines.append("")
    if target.accelerator is None:
        lines.append("The arena is measured on TFLite Micro, which has every operator.")
    else:
        lines.append("The arena is Vela's; where operators stay on the core, no less than measured")
        lines.append(f"on TFLite Micro. Operators on {target.accelerator.name}:")
        for file, model in result.compiled.items():
            placed = model.operators - len(model.on_cpu)
            share = 100 * placed / model.operators
            lines.append(f"  {file}: {placed} of {model.operators}, {share:.1f} %")
            kept: dict[tuple[str, str], list[str]] = {}
            for cpu in model.on_cpu:
                kept.setdefault((cpu.operator, cpu.reason), []).append(cpu.layer)
            for (operator, reason), layers in kept.items():
                more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
                lines.append(f"    {operator} of {layers[0]}{more} stays on the core: {reason}")
    lines += ["", *result.time, "", "The device's figures are from:"]
    return "\n".join([*lines, *(f"  {source}" for source in target.sources)])


def operator_table(compiled: dict[str, vela.Compilation]) -> str:
    """Vela's cycles by operator and layer, the most first, a table for each model."""
    lines = []
    for file, result in compiled.items():
        lines.append(f"{file}: {result.cycles:,} cycles, Vela's estimate")
        for layer in sorted(result.layers, key=lambda layer: -layer.cycles):
            share = 100 * layer.cycles / result.cycles
            where = "NPU" if layer.on_npu else "CPU"
            lines.append(
                f"  {layer.cycles:>10,} {share:5.1f} %  {where}  {layer.operator:<16} {layer.layer}"
            )
    return "\n".join(lines)


def _row(what: str, amount: str, where: str = "") -> str:
    return f"{what:<62}{amount:>14}  {where}".rstrip()


def _size(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if abs(size) >= 2**30 else f"{_kib(size)} KiB"


def _kib(size: int) -> str:
    return f"{size / _KIB:,.1f}"


def write_map(path: pathlib.Path, loaded: Bundle) -> None:
    """Draws both models' arenas as TFLite Micro plans them; the file is written whole or not."""
    plans = [(model.file, arena.plan(model)) for model in (loaded.encoder, loaded.decoder_step)]
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(arena.svg(plans), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 if the bundle fits, else 1."""
    values = flags.FLAGS
    if len(argv) > 1:
        print(f"Unknown argument {argv[1]!r}.", file=sys.stderr)
        return 1
    options = DecodingOptions(decoding=Decoding(values.decoding), beam=values.beam)
    try:
        loaded, target = bundle.load(values.bundle), device.load(values.device)
        if not values.accelerator:
            target = dataclasses.replace(target, accelerator=None)
        if values.operators and target.accelerator is None:
            raise ValueError(
                f"--operators lists an Ethos-U's cycles: {target.name} has none, or "
                "--noaccelerator leaves it out."
            )
        result = fit(loaded, target, options)
        if values.arena_map:
            write_map(pathlib.Path(values.arena_map), loaded)
    except (BundleError, ExecutionError, ExportError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(loaded, result))
    if values.operators:
        print(f"\n{operator_table(result.compiled)}")
    return 1 if result.refusals else 0


def run() -> None:
    """Entry point of the console script."""
    # Defined here, not on import: tests use this module as a library.
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_string("device", None, f"One of {', '.join(device.names())}.", required=True)
    flags.DEFINE_enum(
        "decoding", Decoding.BEAM.value, ["greedy", "beam"], "How tokens are to be chosen."
    )
    flags.DEFINE_integer(
        "beam",
        None,
        "Hypotheses kept by --decoding=beam. Default: 4, or 12 with a language model.",
        lower_bound=1,
    )
    flags.DEFINE_bool("accelerator", True, "Let the device's NPU, if any, run the models.")
    flags.DEFINE_bool("operators", False, "List Vela's cycles by operator and layer.")
    flags.DEFINE_string(
        "arena_map", None, "SVG file to draw the arena into, as TFLite Micro plans it."
    )
    tool.run(main)


if __name__ == "__main__":
    run()
