"""Connected digits, from speech that the pipeline synthesises itself.

    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/digits.py \
        --workdir=runs/digits
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.preset = "digits"
    config.seed = 1

    config.model = ConfigDict()
    config.model.feature_channels = 40
    config.model.conv_channels = (24, 48)
    config.model.strided = True  # a stride instead of pooling: a quarter of the arena and the time
    config.model.d_model = 128
    config.model.heads = 4
    config.model.d_ff = 384
    config.model.encoder_layers = 4
    config.model.decoder_layers = 2
    # Words joined by silence carry no order across it: without positions repeats get lost.
    config.model.encoder_positions = True
    config.model.dropout = 0.1

    config.corpus = ConfigDict()
    config.corpus.sources = (
        {"kind": "synthesised", "engine": "espeak", "part": "train", "weight": 1.0},
    )
    config.corpus.train_examples = 10_000
    config.corpus.dev_examples = 300

    config.limits = ConfigDict()
    config.limits.frames = 512  # 5.12 s: what the encoder sees at once
    config.limits.tokens = 64

    config.train = ConfigDict()
    config.train.steps = 2400
    config.train.batch_frames = 6_400  # 64 s of padded audio
    config.train.learning_rate = 1.2e-3
    config.train.warmup_steps = 250
    config.train.clip_norm = 5.0
    config.train.label_smoothing = 0.1
    config.train.ctc_weight = 0.3
    config.train.spec_augment = True
    config.train.log_steps = 50
    config.train.dev_steps = 1200
    config.train.checkpoint_steps = 300

    config.quantization = ConfigDict()
    config.quantization.range_steps = 60
    config.quantization.steps = 150
    config.quantization.learning_rate = 2e-4
    config.quantization.warmup_steps = 20
    return config
