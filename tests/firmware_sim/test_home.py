"""Names of a home, asked for by the websocket API of Home Assistant."""

import asyncio
import functools
import json
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from firmware_sim.grammar import home
from firmware_sim.grammar.home import HomeError, Name

ANSWERS: dict[str, Any] = {
    "homeassistant/expose_entity/list": {
        "exposed_entities": {
            "light.desk": {"conversation": True},
            "light.hidden": {"conversation": False, "cloud.alexa": True},
            "lock.front": {"conversation": True},
            "sensor.unnamed": {"conversation": True},
        }
    },
    "get_states": [
        {"entity_id": "light.desk", "attributes": {"friendly_name": "Desk  lamp"}},
        {"entity_id": "light.hidden", "attributes": {"friendly_name": "Hidden lamp"}},
        {"entity_id": "sensor.unnamed", "attributes": {}},
    ],
    "config/entity_registry/get_entries": {
        "light.desk": {"aliases": ["reading light", None], "name": None},
        "lock.front": {"aliases": [], "name": None, "original_name": "Front door"},
        "sensor.unnamed": None,
    },
    "config/area_registry/list": [{"name": "Kitchen", "aliases": ["cook's corner"]}],
    "config/floor_registry/list": [{"name": "Upstairs"}],
}


async def talk(answers: dict[str, Any], request: web.Request) -> web.WebSocketResponse:
    """What Home Assistant does: a greeting, the token, then an answer for each command."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json({"type": "auth_required"})
    token = (await socket.receive_json())["access_token"]
    await socket.send_json({"type": "auth_ok" if token == "right" else "auth_invalid"})
    async for message in socket:
        assert message.type == WSMsgType.TEXT
        asked = json.loads(message.data)
        result = answers.get(asked["type"])
        await socket.send_json(
            {"id": asked["id"], "type": "result", "success": result is not None, "result": result}
        )
    return socket


def fetch(token: str = "right", answers: dict[str, Any] = ANSWERS) -> dict[str, list[Name]]:
    """Asks such a server at a free port."""

    async def session() -> dict[str, list[Name]]:
        app = web.Application()
        app.router.add_get("/api/websocket", functools.partial(talk, answers))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            return await home.fetch(f"http://{host}:{port}/", token)
        finally:
            await runner.cleanup()

    return asyncio.run(session())


def test_only_exposed_things_are_known_with_their_aliases() -> None:
    assert fetch() == {
        "name": [
            Name("Desk lamp", "Desk lamp", "light"),
            Name("reading light", "Desk lamp", "light"),
            Name("Front door", "Front door", "lock"),
        ],
        "area": [Name("Kitchen", "Kitchen"), Name("cook's corner", "Kitchen")],
        "floor": [Name("Upstairs", "Upstairs")],
    }


@pytest.mark.parametrize(
    ("token", "changed", "message"),
    [
        ("wrong", {}, "refuses the token"),
        ("right", {"get_states": None}, "refuses get_states: use a newer Home Assistant"),
        ("right", {"get_states": [{"entity": 1}]}, "not an answer of Home Assistant"),
        ("right", {"config/floor_registry/list": 5}, "not an answer of Home Assistant"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    token: str, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(HomeError, match=message) as caught:
        fetch(token, {**ANSWERS, **changed})
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_sentence() -> None:
    with pytest.raises(HomeError, match="is Home Assistant there"):
        asyncio.run(home.fetch("http://127.0.0.1:1", "right"))
