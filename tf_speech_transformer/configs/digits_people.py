"""The `digits` preset on more voices and on people: the shipped bundle.

    PRESET="--config=tf_speech_transformer/configs/digits_people.py --config.voices=DIR"
    RUN="--workdir=runs/digits_people"

On a CPU:

    python -m tf_speech_transformer.train $PRESET $RUN

With the float stage on a GPU with JAX, as for the shipped bundle (see `training/xla`):

    python -m tf_speech_transformer.training.xla.export $PRESET --export=runs/xla
    python -m tf_speech_transformer.training.xla.train runs/xla  # there: copy it there and back
    python -m tf_speech_transformer.training.xla.export $PRESET $RUN --import=runs/xla/last.npz
    python -m tf_speech_transformer.train $PRESET $RUN

The shipped float weights came from the first form of that program, whose schedule was half a cosine
by time, over 740 seconds, in which it made 5,250 steps: docs/experiments.md.

DIR holds a folder with `manifest.tsv` for each of the sources below. They are made from two files
of texts, one to a line: the ten digit words, and 60 strings of two to five of them.

    UNITS="python -m tf_speech_transformer.corpora.digit_units"
    SPEAK="python -m tf_speech_transformer.synthesise"
    $UNITS --kokoro_lists=600 --out=DIR/kokoro --processes=2  # see voices/kokoro.py; 25 minutes
    $SPEAK --voices=piper --texts=words.txt --takes=30 --out=DIR/piper
    $SPEAK --voices=piper --texts=strings.txt --out=DIR/piper
    $SPEAK --voices=flite --texts=words.txt --takes=40 --out=DIR/flite
    $SPEAK --voices=flite --texts=strings.txt --takes=2 --out=DIR/flite
    $UNITS --corpus=asterisk_prompts/transcripts.tsv --out=DIR/asterisk
    $UNITS --corpus=speechocean762_train/transcripts.tsv --out=DIR/speechocean
"""

from ml_collections import ConfigDict, config_dict

from tf_speech_transformer.configs import digits

# Source and how often it is drawn, relative to the others.
SHARES = {
    "kokoro": 0.42,
    "piper": 0.04,
    "flite": 0.08,
    "asterisk": 0.04,
    "speechocean": 0.10,
    "speechocean_units": 0.15,
}


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.voices = config_dict.placeholder(str)
    config.corpus.sources = (
        {"kind": "synthesised", "engine": "espeak", "part": "train", "weight": 0.20},
        *(
            {"kind": "joined", "manifest": f"{{voices}}/{name}/manifest.tsv", "weight": share}
            for name, share in SHARES.items()
        ),
    )
    config.corpus.augmentation = {  # stronger than the defaults: people are more various
        "speed": (0.8, 1.25),
        "tempo": 0.45,
        "tempo_factor": (0.7, 1.35),
        "equalizer_db": 12.0,
        "room": 0.4,
        "telephone": 0.35,
        "close_cut": 0.85,
        "cut_db": (10.0, 34.0),
    }
    config.corpus.train_examples = 40_000
    config.corpus.dev_examples = 500
    config.train.steps = 15_000
    config.train.warmup_steps = 600
    config.train.dev_steps = 1500
    config.train.checkpoint_steps = 1000
    config.xla = ConfigDict()  # the float stage elsewhere: see `training/xla/export.py`
    config.xla.batch_frames = 51_200
    config.xla.learning_rate = 2.5e-3
    config.xla.warmup_steps = 800
    config.xla.steps = 5_250
    config.xla.lengths = (192, 288, 384, 512)
    config.xla.tokens = 44  # seven digits are 41 letters
    config.xla.examples = 150_000
    config.quantization.range_steps = 100
    config.quantization.steps = 150
    config.quantization.learning_rate = 1e-5
    config.quantization.warmup_steps = 20
    return config
