"""General English: an encoder that hears phones, for grammars that it was never trained on.

    python -m tf_speech_transformer.train --config=tf_speech_transformer/configs/english.py \
        --config.data=DATA --workdir=runs/english

DATA holds a folder for each corpus of `PEOPLE` with its manifest, recorded noises, and responses of
rooms (see `corpora.augment.read_pieces`), and what Kokoro has read by

    KOKORO_VOICES=package/voices python -m tf_speech_transformer.synthesise --voices=kokoro \
        --english=4000 --out=DATA/kokoro --processes=2

if anything. Parametric voices are made while training goes on, each line by a speaker of its own.
Texts are Debian's `fortunes` and `wordnet-base`.
"""

from typing import Any

from ml_collections import ConfigDict

from tf_speech_transformer.configs import commands

# Manifest and how often it is drawn, relative to the others.
PEOPLE = {
    "game_queen/amazon_queen/transcripts.tsv": 0.17,
    "game_sky/steel_sky/transcripts.tsv": 0.08,
    "librispeech_readers/librispeech_readers/transcripts.tsv": 0.07,
    "speechocean762_train/transcripts.tsv": 0.13,
}
UNHEARD = "asterisk_prompts/transcripts.tsv"  # dev only: microphone, rooms and texts are new too
FEW_SPEAKERS = ("game_sky",)  # none can be held out
KOKORO = 0.25
PARAMETRIC = 0.28
ESPEAK = 0.05
NOTHING = 0.02
# Speech that is hard to hear teaches a young model little. Later stages may have more of it.
AUGMENTATION = {
    "recorded_noise": 0.4,
    "recorded_room": 0.6,
    "snr_db": (5.0, 40.0),
    "speed": (0.88, 1.14),
    "tempo": 0.2,
    "equalizer_db": 10.0,
    "room": 0.3,
    "noise": 0.5,
    "narrow_band": 0.2,
    "companding": 0.1,
    "clipping": 0.05,
    "close_cut": 0.3,
    "clips": 0.2,
}
TEXTS = ("/usr/share/games/fortunes/*", "/usr/share/wordnet/data.*")
GRAMMARS = ("grammars/barista.yaml", "grammars/home.yaml", "grammars/calendar.yaml")


def get_config(data: str = "data") -> ConfigDict:
    config = commands.get_config()
    config.preset = "english"
    del config.grammar, config.voices, config.talk
    config.data = data
    lines = {"texts": TEXTS, "excluded": GRAMMARS}
    people: list[dict[str, Any]] = [
        {"kind": "recorded", "manifest": f"{{data}}/{name}", "phones": True, "weight": share}
        for name, share in PEOPLE.items()
    ]
    config.corpus.sources = (
        *({**x, "part": "train"} for x in people),
        {
            "kind": "recorded",
            "manifest": "{data}/kokoro/manifest.tsv",
            "phones": True,
            "weight": KOKORO,
            "optional": True,
        },
        {"kind": "parametric", "weight": PARAMETRIC, **lines},
        {"kind": "read", "engine": "espeak", "weight": ESPEAK, **lines},
        {"kind": "nothing", "weight": NOTHING},
    )
    config.corpus.dev_sources = (
        *(
            {**source, "part": "dev"}
            for source, name in zip(people, PEOPLE, strict=True)
            if not name.startswith(FEW_SPEAKERS)
        ),
        {"kind": "recorded", "manifest": f"{{data}}/{UNHEARD}", "phones": True, "weight": 0.12},
    )
    config.corpus.noises = "{data}/noise/noise/audio"
    config.corpus.rooms = "{data}/rooms/rooms/rir16k.npz"
    config.corpus.augmentation.update(AUGMENTATION)
    config.corpus.train_examples = 1_000_000_000  # without end: see `pool`
    config.corpus.dev_examples = 500
    # Each example is used twice: more often, it is learned by heart.
    config.corpus.pool = ConfigDict({"first": 8, "window": 24, "renewed": 12, "frames": (140, 20)})
    config.model.d_model = 192
    config.model.d_ff = 384
    config.model.phones = True
    config.train.steps = 6_000
    config.train.learning_rate = 8e-4
    config.train.warmup_steps = 150
    config.train.ctc_weight = 1.0  # the decoder joins later
    # Both keep CTC at its blanks for longer; later stages may have them.
    config.train.warp = False
    config.train.spec_augment = False
    config.train.phone_weight = 1.0  # letters join with the decoder
    config.train.optimizer = "muon"
    config.train.early_layers = (6,)
    config.train.early_weight = 0.4
    config.train.bfloat16 = False
    config.train.dev_steps = 500
    config.train.checkpoint_steps = 250
    return config
