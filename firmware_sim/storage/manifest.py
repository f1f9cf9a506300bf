"""The files of a bundle and its manifest, read with limits and checked by type.

Sizes are looked at before anything is read: a directory may hold devices, pipes and links to them,
and a zip may unpack to far more than it holds.
"""

import dataclasses
import hashlib
import json
import lzma
import math
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from firmware_sim.runtimes.model import BundleError

FORMAT_VERSION: Final = 3
PHONE_FORMAT_VERSION: Final = 4  # of general models, whose encoders have phones
MANIFEST: Final = "manifest.json"
REBUILD: Final = "copy or export the bundle again"
_LARGEST_MANIFEST: Final = 4 << 20  # bytes; a grammar and results of a test set need 10 KB
# Bytes of a file by the end of its name, and of all. The paper's model in float32 needs 204 MB.
_LARGEST: Final = {".tflite": 240 << 20, ".npz": 240 << 20}
_LARGEST_OTHER: Final = 16 << 20
_LARGEST_ALL: Final = 400 << 20
_MOST_FILES: Final = 16
# Everything that `zipfile` and the decompressors raise for bytes that are no whole zip.
ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    IndexError,
)


class Files:
    """The files of a bundle's directory or zip, by name."""

    def __init__(self, path: pathlib.Path, shipped: Collection[str] = ()) -> None:
        """`shipped`: names of bundles that a message offers if there is no such file."""
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            if path.is_dir():
                return
            exists, regular = path.exists(), path.is_file()
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: no bundle can have this path ({error}).") from error
        if not exists:
            names = ", ".join(shipped) or "none is shipped"
            raise BundleError(
                f"{path}: no such bundle; give the directory or .zip of a bundle, or a shipped "
                f"bundle's name ({names})."
            )
        if not regular:
            raise BundleError(f"{path}: neither a directory nor a file; {REBUILD}.")
        try:
            self._zip = zipfile.ZipFile(path)
        except ZIP_ERRORS as error:
            raise BundleError(
                f"{path}: neither a directory nor a readable .zip ({error}); {REBUILD}."
            ) from error
        # Some programs write the separators of Windows.
        members = {x.filename.replace("\\", "/"): x for x in self._zip.infolist()}
        paths = [name for name in members if pathlib.PurePosixPath(name).name == MANIFEST]
        prefix = ""
        if len(paths) == 1 and paths[0].count("/") <= 1:
            prefix = paths[0][: -len(MANIFEST)]
        self._members = {name.removeprefix(prefix): x for name, x in members.items()}

    def read(self, name: str, largest: int, expected: int | None = None) -> bytes:
        """The bytes of one file.

        Args:
          expected: how many the manifest says.

        Raises:
          BundleError: it is missing, no regular file, larger than `largest`, of another size than
            expected, or not readable.
        """
        try:
            size = self._size(name)
            if expected is not None and size != expected:
                raise BundleError(
                    f"{self.path}/{name}: holds {size} bytes, the manifest says {expected}; "
                    f"{REBUILD}."
                )
            if size > largest:
                raise BundleError(
                    f"{self.path}/{name}: holds {size} bytes where {largest} are the most; "
                    f"{REBUILD}."
                )
            if self._zip is None:
                with (self.path / name).open("rb") as file:
                    return file.read(size)
            with self._zip.open(self._members[name]) as member:
                return member.read(size)
        except (FileNotFoundError, KeyError) as error:
            raise BundleError(f"{self.path}: {name} is missing; {REBUILD}.") from error
        except ZIP_ERRORS as error:
            raise BundleError(
                f"{self.path}: {name} cannot be read ({error}); {REBUILD}."
            ) from error

    def _size(self, name: str) -> int:
        """Bytes of a file, before it is opened: a pipe would never end."""
        if self._zip is not None:
            return self._members[name].file_size
        path = self.path / name
        size = path.stat().st_size
        if not path.is_file():
            raise BundleError(f"{path}: not a regular file; {REBUILD}.")
        return size


@dataclasses.dataclass(frozen=True)
class Section:
    """A JSON object of the manifest, with the name that errors call it by."""

    where: str  # the manifest's path
    name: str  # "" at the top
    content: Mapping[str, Any]

    def refuse(self, reason: str) -> NoReturn:
        raise BundleError(f"{self.where}: {reason}; {REBUILD}.")

    def label(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def value(self, key: str, kind: type) -> Any:
        """A value of the type str, list or dict."""
        if key not in self.content:
            self.refuse(f"{self.label(key)} is missing")
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(f"{self.label(key)} is {value!r:.60}, which is of the wrong type")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.value(key, int)
        if not low <= value <= high:
            self.refuse(f"{self.label(key)} is {value!r:.60}, not from {low} to {high}")
        return int(value)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self.content.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            value = self.value(key, float)
        if not (low <= value <= high and math.isfinite(value)):
            self.refuse(f"{self.label(key)} is {value!r:.60}, not from {low:g} to {high:g}")
        return float(value)

    def section(self, key: str) -> "Section":
        return Section(self.where, self.label(key), self.value(key, dict))


def read(files: Files) -> Section:
    """The manifest, if it is of this program's version.

    Raises:
      BundleError: it is not.
    """
    where = f"{files.path}/{MANIFEST}"
    try:
        content = json.loads(files.read(MANIFEST, _LARGEST_MANIFEST).decode("utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate cannot be printed
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON ({error}); {REBUILD}.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{where}: not a JSON object; {REBUILD}.")
    manifest = Section(where, "", content)
    version = manifest.value("format_version", int)
    if version not in (FORMAT_VERSION, PHONE_FORMAT_VERSION):
        raise BundleError(
            f"{where}: format_version is {version!r:.20}, this program reads {FORMAT_VERSION} and "
            f"{PHONE_FORMAT_VERSION}; use the firmware_sim that belongs to the bundle."
        )
    return manifest


def listed_files(files: Files, manifest: Section) -> dict[str, bytes]:
    """Contents of the files listed in the manifest, each equal to its size and sha256.

    Raises:
      BundleError: one of them is not.
    """
    content: dict[str, bytes] = {}
    listed = manifest.section("files")
    if len(listed.content) > _MOST_FILES:
        manifest.refuse(f"files: {len(listed.content)} of them, where {_MOST_FILES} are the most")
    sizes: dict[str, int] = {}
    for name in listed.content:
        if not re.fullmatch(r"[\w][\w.\-]{0,80}", name):
            manifest.refuse(f"files: {name!r:.60} is not a plain file name")
        largest = _LARGEST.get(pathlib.PurePosixPath(name).suffix, _LARGEST_OTHER)
        sizes[name] = listed.section(name).whole("bytes", 0, largest)
    if sum(sizes.values()) > _LARGEST_ALL:
        manifest.refuse(f"files: more than {_LARGEST_ALL} bytes in all")
    for name, size in sizes.items():
        entry, data = listed.section(name), files.read(name, size, size)
        if hashlib.sha256(data).hexdigest() != entry.value("sha256", str).lower():
            raise BundleError(
                f"{files.path}/{name}: its sha256 differs from the manifest's, so the file was "
                f"changed or damaged; {REBUILD}."
            )
        content[name] = data
    return content
