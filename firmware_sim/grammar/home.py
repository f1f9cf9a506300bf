"""The names of a home: its devices, areas and floors, as Home Assistant writes them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from firmware_sim.grammar.automaton import GrammarError

KINDS: Final = {"names": "name", "areas": "area", "floors": "floor"}  # in a file, and in templates


@dataclasses.dataclass(frozen=True)
class Name:
    """Something of a home: what it is called, and what Home Assistant calls it."""

    text: str
    value: str = ""  # of an alias, the name; empty: the text
    domain: str = ""  # such as light; empty: any


Home = Mapping[str, Sequence[Name]]  # by list: name, area, floor


def read(path: pathlib.Path) -> dict[str, list[Name]]:
    """Reads a home's names from YAML.

        names: [Desk lamp, {name: TV, domain: media_player, aliases: [telly]}]
        areas: [Kitchen]
        floors: [Upstairs]

    Raises:
      GrammarError: what is wrong in the file.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not set(content) <= set(KINDS):
        raise GrammarError(f"{path}: has to be a mapping of {', '.join(KINDS)} to lists")
    home: dict[str, list[Name]] = {}
    for kind, entries in content.items():
        if not isinstance(entries, list):
            raise GrammarError(f"{path}: {kind} must be a list of names")
        home[KINDS[kind]] = [name for entry in entries for name in _names(path, kind, entry)]
    return home


def _names(path: pathlib.Path, kind: str, entry: Any) -> list[Name]:
    if isinstance(entry, str) and entry.strip():
        return [Name(entry.strip())]
    entry = entry if isinstance(entry, dict) else {"name": entry}
    name, domain, aliases = entry.get("name"), entry.get("domain", ""), entry.get("aliases", [])
    texts = [name, *aliases] if isinstance(aliases, list) else [""]
    if not set(entry) <= {"name", "domain", "aliases"} or not isinstance(domain, str):
        raise GrammarError(f"{path}: {kind}: {entry!r:.100}: keys are name, domain and aliases")
    if not isinstance(name, str) or not all(isinstance(x, str) and x.strip() for x in texts):
        raise GrammarError(
            f"{path}: {kind}: {entry!r:.100} is no name: write texts, in quotes where YAML "
            "takes them for something else"
        )
    return [Name(x.strip(), name.strip(), domain) for x in texts]


def read_yaml(path: pathlib.Path) -> Any:
    """What a YAML file holds.

    Raises:
      GrammarError: it cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GrammarError(f"{path}: {error.strerror}: name a YAML file") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise GrammarError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
