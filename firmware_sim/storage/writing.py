"""Writes a bundle: its directory and its zip, each whole or not at all."""

import ctypes
import hashlib
import json
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
    """Writes files and manifest beside `directory`, then puts them into its place and its zip's."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
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
