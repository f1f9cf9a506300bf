"""The C core, from samples to events, against Python."""

import collections
import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle, export_c
from firmware_sim.c import block
from firmware_sim.c.third_party import ThirdParty
from firmware_sim.grammar import automaton
from firmware_sim.runtimes import runtime
from tests.conftest import synthesise
from tests.firmware_sim import core

SECOND = 16000
FIRMWARE = pathlib.Path(__file__).parent / "firmware"
Open = Callable[..., core.Recognizer]


@pytest.fixture(scope="module")
def invoke(loaded: bundle.Bundle) -> core.Invoke:
    return core.remembered(loaded, "litert")


@pytest.fixture(scope="module")
def opened(core_library: pathlib.Path, invoke: core.Invoke) -> Open:
    """Makes a recogniser of a bundle, with settings."""

    def make(chosen: bundle.Bundle, **settings: Any) -> core.Recognizer:
        models = core.Models(chosen, invoke)
        return core.Recognizer(core_library, core.block_of(chosen), models, **settings)

    return make


@pytest.fixture(scope="module")
def conversation() -> NDArray[np.int16]:
    """Digits with pauses, digits in noise, digits that no window holds, noise, and half a word."""
    noise = np.random.default_rng(0)

    def pause(seconds: float, level: float = 4.0) -> NDArray[np.int16]:
        return np.rint(noise.normal(0, level, round(seconds * SECOND))).astype(np.int16)

    five, nine = synthesise("five six seven", "en-us+m3"), synthesise("one two eight nine", "en+f2")
    long = np.concatenate([five, nine, five, nine, five])
    loud = pause(0.7, 3000.0)
    parts = [pause(1.2), five, pause(1.5), nine, pause(0.4, 30.0), five, pause(1.1), long]
    for level in (2000.0, 3000.0):  # of which another reading is nearly as likely
        unsure = synthesise("nine five nine", "en+f2") // 2
        parts += [pause(1.2), unsure + pause(len(unsure) / SECOND, level)]
    return np.concatenate([*parts, pause(1.3, 40.0), loud, pause(1.0), nine[:9000]])


@pytest.mark.parametrize("early", [False, True])
def test_texts_of_a_stream_are_those_of_python(
    early: bool,
    opened: Open,
    loaded: bundle.Bundle,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
) -> None:
    expected = core.reference(loaded, invoke, conversation, early)
    kinds = collections.Counter(event.kind for event in expected)
    assert kinds["text"] > kinds["speech_ended"] >= 4  # something was cut
    assert (kinds["early_text"] > 4) == early
    recognizer = opened(loaded, early=early)
    core.assert_same_events(recognizer.hear(conversation), expected)
    assert recognizer.is_intact


def test_commands_of_a_stream_are_those_of_python(
    opened: Open,
    held: bundle.Bundle,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
) -> None:
    expected = core.reference(held, invoke, conversation, True)
    kinds = collections.Counter(event.kind for event in expected)
    assert kinds["command"] > kinds["speech_ended"] / 2
    assert kinds["rejected"] and kinds["early_text"]
    # Slots of which other texts of the beam are not as sure as the command.
    assert any(
        confidence < 0.99 * event.confidence
        for event in expected
        if event.confidence is not None
        for _, confidence in event.slots.values()
    )
    recognizer = opened(held, early=True)
    core.assert_same_events(recognizer.hear(conversation), expected)


