import dataclasses
import functools
import importlib.metadata
import json
import math
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_micro import runtime as tflite_micro

from firmware_sim import bundle, fit
from firmware_sim.fitting import arena, device, vela
from firmware_sim.fitting.device import Accelerator, Device, Memory
from firmware_sim.runtimes import graph, runtime
from firmware_sim.runtimes.model import BundleError, Model
from firmware_sim.search import language
from firmware_sim.search.options import Decoding, DecodingOptions
from tests.conftest import REPOSITORY, needs_cortex_m55, run_module

_run = functools.partial(run_module, "firmware_sim.fit")

BEAM = DecodingOptions(decoding=Decoding.BEAM)
ETHOS_U55 = Accelerator("ethos-u55-256", "Ethos_U55_High_End_Embedded")


@pytest.fixture(scope="module")
def on_npu(loaded: bundle.Bundle) -> fit.Fit:
    return fit.fit(loaded, device.load("corstone-300"), BEAM)


@pytest.fixture(params=["encoder", "decoder_step"])
def model(loaded: bundle.Bundle, request: pytest.FixtureRequest) -> Model:
    return getattr(loaded, request.param)


def microcontroller(**changes: Any) -> Device:
    """A Cortex-M7 that holds the shipped bundle."""
    return dataclasses.replace(device.load("stm32h743"), **changes)


def with_operator(model: Model, before: int, after: int) -> Model:
    """The model with one kind of operator called another."""
    content = schema.ModelT.InitFromPackedBuf(model.data, 0)
    for code in content.operatorCodes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) == before:
            code.builtinCode, code.deprecatedBuiltinCode = after, min(after, 127)
    builder = flatbuffers.Builder(len(model.data))
    builder.Finish(content.Pack(builder), b"TFL3")
    return dataclasses.replace(model, data=bytes(builder.Output()))


# ------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("name", device.names())
def test_every_profile_is_whole_and_names_its_sources(name: str) -> None:
    found = device.load(name)
    assert found.flash > 0
    assert found.clock_mhz > 0
    assert found.ram and all(memory.bytes > 0 for memory in found.ram)
    assert found.sources


def test_an_unknown_device_is_one_sentence_that_names_all(digits_bundle: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}", "--device=z80")
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "'z80'" in line
    assert all(name in line for name in device.names())


# ------------------------------------------------------------------------------- flash and RAM


def test_a_bundle_that_fits_is_a_yes_with_what_is_left(digits_bundle: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}", "--device=stm32h743")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].endswith(": yes")
    assert "not estimated" in result.stdout
    flash = next(i for i in result.stdout.splitlines() if "left for the program" in i)
    files = sum((digits_bundle / f"{m}.tflite").stat().st_size for m in ("encoder", "decoder_step"))
    left = float(re.findall(r"([\d.]+) KiB", flash)[0])
    assert left == pytest.approx(2048 - files / 1024, abs=0.2)


def test_a_beam_too_wide_for_the_device_is_a_no(digits_bundle: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}", "--device=stm32h743", "--beam=64")
    assert result.returncode == 1
    answer, reason = result.stdout.splitlines()[:2]
    assert answer.endswith(": no")
    assert reason.startswith("RAM for self-attention caches of a hypothesis")


def test_flash_that_is_too_small_is_a_no(loaded: bundle.Bundle) -> None:
    found = fit.fit(loaded, microcontroller(flash=1 << 20), BEAM)
    assert found.flash_left < 0
    (reason,) = found.refusals
    taken = sum(need.bytes for need in found.flash) / 1024
    assert reason.startswith(f"Flash: the bundle takes {taken:,.1f} KiB, ")


def test_an_arena_needs_one_piece_of_ram(loaded: bundle.Bundle) -> None:
    halves = tuple(Memory(f"bank {i}", 256 << 10) for i in range(8))
    found = fit.fit(loaded, microcontroller(ram=halves), BEAM)
    (reason,) = found.refusals
    assert "tensor arena" in reason
    assert "in one piece" in reason


