"""Sources of others that the C core needs: TensorFlow's audio microfrontend and WebRTC's detector.

They come from the source distributions of the wheels that Python uses, in the installed versions,
so that a build computes what Python computes.  `speech_features.h` and `speech_detector.h` name
the files too, for those who have them from elsewhere.
"""

import dataclasses
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from typing import Final

_LIBRARY: Final = pathlib.Path("tensorflow/lite/experimental/microfrontend/lib")
_FRONTEND_FILES: Final = (
    *("fft", "filterbank", "frontend", "kiss_fft_int16", "log_lut", "log_scale"),
    *("noise_reduction", "pcan_gain_control", "window"),
)
_AUDIO: Final = pathlib.Path("webrtc/common_audio")
_DETECTOR_FILES: Final = (
    *(f"vad/{name}" for name in ("vad_core", "vad_filterbank", "vad_gmm", "vad_sp")),
    *(
        f"signal_processing/{name}"
        for name in (
            *("division_operations", "energy", "get_scaling_square", "resample_48khz"),
            *("resample_by_2_internal", "resample_fractional"),
        )
    ),
)
# What pip says if it cannot reach a package registry.
OFFLINE: Final = re.compile("NewConnectionError|NameResolutionError|ProxyError|ConnectTimeoutError")


class UnreachableError(Exception):
    """There is no package registry to download from."""


@dataclasses.dataclass(frozen=True)
class ThirdParty:
    """Sources of others, as their distributions have them."""

    microfrontend: pathlib.Path  # of pymicro-features
    webrtc: pathlib.Path  # of webrtcvad-wheels

    @property
    def library(self) -> pathlib.Path:
        """The folder of the microfrontend's files."""
        return self.microfrontend / _LIBRARY

    @property
    def frontend_sources(self) -> list[pathlib.Path]:
        """Of C++17; `frontend_includes` are their folders of headers."""
        return [self.library / f"{name}.cc" for name in _FRONTEND_FILES]

    @property
    def frontend_includes(self) -> list[pathlib.Path]:
        return [self.microfrontend, self.microfrontend / "kissfft"]

    @property
    def detector_sources(self) -> list[pathlib.Path]:
        """Of C99 with GNU's extensions; the folder of headers is `webrtc`."""
        return [self.webrtc / _AUDIO / f"{name}.c" for name in _DETECTOR_FILES]


def fetch(directory: pathlib.Path) -> ThirdParty:
    """Downloads and unpacks what `directory` does not hold yet.

    Raises:
      UnreachableError: if pip reaches no registry.
      RuntimeError: if pip fails otherwise.
    """
    microfrontend = _unpacked("pymicro-features", directory)
    return ThirdParty(microfrontend, _unpacked("webrtcvad-wheels", directory) / "cbits")


def _unpacked(package: str, directory: pathlib.Path) -> pathlib.Path:
    """The sources of a package, whole or not at all."""
    pin = f"{package}=={importlib.metadata.version(package)}"
    target = directory / pin
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package}-", dir=directory) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", f"--no-binary={package}", f"--dest={scratch}", pin]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            if OFFLINE.search(done.stdout + done.stderr):
                raise UnreachableError(f"{pin}: pip cannot reach a package registry; connect.")
            raise RuntimeError(f"{pin}: pip cannot download the sources:\n{done.stderr}")
        (archive,) = pathlib.Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
        archive.unlink()
        (unpacked,) = (path for path in pathlib.Path(scratch).iterdir() if path.is_dir())
        shutil.move(unpacked, target)
    return target