def test_a_whole_recording_gives_what_python_transcribes(
    opened: Open,
    loaded: bundle.Bundle,
    held: bundle.Bundle,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
) -> None:
    first = conversation[SECOND : SECOND + loaded.window]  # a window, to its last sample
    heard = 0
    for chosen in (loaded, held):
        recognizer = opened(chosen)
        python = core.python_recognizer(chosen, invoke)
        stream = recognizer.hear(first)
        for audio in (first, first[: 2 * SECOND + 77], conversation[:SECOND], first[:300]):
            expected = python.transcribe(audio)
            events = recognizer.transcribe(audio)
            assert [x.kind for x in events if x.kind != "rejected"] == (
                ["command"] * len(expected.commands) if chosen is held else ["text"]
            )
            texts = [x.text for x in events if x.kind != "rejected"]
            assert " ".join(texts) == expected.text
            heard += len(expected.text)
            for event, command in zip(events, expected.commands, strict=False):
                assert event.intent == command.intent
                assert {k: v for k, (v, _) in event.slots.items()} == command.slots
                assert event.start == round(command.start * SECOND)
        assert recognizer.hear(first) == stream  # it leaves nothing to the next stream
        with pytest.raises(RuntimeError, match=str(core.FRAMES)):
            recognizer.transcribe(conversation[: chosen.window + 1])
    assert heard > 30


def test_events_do_not_depend_on_the_blocks_of_audio(
    opened: Open,
    loaded: bundle.Bundle,
    conversation: NDArray[np.int16],
) -> None:
    recognizer = opened(loaded)
    audio = conversation[: 8 * SECOND]
    first = recognizer.hear(audio)  # a stream leaves nothing to the next
    assert len(first) > 3
    for size in (1, 37, 161, 4096, len(audio)):
        assert recognizer.hear(audio, size) == first


def test_recognisers_share_nothing(
    opened: Open,
    loaded: bundle.Bundle,
    held: bundle.Bundle,
    conversation: NDArray[np.int16],
) -> None:
    audio = conversation[: 6 * SECOND]
    pair = [opened(loaded), opened(held)]
    expected = [list(recognizer.hear(audio)) for recognizer in pair]
    for recognizer in pair:
        recognizer.events = []
    for start in range(0, len(audio), 500):
        for recognizer in pair:
            assert recognizer.feed(audio[start : start + 500]) == core.OK
    for recognizer in pair:
        recognizer.finish()
    assert [recognizer.events for recognizer in pair] == expected


