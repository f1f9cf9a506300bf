"""The bundle: everything a device needs for one recogniser, as a directory or a zip of it.

    encoder.tflite  decoder_step.tflite  tokens.txt  manifest.json  [grammar.json]  [language.npz]

The manifest describes the other files: their sha256, the inputs and outputs of the two models in
the order of the flatbuffers, the frontend, the limits and the tokens.  `load` refuses a bundle with
anything that does not fit, in one sentence.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

from firmware_sim.grammar import automaton as grammar
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.runtimes.model import DTYPES, BundleError, Model, TensorSpec
from firmware_sim.search import language
from firmware_sim.search.language import LanguageModel
from firmware_sim.search.speech_model import Limits, SpeechModel, Tokenizer
from firmware_sim.sound import frontend
from firmware_sim.sound.frontend import FeatureQuantization, Frontend, MicroFrontend

FORMAT_VERSION: Final = 3
MANIFEST: Final = "manifest.json"
_REBUILD: Final = "copy or export the bundle again"
# Bundles that belong to the program: of an installed package, and of a checkout.
_SHIPPED: Final = (
    pathlib.Path(__file__).parent / "bundles",
    pathlib.Path(__file__).parent.parent / "pretrained",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle(SpeechModel):
    """A loaded bundle; every value has been checked against the others."""

    preset: str
    precision: str  # int8 or float32
    wer: Mapping[str, Any]  # measured by the pipeline that made it
    features: FeatureQuantization
    frontend: Frontend = dataclasses.field(default_factory=MicroFrontend)

    @property
    def window(self) -> int:
        """Most samples of 16 kHz audio that the encoder takes at once."""
        return frontend.sample_count(self.limits.frames, self.frontend.window)


def shipped() -> dict[str, pathlib.Path]:
    """The bundles that belong to the program, by name."""
    bundles: dict[str, pathlib.Path] = {}
    for directory in _SHIPPED:
        for manifest in sorted(directory.glob(f"*/{MANIFEST}")):
            bundles.setdefault(manifest.parent.name, manifest.parent)
    return bundles


def load(path: str | pathlib.Path) -> Bundle:
    """Reads and checks a bundle.

    Args:
      path: a bundle's directory, or a .zip with the bundle at its root or in its only directory;
        or the name of a shipped bundle.

    Raises:
      BundleError: if a file is missing or changed, or anything in the manifest does not fit.
    """
    name, path = str(path), pathlib.Path(path)
    if not path.is_file() and not (path / MANIFEST).exists():
        path = shipped().get(name, path)
    files = _Files(path)
    manifest = _parse_manifest(files)
    features_by = _frontend(manifest)
    content = _checked_files(files, manifest)
    precision = manifest.value("precision", str)
    if precision not in ("int8", "float32"):
        manifest.refuse(f"precision is {precision!r}, not 'int8' or 'float32'")

    features = manifest.section("features")
    limits = manifest.section("limits")
    models = manifest.section("models")
    tokenizer = _tokenizer(manifest.section("tokenizer"), content)
    bundle = Bundle(
        path=path,
        preset=manifest.value("preset", str),
        precision=precision,
        wer=manifest.content.get("wer") or {},
        features=FeatureQuantization(
            numerator=features.positive("numerator"),
            denominator=features.positive("denominator"),
            scale=float(features.value("scale", (int, float))),
            zero_point=features.value("zero_point", int),
        ),
        limits=Limits(*(limits.positive(f.name) for f in dataclasses.fields(Limits))),
        mask_value=float(manifest.value("mask_value", (int, float))),
        tokenizer=tokenizer,
        encoder=_model(models.section("encoder"), content),
        decoder_step=_model(models.section("decoder_step"), content),
        grammar=_grammar(manifest, content, tokenizer),
        language=_language(manifest, content, tokenizer),
        frontend=features_by,
    )
    _check_shapes(bundle, manifest)
    return bundle


class _Files:
    """The files of a bundle's directory or zip, by name."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._prefix = ""
        if path.is_dir():
            return
        if not path.exists():
            names = ", ".join(shipped()) or "none is shipped"
            raise BundleError(
                f"{path}: no such bundle; give the directory or .zip of a bundle, or a shipped "
                f"bundle's name ({names})."
            )
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise BundleError(
                f"{path}: neither a directory nor a readable .zip ({error}); {_REBUILD}."
            ) from error
        paths = [n for n in self._zip.namelist() if pathlib.PurePosixPath(n).name == MANIFEST]
        if len(paths) == 1 and paths[0].count("/") <= 1:
            self._prefix = paths[0][: -len(MANIFEST)]

    def read(self, name: str) -> bytes:
        """The bytes of one file.  Raises BundleError if it cannot be read."""
        try:
            if self._zip is None:
                return (self.path / name).read_bytes()
            return self._zip.read(self._prefix + name)
        except (FileNotFoundError, KeyError) as error:
            raise BundleError(f"{self.path}: {name} is missing; {_REBUILD}.") from error
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise BundleError(
                f"{self.path}: {name} cannot be read ({error}); {_REBUILD}."
            ) from error


