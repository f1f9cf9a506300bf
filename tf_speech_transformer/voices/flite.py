"""CMU Flite: small concatenative voices, by the command `flite`.

apt-get install flite
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tf_speech_transformer.voices import EngineMissing, check, shift_pitch, unknown_speaker


class Flite:
    """CMU Flite, by its command: small and robotic, five voices."""

    name = "flite"
    sample_rate = 16_000

    def __init__(self) -> None:
        command = shutil.which("flite")
        if command is None:
            raise EngineMissing("the voices of Flite need its command: apt-get install flite")
        self._command = command

    def speakers(self) -> list[str]:
        return ["awb", "kal", "kal16", "rms", "slt"]

    def synthesise(
        self, text: str, speaker: str, rate: float = 1.0, pitch: float = 1.0
    ) -> np.ndarray:
        check(text, rate, pitch)
        if speaker not in self.speakers():
            raise unknown_speaker(self.name, speaker, self.speakers())
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "speech.wav"
            command = [self._command, "-voice", speaker, "-t", text, "-o", str(path)]
            command += ["--setf", f"duration_stretch={pitch / rate:.4f}"]
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode != 0 or not path.is_file():
                raise RuntimeError(f"flite failed for {text!r}: {done.stderr.decode().strip()}")
            audio, rate_of_voice = soundfile.read(path, dtype="float32")
        if rate_of_voice != self.sample_rate:  # kal speaks at 8 kHz
            audio = soxr.resample(audio, rate_of_voice, self.sample_rate)
        return shift_pitch(np.clip(audio, -1.0, 1.0).astype(np.float32), pitch)
