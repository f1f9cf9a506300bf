"""The `digits` preset on more voices and on people: the shipped bundle.

    VOICES=DIR python -m tf_speech_transformer.train \
        --config=tf_speech_transformer/configs/digits_people.py --workdir=runs/digits_people

VOICES holds a folder with `manifest.tsv` for each of the sources below. They are made like this,
from two files of texts, one to a line: the ten digit words, and 60 strings of two to five of them.

    UNITS="python -m tf_speech_transformer.digit_units"
    SPEAK="python -m tf_speech_transformer.synthesise"
    $UNITS --kokoro_lists=600 --out=VOICES/kokoro --processes=2  # see voices.py; 25 minutes
    $SPEAK --voices=piper --texts=words.txt --takes=30 --out=VOICES/piper
    $SPEAK --voices=piper --texts=strings.txt --out=VOICES/piper
    $SPEAK --voices=flite --texts=words.txt --takes=40 --out=VOICES/flite
    $SPEAK --voices=flite --texts=strings.txt --takes=2 --out=VOICES/flite
    $UNITS --corpus=asterisk_prompts/transcripts.tsv --out=VOICES/asterisk
    $UNITS --corpus=speechocean762_train/transcripts.tsv --out=VOICES/speechocean
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from tf_speech_transformer.configs import digits

# Source and its share of the examples.
SHARES = {
    "kokoro": 0.42,
    "piper": 0.04,
    "flite": 0.08,
    "asterisk": 0.04,
    "speechocean": 0.07,
    "speechocean_units": 0.10,
}


def get_config() -> ConfigDict:
    config = digits.get_config()
    voices = Path(os.environ.get("VOICES", "voices"))
    config.corpus.sources = (
        {"kind": "synthesised", "engine": "espeak", "part": "train", "weight": 0.25},
        *(
            {"kind": "joined", "manifest": str(voices / name / "manifest.tsv"), "weight": share}
            for name, share in SHARES.items()
        ),
    )
    config.corpus.train_examples = 40_000
    config.corpus.dev_examples = 500
    config.train.steps = 15_000
    config.train.warmup_steps = 600
    config.train.dev_steps = 1500
    config.train.checkpoint_steps = 1000
    config.quantization.range_steps = 100
    config.quantization.steps = 150
    config.quantization.learning_rate = 1e-5
    config.quantization.warmup_steps = 20
    return config
