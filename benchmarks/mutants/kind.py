"""What `benchmarks.faults` asks of a kind of input."""

from pathlib import Path
from typing import Protocol

import numpy as np


class Unequal(Exception):
    """Two readers accept an input, and get different things from it."""


class Kind(Protocol):
    """One kind of input.  Each process makes one, without arguments; that may take its time."""

    refusals: tuple[type[Exception], ...]  # what the tools print as a sentence

    def write(self, rng: np.random.Generator, folder: Path) -> Path:
        """Writes a mutant into an empty folder.

        The same state of `rng` gives the same mutant, whatever came before.

        Returns:
          the file or folder to use.
        """
        ...

    def use(self, path: Path) -> None:
        """Reads a mutant as far as the tools would, and returns if it is accepted.

        Raises:
          one of `refusals`: it is refused; the message is one line.
          Unequal: see there.
        """
        ...
