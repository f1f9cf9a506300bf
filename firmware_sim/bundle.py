"""The bundle: everything a device needs for one recogniser, as a directory or a zip of it.

    encoder.tflite  decoder_step.tflite  tokens.txt  manifest.json  [grammar.json]  [language.npz]
    [phones.txt  lexicon.bin  confusions.bin]

The encoder of a general model (format 4) has a second CTC head, over phones: `compile` puts any
grammar on it, with the pronunciations of `lexicon.bin`, and says by `confusions.bin` which words
the model takes for one another.  The manifest describes the other files:
their sha256, the inputs and outputs of the two models in the order of the flatbuffers, the
frontend, the limits and the tokens.  `load` refuses a bundle with anything that does not fit, in
one sentence, before any runtime sees it.
"""

import math
import pathlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Any, Final

from firmware_sim.grammar import automaton as grammar
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.grammar.confusion import ConfusionError, Confusions
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.runtimes import flatbuffer, verifier
from firmware_sim.runtimes.model import DTYPES, BundleError, Model, TensorSpec
from firmware_sim.search import language
from firmware_sim.search.language import LanguageModel
from firmware_sim.search.speech_model import Limits, Phones, SpeechModel, Tokenizer
from firmware_sim.sound import frontend
from firmware_sim.sound.frontend import FeatureQuantization, Frontend, MicroFrontend
from firmware_sim.storage import manifest as manifests
from firmware_sim.storage.manifest import (
    MANIFEST,
    PHONE_FORMAT_VERSION,
    REBUILD,
    Files,
    Section,
)

# Of the limits; an hour of audio, and a text that is spoken in it.
_MOST: Final = {"frames": 360_000, "memory_frames": 360_000, "tokens": 50_000}
_MASKS: Final = (-1e9, -1.0)  # real values of a masked position
_LARGEST_WEIGHT: Final = 100.0  # of a language model, and of its entropy
# Bundles that belong to the program: of an installed package, and of a checkout.
_SHIPPED: Final = (
    pathlib.Path(__file__).parent / "bundles",
    pathlib.Path(__file__).parent.parent / "pretrained",
)