def test_an_utterance_whose_model_fails_has_no_result_and_the_stream_goes_on(
    core_library: pathlib.Path,
    loaded: bundle.Bundle,
    content: bytes,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
) -> None:
    models = core.Models(loaded, invoke)
    recognizer = core.Recognizer(core_library, content, models)
    audio = conversation[: 6 * SECOND]
    expected = list(recognizer.hear(audio))
    assert [event.kind for event in expected[:3]] == ["speech_began", "speech_ended", "text"]
    for encoder, status in ((True, core.ENCODER), (False, core.DECODER_STEP)):
        recognizer.events, left = [], [None]

        def fail_once(x: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
            return left.pop() if x == encoder and left else invoke(x, inputs)  # noqa: B023

        models.invoke = fail_once
        assert recognizer.feed(audio) == status
        assert recognizer.finish() == core.OK
        assert recognizer.events == [*expected[:2], *expected[3:]]


def test_a_grammar_may_be_a_block_of_its_own(
    core_library: pathlib.Path,
    loaded: bundle.Bundle,
    held: bundle.Bundle,
    content: bytes,
    invoke: core.Invoke,
    opened: Open,
    conversation: NDArray[np.int16],
) -> None:
    assert held.grammar is not None
    grammar = block.grammar_block(held.grammar, held)
    models = core.Models(loaded, invoke)
    recognizer = core.Recognizer(core_library, content, models, grammar=grammar)
    audio = conversation[: 4 * SECOND]
    for used, chosen in ((None, loaded), (grammar, held), (None, loaded)):
        recognizer.use(used)
        assert recognizer.hear(audio) == opened(chosen).hear(audio)
    assert recognizer.is_intact


def test_a_grammar_of_many_states_has_wide_indices(
    opened: Open,
    loaded: bundle.Bundle,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
) -> None:
    """Its other commands begin with letters that are not spoken."""
    grammar = bundle.load(loaded.path).grammar
    assert grammar is None
    five = [loaded.tokenizer.tokens.index(x) for x in "five"]
    space = loaded.tokenizer.tokens.index("<space>")
    rest = [space, *(loaded.tokenizer.tokens.index(x) for x in "six")]
    rest += [space, *(loaded.tokenizer.tokens.index(x) for x in "seven")]
    spoken = [*five, *rest]
    arcs = [[i, token, i + 1, -1] for i, token in enumerate(spoken)]
    states, letters = len(spoken) + 1, [loaded.tokenizer.tokens.index(x) for x in "zxy"]
    front = [0]
    while states < 70_000:
        state = front.pop(0)
        for token in letters:
            arcs.append([state, token, states, -1])
            front.append(states)
            states += 1
    ends = [[len(spoken), 0], *([state, 0] for state in front)]
    data = {"version": 1, "name": "wide", "states": states, "start": 0, "intents": ["all"]}
    data |= {"slots": [], "arcs": arcs, "finals": ends, "between": [space], "reject_below": 0.1}
    wide = automaton.load(json.dumps(data).encode(), len(loaded.tokenizer.tokens), (0, 1, 30))
    held = dataclasses.replace(loaded, grammar=wide)
    audio = conversation[: 4 * SECOND]
    expected = core.reference(held, invoke, audio, False)
    assert [event.text for event in expected if event.kind == "command"] == ["five six seven"]
    recognizer = opened(held)
    core.assert_same_events(recognizer.hear(audio), expected)


def test_the_example_program_prints_the_events_under_sanitizers(
    third_party: ThirdParty,
    core_library: pathlib.Path,
    held: bundle.Bundle,
    invoke: core.Invoke,
    conversation: NDArray[np.int16],
    tmp_path: pathlib.Path,
) -> None:
    audio = conversation[: 9 * SECOND]
    runs: list[bytes] = []

    def record(encoder: bool, inputs: runtime.Tensors) -> runtime.Tensors | None:
        outputs, model = invoke(encoder, inputs), held.encoder if encoder else held.decoder_step
        assert outputs is not None
        runs.extend(outputs[spec.name].tobytes() for spec in model.outputs)
        return outputs

    recognizer = core.Recognizer(core_library, core.block_of(held), core.Models(held, record))
    expected = recognizer.hear(audio)
    assert {event.kind for event in expected} >= {"command", "rejected"}
    program = example(third_party, held, tmp_path)
    (tmp_path / "replay").write_bytes(b"".join(runs))
    soundfile.write(tmp_path / "a.wav", audio, SECOND)
    lines = core.run_command(program, tmp_path / "a.wav", cwd=tmp_path).splitlines()
    assert [line.split(" (")[0] for line in lines] == [printed(event) for event in expected]
    soundfile.write(tmp_path / "a.wav", audio, 8000)
    refused = subprocess.run([program, tmp_path / "a.wav"], cwd=tmp_path, capture_output=True)
    assert refused.returncode == 1
    assert refused.stderr == b"Name a WAV file of 16 kHz, mono, 16 bits.\n"


def printed(event: core.Event) -> str:
    """As the example program prints it, without the confidence."""
    words = [f"{event.start}-{event.end} {event.kind.replace('_', ' ')}"]
    if event.intent:
        words.append(f" {event.intent}")
    if event.text:
        words.append(f": {event.text}")
    return "".join([*words, *(f", {name}={value}" for name, (value, _) in event.slots.items())])


def example(third_party: ThirdParty, loaded: bundle.Bundle, out: pathlib.Path) -> pathlib.Path:
    """The exported example program, with models that replay a file."""
    exported = out / "c"
    export_c.write(export_c.export(loaded, synthesise("five six seven")), exported)
    flags = [
        "-std=c99",
        "-O1",
        *core.WARNINGS,
        *core.SANITIZERS,
        *core.includes(third_party),
        "-fPIC",
    ]
    objects = []
    for source in [*exported.glob("*.c"), FIRMWARE / "replay.c"]:
        objects.append(out / f"{source.name}.o")
        core.run_command("gcc", *flags, f"-I{exported}", "-c", source, "-o", objects[-1])
    others = core.compile_third_party(third_party, "gcc", "g++", "-fPIC")
    core.run_command("g++", *core.SANITIZERS, *objects, *others, "-o", out / "example")
    return out / "example"
