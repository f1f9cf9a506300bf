"""core.bin: a bundle's parameters as one block of bytes, which the C core reads in place.

speech_core.h defines the layout.  Names and order of the numbers are taken from it, so that there
is one definition.
"""

import math
import pathlib
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_sim.bundle import Bundle
from firmware_sim.c import microfrontend
from firmware_sim.c.signature import ExportError, Signature
from firmware_sim.grammar.automaton import Grammar, States
from firmware_sim.grammar.phrase import Word
from firmware_sim.runtimes.model import TensorSpec
from firmware_sim.search import first_pass
from firmware_sim.search.options import BEAM, CTC_WEIGHT
from firmware_sim.search.speech_model import WORD_START, Limits, Tokenizer

# Log probabilities are whole numbers of 1 / ONE nats.
_ONE: Final = 1 << 16
_LOG_ADD_NATS: Final = 12  # beyond these the smaller of two probabilities adds nothing
_LOG_ADD_BITS: Final = 11  # 2^11 / ONE nats from one entry to the next
_LOG_ADDS: Final = (_LOG_ADD_NATS * _ONE >> _LOG_ADD_BITS) + 1  # entries
_POWERS: Final = 65  # of 2^-x for x from 0 to 1
_LOGIT_BITS: Final = 24  # of the fraction of a logit's unit, in nats
_MOST_TOKENS: Final = (1 << 16) - 1  # numbered by uint16
_MOST_ARCS: Final = 1 << 24
_MOST_SETS: Final = 1_000_000  # of states; a search of them all has to end
_RECORDS: Final = 4  # arcs that paths keep, for each path; twice what speech needed
_LOGITS: Final = 256  # different values of a logit
_NO_LOG: Final = -float(1 << 14)  # nats, where every command is accepted: 0 has no logarithm

_HEADER: Final = pathlib.Path(__file__).with_name("speech_core.h").read_text("ascii")


def _constant(name: str) -> int:
    found = re.search(rf"{name} *=? *(0x[0-9a-f]+|\d+)", _HEADER)
    assert found is not None, name
    return int(found[1], 0)


_MAGIC: Final = _constant("SPEECH_BLOCK_MAGIC")
_VERSION: Final = _constant("SPEECH_BLOCK_VERSION")
_SECTION_VERSION: Final = 1
_KINDS: Final = {
    name: _constant(f"SPEECH_SECTION_{name}")
    for name in (
        *("NUMBERS", "TENSORS", "TABLES", "FRONTEND", "TOKENS", "AUTOMATON"),
        *("PHONES", "PHONE_AUTOMATON"),
    )
}


def block(bundle: Bundle, signature: Signature, beam: int = BEAM) -> bytes:
    """The block of a bundle.

    Args:
      signature: of the bundle's models.
      beam: hypotheses of the search, if the caller of the core does not choose.

    Raises:
      ExportError: if a number of the bundle has no room in the block.
    """
    sections = {
        "NUMBERS": _numbers(bundle, beam),
        "TENSORS": _tensors(bundle, signature),
        "TABLES": _tables(),
        "FRONTEND": _frontend(),
        "TOKENS": _strings(pieces(bundle.tokenizer)),
    }
    if bundle.phones is not None:
        sections["PHONES"] = _phones(bundle)
    joined = {_KINDS[name]: content for name, content in sections.items()}
    return _join(joined if bundle.grammar is None else joined | _grammar(bundle.grammar, bundle))


def grammar_block(grammar: Grammar, bundle: Bundle) -> bytes:
    """A block of a grammar only, which a recogniser of the bundle's block takes at run time."""
    return _join(_grammar(grammar, bundle))


def _grammar(grammar: Grammar, bundle: Bundle) -> dict[int, bytes]:
    """The section of a grammar, by its kind."""
    kind = _KINDS["PHONE_AUTOMATON" if grammar.of_phones else "AUTOMATON"]
    return {kind: automaton(grammar, bundle.limits)}


