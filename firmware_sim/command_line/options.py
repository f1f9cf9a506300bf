"""The command-line flags that the tools of this package share."""

import math

from absl import flags

from firmware_sim import bundle
from firmware_sim.recognizer import Recognizer
from firmware_sim.runtimes.runtime import RUNTIMES
from firmware_sim.search.options import Decoding, DecodingOptions

BUNDLE = flags.DEFINE_string("bundle", None, "Directory, .zip or name of a bundle.", required=True)
RUNTIME = flags.DEFINE_enum("runtime", "litert", list(RUNTIMES), "Runtime that runs the models.")
NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads of LiteRT.", lower_bound=1, upper_bound=256
)
DECODING = flags.DEFINE_enum(
    "decoding", Decoding.BEAM.value, [d.value for d in Decoding], "How tokens are chosen."
)
BEAM = flags.DEFINE_integer(
    "beam",
    None,
    "Hypotheses kept by --decoding=beam. Default: 4, or 12 with a language model.",
    lower_bound=1,
)
LENGTH_PENALTY = flags.DEFINE_float(
    "length_penalty",
    0.0,
    "Scores are divided by (number of tokens)^length_penalty.",
    lower_bound=0.0,
)
CTC_WEIGHT = flags.DEFINE_float(
    "ctc_weight",
    None,
    "Weight of the CTC score at every token of a beam; greedy decoding chooses without CTC, but "
    "its scores include it. Default: 0.3, if the bundle has a CTC head.",
    lower_bound=0.0,
    upper_bound=1.0,
)
GRAMMAR = flags.DEFINE_bool(
    "grammar", True, "Hold the text to the bundle's grammar, if it has one; beam and greedy."
)
LANGUAGE_WEIGHT = flags.DEFINE_float(
    "language_weight",
    None,
    "Weight of the bundle's language model in a beam without a grammar; 0: none. Default: the "
    "bundle's.",
    lower_bound=0.0,
)

for _flag in (LENGTH_PENALTY, CTC_WEIGHT, LANGUAGE_WEIGHT):  # bounds let "nan" through
    flags.register_validator(
        _flag, lambda value: value is None or math.isfinite(value), "it must be a finite number"
    )


def recognizer(runtime: str | None = None) -> Recognizer:
    """The recogniser that the flags describe, on `runtime` if given instead of the flag's.

    Raises:
      BundleError: if the bundle cannot be used.
      ValueError: if the runtime is not installed.
    """
    loaded = bundle.load(BUNDLE.value)
    options = DecodingOptions(
        decoding=Decoding(DECODING.value),
        beam=BEAM.value,
        length_penalty=LENGTH_PENALTY.value,
        ctc_weight=CTC_WEIGHT.value,
        grammar=GRAMMAR.value,
        language_weight=LANGUAGE_WEIGHT.value,
    )
    loaded.check_grammar()
    return Recognizer(loaded, runtime or RUNTIME.value, options, NUM_THREADS.value)
