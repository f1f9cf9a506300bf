"""What tests of several rooms need."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tf_speech_transformer.voices.espeak import Espeak

UTTERANCES = 7


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak()


@pytest.fixture
def librispeech(tmp_path: Path, speech: np.ndarray) -> Path:
    """A tree with `UTTERANCES` utterances of dev-clean."""
    folder = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121"
    folder.mkdir(parents=True)
    lines = []
    for i in range(UTTERANCES):
        name = f"84-121-{i:04d}"
        soundfile.write(folder / f"{name}.flac", speech[: 8_000 + 400 * i], 16_000)
        lines.append(f"{name} {'ONE ' * (i + 1)}".strip())
    (folder / "84-121.trans.txt").write_text("\n".join(lines))
    return tmp_path / "LibriSpeech"
