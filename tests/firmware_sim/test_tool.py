"""Tools end quietly where a tool is expected to, and take any file's name."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import REPOSITORY


def shell(command: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of bash; `python` is this one."""
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=REPOSITORY,
        env={**environment, **settings},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def printing(tmp_path: pathlib.Path) -> pathlib.Path:
    """A tool that prints for ever, or one line."""
    path = tmp_path / "printing.py"
    path.write_text(
        "import sys\nfrom firmware_sim.command_line import tool\n"
        "def main(argv):\n    for _ in range(int(argv[1])):\n        print('x' * 100)\n"
        "tool.run(main)\n"
    )
    return path


def test_a_reader_that_has_enough_ends_it_quietly(printing: pathlib.Path) -> None:
    done = shell(f"python {printing} 100000 | head -1", PYTHONPATH=str(REPOSITORY))
    assert (done.returncode, done.stdout, done.stderr) == (141, b"x" * 100 + b"\n", b"")


def test_a_full_disk_is_said_in_a_line(printing: pathlib.Path) -> None:
    for lines in (1, 100_000):
        done = shell(f"python {printing} {lines} >/dev/full", PYTHONPATH=str(REPOSITORY))
        assert done.returncode == 1
        assert done.stderr.decode().splitlines() == [
            "No space left on device: free some space, and start again"
        ]


def test_closed_streams_are_no_trouble(printing: pathlib.Path) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = shell(f"python {printing} 3 {closed}", PYTHONPATH=str(REPOSITORY))
        assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_ends_it_quietly(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "waiting.py"
    path.write_text(
        "import signal\nfrom firmware_sim.command_line import tool\n"
        # A shell's background job would ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def main(argv):\n    print('here', flush=True)\n    signal.pause()\ntool.run(main)\n"
    )
    tool = subprocess.Popen(
        [sys.executable, path],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tool.stdout is not None and tool.stderr is not None
    assert tool.stdout.readline() == b"here\n"
    tool.send_signal(signal.SIGINT)
    assert tool.stderr.read() == b""
    assert tool.wait() == 130


def test_names_in_another_encoding_are_printed_as_they_are(
    tmp_path: pathlib.Path, digits_bundle: pathlib.Path
) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16000, np.int16), 16000)
    os.rename(path, name)  # noqa: PTH104 - bytes
    soundfile.write(path, np.zeros(16000, np.int16), 16000)
    command = [sys.executable, "-m", "firmware_sim.transcribe", f"--bundle={digits_bundle}"]
    done = subprocess.run(
        [*command, name, str(path)], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == name + b"\t\n" + os.fsencode(path) + b"\t\n"
