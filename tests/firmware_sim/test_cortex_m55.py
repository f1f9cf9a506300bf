import dataclasses
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
import soundfile
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from firmware_sim import bundle, parity, recognizer
from firmware_sim.runtimes import cortex_m55, runtime
from firmware_sim.runtimes.cortex_m55 import CortexM55
from firmware_sim.runtimes.model import BundleError, Model, TensorSpec
from firmware_sim.runtimes.runtime import ExecutionError
from tests.conftest import REPOSITORY, needs_cortex_m55

# Loads a decoder step, says which process QEMU is, and ends as it is told to.
SCRIPT = """
import os, signal, sys
from firmware_sim import bundle
from firmware_sim.runtimes import cortex_m55
step = cortex_m55.CortexM55(bundle.load(sys.argv[1]).decoder_step)
print(step._machine._process.pid, flush=True)
input()
exec(sys.argv[2])
"""


def zeros(model: Model) -> runtime.Tensors:
    return {spec.name: np.zeros(spec.shape, spec.numpy_dtype) for spec in model.inputs}


def edited(model: Model, edit: Callable[[Any], None]) -> Model:
    """The model with something changed in its flatbuffer."""
    content = schema.ModelT.InitFromPackedBuf(model.data, 0)
    edit(content)
    builder = flatbuffers.Builder(1024)
    builder.Finish(content.Pack(builder), b"TFL3")
    return dataclasses.replace(model, data=bytes(builder.Output()))


@needs_cortex_m55
def test_encoder_and_every_decoder_step_equal_the_reference_kernels(
    loaded: bundle.Bundle, speech: NDArray[np.int16]
) -> None:
    features = recognizer.compute_features(loaded, speech)
    result = parity.compare_runtimes(loaded, [features], "cortex-m55", "litert-reference")
    assert result.first_difference is None
    assert result.equal
    assert result.invocations > 10


def transcribe(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "firmware_sim.transcribe", "--decoding=greedy", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, speech: NDArray[np.int16]) -> str:
    file = tmp_path_factory.mktemp("recording") / "a.wav"
    soundfile.write(file, speech, 16000)
    return str(file)


@needs_cortex_m55
def test_transcribes_what_the_reference_kernels_do(
    digits_bundle: pathlib.Path, recording: str
) -> None:
    flags = (f"--bundle={digits_bundle}", recording)
    emulated, reference = (
        transcribe(f"--runtime={name}", *flags) for name in ("cortex-m55", "litert-reference")
    )
    assert emulated.returncode == 0, emulated.stderr
    assert emulated.stdout == reference.stdout != ""


@needs_cortex_m55
def test_the_arena_is_nearly_that_of_the_host(loaded: bundle.Bundle) -> None:
    arena = runtime.load("cortex-m55", loaded.decoder_step).arena_bytes
    host = runtime.load("tflm", loaded.decoder_step).arena_bytes
    assert arena is not None
    assert host is not None
    assert 0.9 * host < arena < 1.1 * host


@needs_cortex_m55
def test_instructions_are_counted_to_fifty(loaded: bundle.Bundle) -> None:
    step = loaded.decoder_step
    count = cortex_m55.instructions(step)
    assert abs(count - cortex_m55.instructions(step)) <= 50
    # A vector instruction multiplies 16 weights at most.
    assert len(step.data) / 16 < count < 10 * len(step.data)


@needs_cortex_m55
def test_a_wrong_shape_is_refused(loaded: bundle.Bundle) -> None:
    step = CortexM55(loaded.decoder_step)
    inputs = zeros(loaded.decoder_step)
    with pytest.raises(ValueError, match=r"token is int8 \[1, 2\], but .* takes int8 \[1, 31\]"):
        step.invoke({**inputs, "token": np.zeros((1, 2), np.int8)})
    with pytest.raises(ValueError, match=r"token is int64 \[1, 31\]"):
        step.invoke({**inputs, "token": np.zeros((1, 31), np.int64)})


@needs_cortex_m55
def test_an_operator_that_the_image_lacks_is_named_with_its_tensor(loaded: bundle.Bundle) -> None:
    first: list[str] = []

    def gelu_for_rsqrt(content: Any) -> None:
        (index,) = (
            i
            for i, code in enumerate(content.operatorCodes)
            if code.builtinCode == schema.BuiltinOperator.RSQRT
        )
        code = content.operatorCodes[index]
        code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.GELU, 127
        graph = content.subgraphs[0]
        outputs = [op.outputs[0] for op in graph.operators if op.opcodeIndex == index]
        first.append(graph.tensors[outputs[0]].name.decode())

    model = edited(loaded.decoder_step, gelu_for_rsqrt)
    with pytest.raises(BundleError) as refused:
        CortexM55(model)
    assert str(refused.value).startswith(
        "decoder_step.tflite: the Cortex-M55 image has no operator GELU, which computes "
        f"{first[0]!r} and "
    )


