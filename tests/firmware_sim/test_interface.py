"""The public interface: `import firmware_sim`."""

import concurrent.futures
import doctest
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import firmware_sim
from firmware_sim import EventKind, recognizer
from tests.conftest import REPOSITORY, pipe_module, synthesise

TEXTS = {
    "digits": ["one two three", "nine eight seven six", "zero four five"],
    "barista": [
        "give me a large latte with soy milk",
        "what is the weather like in paris today",
        "i want an espresso",
    ],
}
VOICES = ["en-us+m3", "en-us+f2", "en-us+m1"]


def quiet(seconds: float) -> NDArray[np.int16]:
    return np.random.default_rng(0).normal(0, 3, int(seconds * 16000)).astype(np.int16)


@pytest.fixture(scope="module")
def barista() -> firmware_sim.Recognizer:
    return firmware_sim.load("barista")


@pytest.fixture(scope="module")
def digits() -> firmware_sim.Recognizer:
    return firmware_sim.load("digits")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[pathlib.Path]]:
    directory = tmp_path_factory.mktemp("recordings")
    paths: dict[str, list[pathlib.Path]] = {name: [] for name in TEXTS}
    for name, texts in TEXTS.items():
        for number, (text, voice) in enumerate(zip(texts, VOICES, strict=True)):
            paths[name].append(directory / f"{name}{number}.wav")
            soundfile.write(paths[name][-1], synthesise(text, voice), 16000)
    return paths


@pytest.mark.parametrize("name", list(TEXTS))
def test_a_loaded_bundle_transcribes_as_the_command_does(
    name: str, recordings: dict[str, list[pathlib.Path]]
) -> None:
    done = pipe_module("firmware_sim.transcribe", f"--bundle={name}", "--json", *recordings[name])
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, done.stdout.decode().splitlines()):
        lines.setdefault(line["audio"], []).append(line)
    loaded = firmware_sim.load(name)
    for path in recordings[name]:
        result, printed = loaded.transcribe(path), lines[str(path)]
        commands = [{"audio": str(path), **command.fields()} for command in result.commands]
        assert commands == [line for line in printed if line["intent"] is not None]
        if result.text:
            assert result.text == " ".join(line["text"] for line in printed)
            assert [round(x.confidence or 0.0, 4) for x in result.segments] == [
                line["confidence"] for line in printed
            ]
    assert any(loaded.transcribe(path).text for path in recordings[name])


def test_a_file_and_its_samples_give_the_same_text(
    digits: firmware_sim.Recognizer, recordings: dict[str, list[pathlib.Path]]
) -> None:
    path = recordings["digits"][0]
    samples, _ = soundfile.read(path, dtype="int16")
    texts = {digits.transcribe(x).text for x in (path, str(path), samples)}
    assert len(texts) == 1


def test_a_file_that_is_missing_is_one_sentence(digits: firmware_sim.Recognizer) -> None:
    with pytest.raises(firmware_sim.AudioError, match="no such file"):
        digits.transcribe("missing.wav")


def test_shipped_bundles_have_names_in_any_folder(tmp_path: pathlib.Path) -> None:
    program = "import firmware_sim; print(*firmware_sim.bundles()); firmware_sim.load('digits')"
    (tmp_path / "digits").mkdir()  # no bundle, so that the name means the shipped one
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("barista digits english\n", "")


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(firmware_sim.BundleError, match=r"'?tea.*barista, digits, english"):
        firmware_sim.load("tea")


def test_many_threads_get_the_texts_of_one(
    digits: firmware_sim.Recognizer, recordings: dict[str, list[pathlib.Path]]
) -> None:
    def transcribe(path: pathlib.Path) -> tuple[str, float]:
        result = digits.transcribe(path)
        return result.text, result.score

    paths = recordings["digits"] * 16
    expected = [transcribe(path) for path in recordings["digits"]] * 16
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(transcribe, paths)) == expected


def test_a_stream_gives_events_in_order(digits: firmware_sim.Recognizer) -> None:
    spoken = [synthesise(text, "en-us+m3") for text in ("one two three", "four five")]
    audio = np.concatenate([quiet(1), spoken[0], quiet(1.5), spoken[1], quiet(1.5)])
    blocks = np.array_split(audio, len(audio) // 500)
    events = list(digits.listen(blocks))
    kinds = [EventKind.SPEECH_BEGAN, EventKind.SPEECH_ENDED, EventKind.TEXT]
    assert [event.kind for event in events] == kinds * 2
    assert [event.text for event in events if event.text] == ["one two three", "four five"]
    first, second = events[:3], events[3:]
    assert first[0].start == pytest.approx(16000, abs=3000)
    for began, ended, text in (first, second):
        assert began.start == began.end == ended.start == text.start
        assert ended.end == text.end
        assert text.confidence is not None and 0 < text.confidence <= 1
    assert first[1].end == pytest.approx(16000 + len(spoken[0]), abs=5000)
    assert first[1].end < second[0].start


def test_early_texts_come_before_the_end(digits: firmware_sim.Recognizer) -> None:
    audio = np.concatenate([quiet(1), synthesise("one two three", "en-us+m3"), quiet(1.5)])
    *others, ended, text = digits.listen([audio], early=True)
    assert [event.kind for event in others[:1]] == [EventKind.SPEECH_BEGAN]
    assert {event.kind for event in others[1:]} == {EventKind.EARLY_TEXT}
    assert (ended.kind, text.kind) == (EventKind.SPEECH_ENDED, EventKind.TEXT)
    assert others[-1].text == text.text == "one two three"


def test_a_stream_of_commands_has_those_and_rejections(barista: firmware_sim.Recognizer) -> None:
    order, other = (synthesise(text, "en-us+m3") for text in TEXTS["barista"][:2])
    audio = np.concatenate([quiet(1), order, quiet(1.5), other, quiet(1.5)])
    events = [x for x in barista.listen([audio]) if x.kind is not EventKind.SPEECH_BEGAN]
    kinds = [event.kind for event in events]
    ended = EventKind.SPEECH_ENDED
    assert kinds == [ended, EventKind.COMMAND, ended, EventKind.REJECTED]
    command = events[1].command
    assert command is not None and command.intent == "orderDrink"
    assert events[1].text == command.text
    assert events[1].start == round(command.start * 16000)
    assert 16000 - 5000 < events[1].start < events[1].end < 16000 + len(order) + 5000
    assert events[3].command is None


def test_speech_beyond_the_window_ends_once(digits: firmware_sim.Recognizer) -> None:
    spoken = synthesise("one two three four five six seven eight nine", "en-us+m3")
    audio = np.concatenate([quiet(1), spoken, spoken, quiet(1.5)])
    kinds = [event.kind for event in digits.listen([audio])]
    assert kinds[0] is EventKind.SPEECH_BEGAN
    assert kinds[-2:] == [EventKind.SPEECH_ENDED, EventKind.TEXT]
    assert len(kinds) > 3 and set(kinds[1:-2]) == {EventKind.TEXT}


def test_silence_is_no_event(digits: firmware_sim.Recognizer) -> None:
    assert list(digits.listen([np.zeros(160, np.int16)] * 100)) == []


@pytest.mark.parametrize("module", [firmware_sim, recognizer])
def test_the_examples_of_docstrings_are_true(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_names_that_do_not_exist_are_attribute_errors() -> None:
    for name in firmware_sim.__all__:
        assert getattr(firmware_sim, name)
    with pytest.raises(AttributeError, match="tea"):
        _ = firmware_sim.tea