def test_the_beam_counts_and_greedy_search_keeps_one_hypothesis(loaded: bundle.Bundle) -> None:
    def caches(options: DecodingOptions) -> int:
        found = fit.fit(loaded, microcontroller(), options)
        return sum(need.bytes for need in found.ram if "hypothesis" in need.what)

    one = caches(DecodingOptions(decoding=Decoding.GREEDY))
    step = loaded.decoder_step
    states = [s for s in step.inputs if s.name.startswith(("self_", "cache_"))]
    # Caches are int8.
    assert one == sum(math.prod(s.shape) for s in states)
    assert caches(DecodingOptions(decoding=Decoding.BEAM, beam=3)) == 3 * one


def test_a_language_model_is_counted_where_it_is_used(loaded: bundle.Bundle) -> None:
    size = 3_000
    level = {"cost": np.zeros(size, np.uint8)}
    model = language.LanguageModel([level], start=0, weight=0.5, entropy=1.0)
    with_language = dataclasses.replace(loaded, language=model)

    def counted(**options: Any) -> int:
        chosen = DecodingOptions(**{"decoding": Decoding.BEAM, **options})
        flash = fit.fit(with_language, microcontroller(), chosen).flash
        return sum(need.bytes for need in flash if need.what.startswith("language model"))

    assert counted() == size
    assert counted(language_weight=0.0) == counted(decoding=Decoding.GREEDY) == 0


def test_needs_go_to_the_first_memory_with_room_the_largest_first() -> None:
    fast, slow = Memory("fast", 100), Memory("slow", 1000)
    needs = [fit.Need("small", 30), fit.Need("large", 80), fit.Need("huge", 2000)]
    small, large, huge = fit.place(needs, [fast, slow])
    assert (small.memory, large.memory, huge.memory) == (slow, fast, None)


# ----------------------------------------------------------------------------------- operators


def test_an_operator_that_tflite_micro_lacks_is_named_with_its_layer(
    loaded: bundle.Bundle,
) -> None:
    operators = schema.BuiltinOperator
    changed = with_operator(loaded.encoder, operators.RSQRT, operators.GELU)
    with pytest.raises(BundleError, match=r"no operator GELU, which vgg_0/norm_0/reciprocal and"):
        fit.fit(dataclasses.replace(loaded, encoder=changed), microcontroller(), BEAM)


def test_vela_places_every_operator_of_both_models(on_npu: fit.Fit) -> None:
    assert [result.on_cpu for result in on_npu.compiled.values()] == [(), ()]


def test_an_operator_that_vela_leaves_is_named_with_its_layer_and_reason(
    loaded: bundle.Bundle,
) -> None:
    operators = schema.BuiltinOperator
    changed = with_operator(loaded.encoder, operators.RSQRT, operators.SQRT)
    result = vela.compile_model(changed, ETHOS_U55)
    kept = [op for op in graph.read(changed.data).operators if op.name == "SQRT"]
    assert {left.operator for left in result.on_cpu} == {"SQRT"}
    assert len(result.on_cpu) == len(kept)
    assert "vgg_0/norm_0/reciprocal" in {left.layer for left in result.on_cpu}
    assert {left.reason for left in result.on_cpu} == {"Unsupported opType"}


