"""The device side: a bundle and audio in, text and commands out.

    import firmware_sim

    recognizer = firmware_sim.load("barista")
    print(recognizer.transcribe("order.wav").commands)

Nothing here imports TensorFlow or the packages that train and convert.  So an Android app or a
firmware can do what this package does with a bundle.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from firmware_sim.bundle import BundleError
    from firmware_sim.recognizer import Recognizer
    from firmware_sim.runtimes.runtime import ExecutionError
    from firmware_sim.search.results import Command, Event, EventKind, Segment, Transcription
    from firmware_sim.sound.audio import AudioError

__all__ = [
    "AudioError",
    "BundleError",
    "Command",
    "Event",
    "EventKind",
    "ExecutionError",
    "Recognizer",
    "Segment",
    "Transcription",
    "bundles",
    "load",
]
# Imported lazily: a caller that only needs `bundles` loads no runtime.
_MODULES: Final = {
    "AudioError": "firmware_sim.sound.audio",
    "BundleError": "firmware_sim.bundle",
    "ExecutionError": "firmware_sim.runtimes.runtime",
    "Recognizer": "firmware_sim.recognizer",
    **dict.fromkeys(
        ("Command", "Event", "EventKind", "Segment", "Transcription"),
        "firmware_sim.search.results",
    ),
}


def load(name_or_path: str | os.PathLike[str], runtime: str = "litert") -> "Recognizer":
    """Loads a bundle on a runtime.

    Args:
      name_or_path: one of `bundles()`, or the directory or .zip of a bundle.
      runtime: litert, litert-reference, tflm, wasm or cortex-m55.

    Returns:
      a recogniser with the search of the tools: a beam of attention and CTC.

    Raises:
      BundleError: if the bundle is missing, damaged or not fit for the runtime.
      ValueError: if there is no such runtime, or it is not installed.

    Example:
      >>> import firmware_sim
      >>> firmware_sim.load("digits").bundle.preset
      'digits'
    """
    from firmware_sim import bundle, recognizer

    return recognizer.Recognizer(bundle.load(os.fspath(name_or_path)), runtime)


def bundles() -> list[str]:
    """Names of the bundles that belong to the package, for `load`.

    Example:
      >>> import firmware_sim
      >>> firmware_sim.bundles()
      ['barista', 'digits', 'english']
    """
    from firmware_sim import bundle

    return sorted(bundle.shipped())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