@dataclass(frozen=True, kw_only=True)
class Bundle(SpeechModel):
    """A loaded bundle; every value has been checked against the others."""

    preset: str
    precision: str  # int8 or float32
    wer: Mapping[str, Any]  # measured by the pipeline that made it
    features: FeatureQuantization
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]  # all that the manifest lists
    lexicon: bytes | None = None  # for `grammar.pronunciation`
    confusions: Confusions | None = None
    free_text: bool = True  # False: it understands the commands of a grammar only
    frontend: Frontend = field(default_factory=MicroFrontend)

    @property
    def window(self) -> int:
        """Most samples of 16 kHz audio that the encoder takes at once."""
        return frontend.sample_count(self.limits.frames, self.frontend.window)

    def check_grammar(self) -> None:
        """Raises BundleError for a bundle without `free_text` that has no grammar."""
        if self.grammar is None and not self.free_text:
            raise self.needs_grammar()

    def needs_grammar(self) -> BundleError:
        """The error of a bundle without `free_text` that has no grammar."""
        return BundleError(
            f"{self.path} understands phrases, no free text: put a grammar on it by python -m "
            f"firmware_sim.compile --bundle={self.path.name} --grammar=FILE.yaml --out=DIR, or "
            "by Recognizer.use."
        )

    def pronunciations(self) -> Pronunciations:
        """How the words of a grammar are said, for `compile_phones`.

        Raises:
          BundleError: the model knows only the commands that it was trained for.
          LexiconError: the lexicon is no file of pronunciations.
        """
        if self.phones is None or self.lexicon is None:
            raise BundleError(
                f"{self.path} understands only what it was trained for: name a general bundle, "
                "such as english, or train one for the grammar (tf_speech_transformer.train)."
            )
        return Pronunciations.of_bundle(self.lexicon)


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
    try:
        if not path.is_file() and not (path / MANIFEST).exists():
            path = shipped().get(name, path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{name}: no bundle can have this path ({error}).") from error
    files = Files(path, shipped())
    manifest = manifests.read(files)
    features_by = _frontend(manifest)
    content = manifests.listed_files(files, manifest)
    precision = manifest.value("precision", str)
    if precision not in ("int8", "float32"):
        manifest.refuse(f"precision is {precision!r:.60}, not 'int8' or 'float32'")

    limits = manifest.section("limits")
    models = manifest.section("models")
    tokenizer = _tokenizer(manifest.section("tokenizer"), content)
    phones = _phones(manifest, content)
    lexicon = None
    if "lexicon" in manifest.content:
        lexicon = _listed(manifest.section("lexicon"), content)[1]
    bundle = Bundle(
        path=path,
        preset=_name(manifest, "preset"),
        precision=precision,
        wer=manifest.value("wer", dict) if manifest.content.get("wer") else {},
        features=_features(manifest.section("features")),
        limits=Limits(*(limits.whole(f.name, 1, _MOST[f.name]) for f in fields(Limits))),
        mask_value=manifest.number("mask_value", *_MASKS),
        tokenizer=tokenizer,
        encoder=_model(models.section("encoder"), content),
        decoder_step=_model(models.section("decoder_step"), content),
        grammar=_grammar(manifest, content, tokenizer, phones),
        language=_language(manifest, content, tokenizer),
        phones=phones,
        lexicon=lexicon,
        confusions=_confusions(manifest, content),
        free_text=_understands_text(manifest),
        manifest=manifest.content,
        files=content,
        frontend=features_by,
    )
    _check_shapes(bundle, manifest)
    for model in (bundle.encoder, bundle.decoder_step):
        verifier.verify(model)
    return bundle


def _name(section: Section, key: str) -> str:
    """A text of one line."""
    value = section.value(key, str)
    if not value.isprintable():
        section.refuse(f"{section.label(key)} is {value!r:.60}, which cannot be printed")
    return str(value)


def _understands_text(manifest: Section) -> bool:
    if "understands" not in manifest.content:
        return True
    understands = manifest.value("understands", str)
    if understands not in ("text", "phrases"):
        manifest.refuse(f"understands is {understands!r:.60}, not 'text' or 'phrases'")
    return bool(understands == "text")


def _frontend(manifest: Section) -> Frontend:
    try:
        return frontend.find(manifest.value("frontend", dict))
    except ValueError as error:
        raise BundleError(
            f"{manifest.where}: the frontend cannot compute this bundle's features: {error}; "
            "train with the frontend of firmware_sim.sound.frontend.MICROFRONTEND_PARAMETERS."
        ) from error


def _features(section: Section) -> FeatureQuantization:
    # The product with the frontend's uint16 has to fit 32 bits.
    return FeatureQuantization(
        numerator=section.whole("numerator", 1, 32767),
        denominator=section.whole("denominator", 1, 32767),
        scale=section.number("scale", *verifier.SCALES),
        zero_point=section.whole("zero_point", -128, 127),
    )


def _listed(section: Section, content: Mapping[str, bytes]) -> tuple[str, bytes]:
    name = section.value("file", str)
    if name not in content:
        section.refuse(
            f"{section.name}.file is {name!r:.60}, which is not among the manifest's files"
        )
    return name, content[name]


def _phones(manifest: Section, content: Mapping[str, bytes]) -> Phones | None:
    if manifest.content["format_version"] != PHONE_FORMAT_VERSION:
        return None
    name, data = _listed(manifest.section("phones"), content)
    names = tuple(data.decode("ascii", errors="replace").split())
    if len(set(names)) != len(names) or not names:
        manifest.refuse(f"{name} does not hold a phone a line, each once")
    return Phones(names)


def _confusions(manifest: Section, content: Mapping[str, bytes]) -> Confusions | None:
    if "confusions" not in manifest.content:
        return None
    name, data = _listed(manifest.section("confusions"), content)
    try:
        return Confusions.load(data)
    except ConfusionError as error:
        raise BundleError(f"{manifest.where}: {name}: {error}; {REBUILD}.") from error


def _grammar(
    manifest: Section,
    content: Mapping[str, bytes],
    tokenizer: Tokenizer,
    phones: Phones | None,
) -> Grammar | None:
    if "grammar" not in manifest.content:
        return None
    name, data = _listed(manifest.section("grammar"), content)
    try:
        count = len(phones.names) if phones else 0
        return grammar.load(data, len(tokenizer.tokens), tokenizer.special, count)
    except grammar.GrammarError as error:
        raise BundleError(f"{manifest.where}: {name}: {error}; {REBUILD}.") from error


def _language(
    manifest: Section, content: Mapping[str, bytes], tokenizer: Tokenizer
) -> LanguageModel | None:
    if "language" not in manifest.content:
        return None
    section = manifest.section("language")
    name, data = _listed(section, content)
    weight, entropy = (section.number(key, 0, _LARGEST_WEIGHT) for key in ("weight", "entropy"))
    try:
        return language.load(data, len(tokenizer.tokens), tokenizer.start, weight, entropy)
    except language.LanguageError as error:
        raise BundleError(f"{manifest.where}: {name}: {error}; {REBUILD}.") from error


def _tokenizer(section: Section, content: Mapping[str, bytes]) -> Tokenizer:
    kind = section.value("kind", str)
    if kind not in ("characters", "sentencepiece"):
        section.refuse(f"tokenizer.kind is {kind!r:.60}, not 'characters' or 'sentencepiece'")
    name, data = _listed(section, content)
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{section.where}: {name} is not UTF-8 ({error}); {REBUILD}.") from error
    tokens = tuple(line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines))
    for i, token in enumerate(tokens):
        if any(unicodedata.category(letter) == "Cc" for letter in token):
            section.refuse(f"{name}, line {i + 1}: {token!r:.60} cannot be printed")
    ids = {}
    for role in ("start", "end", "blank"):
        ids[role] = section.value(role, int)
        if not 0 <= ids[role] < len(tokens):
            section.refuse(
                f"tokenizer.{role} is {ids[role]!r:.60}, but {name} has {len(tokens)} lines"
            )
    if len(set(ids.values())) != len(ids):
        section.refuse(f"tokenizer: start, end and blank share an id ({ids})")
    return Tokenizer(kind, tokens, **ids)


