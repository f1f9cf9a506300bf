"""Read English of second-language speakers, half of them children: 2.9 hours to train on.

    export SPEECH=speechocean762_train/transcripts.tsv INITIAL=runs/barista
    python -m tf_speech_transformer.train --workdir=runs/speechocean/proposed \
        --config=tf_speech_transformer/configs/speechocean.py:proposed

What the paper compares (Bie et al., arXiv 1911.03604, table 1), at a size that such a corpus
carries: the rows differ in positions and in the decoder's convolutions alone, and are trained by
the same steps on the same examples.  2.9 hours alone teach a Transformer next to nothing: INITIAL
names a run of the preset `commands`, whose encoder all rows start from; their decoders begin
untrained.  SPEECH may name several manifests, with ":" between.
"""

import os

from ml_collections import ConfigDict

from tf_speech_transformer.configs import commands

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
    config.model.dropout = 0.1
    config.model.update(ROWS[row])

    manifests = os.environ.get("SPEECH", "speechocean762_train/transcripts.tsv").split(":")
    config.corpus.sources = tuple(
        {"kind": "recorded", "manifest": name, "part": "train", "weight": 1.0} for name in manifests
    )
    config.corpus.dev_sources = tuple(
        {"kind": "recorded", "manifest": name, "part": "dev", "weight": 1.0}
        for name in manifests[:1]
    )
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
    config.train.ctc_weight = 0.4
    config.train.steps = 3_000
    config.train.dev_steps = 500
    config.train.checkpoint_steps = 500
    if "initial" in config.train:
        config.train.initial_encoder = config.train.initial
        del config.train.initial
    config.quantization.steps = 600
    return config
