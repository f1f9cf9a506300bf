"""Recordings of digits, and strings joined from them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import synthesise
from tf_speech_transformer.corpora import corpus, digit_strings


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> corpus.Recordings:
    """Every digit by two voices, and a string of three by a third."""
    directory: Path = tmp_path_factory.mktemp("recordings")
    units = [(word, voice) for voice in ("en-us+m3", "en+f2") for word in digit_strings.WORDS]
    units.append(("four five six", "en-us+m1"))
    samples = [synthesise(*unit) for unit in units]
    np.concatenate(samples).tofile(directory / "samples.s16")
    index = {
        "lengths": [len(x) for x in samples],
        "texts": [text for text, _ in units],
        "speakers": [voice for _, voice in units],
    }
    (directory / "index.json").write_text(json.dumps(index))
    return corpus.Recordings(directory)


@pytest.fixture(scope="module")
def joined(recordings) -> digit_strings.Joined:
    return digit_strings.Joined(recordings)
