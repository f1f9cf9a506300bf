"""The command that makes records."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY


def test_the_command_counts_and_reports(librispeech: Path, tmp_path: Path) -> None:
    folder = librispeech / "dev-clean" / "84" / "121"
    (folder / "84-121-0003.flac").write_bytes(b"no audio")
    (folder / "84-121-0099.flac").write_bytes((folder / "84-121-0001.flac").read_bytes())
    command = [sys.executable, "-m", "tf_speech_transformer.records", f"--corpus={librispeech}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, f"--out={tmp_path / 'out'}", "--processes=1"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "84-121-0099.flac has no transcript: left out" in done.stdout
    assert "84-121-0003.flac" in done.stdout
    assert "dev-clean: 6 utterances" in done.stdout
    assert "(published: 2,703 utterances, 5.4 h; 2,697 are not here)" in done.stdout
    done = subprocess.run(
        [*command[:-1], f"--corpus={tmp_path / 'none'}", f"--out={tmp_path / 'no'}"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.returncode != 0
    assert "none does not exist" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "no").exists()