@needs_cortex_m55
def test_tensors_larger_than_the_arena_are_refused(loaded: bundle.Bundle) -> None:
    size = 1_500_000

    def add_of_two_large_tensors(content: Any) -> None:
        graph = content.subgraphs[0]
        content.operatorCodes = [schema.OperatorCodeT()]  # ADD
        content.operatorCodes[0].version = 2
        content.buffers = content.buffers[:1]
        content.signatureDefs = content.metadata = None
        graph.tensors = [graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]]
        for tensor in graph.tensors:
            tensor.shape, tensor.shapeSignature = [1, size], None
            tensor.type, tensor.buffer = schema.TensorType.INT8, 0
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5], [0]
        add = schema.OperatorT()
        add.inputs, add.outputs = [0, 0], [1]
        add.builtinOptionsType, add.builtinOptions = 11, schema.AddOptionsT()
        graph.operators, graph.inputs, graph.outputs = [add], [0], [1]

    spec = TensorSpec("x", (1, size), "int8", 0.5, 0)
    model = dataclasses.replace(
        edited(loaded.decoder_step, add_of_two_large_tensors), inputs=(spec,), outputs=(spec,)
    )
    with pytest.raises(BundleError, match=r"do not fit the 2048 KiB arena .* \(\d+ bytes more"):
        CortexM55(model)


@needs_cortex_m55
def test_a_model_larger_than_its_place_is_refused(loaded: bundle.Bundle) -> None:
    model = dataclasses.replace(loaded.decoder_step, data=loaded.decoder_step.data + bytes(1 << 25))
    with pytest.raises(BundleError, match=r"holds .* the Cortex-M55 image takes 33554432"):
        CortexM55(model)


@needs_cortex_m55
def test_qemu_that_ends_is_one_sentence(loaded: bundle.Bundle) -> None:
    step = CortexM55(loaded.decoder_step)
    step._machine._process.kill()
    for _ in range(2):
        with pytest.raises(ExecutionError, match=r"decoder_step\.tflite: QEMU has ended"):
            step.invoke(zeros(loaded.decoder_step))


@needs_cortex_m55
def test_qemu_that_hangs_is_ended(loaded: bundle.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    step = CortexM55(loaded.decoder_step)
    process = step._machine._process
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(cortex_m55, "_TIME_LIMIT", 0.5)
    with pytest.raises(ExecutionError, match="did not stop within"):
        step.invoke(zeros(loaded.decoder_step))
    assert process.returncode == -signal.SIGKILL


@needs_cortex_m55
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'unsupported machine type' >&2; exit 1", ": unsupported machine type"),
        # Killed after a second of work: in the midst of the encoder.
        (f'ulimit -t 1; exec {shutil.which("qemu-system-arm")} "$@"', "data read from 0x92000000"),
    ],
)
def test_qemu_that_fails_is_told_in_one_line(
    script: str, told: str, digits_bundle: pathlib.Path, recording: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "qemu-system-arm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "qemu-system-arm").chmod(0o755)
    flags = (f"--bundle={digits_bundle}", "--runtime=cortex-m55", recording, recording)
    done = transcribe(*flags, path=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if "QEMU" in line]
    assert len(lines) == 1
    assert "encoder.tflite: QEMU has ended; the end of its log: " in lines[0]
    assert told in lines[0]
    assert "Traceback" not in done.stderr


@needs_cortex_m55
@pytest.mark.parametrize(
    "ending", ["pass", "1 / 0", "del step; input()", "os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_nothing_is_left_however_the_program_ends(
    ending: str, digits_bundle: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(digits_bundle), ending],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    with program:
        qemu = os.pidfd_open(int(program.stdout.readline()))
        try:
            print(file=program.stdin, flush=True)
            ended = select.poll()
            ended.register(qemu, select.POLLIN)
            assert ended.poll(20_000), "QEMU still runs"
        finally:
            os.close(qemu)
            program.kill()
    assert list(tmp_path.iterdir()) == []


def test_missing_qemu_is_one_sentence(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = (f"--bundle={digits_bundle}", "--runtime=cortex-m55", "a.wav")
    done = transcribe(*flags, path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The runtime 'cortex-m55' needs qemu-system-arm; install the Debian package "
        "qemu-system-arm (apt-get install qemu-system-arm)."
    )


def test_a_missing_or_changed_wheel_is_one_sentence(
    loaded: bundle.Bundle, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("qemu-system-arm", "setpriv"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = r"image of the wheel mlia-ethos-u==0\.1\.0; install it \(pip install --no-deps "
    monkeypatch.setattr(cortex_m55, "_IMAGE", "mlia/nowhere.axf")
    with pytest.raises(ValueError, match=told):
        runtime.load("cortex-m55", loaded.decoder_step)
    monkeypatch.setattr(cortex_m55, "_IMAGE", "numpy/__init__.py")
    with pytest.raises(ValueError, match=told):
        runtime.load("cortex-m55", loaded.decoder_step)


def test_make_installs_the_wheel_that_is_asked_for() -> None:
    wheel = f"{cortex_m55._WHEEL}=={cortex_m55._WHEEL_VERSION}"
    assert f"pip install --no-deps {wheel}\n" in (REPOSITORY / "Makefile").read_text()