def automaton(grammar: Grammar, limits: Limits) -> bytes:
    """The section of a grammar, for texts within the limits."""
    # A phone takes a frame at least.
    tokens = limits.memory_frames if grammar.of_phones else limits.tokens
    between = 0 if grammar.between is None else 1
    rows = [
        (token, to, slot, word)
        for state in grammar.arcs
        for token, ways in sorted(state.items())
        for slot, word, to in ways
    ]
    words = grammar.vocabulary
    if max(len(rows), len(grammar.arcs), len(words)) >= _MOST_ARCS:
        raise ExportError(
            f"The grammar {grammar.name} has {len(grammar.arcs)} states and {len(rows)} arcs, and "
            f"the C core counts to {_MOST_ARCS}: write a smaller grammar."
        )
    width = 2 if max(len(rows), len(grammar.arcs), len(words)) < 1 << 16 else 4
    index = np.uint16 if width == 2 else np.uint32
    counts = [sum(len(ways) for ways in state.values()) for state in grammar.arcs]
    arcs = np.array(rows, np.int64).reshape(-1, 4)
    log_least = math.log(grammar.reject_below) if grammar.reject_below else _NO_LOG
    least = _ONE * max(log_least, _NO_LOG)
    values = {
        "states": len(grammar.arcs),
        "arcs": len(rows),
        "intents": len(grammar.intents),
        "slots": len(grammar.slots),
        "start": grammar.start,
        "between": -1 if grammar.between is None else grammar.between,
        "commands": max(1, (tokens + between) // (_shortest(grammar) + between)),
        "concurrent": 1 if grammar.of_phones else concurrent(grammar),
        # Confidences over phones are whole numbers: those from the least on.
        "reject_below": math.ceil(least) if grammar.of_phones else round(least),
        "width": width,
    }
    finals = [grammar.finals.get(state, -1) for state in range(len(grammar.arcs))]
    return _concatenate(
        [
            _pack("speech_automaton_numbers", values),
            np.concatenate([[0], np.cumsum(counts)]).astype(index),
            arcs[:, 1].astype(index),
            arcs[:, 0].astype(np.uint16),
            arcs[:, 2].astype(np.int16),
            np.array(finals, np.int16),
            _strings([name.encode() for name in (*grammar.intents, *grammar.slots)]),
            *(_words(words, (arcs[:, 3] + 1).astype(index)) if words else ()),
        ]
    )


def _words(words: Sequence[Word], ends: npt.NDArray[Any]) -> list[bytes | npt.NDArray[Any]]:
    """What follows in a grammar over phones; `ends`: the word of each arc."""
    columns = [[word.text for word in words]]
    for column in ([word.said for word in words], [word.value for word in words]):
        columns.append(column if any(column) else [])
    counts = dict(zip(("words", "said", "values"), map(len, columns), strict=True))
    texts = [_strings([text.encode() for text in column]) for column in columns]
    return [_pack("speech_word_numbers", counts), ends, *texts]


def _phones(bundle: Bundle) -> bytes:
    """The section of the encoder's phones, and of the search in them."""
    assert bundle.phones is not None
    outputs = [spec.name for spec in bundle.encoder.outputs]
    scale = bundle.encoder.output("phone_logits").scale
    assert scale is not None
    nats = first_pass.nats(scale)
    values = {
        "count": len(bundle.phones.names),
        "logit_nats": nats,
        "encoder_logits": outputs.index("phone_logits"),
        "margin": first_pass.margin(nats),
        "paths": first_pass.TOKENS,
        "records": int(_RECORDS * first_pass.TOKENS),
    }
    names = [f" {name}".encode() for name in bundle.phones.names]
    return _concatenate([_pack("speech_phone_numbers", values), _strings(names)])


def first_pass_bytes(bundle: Bundle) -> int:
    """Memory of the search in the phones of a bundle: paths, their records, and levels."""
    scale = bundle.encoder.output("phone_logits").scale or 1.0
    levels = first_pass.margin(first_pass.nats(scale)) + _LOGITS
    records = int(_RECORDS * first_pass.TOKENS) + 1
    paths = 2 * first_pass.TOKENS  # of a frame and of the next
    return 4 * (4 * paths + 3 * records + levels)


def pieces(tokenizer: Tokenizer) -> list[bytes]:
    """Text of each token in UTF-8, before stripping; empty for special ones."""
    texts = ["" if i in tokenizer.special else piece for i, piece in enumerate(tokenizer.tokens)]
    if tokenizer.kind == "characters":
        return [(" " if text == "<space>" else text).encode() for text in texts]
    return [text.replace(WORD_START, " ").encode() for text in texts]


def _numbers(bundle: Bundle, beam: int) -> bytes:
    limits, features, tokens = bundle.limits, bundle.features, bundle.tokenizer
    encoder, step = bundle.encoder, bundle.decoder_step
    if len(tokens.tokens) > _MOST_TOKENS:
        raise ExportError(
            f"{bundle.path}: it has {len(tokens.tokens)} tokens, and the C core counts to "
            f"{_MOST_TOKENS}; train with fewer."
        )
    ctc = {spec.name: spec for spec in encoder.outputs}.get("ctc_logits")
    places = {
        side: [spec.name for spec in specs]
        for side, specs in (
            ("encoder_input", encoder.inputs),
            ("encoder_output", encoder.outputs),
            ("step_input", step.inputs),
            ("step_output", step.outputs),
        )
    }
    values = {
        "frames": limits.frames,
        "channels": bundle.frontend.channels,
        "memory_frames": limits.memory_frames,
        "token_limit": limits.tokens,
        "vocabulary": len(tokens.tokens),
        "token_start": tokens.start,
        "token_end": tokens.end,
        "token_blank": tokens.blank,
        "feature_numerator": features.numerator,
        "feature_denominator": features.denominator,
        "feature_zero_point": features.zero_point,
        "beam": beam,
        "logit_nats": _nats(step.output("logits")),
        "ctc_logit_nats": 0 if ctc is None else _nats(ctc),
        "ctc_weight": round(CTC_WEIGHT * _ONE),
        "encoder_features": places["encoder_input"].index("features"),
        "encoder_mask": places["encoder_input"].index("memory_mask"),
        "encoder_ctc_logits": -1 if ctc is None else places["encoder_output"].index("ctc_logits"),
        "step_token": places["step_input"].index("token"),
        "step_self_mask": places["step_input"].index("self_mask"),
        "step_memory_mask": places["step_input"].index("memory_mask"),
        "step_logits": places["step_output"].index("logits"),
    }
    for name, spec, reals in (
        ("token", step.input("token"), {"zero": 0.0, "one": 1.0}),
        ("encoder_mask", encoder.input("memory_mask"), _mask(bundle)),
        ("memory_mask", step.input("memory_mask"), _mask(bundle)),
        ("self_mask", step.input("self_mask"), _mask(bundle)),
    ):
        values |= {f"{name}_{key}": int(spec.quantize(real)) for key, real in reals.items()}
    return _pack("speech_numbers", values)


def _mask(bundle: Bundle) -> dict[str, float]:
    return {"valid": 0.0, "masked": bundle.mask_value}


def _tensors(bundle: Bundle, signature: Signature) -> bytes:
    encoder, step = bundle.encoder, bundle.decoder_step
    sides = (encoder.inputs, encoder.outputs, step.inputs, step.outputs)
    inputs, outputs, given = (
        [spec.name for spec in specs] for specs in (step.inputs, step.outputs, encoder.outputs)
    )
    crossings = [(inputs.index(x.name), given.index(x.name)) for x in signature.crossings]
    caches = [
        (
            inputs.index(cache.input.name),
            outputs.index(cache.row.name),
            cache.row.bytes,
            int(cache.input.quantize(0.0)),
        )
        for cache in signature.caches
    ]
    names = ("encoder_inputs", "encoder_outputs", "step_inputs", "step_outputs")
    counts = {name: len(specs) for name, specs in zip(names, sides, strict=True)}
    counts |= {"crossings": len(crossings), "caches": len(caches)}
    return _concatenate(
        [
            _pack("speech_tensor_numbers", counts),
            *(np.array([spec.bytes for spec in specs], np.uint32) for specs in sides),
            np.array(crossings, np.int32),
            np.array(caches, np.int32),
        ]
    )


def _tables() -> bytes:
    apart = np.arange(_LOG_ADDS) * (1 << _LOG_ADD_BITS) / _ONE
    counts = {"powers": _POWERS, "log_adds": _LOG_ADDS, "log_add_bits": _LOG_ADD_BITS}
    return _concatenate(
        [
            _pack("speech_table_numbers", counts),
            np.rint(2.0 ** -np.linspace(0, 1, _POWERS) * _ONE).astype(np.int32),
            np.rint(np.log1p(np.exp(-apart)) * _ONE).astype(np.uint16),
        ]
    )


def _frontend() -> bytes:
    filters, gains = microfrontend.filterbank(), microfrontend.gains()
    values = {
        **microfrontend.numbers(),
        "weights": len(filters.weights),
        "gains": len(gains),
        "first_bin": filters.first_bin,
        "end_bin": filters.end_bin,
    }
    arrays = (filters.frequency_starts, filters.weight_starts, filters.widths)
    weights = (filters.weights, filters.unweights)
    parts = (*microfrontend.fft(), microfrontend.window(), *arrays, *weights, gains)
    return _concatenate([_pack("speech_frontend_numbers", values), *parts])


def _strings(texts: Sequence[bytes]) -> bytes:
    """Texts, each ended by a zero byte, and where they begin."""
    content = b"".join(text + b"\0" for text in texts)
    places = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.uint32)
    counts = {"count": len(texts), "bytes": len(content)}
    return _concatenate([_pack("speech_string_numbers", counts), places, content])


