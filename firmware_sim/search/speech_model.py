"""The speech model: the two models of a bundle, and what a search must know of them."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Final

from firmware_sim.grammar.automaton import Grammar
from firmware_sim.runtimes.model import Model
from firmware_sim.search.language import LanguageModel

WORD_START: Final = "\u2581"  # sentencepiece writes a space as this character


@dataclasses.dataclass(frozen=True)
class Limits:
    """Sizes fixed in the flatbuffers."""

    frames: int  # feature frames that the encoder takes, 10 ms each
    memory_frames: int  # what they become in the encoder
    tokens: int  # longest text

    def memory_positions(self, frames: int) -> int:
        """Valid memory frames for `frames` feature frames."""
        return -(-frames * self.memory_frames // self.frames)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Token ids <-> text."""

    kind: str  # characters or sentencepiece
    tokens: tuple[str, ...]  # position = id
    start: int
    end: int
    blank: int

    @property
    def special(self) -> tuple[int, int, int]:
        """Ids that are no part of a text."""
        return self.start, self.end, self.blank

    def text(self, ids: Iterable[int]) -> str:
        """The text of token ids, without the special tokens."""
        pieces = [self.tokens[i] for i in ids if i not in self.special]
        if self.kind == "characters":
            return "".join(" " if piece == "<space>" else piece for piece in pieces).strip()
        return "".join(pieces).replace(WORD_START, " ").strip()


@dataclasses.dataclass(frozen=True)
class Phones:
    """The units of the encoder's output `phone_logits`; the one after the last is CTC's blank."""

    names: tuple[str, ...]

    @property
    def blank(self) -> int:
        return len(self.names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechModel:
    """Encoder and decoder step, their tokens and limits, and the texts that are expected."""

    path: pathlib.Path  # for messages
    limits: Limits
    mask_value: float  # real value of a masked position
    tokenizer: Tokenizer
    encoder: Model
    decoder_step: Model
    grammar: Grammar | None = None  # commands that are expected
    language: LanguageModel | None = None  # texts like those that are spoken
    phones: Phones | None = None  # of a general model, whose grammars are over phones

    @property
    def decoder_layers(self) -> int:
        return sum(spec.name.startswith("cache_") for spec in self.decoder_step.inputs)

    @property
    def decoder_convolutions(self) -> int:
        return sum(spec.name.startswith("window_") for spec in self.decoder_step.inputs)