def test_what_stays_on_the_core_is_measured_and_not_timed(
    loaded: bundle.Bundle, on_npu: fit.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = vela.OnCpu("GATHER", "embedding", "Unsupported opType")
    step = dataclasses.replace(
        on_npu.compiled["decoder_step.tflite"], arena_bytes=0, on_cpu=(left, left)
    )
    compiled = {**on_npu.compiled, "decoder_step.tflite": step}
    monkeypatch.setattr(vela, "compile_model", lambda model, accelerator: compiled[model.file])
    found = fit.fit(loaded, device.load("corstone-300"), BEAM)
    measured = runtime.load("tflm", loaded.decoder_step).arena_bytes
    assert measured is not None
    assert f"decoder_step {measured / 1024:.1f}" in found.ram[0].what
    assert "not estimated" in found.time[0]
    shown = fit.table(loaded, found)
    assert "GATHER of embedding and 1 more stays on the core: Unsupported opType" in shown
    assert f"decoder_step.tflite: {step.operators - 2} of {step.operators}, 98." in shown


# ---------------------------------------------------------------------------------------- time


def test_cycles_of_all_layers_are_those_of_the_model(on_npu: fit.Fit) -> None:
    for result in on_npu.compiled.values():
        assert sum(layer.cycles for layer in result.layers) == result.cycles
        assert any(layer.operator == "Softmax" for layer in result.layers)
    table = fit.operator_table(on_npu.compiled)
    assert "encoder_0/attention/softmax" in table
    assert "Vela's estimate" in table


def test_time_on_an_npu_is_called_an_estimate(loaded: bundle.Bundle, on_npu: fit.Fit) -> None:
    shown = fit.table(loaded, on_npu)
    assert "Vela's estimate at 500 MHz, not measured" in shown
    encoder = on_npu.compiled["encoder.tflite"]
    assert f"{encoder.cycles / 500e6 * 1e3:.1f} ms a window of 5.12 s" in shown


def test_without_vela_one_sentence_says_what_to_install(
    loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ValueError, match=r"pip install .*\[firmware\]"):
        fit.fit(loaded, device.load("corstone-300"), BEAM)


def test_the_vela_that_is_asked_for_is_that_of_the_extra() -> None:
    configured = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'firmware = ["ethos-u-vela=={vela.VERSION}"]' in configured


@needs_cortex_m55
def test_a_cortex_m55_without_its_npu_is_estimated_from_instructions(
    loaded: bundle.Bundle,
) -> None:
    alone = dataclasses.replace(device.load("corstone-300"), accelerator=None)
    heading, encoder, step, second = fit.fit(loaded, alone, BEAM).time
    assert "an estimate: instructions counted in QEMU" in heading
    counts = [
        int(re.findall(r"([\d,]+) instructions", x)[0].replace(",", "")) for x in (encoder, step)
    ]
    assert counts[0] > 100 * counts[1] > 0
    expected = (counts[0] + 64 * 4 * counts[1]) / 500e6 / 5.12
    assert f"{expected * 1e3:.0f} ms for a second of speech" in second


def test_operators_without_an_npu_is_refused(digits_bundle: pathlib.Path) -> None:
    result = _run(f"--bundle={digits_bundle}", "--device=esp32-s3", "--operators")
    assert result.returncode == 1
    assert result.stderr.startswith("--operators lists an Ethos-U's cycles: esp32-s3 has none")


# ----------------------------------------------------------------------------------- arena map


def test_the_plan_is_tflite_micros(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    interpreter = tflite_micro.Interpreter.from_bytes(model.data, arena_size=1 << 20)
    interpreter.print_allocations()
    head = re.search(r"Arena allocation head (\d+) bytes", capfd.readouterr().err)
    assert head is not None
    assert arena.plan(model).bytes == int(head.group(1))


def test_tensors_that_live_together_do_not_overlap(model: Model) -> None:
    placements = arena.plan(model).placements
    for i, one in enumerate(placements):
        for other in placements[:i]:
            together = one.first <= other.last and other.first <= one.last
            apart = (
                one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset
            )
            assert apart or not together, (one, other)


def test_the_map_names_the_largest_tensors(
    loaded: bundle.Bundle, digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "arena.svg"
    result = _run(f"--bundle={digits_bundle}", "--device=stm32h743", f"--arena_map={path}")
    assert result.returncode == 0, result.stderr
    root = ElementTree.parse(path).getroot()
    labels = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    for model in (loaded.encoder, loaded.decoder_step):
        assert arena.plan(model).placements[0].name in labels
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_that_cannot_be_written_is_an_error(
    digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "nowhere" / "arena.svg"
    result = _run(f"--bundle={digits_bundle}", "--device=stm32h743", f"--arena_map={path}")
    assert result.returncode == 1
    assert str(path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda path: (path / "encoder.tflite").write_bytes(b"TFL3"), "holds 4 bytes"),
        (
            lambda path: (path / "manifest.json").write_text(json.dumps({"format_version": 1})),
            "format_version is 1",
        ),
    ],
)
def test_a_damaged_bundle_is_one_sentence(
    damage: Callable[[pathlib.Path], object],
    message: str,
    digits_bundle: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    for file in digits_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    result = _run(f"--bundle={tmp_path}", "--device=corstone-300")
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line
