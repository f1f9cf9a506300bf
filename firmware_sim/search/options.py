"""Options of the search: how tokens are chosen, and what has a part in the scores."""

import dataclasses
import enum
import math
from typing import Final

from firmware_sim.grammar.automaton import Grammar
from firmware_sim.search.speech_model import SpeechModel

BEAM: Final = 4  # hypotheses kept
LANGUAGE_BEAM: Final = 12  # with a language model
CTC_WEIGHT: Final = 0.3  # of CTC's score in the beam; benchmarks.repeats measures its effect


class Decoding(str, enum.Enum):
    """How tokens are chosen."""

    GREEDY = "greedy"
    BEAM = "beam"
    CTC = "ctc"  # best path of the encoder's CTC head; the decoder does not run


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """Choices of the search; the defaults are those of every tool."""

    decoding: Decoding = Decoding.BEAM
    # Hypotheses kept by Decoding.BEAM. None: 4, or 12 with a language model.
    beam: int | None = None
    length_penalty: float = 0.0  # scores are divided by (number of tokens)^length_penalty
    # Weight of CTC, 0 to 1. Decoding.BEAM chooses by it at every token; Decoding.GREEDY only adds
    # it to the scores. None: 0.3, if there is a CTC head.
    ctc_weight: float | None = None
    grammar: bool = True  # held to the bundle's grammar, if it has one; not for Decoding.CTC
    # Weight of the language model's log probabilities; speech has weight 1. Only for Decoding.BEAM
    # without a grammar. None: the bundle's weight, if it has a language model.
    language_weight: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoding", Decoding(self.decoding))
        if self.beam is not None and self.beam < 1:
            raise ValueError(f"beam is {self.beam}; it must be at least 1.")
        if self.length_penalty < 0:
            raise ValueError(f"length_penalty is {self.length_penalty}; it must not be negative.")
        if self.ctc_weight is not None and not 0 <= self.ctc_weight <= 1:
            raise ValueError(f"ctc_weight is {self.ctc_weight}; it must be between 0 and 1.")
        if self.language_weight is not None and not 0 <= self.language_weight < math.inf:
            raise ValueError(f"language_weight is {self.language_weight}; it must not be negative.")

    def grammar_of(self, model: SpeechModel) -> Grammar | None:
        """The grammar that texts are held to."""
        return model.grammar if self.grammar and self.decoding is not Decoding.CTC else None

    def language_weight_of(self, model: SpeechModel) -> float:
        """Weight of the model's language model; 0.0 if it takes no part."""
        if not model.language or self.decoding is not Decoding.BEAM or self.grammar_of(model):
            return 0.0
        return model.language.weight if self.language_weight is None else self.language_weight

    def beam_of(self, model: SpeechModel) -> int:
        """Hypotheses kept."""
        if self.decoding is not Decoding.BEAM:
            return 1
        if self.beam is not None:
            return self.beam
        return LANGUAGE_BEAM if self.language_weight_of(model) else BEAM