def _model(section: Section, content: Mapping[str, bytes]) -> Model:
    name, data = _listed(section, content)
    if data[4:8] != flatbuffer.IDENTIFIER:
        section.refuse(f"{name} is not a TFLite flatbuffer")
    return Model(
        file=name, data=data, inputs=_specs(section, "inputs"), outputs=_specs(section, "outputs")
    )


def _specs(section: Section, key: str) -> tuple[TensorSpec, ...]:
    specs = []
    for position, content in enumerate(section.value(key, list)):
        label = f"{section.name}.{key}[{position}]"
        if not isinstance(content, dict):
            section.refuse(f"{label} is not an object")
        entry = Section(section.where, label, content)
        shape = entry.value("shape", list)
        if len(shape) > 6 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
            section.refuse(f"{label}.shape is {shape!r:.60}, not positive whole numbers")
        dtype = entry.value("dtype", str)
        if dtype not in DTYPES:
            section.refuse(f"{label}.dtype is {dtype!r:.60}, not one of {', '.join(DTYPES)}")
        name = entry.value("name", str)
        if not re.fullmatch(r"[a-z]\w{0,60}", name, re.ASCII):
            section.refuse(f"{label}.name is {name!r:.60}, not a tensor's name")
        scale: float | None = None
        zero_point: int | None = None
        if dtype == "int8":
            scale = entry.number("scale", *verifier.SCALES)
            zero_point = entry.whole("zero_point", -128, 127)
        specs.append(TensorSpec(name, tuple(shape), dtype, scale, zero_point))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        section.refuse(f"{section.name}.{key} names a tensor twice")
    return tuple(specs)


