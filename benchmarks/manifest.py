"""Recordings listed in a tab-separated manifest: `audio` (relative to it), `text`, `speaker`."""

import csv
import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Line:
    audio: Path
    text: str
    speaker: str


def read_manifest(path: Path) -> list[Line]:
    """Raises ValueError if a column is missing or nothing is listed."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"audio", "text"} <= rows[0].keys():
        raise ValueError(f"{path} lists no audio and text: give it a header line and a recording.")
    return [Line(path.parent / r["audio"], r["text"], r.get("speaker") or "") for r in rows]
