"""Spoken commands of a grammar: the `barista` bundle, and the recipe for any other domain.

    PRESET="--config=tf_speech_transformer/configs/commands.py:grammars/barista.yaml"
    python -m tf_speech_transformer.train $PRESET --config.voices=DIR --workdir=runs/barista \
        --config.train.initial=pretrained/barista.npz

The grammar may be named by `--config.grammar` too. `--config.voices` is a directory with a folder
for each engine of `SHARES`, which holds `manifest.tsv`; a folder that is not there is left out.
Make them once for a grammar (`tf_speech_transformer/voices` says what each engine needs):

    SPEAK="python -m tf_speech_transformer.commands --grammar=$GRAMMAR --processes=2"
    $SPEAK --voices=kokoro --count=2000 --out=DIR/kokoro    # 45 minutes
    $SPEAK --voices=piper --count=800 --out=DIR/piper       # 5 minutes
    $SPEAK --voices=flite --count=2000 --out=DIR/flite      # 3 minutes

espeak-ng speaks while examples are made.

`--config.train.initial` may name a run to start from, or its `weights.npz`. Any preset serves that
has the same dimensions or fewer layers: its front-end and its encoder have learnt to listen.
`--config.talk` may name manifests of other speech, with commas between: people who say any words.
They teach how people sound, and what is no command:

    --config.talk=speechocean762_train/transcripts.tsv,asterisk_prompts/transcripts.tsv
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

from tf_speech_transformer.configs import digits

# Engine and how often it is drawn, relative to the others.
SHARES = {"kokoro": 0.60, "piper": 0.08, "flite": 0.08}
ESPEAK = 0.16
TALK = 0.08
NOTHING = 0.05
PAIRS = 0.04
AUGMENTATION = {
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


def get_config(grammar: str | None = None) -> ConfigDict:
    config = digits.get_config()
    config.preset = "commands"
    config.grammar = config_dict.FieldReference(grammar, field_type=str)
    config.voices = config_dict.placeholder(str)
    config.talk = ""
    spoken: dict[str, Any] = {"kind": "spoken", "engine": "espeak", "part": "train"}
    recorded = {"kind": "recorded", "balanced": True, "pairs": PAIRS, "optional": True}
    config.corpus.sources = (
        {**spoken, "grammar": "{grammar}", "weight": ESPEAK, "pairs": PAIRS},
        *(
            {**recorded, "manifest": f"{{voices}}/{name}/manifest.tsv", "weight": share}
            for name, share in SHARES.items()
        ),
        {"kind": "recorded", "manifest": "{talk}", "weight": TALK},
        {"kind": "nothing", "weight": NOTHING},
    )
    config.corpus.augmentation = AUGMENTATION
    config.corpus.train_examples = 48_000
    config.corpus.dev_examples = 500
    config.model.encoder_layers = 12
    config.model.front_end_epsilon = 1.0
    config.model.dropout = 0.0  # so many and so various examples do not need it
    config.limits.frames = 1024  # 10.24 s
    config.limits.tokens = 128
    config.train.steps = 12_000
    config.train.learning_rate = 1e-3
    config.train.warmup_steps = 300
    # A grammar makes most letters certain. Smoothing would put a price on each of them, and so on
    # every optional phrase.
    config.train.label_smoothing = 0.02
    config.train.token_noise = 0.1
    config.train.warp = True
    config.train.ctc_weight = 0.4
    config.train.initial = config_dict.placeholder(str)
    config.train.dev_steps = 1000
    config.train.checkpoint_steps = 1000
    config.quantization.rotation = True
    config.quantization.distillation = True
    config.quantization.range_steps = 100
    config.quantization.steps = 1_500
    config.quantization.learning_rate = 1e-4
    config.quantization.warmup_steps = 50
    return config
