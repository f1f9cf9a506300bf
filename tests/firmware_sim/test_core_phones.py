"""The C core with grammars over phones, and grammars that change at run time, against Python."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim import bundle, export_c
from firmware_sim.c import block
from firmware_sim.c.signature import ExportError
from firmware_sim.grammar import automaton
from firmware_sim.grammar.automaton import Grammar
from firmware_sim.grammar.phones import PHONES
from firmware_sim.grammar.pronunciation import Pronunciations
from firmware_sim.grammar.templates import Templates
from firmware_sim.runtimes import runtime
from firmware_sim.search import first_pass
from firmware_sim.search.first_pass import PhoneSearch
from firmware_sim.web import phrases
from tests.conftest import synthesise
from tests.firmware_sim import compiler, core

SECOND = 16000
BLANK = len(PHONES)
LISTS = {
    "level": {"range": {"from": 10, "to": 90, "step": 5}},
    "state": {"values": [{"in": "(closed|shut)", "out": "off"}, {"in": "open", "out": "on"}]},
    "room": {"values": ["kitchen", "hall", "living room"]},
}
HOME = {
    "Dim": "[please] {room} [lights] to {level}",
    "Ask": "(is|are) [the] {room} {state}",
    "Say": "(tomato|two|too)",
}
SHOP = {"Buy": "buy (two|three) (tomatoes|cats)"}
SAID = ("living room to seventy five", "is the hall shut", "two", "tomato")
Encoder = Callable[[bool, runtime.Tensors], runtime.Tensors | None]


@pytest.fixture(scope="module")
def pronunciations() -> Pronunciations:
    return Pronunciations.load()


def compiled(sentences: dict[str, str], pronunciations: Pronunciations) -> Grammar:
    intents = {name: {"data": [{"sentences": [text]}]} for name, text in sentences.items()}
    grammar = Templates({"intents": intents, "lists": LISTS}, "test").grammar()
    return automaton.build(grammar.compile_phones(pronunciations.of), BLANK, ())


@pytest.fixture(scope="module")
def general(loaded: bundle.Bundle) -> bundle.Bundle:
    return compiler.general(loaded)


@pytest.fixture(scope="module")
def home(general: bundle.Bundle, pronunciations: Pronunciations) -> bundle.Bundle:
    return dataclasses.replace(general, grammar=compiled(HOME, pronunciations))


def noise(frames: int, seed: int, width: float = 14.0) -> NDArray[np.int8]:
    chance = np.random.default_rng(seed)
    return np.clip(chance.normal(-40, width, (frames, BLANK + 1)), -128, 127).astype(np.int8)


def heard(text: str, frames: int, seed: int, pronunciations: Pronunciations) -> NDArray[np.int8]:
    """Logits of phones: a text after some quiet, more or less clearly."""
    chance = np.random.default_rng(seed)
    phones = [x for word in text.split() for x in pronunciations.of(word)[0]]
    path = [BLANK]
    for phone in phones:
        path += [BLANK, phone] if phone == path[-1] else [phone]
    path = (path + [BLANK] * frames)[:frames]
    logits = noise(frames, seed).astype(np.int64)
    logits[np.arange(frames), path] += chance.integers(40, 100)
    return np.clip(logits, -128, 127).astype(np.int8)


@pytest.fixture(scope="module")
def encoder(
    general: bundle.Bundle, loaded: bundle.Bundle, pronunciations: Pronunciations
) -> Encoder:
    """The models of digits; what phones the encoder hears depends on its features."""
    models = core.remembered(loaded, "litert")
    frames = general.limits.memory_frames
    numbers: dict[bytes, int] = {}

    def invoke(is_encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs = models(is_encoder, inputs)
        if not is_encoder or outputs is None:
            return outputs
        # By order: what espeak-ng says, and so the features, depends on what it said before.
        number = numbers.setdefault(inputs["features"].tobytes(), len(numbers))
        first, second = SAID[number % len(SAID)], SAID[number // len(SAID) % len(SAID)]
        text = f"{first} {second}" if number % 3 else f"cats {second} wow"
        return {**outputs, "phone_logits": heard(text, frames, number, pronunciations)[None]}

    return invoke


@pytest.fixture(scope="module")
def audio() -> NDArray[np.int16]:
    """Speech with pauses, in which early texts come."""
    chance = np.random.default_rng(0)
    words = synthesise("one two three four", "en-us+m3"), synthesise("nine eight seven", "en+f2")
    parts: list[NDArray[np.int16]] = []
    for i in range(8):
        quiet = chance.normal(0, 4, 24000 + 1000 * i)
        parts += [np.rint(quiet).astype(np.int16), *words[: 1 + i % 2]]
    return np.concatenate([*parts, np.zeros(2 * SECOND, np.int16)])


def utterances(events: list[core.Event]) -> list[list[core.Event]]:
    """Events of each utterance."""
    groups: list[list[core.Event]] = []
    for event in events:
        if event.kind == "speech_began":
            groups.append([])
        groups[-1].append(event)
    return groups


def test_commands_over_phones_are_those_of_python(
    core_library: pathlib.Path,
    home: bundle.Bundle,
    encoder: Encoder,
    audio: NDArray[np.int16],
) -> None:
    expected = core.reference(home, encoder, audio, True)
    kinds = collections.Counter(event.kind for event in expected)
    assert kinds["command"] > kinds["speech_ended"] / 2  # two in a row, too
    assert kinds["rejected"] and kinds["early_text"] > 4
    values = {value for event in expected for value, _ in event.slots.values()}
    assert {"75", "off", "living room"} <= values  # as they are written
    recognizer = core.Recognizer(
        core_library, core.block_of(home), core.Models(home, encoder), early=True
    )
    core.assert_same_events(recognizer.hear(audio), expected)
    assert recognizer.is_intact
    said = {text for event in recognizer.said for text in event.values()}
    assert {"seventy five", "shut", "living room"} <= said


def test_sentences_are_those_of_python_where_nothing_can_be_told_apart(
    core_library: pathlib.Path,
    home: bundle.Bundle,
    general: bundle.Bundle,
    pronunciations: Pronunciations,
    audio: NDArray[np.int16],
) -> None:
    """Equal logits; logits of few values, whose sums are often equal; any logits."""
    shape = general.limits.memory_frames, BLANK + 1
    chance = np.random.default_rng(3)
    cases = [np.full(shape, x, np.int8) for x in (-128, 127)]
    cases += [chance.integers(-1, 2, shape).astype(np.int8) for _ in range(6)]
    cases += [chance.integers(-128, 128, shape).astype(np.int8) for _ in range(3)]
    cases += [heard(f"{SAID[0]} {SAID[i]}", shape[0], i, pronunciations) // 3 for i in range(4)]
    assert home.grammar is not None
    least = dataclasses.replace(home.grammar, reject_below=0.0)
    loose = dataclasses.replace(home, grammar=least)
    for number, logits in enumerate(cases):
        outputs = {x.name: np.zeros(x.shape, np.int8) for x in loose.encoder.outputs}
        outputs["phone_logits"] = logits[None]
        invoke = functools.partial(lambda found, *_: found, outputs)
        models = core.Models(loose, invoke)
        recognizer = core.Recognizer(core_library, core.block_of(loose), models)
        events = recognizer.transcribe(audio[:60_000])
        python = core.python_recognizer(loose, invoke)
        found = python.transcribe(audio[:60_000])
        assert [x.text for x in events if x.kind == "command"] == [x.text for x in found.commands]
        assert len(found.commands) > 0 or number > 7
        for event, command in zip(events, found.commands, strict=False):
            assert event.start == round(command.start * SECOND)
            assert event.end == round(command.end * SECOND)
            assert event.confidence == pytest.approx(command.confidence, abs=0.001)
            for name, (value, confidence) in event.slots.items():
                assert value == command.slots[name]
                assert confidence == pytest.approx(command.slot_confidence[name], abs=0.001)


def test_a_search_keeps_no_more_than_it_has_room_for(
    home: bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_pass, "TOKENS", 7)
    assert home.grammar is not None
    search = PhoneSearch(home.grammar, BLANK, compiler.PHONE_SCALE)
    for logits in (noise(60, 1), np.zeros((60, BLANK + 1), np.int8)):
        search.sentences(logits)
    scores = np.array([5.0] * 9 + [1.0])
    assert list(np.flatnonzero(first_pass._likely(scores, 100))) == list(range(7))
    scores = np.array([9.0, 5.0, 7.0] + [5.0] * 6)
    assert list(np.flatnonzero(first_pass._likely(scores, 100))) == [0, 2]


def test_the_grammar_changes_while_a_stream_goes_on(
    core_library: pathlib.Path,
    general: bundle.Bundle,
    home: bundle.Bundle,
    held: bundle.Bundle,
    encoder: Encoder,
    pronunciations: Pronunciations,
    audio: NDArray[np.int16],
) -> None:
    """Of a general model, from its own text to a grammar, to another, and back."""
    shop = dataclasses.replace(general, grammar=compiled(SHOP, pronunciations))
    assert home.grammar is not None and shop.grammar is not None and held.grammar is not None
    grammars = [block.grammar_block(x.grammar, general) for x in (home, shop) if x.grammar]
    recognizer = core.Recognizer(
        core_library, core.block_of(general), core.Models(general, encoder), grammar=grammars[0]
    )
    expected = [utterances(core.reference(x, encoder, audio, False)) for x in (general, home, shop)]
    assert len(expected[0]) > 5
    found: list[core.Event] = []
    wanted: list[core.Event] = []
    begin = 0
    for number, utterance in enumerate(expected[0]):
        chosen = (0, 1, 2, 1)[number % 4]
        recognizer.use(grammars[chosen - 1] if chosen else None)
        end = utterance[0].end + 4 * SECOND  # in the pause after it, or later in the last one
        if number + 1 < len(expected[0]):
            end = expected[0][number + 1][0].start - SECOND // 4
        found += recognizer.go_on(audio[begin:end])
        wanted += expected[chosen][number]
        begin = end
    core.assert_same_events(found, wanted)
    assert {event.kind for event in found} >= {"text", "command", "rejected"}
    assert recognizer.is_intact


def test_a_grammar_that_does_not_fit_is_refused_and_the_one_before_stays(
    core_library: pathlib.Path,
    general: bundle.Bundle,
    home: bundle.Bundle,
    loaded: bundle.Bundle,
    encoder: Encoder,
    audio: NDArray[np.int16],
) -> None:
    assert home.grammar is not None
    grammar = block.grammar_block(home.grammar, general)
    recognizer = core.Recognizer(core_library, core.block_of(home), core.Models(home, encoder))
    expected = list(recognizer.hear(audio[: 6 * SECOND]))
    for wrong in (b"", grammar[:40], grammar[:-8], core.block_of(general)):
        with pytest.raises(RuntimeError, match=str(core.BLOCK)):
            recognizer.use(wrong)
    assert recognizer.hear(audio[: 6 * SECOND]) == expected
    small = core.Recognizer(core_library, core.block_of(loaded), core.Models(loaded, encoder))
    with pytest.raises(RuntimeError, match=str(core.BLOCK)):
        small.use(grammar)  # its model hears no phones
    small = core.Recognizer(
        core_library, core.block_of(general), core.Models(general, encoder), beam=1
    )
    with pytest.raises(RuntimeError, match=str(core.MEMORY)):
        small.use(grammar)


def test_damaged_grammars_over_phones_do_no_harm_under_sanitizers(
    fuzz: pathlib.Path, home: bundle.Bundle, tmp_path: pathlib.Path
) -> None:
    core.fuzz(fuzz, core.block_of(home), tmp_path, 60)


def test_a_page_shows_samples_of_a_grammar_over_phones(home: bundle.Bundle) -> None:
    sentences, slots = phrases.samples(home, 20)
    assert len(sentences) > 10
    assert all(
        word in {"please", "is", "are", "the", "two", "too", "tomato", "to", "lights", "open"}
        or word in {"kitchen", "hall", "living", "room", "closed", "shut"}
        or word.isdigit()
        for sentence in sentences
        for word in sentence.split()
    )
    assert set(slots) == {"room", "level", "state"} and set(slots["state"]) == {"on", "off"}


def test_the_sources_of_a_general_model_are_refused(home: bundle.Bundle) -> None:
    with pytest.raises(ExportError, match="export its block"):
        export_c.export(home, np.zeros(SECOND, np.int16))


def test_fewer_records_than_paths_need_end_paths_and_nothing_else(
    core_library: pathlib.Path,
    home: bundle.Bundle,
    encoder: Encoder,
    audio: NDArray[np.int16],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block, "_RECORDS", 0.02)  # of a path: 40 in all
    content = core.block_of(home)
    recognizer = core.Recognizer(core_library, content, core.Models(home, encoder))
    kinds = {event.kind for event in recognizer.hear(audio)}
    assert kinds >= {"speech_began", "speech_ended"} and recognizer.is_intact
