"""Writes a bundle: its directory and its zip, each whole or not at all."""

import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def described(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """What a manifest says of its files."""
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }


def write_whole(directory: Path, files: dict[str, bytes], manifest: dict[str, Any]) -> None:
    """Writes files and manifest beside `directory`, then puts them into its place and its zip's.

    Raises OSError: it cannot, or something else than a bundle is there.
    """
    check_target(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    prefix = f".{directory.name}-{os.getpid()}-"
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    archive = temporary.with_suffix(".zip.tmp")
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for part in sorted(temporary.iterdir()):
                file.write(part, part.name)
        temporary.chmod(0o755)
        replace_directory(temporary, directory)
        archive.replace(directory.with_name(directory.name + ".zip"))
    except OSError as error:
        if error.filename is not None:
            raise
        # A full disk does not say where.
        raise OSError(error.errno, error.strerror, str(directory)) from error
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)


def check_target(directory: Path) -> None:
    """Raises FileExistsError if something is at `directory` that a new bundle must not replace."""
    if not directory.exists() and not directory.is_symlink():
        return
    inside = list(directory.iterdir()) if directory.is_dir() else []
    is_bundle = (directory / "manifest.json").is_file() and all(x.is_file() for x in inside)
    if not directory.is_dir() or (inside and not is_bundle):
        raise FileExistsError(
            f"{directory} is no bundle, and a new one would replace it: name another folder"
        )


def _sweep(directory: Path) -> None:
    """Removes what writers of this bundle left behind that were killed."""
    for path in directory.parent.glob(f".{glob.escape(directory.name)}-*"):
        found = re.match(rf"\.{re.escape(directory.name)}-(\d+)-", path.name)
        if found is None or _is_running(int(found[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def replace_directory(new: Path, target: Path) -> None:
    """Puts `new` in the place of `target`; at every moment there is a whole directory of that name.

    If the file system cannot exchange two names at once, the old one is moved aside first.
    """
    if not target.exists():
        new.replace(target)
        return
    exchange, here = 2, -100  # RENAME_EXCHANGE, AT_FDCWD
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(here, bytes(new), here, bytes(target), exchange) == 0:
        return  # `new` now names the old one; the caller removes it
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent)) / "bundle"
    target.replace(old)
    new.replace(target)
    shutil.rmtree(old.parent, ignore_errors=True)
