"""The home that the server is measured with, and what is measured of it."""

import pathlib

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from benchmarks import home, home_server
from firmware_sim.grammar import home as homes
from firmware_sim.grammar.templates import BUILT_IN, Templates


@pytest.fixture(scope="module")
def understand() -> home.HomeAssistant:
    return home.HomeAssistant()


def test_home_assistant_understands_what_is_drawn_and_no_near_miss(
    understand: home.HomeAssistant,
) -> None:
    grammar = Templates.read(pathlib.Path(BUILT_IN)).grammar(home.HOME)
    drawn = home.sentences(grammar, 30, np.random.default_rng(5))
    assert len({text for text, _ in drawn}) == 30
    for text, spoken in drawn:
        assert understand(text) is not None and not any(x.isdigit() for x in spoken)
    assert not any(understand(text) or grammar.parse(text) for text in home.NEAR_MISSES)


def test_the_home_has_40_names_and_may_have_more(tmp_path: pathlib.Path) -> None:
    assert sum(map(len, home.HOME.values())) == 40
    assert len({x.text for x in home.further_names(1000)}) == 1000
    read = homes.read(home_server.names_file(tmp_path))
    written = {kind: [x.text for x in names] for kind, names in home.HOME.items()}
    assert {kind: [x.text for x in names] for kind, names in read.items()} == written


def test_sentences_and_other_speech_are_counted(
    general: pathlib.Path, speech: npt.NDArray[np.int16], tmp_path: pathlib.Path
) -> None:
    for folder in ("sentences", "near_misses"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "0000_espeak.wav", speech[:20000], 16000)
        (tmp_path / folder / "0000_espeak.txt").write_text("what time is it\n")
    figures = home.accuracy(str(general), tmp_path, str(tmp_path), [10])
    assert set(figures["names"]) == {40, 50}
    for found in figures["names"].values():
        ((said, text),) = found["wrong"]  # the model is not trained
        assert (said, found["sentences"], found["right"]) == ("what time is it", 1, 0.0)
        assert found["rejected"] == (0.0 if text else 100.0)
    text = figures["names"][40]["wrong"][0][1]
    taken = [text] if text else []  # the same recording is no sentence here
    assert figures["near misses"] == {"of": 1, "taken": taken}
    assert figures["other speech"] == {"of": 2, "taken": 2 * taken}
    assert home.rows(figures)[0] == ["40 names: right of 1", "0.0 %"]
