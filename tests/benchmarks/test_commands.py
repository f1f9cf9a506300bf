"""The benchmark of spoken commands: its noise, its rule, and how slots are found in a text."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from benchmarks import commands
from firmware_sim.grammar.source import Grammar
from tests.conftest import REPOSITORY, run_module

FLAT = """context:
  expressions:
    order: ["[make me, i want] [a, an] $size:size ($roast:roast) $drink:drink with $milk:milk"]
  slots:
    size: [medium, "twelve ounce"]
    roast: [medium roast]
    drink: [coffee, iced coffee]
    milk: [milk, a bit of milk]
"""


@pytest.fixture
def grammar(tmp_path: pathlib.Path) -> Grammar:
    (tmp_path / "flat.yaml").write_text(FLAT)
    return Grammar.read(tmp_path / "flat.yaml")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    chance = np.random.default_rng(0)
    return (1_000 * chance.standard_normal(100_000)).astype(np.int16)


@pytest.mark.parametrize("snr_db", [-3.0, 6.0, 24.0])
def test_loudest_frames_have_the_ratio(
    speech: np.ndarray, noise: np.ndarray, snr_db: float
) -> None:
    mixed = commands.mix(speech, noise, snr_db, "one").astype(np.float64)
    assert np.abs(mixed).max() == pytest.approx(16_384, abs=2)
    start = int(
        np.random.default_rng(commands.zlib.crc32(b"one")).integers(0, 100_000 - len(speech))
    )
    basis = np.stack([speech, noise[start : start + len(speech)]], axis=1).astype(np.float64)
    (speech_gain, noise_gain), rest, *_ = np.linalg.lstsq(basis, mixed, rcond=None)
    assert rest / len(speech) < 0.2  # nothing but the two, and rounding
    loud = commands.loudest(speech_gain * basis[:, 0])
    around = commands.loudest(noise_gain * basis[:, 1])
    assert 10 * np.log10(loud / around) == pytest.approx(snr_db, abs=0.01)


def test_too_little_noise_is_one_sentence(speech: np.ndarray, noise: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shorter than one: give a longer"):
        commands.mix(speech, noise[: len(speech)], 6.0, "one")


def test_noise_depends_on_the_recording_alone(speech: np.ndarray, noise: np.ndarray) -> None:
    one = commands.mix(speech, noise, 6.0, "one")
    assert np.array_equal(one, commands.mix(speech, noise, 6.0, "one"))
    assert not np.array_equal(one, commands.mix(speech, noise, 6.0, "two"))


def test_the_longest_value_is_the_slot(grammar: Grammar) -> None:
    values = commands.values_of(grammar)

    def slots(text: str) -> dict[str, str]:
        return commands.spot(commands.normalised(text), values)

    assert slots("I want a medium roast iced coffee, with a bit of milk.") == {
        "roast": "medium roast", "drink": "iced coffee", "milk": "a bit of milk",
    }  # fmt: skip
    assert slots("a medium, medium roast coffee") == {
        "size": "medium", "roast": "medium roast", "drink": "coffee",
    }  # fmt: skip
    for spelling in ("12 oz", "12-ounce", "12oz", "twelve ounces"):
        assert slots(f"Make me a {spelling} coffee") == {"size": "twelve ounce", "drink": "coffee"}
    assert slots("good morning") == {}


def test_another_spelling_is_credited_and_another_word_is_not(grammar: Grammar) -> None:
    values = commands.values_of(grammar)
    spelled = commands.normalised("A medium-roasted ice coffee.")
    assert commands.spot(spelled, values) == {"roast": "medium roast", "drink": "iced coffee"}
    misheard = commands.normalised("a medium rose, ice copy")
    assert commands.spot(misheard, values) == {"size": "medium"}


def test_a_recording_is_accepted_if_every_slot_of_its_label_is_right() -> None:
    label = {"size": "medium", "drink": "coffee"}
    assert commands.accepted({"size": "medium", "drink": "coffee", "milk": "milk"}, label)
    assert not commands.accepted({"size": "medium"}, label)
    assert not commands.accepted({"size": "medium", "drink": "iced coffee"}, label)


def test_jsgf_says_the_same(grammar: Grammar) -> None:
    assert commands.jsgf(grammar).splitlines() == [
        "#JSGF V1.0;",
        "grammar commands;",
        "public <command> = "
        "( make me | i want ) ( a | an ) <size> [ <roast> ] <drink> with <milk>;",
        "<size> = medium | twelve ounce;",
        "<roast> = medium roast;",
        "<drink> = coffee | iced coffee;",
        "<milk> = milk | a bit of milk;",
    ]


def test_a_run_is_journalled_and_goes_on(
    digits_bundle: pathlib.Path, speech: np.ndarray, noise: np.ndarray, tmp_path: pathlib.Path
) -> None:
    """With a bundle that hears digits: nothing is accepted, and it takes a moment."""
    data = tmp_path / "data"
    for name in ("audio", "noise"):
        (data / name).mkdir(parents=True)
    for name in ("a", "b"):
        soundfile.write(data / "audio" / f"{name}.flac", speech, 16_000)
    soundfile.write(data / "noise" / "kitchen.flac", noise, 16_000)
    (data / "grammar.yaml").write_text(FLAT)
    label = {"intent": "order", "slots": {"drink": " coffee"}}
    (data / "labels.json").write_text(json.dumps({"a": label, "b": label}))
    out = tmp_path / "out.json"
    arguments = (
        f"--data={data}", f"--bundle={digits_bundle}", "--engines=free", "--conditions=clean,6",
        f"--json={out}", f"--not_commands={data / 'audio'}",
    )  # fmt: skip
    done = run_module("benchmarks.commands", *arguments)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())["engines"]["free"]
    first = figures["conditions"]["clean"]
    assert first["accepted"] == 0 and first["count"] == 2 and 0 < first["rtf"] < 1
    assert first["recordings"][0]["label"] == {"drink": "coffee"}
    assert figures["not_commands"]["order"] == 0
    assert all(found["order"] == 0 for found in figures["noise"].values())
    assert figures["bytes"] == sum(x.stat().st_size for x in digits_bundle.iterdir())
    journals = sorted((tmp_path / "out.journal").glob("*.jsonl"))
    before = [x.read_text() for x in journals]
    assert len(journals) == 5
    assert "lacks coffee" in done.stdout  # of a text that is refused
    assert run_module("benchmarks.commands", *arguments).returncode == 0
    assert [x.read_text() for x in journals] == before

    # A line that a killed run left half-written is measured again.
    kept, _ = before[0].splitlines()
    journals[0].write_text(f'{kept}\n{{"name": "b", "te')
    again = run_module("benchmarks.commands", *arguments)
    assert again.returncode == 0, again.stderr
    first, second = map(json.loads, journals[0].read_text().splitlines())
    assert first == json.loads(kept) and second["name"] == "b"

    nowhere = run_module(
        "benchmarks.commands", *arguments[:-1], f"--not_commands={data / 'noise2'}"
    )
    assert nowhere.returncode == 1
    assert "noise2 holds no FLAC file" in nowhere.stderr


def test_memory_is_that_of_the_engine_alone(digits_bundle: pathlib.Path) -> None:
    ours = np.ones(400 << 20, np.uint8)
    engine = commands.start("free", str(digits_bundle), "", pathlib.Path())
    engine.close()
    assert 10 << 20 < engine.hello["peak_memory"] < len(ours)


def test_a_missing_benchmark_is_one_sentence(tmp_path: pathlib.Path) -> None:
    done = run_module("benchmarks.commands", f"--data={tmp_path}", f"--json={tmp_path / 'x.json'}")
    assert done.returncode == 1
    assert f"{tmp_path / 'labels.json'} does not exist" in done.stderr
    assert (REPOSITORY / "benchmarks" / "peers" / "requirements.txt").is_file()