@dataclasses.dataclass(frozen=True)
class _Section:
    """A JSON object of the manifest, with the name that errors call it by."""

    where: str  # the manifest's path
    name: str  # "" at the top
    content: Mapping[str, Any]

    def refuse(self, reason: str) -> None:
        raise BundleError(f"{self.where}: {reason}; {_REBUILD}.")

    def value(self, key: str, kind: type | tuple[type, ...]) -> Any:
        label = f"{self.name}.{key}" if self.name else key
        if key not in self.content:
            self.refuse(f"{label} is missing")
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(f"{label} is {value!r:.60}, which is of the wrong type")
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(f"{label} is {value}")
        return value

    def positive(self, key: str) -> int:
        value = self.value(key, int)
        if value <= 0:
            self.refuse(f"{self.name}.{key} is {value}, which is not positive")
        return value

    def section(self, key: str) -> "_Section":
        label = f"{self.name}.{key}" if self.name else key
        return _Section(self.where, label, self.value(key, dict))


def _parse_manifest(files: _Files) -> _Section:
    """The manifest, if it is of this program's version."""
    where = f"{files.path}/{MANIFEST}"
    try:
        content = json.loads(files.read(MANIFEST).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{where}: not valid JSON ({error}); {_REBUILD}.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{where}: not a JSON object; {_REBUILD}.")
    manifest = _Section(where, "", content)
    version = manifest.value("format_version", int)
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: format_version is {version}, this program reads {FORMAT_VERSION}; use the "
            "firmware_sim that belongs to the bundle."
        )
    return manifest


def _frontend(manifest: _Section) -> Frontend:
    try:
        return frontend.find(manifest.value("frontend", dict))
    except ValueError as error:
        raise BundleError(
            f"{manifest.where}: the frontend cannot compute this bundle's features: {error}; "
            "train with the frontend of firmware_sim.sound.frontend.MICROFRONTEND_PARAMETERS."
        ) from error


def _checked_files(files: _Files, manifest: _Section) -> dict[str, bytes]:
    """Contents of the files listed in the manifest, each equal to its size and sha256."""
    content: dict[str, bytes] = {}
    listed = manifest.section("files")
    for name in listed.content:
        if not re.fullmatch(r"[\w][\w.\-]*", name):
            manifest.refuse(f"files: {name!r} is not a plain file name")
        entry = listed.section(name)
        data = files.read(name)
        size = entry.value("bytes", int)
        if len(data) != size:
            raise BundleError(
                f"{files.path}/{name}: holds {len(data)} bytes, the manifest says {size}; "
                f"{_REBUILD}."
            )
        if hashlib.sha256(data).hexdigest() != entry.value("sha256", str).lower():
            raise BundleError(
                f"{files.path}/{name}: its sha256 differs from the manifest's, so the file was "
                f"changed or damaged; {_REBUILD}."
            )
        content[name] = data
    return content


