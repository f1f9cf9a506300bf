"""One run a workdir, whatever became of the last one."""

import pathlib
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tf_speech_transformer.training import runs


def test_a_second_run_is_refused_while_the_first_is_there(tmp_path: pathlib.Path) -> None:
    with runs.lock(tmp_path), pytest.raises(ValueError, match="another run is in"):
        runs.lock(tmp_path)
    runs.lock(tmp_path).close()


def test_a_killed_run_keeps_no_lock_and_its_litter_is_removed(tmp_path: pathlib.Path) -> None:
    code = (
        "import pathlib, sys; from tf_speech_transformer.training import runs\n"
        "file = runs.lock(pathlib.Path(sys.argv[1])); print('here', flush=True); input()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"here\n"
    with pytest.raises(ValueError, match="another run is in"):
        runs.lock(tmp_path)
    run.kill()
    run.wait()
    kept = tmp_path / "float" / "ckpt-3.index"
    litter = [
        tmp_path / "float" / "ckpt-4_temp",
        tmp_path / "cache" / "recordings-0123456789abcdef.4711",
    ]
    for path in (*litter, kept.parent):
        path.mkdir(parents=True, exist_ok=True)
    kept.touch()
    (tmp_path / "config.tmp").touch()
    runs.lock(tmp_path).close()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {".lock", "cache", "float", "float/ckpt-3.index"}
