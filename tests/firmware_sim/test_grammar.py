"""A bundle with a grammar: what may follow, what a text means, decoding held to it, its results."""

import functools
import hashlib
import itertools
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from firmware_sim import bundle, decoder, grammar
from firmware_sim.bundle import BundleError
from firmware_sim.decoder import DecodingOptions
from firmware_sim.grammar import Command, Grammar, GrammarError
from firmware_sim.recognizer import Recognizer
from tests.conftest import pipe_module, synthesise
from tf_speech_transformer import grammar as training_grammar
from tf_speech_transformer.tokenizer import CharacterTokenizer

DIGITS = """context:
  expressions:
    call: ["$d:first $d:second $d:third"]
    code: ["$pair:pair $d:last $d:check"]
  slots:
    d: [zero, one, two, three, four, five, six, seven, eight, nine]
    pair: ["one two", "two one"]
"""


def compiled(text: str, tmp_path: pathlib.Path, reject_below: float = 0.3) -> dict[str, Any]:
    path = tmp_path / "digits.yaml"
    path.write_text(text)
    read = training_grammar.Grammar.read(path)
    return read.compile(CharacterTokenizer(), reject_below)


def add_grammar(source: pathlib.Path, target: pathlib.Path, content: dict[str, Any]) -> None:
    """A copy of a bundle that carries a grammar."""
    shutil.copytree(source, target)
    data = json.dumps(content).encode()
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["grammar"] = {"file": "grammar.json"}
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest["files"]["grammar.json"] = entry
    (target / "grammar.json").write_bytes(data)
    (target / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(DIGITS, tmp_path_factory.mktemp("grammar"))


@pytest.fixture(scope="module")
def path(
    digits_bundle: pathlib.Path,
    content: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    target = tmp_path_factory.mktemp("bundles") / "held"
    add_grammar(digits_bundle, target, content)
    return target


@pytest.fixture(scope="module")
def loaded(path: pathlib.Path) -> Grammar:
    found = bundle.load(path).grammar
    assert found is not None
    return found


def follow(loaded: Grammar, text: str) -> grammar.States:
    states = loaded.first
    for token in CharacterTokenizer().encode(text):
        assert states and token in loaded.allowed(states), text
        states = loaded.follow(states, token)
    return states


def test_what_may_follow(loaded: Grammar) -> None:
    tokens = CharacterTokenizer().tokens()

    def letters(text: str) -> str:
        return "".join(sorted(tokens[i] for i in loaded.allowed(follow(loaded, text))))

    assert letters("") == "efnostz"
    assert letters("t") == "hw"
    assert letters("five six") == "<space>"
    assert letters("one two nine") == "<space>"  # of a code, or to the next command
    assert loaded.may_end(follow(loaded, "one two nine"))
    assert not loaded.may_end(follow(loaded, "five six"))
    assert loaded.follow(follow(loaded, "five"), CharacterTokenizer().encode("x")[0]) == frozenset()
    assert loaded.may_end(follow(loaded, "five six seven one two eight nine"))


def values(loaded: Grammar, text: str) -> list[tuple[str, dict[str, str]]]:
    ids = CharacterTokenizer().encode(text)
    decode = CharacterTokenizer().decode
    return [
        (x.intent, {name: decode([ids[i] for i in places]) for name, places in x.slots.items()})
        for x in loaded.parse(ids)
    ]


def test_what_a_text_means(loaded: Grammar) -> None:
    call = ("call", {"first": "five", "second": "six", "third": "seven"})
    code = ("code", {"pair": "two one", "last": "eight", "check": "nine"})
    assert values(loaded, "five six seven") == [call]
    assert values(loaded, "two one eight nine") == [code]
    assert values(loaded, "five six seven two one eight nine five six seven") == [call, code, call]
    for text in ("five six", "two one eight nine five", "six one eight nine"):
        assert values(loaded, text) == []


def test_commands_know_their_tokens(loaded: Grammar) -> None:
    text = "five six seven two one eight nine"
    first, second = loaded.parse(CharacterTokenizer().encode(text))
    assert first == Command(
        "call",
        0,
        len("five six seven"),
        {
            "first": tuple(range(4)),
            "second": tuple(range(4, 8)),  # with the space before
            "third": tuple(range(8, 14)),
        },
    )
    assert text[second.first : second.last] == "two one eight nine"


def test_a_bundle_without_a_grammar_has_none(digits_bundle: pathlib.Path) -> None:
    assert bundle.load(digits_bundle).grammar is None


def broken(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    arcs, last = content["arcs"], content["states"] - 1
    (final, intent), *_ = content["finals"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"version": 2}, "version is 2, this program reads 1"),
        ({"states": 0}, "states is 0"),
        ({"arcs": [*arcs, [0, 99, 1, -1]]}, "token of the arc"),
        ({"arcs": [*arcs, [0, 3, last + 1, -1]]}, "state of the arc"),
        ({"arcs": [*arcs, [0, 3, 1, 9]]}, "slot of the arc"),
        ({"arcs": [*arcs, arcs[0]]}, "two arcs from state 0"),
        ({"arcs": [*arcs, [1, 3, 0, -1]]}, "a circle leads through state"),
        ({"arcs": [*arcs, [0, 3, last + 1, -1]], "states": last + 2}, "no command ends after"),
        ({"finals": []}, "no command ends after"),
        ({"finals": [[final, intent + 9]]}, "intent of a final state"),
        ({"finals": [[0, 0]]}, "a command may be empty"),
        ({"between": [2, 2]}, "between is"),
        ({"reject_below": 7}, "reject_below is 7"),
        ({"slots": [1]}, "slots holds something else than names"),
        ({"arcs": None}, "missing or of the wrong type"),
    ]
    for change, complaint in changes:
        yield {**content, **change}, complaint


def test_a_grammar_that_does_not_fit_is_refused(content: dict[str, Any]) -> None:
    for changed, complaint in broken(content):
        with pytest.raises(GrammarError, match=complaint):
            grammar.load(json.dumps(changed).encode(), 31)
    with pytest.raises(GrammarError, match="not valid JSON"):
        grammar.load(b"{", 31)


def test_a_bundle_with_a_bad_grammar_is_one_sentence(
    digits_bundle: pathlib.Path, content: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    add_grammar(digits_bundle, tmp_path / "bad", {**content, "finals": []})
    with pytest.raises(BundleError, match=r"grammar\.json: no command ends after state .*; copy"):
        bundle.load(tmp_path / "bad")


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
    path: pathlib.Path, spoken: dict[str, NDArray[np.int16]], decoding: str
) -> None:
    options = DecodingOptions(decoding=decoding, ctc_weight=0.1)  # type: ignore[arg-type]
    recognizer = Recognizer(bundle.load(path), options=options)
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
    path: pathlib.Path, spoken: dict[str, NDArray[np.int16]]
) -> None:
    options = DecodingOptions(decoding=decoder.Decoding.BEAM, ctc_weight=0.1)
    recognizer = Recognizer(bundle.load(path), options=options)
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
    digits_bundle: pathlib.Path, content: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    """Five digits are none of the commands; the free text says what was heard."""
    add_grammar(digits_bundle, tmp_path / "strict", {**content, "reject_below": 0.9})
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
    path: pathlib.Path, spoken: dict[str, NDArray[np.int16]], tmp_path: pathlib.Path
) -> None:
    one, two, none = (tmp_path / name for name in ("one.wav", "two.wav", "none.wav"))
    gap = np.zeros(5_000, np.int16)
    soundfile.write(one, spoken["five six seven"], 16_000)
    soundfile.write(
        two, np.concatenate([spoken["two two eight"], gap, spoken["five six seven"]]), 16_000
    )
    soundfile.write(none, np.zeros(16_000, np.int16), 16_000)
    lines = objects(f"--bundle={path}", one, two, none)
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
    path: pathlib.Path,
    digits_bundle: pathlib.Path,
    spoken: dict[str, NDArray[np.int16]],
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "one.wav"
    soundfile.write(file, spoken["five six seven"], 16_000)
    (plain,) = objects(f"--bundle={digits_bundle}", file)
    (free,) = objects(f"--bundle={path}", "--nogrammar", file)
    assert plain == free
    assert plain["text"] == "five six seven" and plain["intent"] is None


