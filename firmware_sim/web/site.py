"""A page for a bundle: all its files, or one file with everything in it."""

import base64
import hashlib
import html
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

from firmware_sim.bundle import Bundle
from firmware_sim.c import block, signature
from firmware_sim.runtimes import lowering
from firmware_sim.sound.frontend import SAMPLE_RATE
from firmware_sim.storage import writing
from firmware_sim.web import phrases

HERE: Final = pathlib.Path(__file__).parent
EXAMPLES: Final = HERE / "examples"
_PAGE: Final = HERE / "page"
_SPEECH: Final = HERE / "speech"
_SENTENCES: Final = 12
_EXAMPLE: Final = {"speech/example.html", "speech/example.js"}
_IMPORT: Final = re.compile(r"^import .* from '(\./|speech/)*(\w+)\.js';\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=\w)", re.MULTILINE)
_POLICY: Final = re.compile(r'(http-equiv="Content-Security-Policy" content=")([^"]*)')


class SiteError(Exception):
    """A page that cannot be written; the message says why and what to do."""


def files(bundle: Bundle, name: str, examples: Sequence[pathlib.Path]) -> dict[str, bytes]:
    """The files of a page by their path in it.

    Args:
      name: title of the page.
      examples: recordings to try; the name of a file says what is said in it.

    Raises:
      SiteError: an example cannot be read.
      ExportError: the C core does not know something in the bundle.
      BundleError: the engine does not.
    """
    bundle.check_grammar()
    content = {f"speech/{path.name}": path.read_bytes() for path in sorted(_SPEECH.iterdir())}
    content |= {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir())}
    parts = {
        "core.bin": block.block(bundle, signature.read(bundle)),
        "encoder.plan": lowering.lower(bundle.encoder),
        "decoder_step.plan": lowering.lower(bundle.decoder_step),
    }
    lexicon = b"" if bundle.phones is None else bundle.lexicon or b""
    recordings = _read_examples(examples)
    sentences, slots = phrases.samples(bundle, _SENTENCES)
    loaded = len(content["speech/speech.wasm"]) + sum(map(len, parts.values()))
    description = {
        "name": name,
        "bytes": loaded,
        "window": bundle.window / SAMPLE_RATE,
        "sentences": sentences,
        "slots": slots,
        "lexicon": len(lexicon),
        "examples": [{"file": file, "text": _text(file)} for file in recordings],
    }
    parts["bundle.json"] = json.dumps(description, indent=1).encode()
    if lexicon:  # it is loaded for the first grammar
        parts["lexicon.bin"] = lexicon
    content |= {f"bundle/{file}": data for file, data in {**parts, **recordings}.items()}
    content["service.js"] = _service(content)
    return content


def _text(file: str) -> str:
    return pathlib.PurePath(file).stem.replace("-", " ").replace("_", " ")


def _read_examples(examples: Sequence[pathlib.Path]) -> dict[str, bytes]:
    try:
        return {path.name: path.read_bytes() for path in examples}
    except OSError as error:
        raise SiteError(
            f"{error.filename}: cannot be read ({error.strerror}); name recordings that exist."
        ) from error


def _service(content: Mapping[str, bytes]) -> bytes:
    """The service worker, with the files that it keeps and their hash."""
    kept = sorted(set(content) - {"service.js", "speech/recognizer.d.ts"} - _EXAMPLE)
    build = hashlib.sha256(b"".join(content[name] for name in sorted(content))).hexdigest()[:16]
    head = f"const BUILD = {json.dumps(build)};\nconst FILES = {json.dumps(['./', *kept])};\n"
    return head.encode() + content["service.js"]


def single(content: Mapping[str, bytes]) -> bytes:
    """One HTML file with all files of a page in it; it works from file:// too."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    prefix = "bundle/"
    assets = {
        "bundle": {
            name.removeprefix(prefix): encoded(data)
            for name, data in content.items()
            if name.startswith(prefix)
        },
        "wasm": encoded(content["speech/speech.wasm"]),
        "compiler": encoded(content["speech/compiler.wasm"]),
        "worker": encoded(content["speech/worker.js"]),
        "worklet": encoded(_joined(content, "speech/sound.js", "speech/worklet.js")),
    }
    style = content["page.css"].decode()
    names = ("speech/sound.js", "speech/recognizer.js", "page.js")
    script = _joined(content, *names).decode()
    hashes = [_hash(part) for part in (script, style)]
    policy = (
        f"default-src 'none'; script-src '{hashes[0]}' 'wasm-unsafe-eval' data:; "
        f"worker-src blob:; style-src '{hashes[1]}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    page = _POLICY.sub(lambda found: found[1] + policy, content["index.html"].decode())
    page = page.replace('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>")
    data = f'<script type="application/json" id="assets">{json.dumps(assets)}</script>'
    module = f'{data}\n<script type="module">{script}</script>'
    return page.replace('<script type="module" src="page.js"></script>', module).encode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _joined(content: Mapping[str, bytes], *names: str) -> bytes:
    """Modules as one, each after those that it imports."""
    text = "".join(content[name].decode() for name in names)
    return _EXPORT.sub("", _IMPORT.sub("", text)).encode()


def policy(content: Mapping[str, bytes]) -> str:
    """The Content-Security-Policy of the page, for servers to send with every file."""
    found = _POLICY.search(content["index.html"].decode())
    assert found is not None
    return html.unescape(found[2])


def write(content: Mapping[str, bytes], target: pathlib.Path) -> None:
    """Writes a page's folder, whole or not at all; an earlier page there is replaced.

    Raises:
      SiteError: `target` holds other files, or cannot be written.
    """
    _check_target(content, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name, data in content.items():
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_bytes(data)
            temporary.chmod(0o755)
            writing.replace_directory(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _unwritable(target, error) from error


def _check_target(content: Mapping[str, bytes], target: pathlib.Path) -> None:
    """Refuses to replace files that are no page's."""
    if target.exists() and not target.is_dir():
        raise SiteError(f"{target}: is a file; name another --out, or write one with --single.")
    known = {pathlib.PurePath(name) for name in content}
    for path in sorted(target.rglob("*")):
        inside = path.relative_to(target)
        example = inside.parts[0] == "bundle" and (target / "bundle" / "bundle.json").is_file()
        if path.is_file() and inside not in known and not example:
            raise SiteError(f"{path}: is no file of a page, and would be lost; name another --out.")


def write_single(page: bytes, target: pathlib.Path) -> None:
    """Writes the file `target`, whole or not at all.

    Raises:
      SiteError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_bytes(page)
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(target: pathlib.Path, error: OSError) -> SiteError:
    reason: Any = error.strerror or error
    return SiteError(f"{target}: cannot be written ({reason}); name another --out.")
