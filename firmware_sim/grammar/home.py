"""The names of a home: its devices, areas and floors, as Home Assistant writes them."""

import asyncio
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from firmware_sim.grammar.automaton import GrammarError

KINDS: Final = {"names": "name", "areas": "area", "floors": "floor"}  # in a file, and in templates
_TIMEOUT: Final = 10.0  # seconds for all answers of Home Assistant


class HomeError(Exception):
    """Home Assistant cannot be asked for names; the message says why."""


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


async def fetch(url: str, token: str) -> dict[str, list[Name]]:
    """Asks Home Assistant for what it exposes to voice assistants, by its websocket API.

    Args:
      url: http:// or https://, without a path.
      token: a long-lived access token.

    Raises:
      HomeError: it cannot be reached, refuses the token, or answers something else.
    """
    import aiohttp

    try:
        return await asyncio.wait_for(_talk(url, token), _TIMEOUT)
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        what = str(error) or "no answer in time"
        raise HomeError(f"{url}: {what}: is Home Assistant there?") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HomeError(f"{url}: not an answer of Home Assistant: {error!r:.100}") from error


async def _talk(url: str, token: str) -> dict[str, list[Name]]:
    import aiohttp

    address = f"{url.rstrip('/')}/api/websocket"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, max_msg_size=0) as socket,
    ):
        await socket.receive_json()  # that a token is needed
        await socket.send_json({"type": "auth", "access_token": token})
        if (await socket.receive_json())["type"] != "auth_ok":
            raise HomeError(f"{url} refuses the token: make another in your user's profile")
        numbers = itertools.count(1)

        async def ask(kind: str, **parts: Any) -> Any:
            await socket.send_json({"id": next(numbers), "type": kind, **parts})
            answer = await socket.receive_json()
            if not answer["success"]:
                raise HomeError(f"{url} refuses {kind}: use a newer Home Assistant")
            return answer["result"]

        return await _exposed(ask)


async def _exposed(ask: Any) -> dict[str, list[Name]]:
    """The names, by `ask` for each command of the API."""
    exposed = (await ask("homeassistant/expose_entity/list"))["exposed_entities"]
    entities = sorted(x for x, to in exposed.items() if to.get("conversation"))
    states = {x["entity_id"]: x["attributes"] for x in await ask("get_states")}
    entries = await ask("config/entity_registry/get_entries", entity_ids=entities)
    home: dict[str, list[Name]] = {"name": [], "area": [], "floor": []}
    for entity in entities:
        entry, domain = entries.get(entity) or {}, entity.partition(".")[0]
        texts = (states.get(entity, {}).get("friendly_name"), entry.get("name"))
        name = next(filter(None, (*texts, entry.get("original_name"))), None)
        home["name"] += _aliases(name, entry, domain)
    for kind in ("area", "floor"):
        for entry in await ask(f"config/{kind}_registry/list"):
            home[kind] += _aliases(entry["name"], entry)
    return home


def _aliases(name: Any, entry: Mapping[str, Any], domain: str = "") -> Iterator[Name]:
    """A name and its aliases; what has no name is known by its aliases."""
    texts = [" ".join(x.split()) for x in (name, *(entry.get("aliases") or ())) if x]
    for text in dict.fromkeys(filter(None, texts)):
        yield Name(text, texts[0], domain)
