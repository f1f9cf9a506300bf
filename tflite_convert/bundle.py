"""Writes a bundle: two flatbuffers, the tokens, and the manifest that a device reads first."""

import dataclasses
import datetime
import json
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from firmware_sim.grammar.confusion import Confusions
from firmware_sim.storage.manifest import FORMAT_VERSION, PHONE_FORMAT_VERSION
from firmware_sim.storage.writing import described, write_whole
from tf_speech_transformer.corpora.features import (
    DENOMINATOR,
    NUMERATOR,
    SCALE,
    ZERO_POINT,
    FrontendParameters,
)
from tf_speech_transformer.text.tokenizer import Tokenizer
from tflite_convert.flatbuffer import Signature

# From the frontend's integers to the model's int8.
FEATURES = {
    "numerator": NUMERATOR,
    "denominator": DENOMINATOR,
    "scale": SCALE,
    "zero_point": ZERO_POINT,
}


@dataclasses.dataclass(frozen=True)
class General:
    """What the bundle of a model for any grammar has beside the others."""

    phones: Sequence[str]  # of the encoder's second head, without blank
    lexicon: bytes  # their order in words, for `firmware_sim.grammar.pronunciation`
    confusions: Confusions | None  # of phones by the model, where they were measured
    free_text: bool  # False: the decoder has learned nothing, so it needs a grammar

    def parts(self) -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
        """Section of the manifest, file, content, and further fields of the section."""
        yield "phones", "phones.txt", _lines(self.phones), {}
        yield "lexicon", "lexicon.bin", self.lexicon, {}
        if self.confusions is not None:
            yield "confusions", "confusions.bin", self.confusions.dump(), {}


def write_bundle(
    directory: Path,
    *,
    preset: str,
    precision: str,
    limits: dict[str, int],
    mask_value: float,
    frontend: FrontendParameters,
    tokenizer: Tokenizer,
    models: dict[str, tuple[bytes, Signature]],
    wer: dict[str, Any],
    grammar: dict[str, Any] | None = None,
    language: tuple[bytes, dict[str, float]] | None = None,
    general: General | None = None,
) -> None:
    """Makes `directory` and `directory`.zip, whole or not at all; replaces an older bundle.

    Args:
        models: for "encoder" and "decoder_step", the flatbuffer and its inputs and outputs.
        grammar: of `Grammar.compile`.
        language: of `language.read`.
        general: of a model for any grammar.

    Raises OSError, with the older bundle kept, if it cannot be written.
    """
    files = {f"{name}.tflite": content for name, (content, _) in models.items()}
    files["tokens.txt"] = _lines(tokenizer.tokens())
    manifest: dict[str, Any] = {
        "format_version": PHONE_FORMAT_VERSION if general else FORMAT_VERSION,
        "preset": preset,
        "precision": precision,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "wer": wer,
        "frontend": dataclasses.asdict(frontend),
        "features": FEATURES,
        "limits": limits,
        "mask_value": mask_value,
        "tokenizer": {
            "kind": tokenizer.kind,
            "file": "tokens.txt",
            **{role: getattr(tokenizer, role) for role in ("start", "end", "blank")},
        },
        "models": {k: {"file": f"{k}.tflite", **signature} for k, (_, signature) in models.items()},
    }
    weights = {} if language is None else language[1]
    for section, file, content, fields in (
        ("grammar", "grammar.json", grammar and f"{json.dumps(grammar)}\n".encode(), {}),
        ("language", "language.npz", language and language[0], weights),
        *(general.parts() if general else ()),
    ):
        if content:
            files[file] = content
            manifest[section] = {"file": file, **fields}
    if general and not general.free_text:
        manifest["understands"] = "phrases"
    manifest["files"] = described(files)
    write_whole(directory.resolve(), files, manifest)


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def update_wer(directory: Path, wer: dict[str, Any]) -> None:
    """Puts measured word error rates into the manifest of a bundle and of its zip, if it has one.

    Each of the two changes whole or not at all. Raises FileNotFoundError without a manifest.
    """
    directory = directory.resolve()
    file = directory / "manifest.json"
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: convert the run first")
    content = json.dumps({**json.loads(file.read_text()), "wer": wer}, indent=1) + "\n"
    archive = directory.with_name(directory.name + ".zip")
    temporary_file = file.with_name(".manifest.json.tmp")
    temporary_archive = archive.with_name(f".{archive.name}.tmp")
    try:
        temporary_file.write_text(content)
        if archive.exists():
            with (
                zipfile.ZipFile(archive) as old,
                zipfile.ZipFile(temporary_archive, "w", zipfile.ZIP_DEFLATED) as new,
            ):
                for part in old.infolist():
                    same = part.filename != file.name
                    new.writestr(part, old.read(part) if same else content)
            temporary_archive.replace(archive)
        temporary_file.replace(file)
    finally:
        temporary_file.unlink(missing_ok=True)
        temporary_archive.unlink(missing_ok=True)


def git_revision() -> str:
    """The commit that the code is at, with + if it was changed; "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