def _check_shapes(bundle: Bundle, manifest: Section) -> None:
    """Refuses models whose signatures do not fit the limits, the tokens or each other."""
    frames, memory, tokens = astuple(bundle.limits)
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
    heads = {"ctc_logits": vocabulary}
    if bundle.phones:
        heads["phone_logits"] = bundle.phones.blank + 1
    for spec in encoder.outputs:
        if spec.name in heads:
            expect(spec, encoder.file, (1, memory, heads.pop(spec.name)), kind)
    if "phone_logits" in heads:
        manifest.refuse(f"{encoder.file} has no output 'phone_logits'")
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
    expect(memory_written, encoder.file, (1, memory, _width(memory_written)), kind)
    _check_same(manifest, memory_written, step.input("memory"), encoder.file, step.file)
    _check_decoder(bundle, manifest, expect)


def _check_decoder(
    bundle: Bundle,
    manifest: Section,
    expect: Callable[[TensorSpec, str, tuple[int, ...], str], None],
) -> None:
    """The same of what the decoder step keeps from token to token."""
    step, kind, tokens = bundle.decoder_step, bundle.precision, bundle.limits.tokens
    layers = bundle.decoder_layers
    if not layers:
        manifest.refuse(f"{step.file} has no input 'cache_0'")
    for layer in range(layers):
        cache, row = step.input(f"cache_{layer}"), step.output(f"row_{layer}")
        expect(cache, step.file, (1, tokens, _width(cache)), kind)
        expect(row, step.file, (1, 1, _width(cache)), kind)
        _check_kept(manifest, row, cache, step.file)
    for number in range(bundle.decoder_convolutions):
        window, newest = step.input(f"window_{number}"), step.output(f"newest_{number}")
        expect(window, step.file, (1, 2, _width(window)), kind)
        expect(newest, step.file, (1, 1, _width(window)), kind)
        _check_kept(manifest, newest, window, step.file)
    if any(spec.name == "position" for spec in step.inputs):
        expect(step.input("position"), step.file, (1, tokens), kind)
    known = {"token", "self_mask", "memory_mask", "memory", "position"}
    known |= {f"cache_{layer}" for layer in range(layers)}
    known |= {f"window_{number}" for number in range(bundle.decoder_convolutions)}
    for model, names in ((bundle.encoder, {"features", "memory_mask"}), (step, known)):
        for spec in model.inputs:
            if spec.name not in names:
                manifest.refuse(f"{model.file}: no input is called {spec.name!r}")


def _width(spec: TensorSpec) -> int:
    """Values of a row; 0 for a single number, which fits no shape."""
    return spec.shape[-1] if spec.shape else 0


def _check_kept(manifest: Section, row: TensorSpec, kept: TensorSpec, file: str) -> None:
    """A row that the decoder step writes is read again in later steps."""
    whole = replace(row, shape=kept.shape)
    _check_same(manifest, whole, kept, f"{file} (output)", f"{file} (input)")


def _check_same(
    manifest: Section, written: TensorSpec, read: TensorSpec, writer: str, reader: str
) -> None:
    """Bytes of one tensor are copied into the other: shape and quantization must be equal."""
    if replace(written, name=read.name) != read:
        manifest.refuse(
            f"{writer}: {written.name} ({written.dtype} {list(written.shape)}, scale "
            f"{written.scale}, zero point {written.zero_point}) cannot be copied into {reader}: "
            f"{read.name} ({read.dtype} {list(read.shape)}, scale {read.scale}, zero point "
            f"{read.zero_point})"
        )
