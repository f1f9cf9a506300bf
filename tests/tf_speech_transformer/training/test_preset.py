"""Presets: flags change them, and what is wrong is named before any work."""

from pathlib import Path
from typing import Any

import ml_collections
import pytest

from tests.conftest import REPOSITORY, ended
from tf_speech_transformer import train
from tf_speech_transformer.configs import commands, digits, digits_people, paper, speechocean
from tf_speech_transformer.training import preset

HOME = REPOSITORY / "grammars" / "home.yaml"


def manifest(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("audio\ttext\tspeaker\n")
    return path


def test_sources_follow_the_flags(tmp_path: Path) -> None:
    piper = manifest(tmp_path / "piper" / "manifest.tsv")
    talk = [str(manifest(tmp_path / name)) for name in ("a.tsv", "b.tsv")]
    config = commands.get_config()
    config.grammar, config.voices, config.talk = str(HOME), str(tmp_path), ",".join(talk)
    sources = preset.read(config).corpus.sources
    assert [(x["kind"], x.get("manifest")) for x in sources] == [
        ("spoken", None),
        ("recorded", str(piper)),  # the other engines have no voices there
        ("recorded", talk[0]),
        ("recorded", talk[1]),
        ("nothing", None),
    ]
    assert sources[0]["grammar"] == str(HOME)
    assert sources[2]["weight"] == sources[3]["weight"] == commands.TALK / 2
    config.talk = ""
    config = preset.read(config)
    assert len(config.corpus.sources) == 3
    assert config.train.initial is None


def test_the_grammar_may_stand_behind_a_colon(tmp_path: Path) -> None:
    config = commands.get_config(str(HOME))
    config.voices = str(tmp_path)
    assert preset.read(config).corpus.sources[0]["grammar"] == str(HOME)


def test_people_and_others_share_the_examples(tmp_path: Path) -> None:
    config = speechocean.get_config()
    paths = [str(manifest(tmp_path / name)) for name in ("people.tsv", "a.tsv", "b.tsv")]
    config.people, config.others = paths[0], ",".join(paths[1:])
    config = preset.read(config)
    assert [(x["manifest"], x["weight"]) for x in config.corpus.sources] == [
        (paths[0], 0.6),
        (paths[1], 0.2),
        (paths[2], 0.2),
    ]
    assert [x["part"] for x in config.corpus.dev_sources] == ["dev"]


def test_records_lie_where_the_flag_says(tmp_path: Path) -> None:
    config = paper.get_config()
    config.records = str(tmp_path)
    assert preset.read(config).corpus.records == (f"{tmp_path}/train",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grammar": None}, r"config.grammar is not set: add --config.grammar="),
        ({"voices": None}, r"config.voices is not set: add --config.voices="),
        ({"voices": "nowhere"}, "--config.voices=nowhere: there is no such directory"),
        ({"grammar": "no.yaml"}, r"corpus.sources\[0\]: no.yaml does not exist: name a grammar"),
        ({"talk": "no.tsv"}, "no.tsv does not exist: name a manifest"),
        ({"train.initial": "no.npz"}, "config.train.initial: no.npz does not exist"),
        (
            {"train.optimizer": "lion"},
            "config.train.optimizer is 'lion': choose adam or muon or adadelta",
        ),
        ({"features": "mfcc"}, "config.features is 'mfcc': choose wheel or paper"),
        ({"train.early_layers": (3,)}, r"early_layers is \(3,\): a model with phones is needed"),
        ({"train.step": 3}, "config.train.step is unknown: did you mean steps"),
        ({"train.steps": 2.5}, "config.train.steps is 2.5: it must be of type int"),
        ({"model.conv_channels": (8,)}, r"config.model.conv_channels is .*: it must be of type"),
        (
            {"corpus.augmentation": {"nois": 0.5}},
            "nois is unknown: did you mean noise",
        ),
        ({"corpus.sorces": ()}, "config.corpus.sorces is unknown: did you mean sources"),
        ({"corpus.sources": ()}, "config.corpus.sources has no source with a weight above 0"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = commands.get_config(str(HOME))
    config.voices = str(tmp_path)
    for name, value in changes.items():
        section = config
        *path, last = name.split(".")
        for part in path:
            section = section[part]
        if value is None:
            section[last] = ml_collections.config_dict.placeholder(str)
        with section.unlocked(), section.ignore_type():
            section[last] = value
    with pytest.raises(ValueError, match=message):
        preset.read(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sung"}, "no corpus source 'sung'"),
        ({"part": "tset"}, "no part 'tset': there are train, test"),
        ({"engine": "parrot"}, "no engine 'parrot': there are espeak"),
        ({"weight": -1.0}, "weight is -1.0: it must be a number from 0"),
        ({"weight": 0.0}, "has no source with a weight above 0"),
        ({"weight": "much"}, "weight is 'much': it must be a number from 0"),
        ({"manifest": "a.tsv"}, "does not take 'manifest'"),
        ({"pairs": 2.0}, "pairs is 2.0: it must be a number from 0 to 1"),
    ],
)
def test_what_is_wrong_with_a_source_is_named(change: dict[str, Any], message: str) -> None:
    config = digits.get_config()
    config.corpus.sources = ({**config.corpus.sources[0], **change},)
    with pytest.raises(ValueError, match=message):
        preset.read(config)


def test_every_preset_without_arguments_is_read(tmp_path: Path) -> None:
    preset.read(digits.get_config())
    config = digits_people.get_config()
    config.voices = str(tmp_path)
    for name in digits_people.SHARES:
        manifest(tmp_path / name / "manifest.tsv")
    assert len(preset.read(config).corpus.sources) == 1 + len(digits_people.SHARES)


def test_the_command_names_the_flag_that_is_missing(tmp_path: Path) -> None:
    said = ended(train, config=commands.get_config(str(HOME)), workdir=str(tmp_path / "run"))
    assert said.startswith("train: config.voices is not set: add --config.voices=")
    assert not (tmp_path / "run").exists()


def test_a_part_without_speakers_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "one.tsv"
    (tmp_path / "a.wav").touch()  # no audio: decoding would say so
    path.write_text("audio\ttext\tspeaker\na.wav\tone\tonly\n")
    config = digits.get_config()
    source = {"kind": "joined", "manifest": str(path), "part": "dev", "weight": 1.0}
    config.corpus.dev_sources = (source,)
    with pytest.raises(ValueError, match=r"dev_sources\[0\]: no speakers are in the part 'dev'"):
        preset.read(config)