@pytest.mark.parametrize("tokens", [(), (0,), (0, 1), (1, 1)])
def test_ctc_alignment_is_the_likeliest_path(tokens: tuple[int, ...]) -> None:
    blank, frames = 2, 5
    logits = np.random.default_rng(7).normal(size=(frames, 3)).astype(np.float32)
    log_probabilities = decoder.log_softmax(logits)
    best, spans = -np.inf, [[0, 0]] * len(tokens)
    for path in itertools.product(range(3), repeat=frames):
        runs = [(t, [i for i, _ in run]) for t, run in _runs(path) if t != blank]
        if tuple(t for t, _ in runs) == tokens:
            score = float(log_probabilities[range(frames), path].sum())
            if score > best:
                best, spans = score, [[places[0], places[-1] + 1] for _, places in runs]
    assert decoder.ctc_align(log_probabilities, tokens, blank).tolist() == spans


def _runs(path: tuple[int, ...]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    for token, run in itertools.groupby(enumerate(path), key=lambda item: item[1]):
        yield token, list(run)


def test_a_text_that_does_not_fit_has_no_alignment() -> None:
    log_probabilities = np.log(np.full((2, 3), 1 / 3, np.float32))
    assert decoder.ctc_align(log_probabilities, (0, 0), 2).tolist() == [[0, 0], [0, 0]]


def test_listening_gives_commands_too(
    path: pathlib.Path, spoken: dict[str, NDArray[np.int16]], tmp_path: pathlib.Path
) -> None:
    file, quiet = tmp_path / "stream.wav", np.zeros(20_000, np.int16)
    parts = [quiet, spoken["two two eight"], quiet, spoken["five six seven"], quiet]
    soundfile.write(file, np.concatenate(parts), 16_000)
    done = pipe_module("firmware_sim.listen", f"--bundle={path}", "--json", file)
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in heard] == ["two two eight", "five six seven"]
    for line in heard:
        (command,) = line["commands"]
        assert command["text"] == line["text"] and command["intent"] == "call"
        # Both in seconds of the stream.
        assert abs(command["start"] - line["start"]) < 0.4
        assert abs(command["end"] - line["end"]) < 0.4
