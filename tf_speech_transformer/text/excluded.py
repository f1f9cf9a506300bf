"""Commands that voices must not read: grammars stay new to the model that is tested on them."""

import functools
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from firmware_sim.grammar.source import Grammar

_ROOMS = """
    kitchen bathroom bedroom garage office hallway hall basement attic nursery porch garden patio
    study living_room dining_room guest_room laundry_room master_bedroom
"""
_DEVICES = """
    light lights lamp lamps fan heater heating door lock blind blinds curtain curtains window switch
    plug outlet tv television speaker camera thermostat oven vacuum radio shutters
    ceiling_light floor_lamp desk_lamp front_door garage_door coffee_machine
"""


class Excluded:
    """What a grammar accepts, and what Home Assistant accepts in a home of common names.

    Single words may be read: no grammar is without words that others use.

    Args:
        grammars: YAML files.
    """

    def __init__(self, grammars: Iterable[Path]):
        from hassil import Intents
        from hassil.intents import SlotList, TextSlotList
        from home_assistant_intents import get_intents

        self.grammars = [Grammar.read(path) for path in grammars]
        content = get_intents("en")
        assert content is not None  # for languages that the package lacks
        self.intents = Intents.from_dict(content)
        rooms, devices = ([x.replace("_", " ") for x in y.split()] for y in (_ROOMS, _DEVICES))
        names = [*devices, *(f"{room} {device}" for room in rooms for device in devices)]
        self.home: dict[str, SlotList] = {
            "area": TextSlotList.from_strings(rooms),
            "floor": TextSlotList.from_strings(["upstairs", "downstairs", "ground floor"]),
            "name": TextSlotList.from_strings(names),
        }

    def __contains__(self, text: object) -> bool:
        """Whether a text, in lower case and without punctuation, is such a command."""
        from hassil import recognize_best

        if not isinstance(text, str) or len(text.split()) < 2:
            return False
        return any(grammar.parse(text) is not None for grammar in self.grammars) or (
            recognize_best(text, self.intents, slot_lists=self.home) is not None
        )


@functools.cache
def excluded(grammars: tuple[str, ...]) -> Excluded:
    """All sources of a process share it."""
    return Excluded(map(Path, grammars))


def fingerprint(grammars: Iterable[str]) -> str:
    """Changes with whatever is excluded."""
    files = [Path(file).read_text(encoding="utf-8") for file in grammars]
    return repr((files, _ROOMS, _DEVICES, metadata.version("home-assistant-intents")))