def _nats(spec: TensorSpec) -> int:
    """Of one unit of a logit, in 2^-24."""
    assert spec.scale is not None  # int8, as the signature demands
    return round(spec.scale * (1 << _LOGIT_BITS))


def _shortest(grammar: Grammar) -> int:
    """Tokens of the shortest command."""
    states, tokens = {grammar.start}, 0
    while not states & grammar.finals.keys():
        states = {to for x in states for ways in grammar.arcs[x].values() for *_, to in ways}
        tokens += 1
    return tokens


def concurrent(grammar: Grammar) -> int:
    """The most states that a text leads to.

    Raises:
      ExportError: if texts lead to too many sets of states to look at all of them.
    """
    known: set[States] = {grammar.first}
    waiting = [grammar.first]
    while waiting:
        states = waiting.pop()
        following = {grammar.follow(states, token) for token in grammar.allowed(states)} - known
        known |= following
        waiting += following
        if len(known) > _MOST_SETS:
            raise ExportError(
                f"The texts of the grammar {grammar.name} lead to more than {_MOST_SETS} sets of "
                "states: give alternatives with the same words the same slot."
            )
    return max(map(len, known))


def _fields(name: str) -> list[str]:
    """Names of the numbers of a structure in speech_core.h."""
    found = re.search(rf"typedef struct {{([^}}]*)}} {name};", _HEADER)
    assert found is not None, name
    return re.findall(r"int32_t (\w+);", found[1])


def _pack(structure: str, values: Mapping[str, int]) -> bytes:
    names = _fields(structure)
    assert values.keys() == set(names), (structure, set(names) ^ values.keys())
    return struct.pack(f"<{len(names)}i", *(values[name] for name in names))


def _concatenate(parts: Iterable[bytes | npt.NDArray[Any]]) -> bytes:
    """Parts one after the other, each at a multiple of 4 bytes; arrays little-endian."""
    result = bytearray()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = part.astype(part.dtype.newbyteorder("<")).tobytes()
        result += part + bytes(-len(part) % 4)
    return bytes(result)


def _join(sections: Mapping[int, bytes]) -> bytes:
    """The block with these sections, by kind."""
    offset = 16 + 12 * len(sections)
    table = b""
    for kind, content in sections.items():
        table += struct.pack("<HHII", kind, _SECTION_VERSION, offset, len(content))
        offset += len(content)
    head = struct.pack("<4I", _MAGIC, _VERSION, offset, len(sections))
    return head + table + b"".join(sections.values())
