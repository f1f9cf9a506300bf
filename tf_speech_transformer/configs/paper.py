"""The rows of Bie et al. (arXiv 1911.03604, tables 1 and 2), at their size, on LibriSpeech.

    python -m tf_speech_transformer.records --features=paper --out=records/train \
        --corpus=train-clean-100.tar.gz --corpus=train-clean-360.tar.gz \
        --corpus=train-other-500.tar.gz
    python -m tf_speech_transformer.records --features=paper --out=records/dev \
        --corpus=dev-clean.tar.gz
    python -m tf_speech_transformer.train --workdir=runs/paper/proposed \
        --config=tf_speech_transformer/configs/paper.py:proposed

`--config.records` may name another directory than `records`.

The recipe is the paper's: 80 log-mel channels, 5,000 sentencepiece unigrams, AdaDelta, batches of
80,000 frames (ten small ones), no CTC, no SpecAugment, no label smoothing, the mean of the last 30
checkpoints. Its rows in 8 bits are the later stages of the same runs.
"""

from ml_collections import ConfigDict

CONVOLUTIONS = (256, 256, 256, 256)
# What differs from the proposed model. The large one has a d_ff of 2,048 too, because its source
# (Mohamed et al., arXiv 1904.11660) has 138M parameters: with 4,096 it would have 187M.
ROWS = {
    "conv_context_large": {"decoder_convolutions": CONVOLUTIONS, "d_model": 1024},
    "conv_context": {"decoder_convolutions": CONVOLUTIONS},
    "proposed": {},
    "proposed_positions": {"encoder_positions": True, "decoder_positions": True},
}


def get_config(row: str = "proposed") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(f"the paper has no row {row!r}: there are {', '.join(ROWS)}")
    config = ConfigDict()
    config.preset = f"paper_{row}"
    config.records = "records"
    config.seed = 1
    config.features = "paper"
    config.tokenizer = ConfigDict({"kind": "sentencepiece", "pieces": 5000})

    config.model = ConfigDict()  # what is not here is a default of `Dimensions`: the paper's
    config.model.ctc = False
    config.model.update(ROWS[row])

    config.corpus = ConfigDict()
    config.corpus.records = ("{records}/train",)
    config.corpus.dev_records = ("{records}/dev",)

    config.limits = ConfigDict()
    config.limits.frames = 1_664  # 16.64 s
    config.limits.tokens = 128
    config.limits.letters = 400

    config.train = ConfigDict()
    config.train.optimizer = "adadelta"
    config.train.learning_rate = 1.0
    config.train.warmup_steps = 0
    config.train.clip_norm = 10.0
    config.train.batch_frames = 8_000
    config.train.accumulate = 10
    config.train.steps = 345_600  # 80 epochs of 960 h
    config.train.label_smoothing = 0.0
    config.train.ctc_weight = 0.0
    config.train.spec_augment = False
    config.train.average = 30
    config.train.log_steps = 50
    config.train.dev_steps = 4_320
    config.train.checkpoint_steps = 4_320

    config.quantization = ConfigDict()
    config.quantization.range_steps = 1_000
    config.quantization.steps = 1_000
    config.quantization.learning_rate = 0.05
    config.quantization.warmup_steps = 0
    return config
