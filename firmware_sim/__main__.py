"""Runs a command by its name.

    python -m firmware_sim transcribe --bundle=digits FILE

The console scripts `speech-*` call it too.  A command that lacks a package says which extra to
install.
"""

import pathlib
import runpy
import sys
from typing import Final

_PREFIX: Final = "speech-"
# Module of each command, and the extra that it needs; "" if the base is enough.
_COMMANDS: Final = {
    "transcribe": ("firmware_sim.transcribe", ""),
    "listen": ("firmware_sim.listen", ""),
    "compile": ("firmware_sim.compile", ""),
    "web": ("firmware_sim.web", ""),
    "wyoming": ("firmware_sim.wyoming", "wyoming"),
    "parity": ("firmware_sim.parity", "tflm"),
    "evaluate": ("firmware_sim.evaluate", "evaluate"),
    "fit": ("firmware_sim.fit", "tflm"),
    "export-c": ("firmware_sim.export_c", "tflm"),
    "train": ("tf_speech_transformer.train", "train"),
    "commands": ("tf_speech_transformer.commands", "train"),
    "language": ("tf_speech_transformer.language", "train"),
    "lexicon": ("tf_speech_transformer.lexicon", "train"),
    "records": ("tf_speech_transformer.records", "train"),
    "synthesise": ("tf_speech_transformer.synthesise", "train"),
    "convert": ("tflite_convert.convert", "train"),
    "inspect": ("tflite_convert.inspect", "train"),
    "ladder": ("tflite_convert.ladder", "train"),
    "report": ("tflite_convert.report", "train"),
}


def run() -> None:
    """Entry point of all console scripts; the script's name, or an argument, is the command."""
    name = pathlib.Path(sys.argv[0]).stem.removeprefix(_PREFIX)
    if name not in _COMMANDS:
        name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in _COMMANDS:
        sys.exit(f"Name a command: {', '.join(_COMMANDS)}.")
    module, extra = _COMMANDS[name]
    own = {module.split(".")[0] for module, _ in _COMMANDS.values()}
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").split(".")[0] in own:
            raise
        sys.exit(
            f"{_PREFIX}{name} needs the Python package {error.name!r}: "
            f"pip install 'integer-speech-transformer[{extra}]'."
        )


if __name__ == "__main__":
    run()
