"""Benchmarks count what they say they count."""

import itertools
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from benchmarks import ablations, listen, manifest, people, repeats, report, training, wer
from firmware_sim.listen import Utterance
from firmware_sim.search.results import Segment
from firmware_sim.sound.stream import Ending
from tests.conftest import run_module

RATE = 8000


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of ten digits by two speakers: tones, whose pitch tells the digit."""
    root = tmp_path_factory.mktemp("clips")
    rows = ["audio\tspeaker\ttext"]
    time = np.arange(RATE // 4) / RATE
    for speaker, amplitude in (("ann", 8000), ("ben", 4000)):
        for digit, word in enumerate(people.WORDS):
            name = f"{digit}_{speaker}.wav"
            tone = amplitude * np.sin(2 * np.pi * (500 + 200 * digit) * time)
            soundfile.write(root / name, tone.astype(np.int16), RATE)
            rows.append(f"{name}\t{speaker}\t{word}")
    (root / "transcripts.tsv").write_text("\n".join(rows) + "\n")
    return root


def test_sets_repeat_what_they_say_and_the_others_repeat_nothing(
    clips: Path, tmp_path: Path
) -> None:
    for name, draw in repeats.SETS.items():
        lines = manifest.read_manifest(people.write_joined(clips, tmp_path / name, 10, draw=draw))
        for line in lines:
            words = line.text.split()
            if name.startswith("long"):
                assert 10 <= len(words) <= repeats.LONG[1]
            pairs = list(itertools.pairwise(words))
            if name.endswith("distinct"):
                assert len(set(pairs)) == len(pairs)
            else:
                period = len(set(words))
                assert period <= 3 and len(words) >= 2 * period
                assert words == words[:period] * (len(words) // period)


def test_strings_are_joined_of_clips_of_one_speaker(clips: Path, tmp_path: Path) -> None:
    lines = manifest.read_manifest(people.write_joined(clips, tmp_path, 5))
    assert [line.speaker for line in lines] == ["ann"] * 5 + ["ben"] * 5
    for line in lines:
        samples, rate = soundfile.read(line.audio, dtype="int16")
        assert rate == RATE
        words = line.text.split()
        assert 3 <= len(words) <= 6
        loudest = {"ann": 8000, "ben": 4000}[line.speaker]
        assert 0.99 * loudest < np.abs(samples).max() <= loudest
        gaps = len(samples) / rate - 0.25 * len(words)
        assert 0.05 * (len(words) - 1) - 0.01 < gaps < 0.2 * (len(words) - 1)
        spectrum = np.abs(np.fft.rfft(samples[: RATE // 4]))
        pitch = np.argmax(spectrum) * 4
        assert people.WORDS[round((pitch - 500) / 200)] == words[0]


def test_a_tar_gives_the_strings_of_its_directory(clips: Path, tmp_path: Path) -> None:
    packed = tmp_path / "clips.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(clips, "clips")
    one = people.write_joined(clips, tmp_path / "a", 2)
    other = people.write_joined(packed, tmp_path / "b", 2)
    assert one.read_text() == other.read_text()
    for line in manifest.read_manifest(one):
        assert line.audio.read_bytes() == (other.parent / "audio" / line.audio.name).read_bytes()


def test_a_directory_without_transcripts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no transcripts\.tsv"):
        people.write_joined(tmp_path, tmp_path / "out", 1)
    with pytest.raises(ValueError, match="neither a directory nor a tar"):
        people.write_joined(tmp_path / "nowhere", tmp_path / "out", 1)


def rows(*texts: tuple[str, str]) -> list[dict[str, str]]:
    return [
        {"audio": f"somewhere/{i}.wav", "reference": said, "hypothesis": heard}
        for i, (said, heard) in enumerate(texts)
    ]


def test_word_errors_leave_out_what_is_named() -> None:
    results = rows(("one two", "one two"), ("three four", "eight"), ("five", "five"))
    assert wer.error_rate(results, set()) == pytest.approx(2 / 5)
    assert wer.error_rate(results, {"1.wav"}) == 0


def test_identical_counts_utterances_of_both() -> None:
    a = rows(("one", "one"), ("two", "to"), ("three", "three"))
    b = rows(("one", "one"), ("two", "two"))
    assert wer.identical(a, b) == (0.5, 2)


def test_confusions_tell_what_was_heard_for_what() -> None:
    counts = wer.confusions(rows(("six six", "eight six"), ("one", ""), ("two", "two nine")))
    assert counts["six"] == {"eight": 1, "six": 1}
    assert counts["one"] == {"": 1}
    assert counts[""] == {"nine": 1}
    shown = wer.confusion_table(counts).splitlines()
    assert len(shown) == 2 + len(people.WORDS) + 1


def test_tables_have_straight_columns() -> None:
    lines = report.table(["what", "n"], [["a", 1], ["longer", 1000]]).splitlines()
    assert lines == ["what       n", "------  ----", "a          1", "longer  1000"]


def run(script: str, **flags: Path | str) -> subprocess.CompletedProcess[str]:
    return run_module(f"benchmarks.{script}", *(f"--{k}={v}" for k, v in flags.items()))


FLAGS = {
    "size": ["int8", "float32"],
    "arena": ["bundle"],
    "parity": ["bundle", "manifests"],
    "wer": ["bundle", "out"],
    "ablations": ["runs", "manifest", "out"],
}


@pytest.mark.parametrize("script", ["size", "arena"])
def test_the_shipped_bundle_can_be_measured(script: str, digits_bundle: Path) -> None:
    done = run(script, **dict.fromkeys(FLAGS[script], digits_bundle))
    assert done.returncode == 0, done.stderr
    assert "encoder.tflite" in done.stdout
    assert "decoder_step.tflite" in done.stdout


def test_parity_counts_bytes_and_texts(digits_bundle: Path, clips: Path) -> None:
    done = run(
        "parity",
        bundle=digits_bundle,
        manifests=clips / "transcripts.tsv",
        count="2",
        runtimes="litert-reference",
    )
    assert done.returncode == 0, done.stderr
    cells = done.stdout.splitlines()[-1].split()
    assert cells[1:3] == ["litert-reference", "2"]
    assert cells[-5:] == ["0", "2", "of", "2", "yes"]


def test_rows_are_measured_in_all_forms_and_only_once(
    digits_bundle: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ablations.FORMS:
        shutil.copytree(digits_bundle, tmp_path / "runs" / "row" / form)
    out = tmp_path / "out" / "row"
    out.mkdir(parents=True)
    found = ablations.measure(tmp_path / "runs" / "row", clips / "transcripts.tsv", out, 2)
    # The bundle has no language model to search with.
    assert len(found) == len(ablations.FORMS) * (len(ablations.DECODINGS) - 1)
    assert not [title for title in found if title.endswith(ablations.LANGUAGE)]
    assert {figures["utterances"] for figures in found.values()} == {2}
    monkeypatch.setattr(wer, "call", None)  # nothing is left to transcribe
    again = ablations.measure(tmp_path / "runs" / "row", clips / "transcripts.tsv", out, 2)
    assert again == found


def test_a_profile_tells_operations_by_their_kind() -> None:
    @tf.function
    def squared(x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, x)

    matrix = tf.random.stateless_normal([400, 400], [1, 2])
    squared(matrix)
    found = training.profile(lambda: squared(matrix))
    assert "MatMul" in found
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("script", FLAGS)
def test_a_bundle_that_is_not_there_is_one_clear_line(script: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    done = run(script, **dict.fromkeys(FLAGS[script], nowhere))
    assert done.returncode != 0
    assert str(nowhere) in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_listener_gets_wrong_is_counted() -> None:
    def utterance(start: int, end: int, ending: Ending = Ending.PAUSE) -> Utterance:
        recognized = Segment(start, end, f"{start}", (), 0.0, True, 0.0, 0.0, ())
        return Utterance(start, end, ending, end + 8, 0.0, 0.0, 0, recognized)

    line = manifest.Line(Path("a.wav"), "one", "ann")
    spoken = [listen.Spoken(line, "set", s, s + 10) for s in (0, 100, 200, 300, 400, 500)]
    heard = [
        utterance(1, 9),
        utterance(50, 60),  # nothing was said
        utterance(101, 104),  # one string in two
        utterance(106, 109),
        utterance(205, 305),  # two strings in one
        utterance(401, 405, Ending.WINDOW),  # cut, and the next one is missed
        utterance(405, 409),
    ]
    assert listen.assign(spoken, heard, 8) == {
        "strings": 6,
        "utterances": 7,
        "missed": 1,
        "split": 1,
        "cut": 1,
        "cut_though_short": 0,
        "joined": 1,
        "false": 1,
    }
    assert spoken[1].text == "101 106"


def test_orders_are_counted_in_their_order() -> None:
    browser = pytest.importorskip("benchmarks.browser", reason="Playwright is not installed")
    said = [{"intent": "order", "slots": {"drink": drink}} for drink in ("latte", "mocha", "tea")]
    latte, mocha, tea = ({"text": "", **order} for order in said)
    nothing = {"intent": None, "slots": {}}
    assert browser.right_orders([latte, mocha, tea], said) == 3
    assert browser.right_orders([latte, nothing, tea], said) == 2
    assert browser.right_orders([mocha, latte, tea], said) == 2
    assert browser.right_orders([], said) == 0
