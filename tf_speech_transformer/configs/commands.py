"""Spoken commands of a grammar: the `barista` bundle, and the recipe for any other domain.

    export GRAMMAR=grammars/barista.yaml VOICES=DIR INITIAL=pretrained/barista.npz
    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/commands.py \
        --workdir=runs/barista

VOICES holds a folder with `manifest.tsv` for each engine of `SHARES`; one that is not there is left
out. They are made like this, once for a grammar (see `voices.py` for what each needs):

    SPEAK="python -m tf_speech_transformer.commands --grammar=$GRAMMAR --processes=2"
    $SPEAK --voices=kokoro --count=2000 --out=$VOICES/kokoro    # 45 minutes
    $SPEAK --voices=piper --count=800 --out=$VOICES/piper       # 5 minutes
    $SPEAK --voices=flite --count=2000 --out=$VOICES/flite      # 3 minutes

espeak-ng speaks while examples are made. INITIAL may name a run to start from, or its
`weights.npz`, of any preset with the same dimensions or fewer layers: its front-end and its ears
are there already. TALK may name
manifests of other speech, people's with any words: they teach how people sound, and what is no
command.

    export TALK=speechocean762_train/transcripts.tsv:asterisk_prompts/transcripts.tsv
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from tf_speech_transformer.configs import digits

# Engine and how often it is drawn, relative to the others.
SHARES = {"kokoro": 0.60, "piper": 0.08, "flite": 0.08}
ESPEAK = 0.16
TALK = 0.08
NOTHING = 0.05
PAIRS = 0.04


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.preset = "commands"
    config.grammar = os.environ.get("GRAMMAR", "grammars/barista.yaml")
    voices = Path(os.environ.get("VOICES", "voices"))
    talk = [Path(name) for name in os.environ.get("TALK", "").split(":") if name]
    spoken = [
        {
            "kind": "recorded",
            "manifest": str(path),
            "balanced": True,
            "weight": share,
            "pairs": PAIRS,
        }
        for name, share in SHARES.items()
        if (path := voices / name / "manifest.tsv").is_file()
    ]
    config.corpus.sources = (
        {
            "kind": "spoken",
            "engine": "espeak",
            "part": "train",
            "grammar": config.grammar,
            "weight": ESPEAK,
            "pairs": PAIRS,
        },
        *spoken,
        *({"kind": "recorded", "manifest": str(path), "weight": TALK / len(talk)} for path in talk),
        {"kind": "nothing", "weight": NOTHING},
    )
    config.corpus.augmentation = {
        "speed": (0.85, 1.18),
        "tempo": 0.4,
        "tempo_factor": (0.8, 1.25),
        "equalizer_db": 12.0,
        "room": 0.5,
        "noise": 0.85,
        "snr_db": (-5.0, 38.0),
        "surroundings": 0.7,
        "narrow_band": 0.15,
        "eight_bits": 0.02,
        "peak_db": (-36.0, -0.5),
        "close_cut": 0.15,
        "clips": 0.1,
        "silence": (0.0, 0.8),
        "waiting": 0.12,
    }
    config.corpus.train_examples = 48_000
    config.corpus.dev_examples = 500
    config.model.encoder_layers = 12
    config.model.front_end_epsilon = 1.0
    config.model.dropout = 0.0  # examples are so many and so various that it only slows down
    config.limits.frames = 1024  # 10.24 s
    config.limits.tokens = 128
    config.train.steps = 12_000
    config.train.learning_rate = 1e-3
    config.train.warmup_steps = 300
    # Held to a grammar most letters are certain: smoothing would be a price for each of them,
    # and so for every phrase that may be left out.
    config.train.label_smoothing = 0.02
    config.train.token_noise = 0.1
    config.train.warp = True
    config.train.ctc_weight = 0.4
    if "INITIAL" in os.environ:
        config.train.initial = os.environ["INITIAL"]
    config.train.dev_steps = 1000
    config.train.checkpoint_steps = 1000
    config.quantization.rotation = True
    config.quantization.distillation = True
    config.quantization.range_steps = 100
    config.quantization.steps = 1_500
    config.quantization.learning_rate = 1e-4
    config.quantization.warmup_steps = 50
    return config
