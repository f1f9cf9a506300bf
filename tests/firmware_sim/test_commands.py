"""A recogniser held to a grammar: its commands, and what the tools print of them."""

import functools
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle
from firmware_sim.recognizer import Recognizer
from firmware_sim.search.options import Decoding, DecodingOptions
from firmware_sim.sound import segment
from firmware_sim.sound.frontend import sample_count
from tests.conftest import REPOSITORY, add_grammar, digit_grammar, pipe_module, synthesise

SAID = {
    "one nine four": "en+f2",
    "two two eight": "en-us+m3",
    "five six seven": "en-gb-scotland+m1",
    "zero four zero": "en-us+f3",
}


@pytest.fixture(scope="module")
def spoken() -> dict[str, NDArray[np.int16]]:
    return {text: synthesise(text, speaker) for text, speaker in SAID.items()}


@pytest.mark.parametrize("decoding", ["greedy", "beam"])
def test_a_held_text_is_always_of_the_grammar(
    held_bundle: pathlib.Path, spoken: dict[str, NDArray[np.int16]], decoding: str
) -> None:
    options = DecodingOptions(decoding=decoding, ctc_weight=0.1)  # type: ignore[arg-type]
    recognizer = Recognizer(bundle.load(held_bundle), options=options)
    right = 0
    for text, audio in spoken.items():
        for pieces in (audio, np.concatenate([audio, audio]), audio[: len(audio) // 2]):
            found = recognizer.transcribe(pieces)
            if found.text:
                assert values_of(found.commands), found.text
                assert found.text == " ".join(command.text for command in found.commands)
        heard = recognizer.transcribe(audio)
        right += heard.text == text
        assert len(heard.text.split()) in (0, 3, 4)
    assert right >= 3


def values_of(commands: tuple[Any, ...]) -> list[dict[str, str]]:
    return [command.slots for command in commands]


def test_a_command_has_slots_confidence_and_times(
    held_bundle: pathlib.Path, spoken: dict[str, NDArray[np.int16]]
) -> None:
    options = DecodingOptions(decoding=Decoding.BEAM, ctc_weight=0.1)
    recognizer = Recognizer(bundle.load(held_bundle), options=options)
    audio = spoken["five six seven"]
    late = np.concatenate([np.zeros(16_000, np.int16), audio, np.zeros(8_000, np.int16)])
    (command,) = recognizer.transcribe(late).commands
    assert command.intent == "call"
    assert command.slots == {"first": "five", "second": "six", "third": "seven"}
    assert 0.3 <= command.confidence <= 1
    assert set(command.slot_confidence) == set(command.slots)
    assert all(0 < x <= command.confidence + 1e-9 for x in command.slot_confidence.values())
    loud = np.flatnonzero(np.abs(late.astype(np.int32)) > 1_000) / 16_000
    assert command.start == pytest.approx(loud[0], abs=0.25)
    assert command.end == pytest.approx(loud[-1], abs=0.35)


def test_speech_of_another_kind_is_no_command(
    digits_bundle: pathlib.Path, grammar_content: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    """Five digits are none of the commands; the free text says what was heard."""
    add_grammar(digits_bundle, tmp_path / "strict", {**grammar_content, "reject_below": 0.9})
    audio = synthesise("nine eight four zero six", "en-us+m3")
    heard = Recognizer(bundle.load(tmp_path / "strict")).transcribe(audio)
    assert heard.commands == () and heard.text == ""
    (segment,) = heard.segments
    assert segment.free_text is not None and len(segment.free_text) > 10


_transcribe = functools.partial(pipe_module, "firmware_sim.transcribe")


def objects(*arguments: object) -> list[dict[str, Any]]:
    done = _transcribe("--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_has_a_line_for_each_command(
    held_bundle: pathlib.Path, spoken: dict[str, NDArray[np.int16]], tmp_path: pathlib.Path
) -> None:
    one, two, none = (tmp_path / name for name in ("one.wav", "two.wav", "none.wav"))
    gap = np.zeros(5_000, np.int16)
    soundfile.write(one, spoken["five six seven"], 16_000)
    soundfile.write(
        two, np.concatenate([spoken["two two eight"], gap, spoken["five six seven"]]), 16_000
    )
    soundfile.write(none, np.zeros(16_000, np.int16), 16_000)
    lines = objects(f"--bundle={held_bundle}", one, two, none)
    assert [line["audio"] for line in lines] == [str(x) for x in (one, two, two, none)]
    assert [line["text"] for line in lines] == [
        "five six seven", "two two eight", "five six seven", "",
    ]  # fmt: skip
    assert lines[1]["end"] <= lines[2]["start"]
    assert lines[0]["slots"] == {"first": "five", "second": "six", "third": "seven"}
    assert lines[3]["intent"] is None and lines[3]["slots"] == {}
    for line in lines:
        assert list(line) == [
            "audio", "text", "intent", "slots", "confidence", "slot_confidence", "start", "end",
        ]  # fmt: skip


def test_json_of_a_bundle_without_a_grammar_and_of_free_decoding(
    held_bundle: pathlib.Path,
    digits_bundle: pathlib.Path,
    spoken: dict[str, NDArray[np.int16]],
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "one.wav"
    soundfile.write(file, spoken["five six seven"], 16_000)
    (plain,) = objects(f"--bundle={digits_bundle}", file)
    (free,) = objects(f"--bundle={held_bundle}", "--nogrammar", file)
    assert plain == free
    assert plain["text"] == "five six seven" and plain["intent"] is None


def test_listening_gives_commands_too(
    held_bundle: pathlib.Path, spoken: dict[str, NDArray[np.int16]], tmp_path: pathlib.Path
) -> None:
    file, quiet = tmp_path / "stream.wav", np.zeros(20_000, np.int16)
    parts = [quiet, spoken["two two eight"], quiet, spoken["five six seven"], quiet]
    soundfile.write(file, np.concatenate(parts), 16_000)
    done = pipe_module("firmware_sim.listen", f"--bundle={held_bundle}", "--json", file)
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in heard] == ["two two eight", "five six seven"]
    for line in heard:
        (command,) = line["commands"]
        assert command["text"] == line["text"] and command["intent"] == "call"
        # Both in seconds of the stream.
        assert abs(command["start"] - line["start"]) < 0.4
        assert abs(command["end"] - line["end"]) < 0.4


@pytest.fixture
def of_any_digits(digits_bundle: pathlib.Path, tmp_path: pathlib.Path) -> Recognizer:
    more = "($digit:d ($digit:e ($digit:f ($digit:g ($digit:h)))))"
    content = digit_grammar(tmp_path / "any.yaml", f'any: ["$digit:a $digit:b {more}"]', 0.1)
    return Recognizer(bundle.load(add_grammar(digits_bundle, tmp_path / "any", content)))


def test_a_command_that_a_cut_went_through_is_heard(
    of_any_digits: Recognizer, spoken: dict[str, NDArray[np.int16]]
) -> None:
    """Loud noise all along: where the pauses are cannot be seen."""
    recognizer = of_any_digits
    window = sample_count(recognizer.bundle.limits.frames)
    audio, begin = spoken["five six seven"], 47_000
    noise = np.random.default_rng(2).normal(0, 0.1 * np.abs(audio).max(), window + 40_000)
    noise[begin : begin + len(audio)] += audio
    samples = np.clip(noise, -32_768, 32_767).astype(np.int16)
    (_, cut), _ = segment.split(samples, window)
    assert begin + 3_000 < cut < begin + len(audio) - 3_000
    (heard,) = recognizer.transcribe(samples).segments
    assert heard.start < begin and begin + len(audio) < heard.end
    assert heard.free_text is not None and "five six seven" in heard.free_text


def test_noise_after_a_command_is_no_command(
    of_any_digits: Recognizer, spoken: dict[str, NDArray[np.int16]]
) -> None:
    window = sample_count(of_any_digits.bundle.limits.frames)
    audio = spoken["five six seven"]
    noise = np.random.default_rng(1).normal(0, 0.02 * np.abs(audio).max(), window + 5_000)
    noise[: len(audio)] += audio
    samples = np.clip(noise, -32_768, 32_767).astype(np.int16)
    _, (start, end) = segment.split(samples, window)
    assert start > len(audio)
    assert of_any_digits.transcribe(samples[start:end]).commands  # alone it seems to be one
    assert of_any_digits.transcribe(samples).text == "five six seven"


def test_the_shipped_barista_takes_orders() -> None:
    loaded = bundle.load(REPOSITORY / "pretrained" / "barista")
    options = DecodingOptions(Decoding.BEAM, ctc_weight=None)
    recognizer = Recognizer(loaded, options=options)
    (order,) = recognizer.transcribe(
        synthesise("give me a large latte with soy milk", "en-us+m3")
    ).commands
    assert order.intent == "orderDrink"
    assert order.slots == {"size": "large", "coffeeDrink": "latte", "milkAmount": "soy milk"}
    other = synthesise("what is the weather like in paris today", "en-us+m3")
    assert recognizer.transcribe(other).commands == ()