def _listed(section: _Section, content: Mapping[str, bytes]) -> tuple[str, bytes]:
    name = section.value("file", str)
    if name not in content:
        section.refuse(f"{section.name}.file is {name!r}, which is not among the manifest's files")
    return name, content[name]


def _grammar(
    manifest: _Section, content: Mapping[str, bytes], tokenizer: Tokenizer
) -> Grammar | None:
    if "grammar" not in manifest.content:
        return None
    name, data = _listed(manifest.section("grammar"), content)
    try:
        return grammar.load(data, len(tokenizer.tokens), tokenizer.special)
    except grammar.GrammarError as error:
        raise BundleError(f"{manifest.where}: {name}: {error}; {_REBUILD}.") from error


def _language(
    manifest: _Section, content: Mapping[str, bytes], tokenizer: Tokenizer
) -> LanguageModel | None:
    if "language" not in manifest.content:
        return None
    section = manifest.section("language")
    name, data = _listed(section, content)
    weight, entropy = (float(section.value(key, (int, float))) for key in ("weight", "entropy"))
    for key, value in (("weight", weight), ("entropy", entropy)):
        if not 0 <= value < math.inf:
            section.refuse(f"language.{key} is {value}, not a number from 0 on")
    try:
        return language.load(data, len(tokenizer.tokens), tokenizer.start, weight, entropy)
    except language.LanguageError as error:
        raise BundleError(f"{manifest.where}: {name}: {error}; {_REBUILD}.") from error


def _tokenizer(section: _Section, content: Mapping[str, bytes]) -> Tokenizer:
    kind = section.value("kind", str)
    if kind not in ("characters", "sentencepiece"):
        section.refuse(f"tokenizer.kind is {kind!r}, not 'characters' or 'sentencepiece'")
    name, data = _listed(section, content)
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{section.where}: {name} is not UTF-8 ({error}); {_REBUILD}.") from error
    tokens = tuple(line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines))
    ids = {}
    for role in ("start", "end", "blank"):
        ids[role] = section.value(role, int)
        if not 0 <= ids[role] < len(tokens):
            section.refuse(f"tokenizer.{role} is {ids[role]}, but {name} has {len(tokens)} lines")
    if len(set(ids.values())) != len(ids):
        section.refuse(f"tokenizer: start, end and blank share an id ({ids})")
    return Tokenizer(kind, tokens, **ids)


def _model(section: _Section, content: Mapping[str, bytes]) -> Model:
    name, data = _listed(section, content)
    if data[4:8] != b"TFL3":
        section.refuse(f"{name} is not a TFLite flatbuffer")
    return Model(
        file=name, data=data, inputs=_specs(section, "inputs"), outputs=_specs(section, "outputs")
    )


def _specs(section: _Section, key: str) -> tuple[TensorSpec, ...]:
    specs = []
    for position, content in enumerate(section.value(key, list)):
        label = f"{section.name}.{key}[{position}]"
        if not isinstance(content, dict):
            section.refuse(f"{label} is not an object")
        entry = _Section(section.where, label, content)
        shape = entry.value("shape", list)
        if not all(isinstance(n, int) and n > 0 for n in shape):
            section.refuse(f"{label}.shape is {shape}, not positive whole numbers")
        dtype = entry.value("dtype", str)
        if dtype not in DTYPES:
            section.refuse(f"{label}.dtype is {dtype!r}, not one of {', '.join(DTYPES)}")
        scale: float | None = None
        zero_point: int | None = None
        if dtype == "int8":
            scale = float(entry.value("scale", (int, float)))
            zero_point = entry.value("zero_point", int)
            if scale <= 0 or not -128 <= zero_point <= 127:
                section.refuse(f"{label}: scale {scale} or zero_point {zero_point} is out of range")
        specs.append(TensorSpec(entry.value("name", str), tuple(shape), dtype, scale, zero_point))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        section.refuse(f"{section.name}.{key} names a tensor twice")
    return tuple(specs)


