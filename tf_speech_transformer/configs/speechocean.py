"""Read English of second-language speakers, half of them children: 2.9 hours to train on.

    python -m tf_speech_transformer.train --workdir=runs/speechocean/proposed \
        --config=tf_speech_transformer/configs/speechocean.py:proposed \
        --config.people=speechocean762_train/transcripts.tsv \
        --config.others=asterisk_prompts/transcripts.tsv,... \
        --config.train.initial_shared=pretrained/barista.npz

The rows are those of the paper (Bie et al., arXiv 1911.03604, table 1), at a size that such a
corpus carries. They differ only in positions and in the decoder's convolutions, and are trained by
the same steps on the same examples. 2.9 hours teach an untrained Transformer next to nothing. So
all rows start from the weights of a run of the preset `commands`, as far as they have its layers
(it had positions in the encoder, and no convolutions in the decoder).

`--config.people` is the manifest of the people that are wanted: `PEOPLE` of the examples, and the
dev set. `--config.others`, manifests with commas between, share the rest: prompts, and synthetic
voices that say sentences with other words, which teach the decoder how English is spelt:

    SPEAK="python -m tf_speech_transformer.synthesise --texts=sentences.txt"
    $SPEAK --voices=espeak --part=train --pitch=0.85,1.2 --out=voices/espeak  # 6,000 a minute
    $SPEAK --voices=flite --out=voices/flite  # 600 a minute
    $SPEAK --voices=piper --out=voices/piper  # 150 a minute

A row that is trained for longer needs more variety: docs/experiments.md says how the best one was
trained. A language model (`tf_speech_transformer.language`) tells the search what other sentences
are like.
"""

from ml_collections import ConfigDict, config_dict

from tf_speech_transformer.configs import commands

PEOPLE = 0.6
ROWS = {
    "proposed": {"encoder_positions": False},
    "positions": {"encoder_positions": True, "decoder_positions": True},
    "encoder_positions": {"encoder_positions": True},
    "conv_context": {
        "encoder_positions": False,
        "decoder_convolutions": (128, 128),
        "d_embedding": 128,
    },
}


def get_config(row: str = "proposed") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(f"there is no row {row!r}: there are {', '.join(ROWS)}")
    config = commands.get_config()
    config.preset = f"speechocean_{row}"
    del config.grammar
    config.model.encoder_layers = 8
    config.model.update(ROWS[row])

    del config.voices, config.talk
    config.people = config_dict.placeholder(str)
    config.others = ""
    people = {"kind": "recorded", "manifest": "{people}"}
    config.corpus.sources = (
        {**people, "part": "train", "weight": PEOPLE},
        {"kind": "recorded", "manifest": "{others}", "weight": 1 - PEOPLE},
    )
    config.corpus.dev_sources = ({**people, "part": "dev", "weight": 1.0},)
    config.corpus.augmentation = {
        "speed": (0.85, 1.18),
        "tempo": 0.3,
        "tempo_factor": (0.85, 1.2),
        "equalizer_db": 6.0,
        "room": 0.15,
        "noise": 0.4,
        "snr_db": (10.0, 40.0),
        "narrow_band": 0.05,
        "hum": 0.02,
        "clipping": 0.02,
        "eight_bits": 0.0,
        "companding": 0.05,
        "peak_db": (-26.0, -0.5),
        "close_cut": 0.1,
        "clips": 0.0,
        "silence": (0.0, 0.4),
    }
    config.corpus.train_examples = 25_000
    config.corpus.dev_examples = 300

    config.train.label_smoothing = 0.1
    config.train.warp = False  # so few steps do not learn more variety
    config.train.token_noise = 0.0
    config.train.ctc_weight = 0.4
    config.train.steps = 2_600
    config.train.dev_steps = 500
    config.train.checkpoint_steps = 500
    del config.train.initial
    config.train.initial_shared = config_dict.placeholder(str)
    config.quantization.steps = 500
    return config
