"""The shipped bundles as assets of the demo.

    python -m android_demo.building.assets [BUNDLE ...]

Each becomes a folder of `app/src/main/assets/bundles`: its own files, and `core.bin` for the C
core.  Names, directories and zips are taken, as by the other tools; without arguments, `barista`
and `digits`.
"""

import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

from android_demo.building.native import ANDROID
from firmware_sim import bundle as bundles
from firmware_sim.bundle import Bundle, BundleError
from firmware_sim.c import block, signature
from firmware_sim.c.signature import ExportError

ASSETS: Final = ANDROID / "app" / "src" / "main" / "assets" / "bundles"
_SHIPPED: Final = ("barista", "digits")


def write(bundle: Bundle, target: pathlib.Path) -> None:
    """Writes a bundle as a folder that the phone reads, whole or not at all.

    Raises:
      ExportError: if the C core cannot run the bundle.
    """
    core = block.block(bundle, signature.read(bundle))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        new = pathlib.Path(scratch, "new")
        if bundle.path.is_dir():
            shutil.copytree(bundle.path, new)
        else:  # a zip, with the bundle at its root or in its only folder
            shutil.unpack_archive(bundle.path, new, "zip")
            (manifest,) = new.rglob(bundles.MANIFEST)
            new = manifest.parent
        (new / "core.bin").write_bytes(core)
        shutil.rmtree(target, ignore_errors=True)
        new.replace(target)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    try:
        for name in arguments or _SHIPPED:
            loaded = bundles.load(name)
            write(loaded, ASSETS / loaded.path.stem)
    except (BundleError, ExportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