def _check_shapes(bundle: Bundle, manifest: _Section) -> None:
    """Refuses models whose signatures do not fit the limits, the tokens or each other."""
    frames, memory, tokens = dataclasses.astuple(bundle.limits)
    vocabulary = len(bundle.tokenizer.tokens)
    encoder, step = bundle.encoder, bundle.decoder_step
    kind = bundle.precision
    if frames % memory:
        manifest.refuse(f"limits.frames {frames} is not a multiple of memory_frames {memory}")

    def expect(spec: TensorSpec, file: str, shape: tuple[int, ...], dtype: str) -> None:
        if spec.shape != shape or spec.dtype != dtype:
            manifest.refuse(
                f"{file}: {spec.name} is {spec.dtype} {list(spec.shape)}, but the limits and the "
                f"tokens call for {dtype} {list(shape)}"
            )

    expect(encoder.input("features"), encoder.file, (1, frames, bundle.frontend.channels), kind)
    expect(encoder.input("memory_mask"), encoder.file, (1, memory), kind)
    expect(step.input("token"), step.file, (1, vocabulary), kind)
    expect(step.input("self_mask"), step.file, (1, tokens + 1), kind)
    expect(step.input("memory_mask"), step.file, (1, memory), kind)
    expect(step.output("logits"), step.file, (1, vocabulary), kind)
    if any(spec.name == "ctc_logits" for spec in encoder.outputs):
        expect(encoder.output("ctc_logits"), encoder.file, (1, memory, vocabulary), kind)
    features = encoder.input("features")
    if kind == "int8" and (
        features.zero_point != bundle.features.zero_point
        or not math.isclose(features.scale or 0.0, bundle.features.scale, rel_tol=1e-5)
    ):
        manifest.refuse(
            f"{encoder.file}: features have scale {features.scale} and zero point "
            f"{features.zero_point}, but the manifest's features have {bundle.features.scale} and "
            f"{bundle.features.zero_point}"
        )

    memory_written = encoder.output("memory")
    expect(memory_written, encoder.file, (1, memory, memory_written.shape[-1]), kind)
    _check_same(manifest, memory_written, step.input("memory"), encoder.file, step.file)
    layers = bundle.decoder_layers
    if not layers:
        manifest.refuse(f"{step.file} has no input 'cache_0'")
    for layer in range(layers):
        cache, row = step.input(f"cache_{layer}"), step.output(f"row_{layer}")
        expect(cache, step.file, (1, tokens, cache.shape[-1]), kind)
        expect(row, step.file, (1, 1, cache.shape[-1]), kind)
        _check_kept(manifest, row, cache, step.file)
    for number in range(bundle.decoder_convolutions):
        window, newest = step.input(f"window_{number}"), step.output(f"newest_{number}")
        expect(window, step.file, (1, 2, window.shape[-1]), kind)
        expect(newest, step.file, (1, 1, window.shape[-1]), kind)
        _check_kept(manifest, newest, window, step.file)
    if any(spec.name == "position" for spec in step.inputs):
        expect(step.input("position"), step.file, (1, tokens), kind)


def _check_kept(manifest: _Section, row: TensorSpec, kept: TensorSpec, file: str) -> None:
    """A row that the decoder step writes is read again in later steps."""
    whole = dataclasses.replace(row, shape=kept.shape)
    _check_same(manifest, whole, kept, f"{file} (output)", f"{file} (input)")


def _check_same(
    manifest: _Section, written: TensorSpec, read: TensorSpec, writer: str, reader: str
) -> None:
    """Bytes of one tensor are copied into the other: shape and quantization must be equal."""
    if dataclasses.replace(written, name=read.name) != read:
        manifest.refuse(
            f"{writer}: {written.name} ({written.dtype} {list(written.shape)}, scale "
            f"{written.scale}, zero point {written.zero_point}) cannot be copied into {reader}: "
            f"{read.name} ({read.dtype} {list(read.shape)}, scale {read.scale}, zero point "
            f"{read.zero_point})"
        )
