"""The grammar of a bundle: which token may follow, and what a text means.

`grammar.json` holds a finite automaton over tokens: `states` of them, `arcs` [from, token, to,
slot], `finals` [state, intent], `intents`, `slots`, and `between`, the tokens from one command to
the next. A state has at most one arc for a token and a slot. It may have several for a token, as
"medium" is a size or a roast. So a text leads to a set of states.
"""

import dataclasses
import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

VERSION: Final = 1
NO_SLOT: Final = -1
_MOST_STATES: Final = 1_000_000  # more would fill a small computer's memory before any check

States = frozenset[int]


class GrammarError(ValueError):
    """A grammar that cannot be used; the message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Command:
    """The meaning of a part of a text."""

    intent: str
    first: int  # its first token in the text
    last: int  # the token after its last one
    slots: dict[str, tuple[int, ...]]  # positions of each value's tokens, in the order of speech


@dataclasses.dataclass(frozen=True)
class Grammar:
    """The automaton; a final state may go on at the start: several commands in one text."""

    name: str
    intents: tuple[str, ...]
    slots: tuple[str, ...]
    start: int
    arcs: tuple[dict[int, tuple[tuple[int, int], ...]], ...]  # by state and token: (slot, to)
    finals: dict[int, int]  # by state, the intent of a command that ends there
    between: int | None  # token between two commands, if there is one
    reject_below: float  # confidence below which a result is no command

    @property
    def arc_count(self) -> int:
        return sum(len(ways) for state in self.arcs for ways in state.values())

    @property
    def first(self) -> States:
        """Where a text begins."""
        return frozenset((self.start,))

    def allowed(self, states: States) -> tuple[int, ...]:
        """The tokens that may follow, in order; not the end of the text, see `may_end`."""
        return self._followers(states)[0]

    def follow(self, states: States, token: int) -> States:
        """The states after a token; none if it is not allowed."""
        return self._followers(states)[1].get(token, frozenset())

    def may_end(self, states: States) -> bool:
        return any(state in self.finals for state in states)

    def parse(self, tokens: Iterable[int]) -> list[Command]:
        """The commands of a text that the grammar allows; none for another text.

        Of several meanings it takes the first, in this order: a command goes on before another
        begins, a token of no slot comes before one of a slot, and slots in the order of `slots`.
        """
        text = tuple(tokens)
        dead: set[tuple[int, int]] = set()
        path: list[tuple[int, int]] = []  # (state, slot) after each token
        ways = [self._ways(self.start, text, 0)]  # those that are left, at each token
        while ways:
            state, i = (path[-1][0] if path else self.start), len(path)
            if i == len(text) and state in self.finals:
                break
            way = next((x for x in ways[-1] if (x[1], i + 1) not in dead), None)
            if way is not None:
                path.append((way[1], way[0]))
                ways.append(self._ways(way[1], text, i + 1))
                continue
            dead.add((state, i))
            ways.pop()
            if path:
                path.pop()
        if not path:
            return []
        commands: list[Command] = []
        first = 0
        slots: dict[str, tuple[int, ...]] = {}
        state = self.start
        for i, (target, slot) in enumerate(path):
            if state in self.finals and (slot, target) not in self.arcs[state].get(text[i], ()):
                commands.append(Command(self.intents[self.finals[state]], first, i, slots))
                first, slots = i + (self.between is not None), {}
            if slot != NO_SLOT:
                name = self.slots[slot]
                slots[name] = (*slots.get(name, ()), i)
            state = target
        commands.append(Command(self.intents[self.finals[state]], first, len(text), slots))
        return commands

    def _ways(self, state: int, text: tuple[int, ...], place: int) -> Iterator[tuple[int, int]]:
        """(slot, to) of each way by which the token at `place` may follow."""
        if place < len(text):
            yield from self.arcs[state].get(text[place], ())
            if state in self.finals:
                yield from self._begin(text[place])

    def _begin(self, token: int) -> tuple[tuple[int, int], ...]:
        """Ways from the end of a command into the next one."""
        if self.between is None:
            return self.arcs[self.start].get(token, ())
        return ((NO_SLOT, self.start),) if token == self.between else ()

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - a grammar lives as long as its process
    def _followers(self, states: States) -> tuple[tuple[int, ...], dict[int, States]]:
        targets: dict[int, set[int]] = {}
        for state in states:
            for token, ways in self.arcs[state].items():
                targets.setdefault(token, set()).update(target for _, target in ways)
        if self.may_end(states):
            begin = self.arcs[self.start] if self.between is None else (self.between,)
            for token in begin:
                targets.setdefault(token, set()).update(x for _, x in self._begin(token))
        followers = {token: frozenset(targets[token]) for token in sorted(targets)}
        return tuple(followers), followers

    def __hash__(self) -> int:
        return id(self)


def load(data: bytes, tokens: int, special: Collection[int]) -> Grammar:
    """Reads and checks `grammar.json`.

    Args:
      data: the file.
      tokens: how many the bundle has.
      special: those of them that are no part of a text: start, end and blank.

    Raises:
      GrammarError: what does not fit.
    """
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise GrammarError(f"not valid JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise GrammarError(f"version is {version!r:.60}, this program reads {VERSION}")
    grammar = _build(content, tokens, special)
    _check_ways(grammar)
    return grammar


def _build(content: Mapping[str, Any], tokens: int, special: Collection[int]) -> Grammar:
    states = _whole(content.get("states"), 1, _MOST_STATES + 1, "states")
    intents, slots = _names(content, "intents"), _names(content, "slots")

    def text_token(value: Any, what: str) -> int:
        if _whole(value, 0, tokens, what) in special:
            raise GrammarError(f"{what} is {value}, which is no part of a text")
        return int(value)

    arcs: list[dict[int, list[tuple[int, int]]]] = [{} for _ in range(states)]
    for arc in _rows(content, "arcs", 4):
        source, token, target, slot = arc
        for state in (source, target):
            _whole(state, 0, states, f"a state of the arc {arc}")
        text_token(token, f"the token of the arc {arc}")
        _whole(slot, NO_SLOT, len(slots), f"the slot of the arc {arc}")
        ways = arcs[source].setdefault(token, [])
        if any(known == slot for known, _ in ways):
            raise GrammarError(f"two arcs from state {source} have token {token} and slot {slot}")
        ways.append((slot, target))
    finals: dict[int, int] = {}
    for final in _rows(content, "finals", 2):
        state = _whole(final[0], 0, states, f"the state of the final {final}")
        if state in finals:
            raise GrammarError(f"two intents end in state {state}")
        finals[state] = _whole(final[1], 0, len(intents), f"the intent of the final {final}")
    between = content.get("between")
    if not isinstance(between, list) or len(between) > 1:
        raise GrammarError(f"between is {between!r:.60}, not a list of one token or none")
    reject_below = content.get("reject_below")
    if (
        not isinstance(reject_below, (int, float))
        or isinstance(reject_below, bool)
        or not 0 <= reject_below <= 1
    ):
        raise GrammarError(f"reject_below is {reject_below!r:.60}, not between 0 and 1")
    name = content.get("name")
    if not isinstance(name, str) or not name.isprintable():
        raise GrammarError(f"name is {name!r:.60}, not a name")
    return Grammar(
        name=name,
        intents=intents,
        slots=slots,
        start=_whole(content.get("start"), 0, states, "start"),
        arcs=tuple({token: tuple(sorted(ways)) for token, ways in x.items()} for x in arcs),
        finals=finals,
        between=text_token(between[0], "between") if between else None,
        reject_below=float(reject_below),
    )


def _names(content: Mapping[str, Any], field: str) -> tuple[str, ...]:
    names = content.get(field)
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name and name.isprintable() for name in names
    ):
        raise GrammarError(f"{field} is {names!r:.200}, not a list of names")
    if len(set(names)) != len(names):
        raise GrammarError(f"{field} has a name twice: {names!r:.200}")
    return tuple(names)


def _rows(content: Mapping[str, Any], field: str, length: int) -> list[list[Any]]:
    rows = content.get(field)
    if not isinstance(rows, list):
        raise GrammarError(f"{field} is missing or no list")
    for row in rows:
        if not isinstance(row, list) or len(row) != length:
            raise GrammarError(f"{field} holds {row!r:.60}, not a list of {length} numbers")
    return rows


def _whole(value: Any, low: int, limit: int, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < limit:
        raise GrammarError(f"{what} is {value!r:.60}, not a whole number from {low} to {limit - 1}")
    return value


def _check_ways(grammar: Grammar) -> None:
    """Refuses states that no command ends after, and circles: a search must always end."""
    if grammar.start in grammar.finals:
        raise GrammarError("a command may be empty: its start is a final state")
    order: list[int] = []
    state_of: dict[int, bool] = {}  # False while on the way, True when done
    stack = [(grammar.start, iter(_targets(grammar, grammar.start)))]
    state_of[grammar.start] = False
    while stack:
        state, targets = stack[-1]
        for target in targets:
            if target not in state_of:
                state_of[target] = False
                stack.append((target, iter(_targets(grammar, target))))
                break
            if not state_of[target]:
                raise GrammarError(f"a circle leads through state {target}")
        else:
            state_of[state] = True
            order.append(state)
            stack.pop()
    ending = set(grammar.finals)
    for state in order:
        if state not in ending:
            if not any(target in ending for target in _targets(grammar, state)):
                raise GrammarError(f"no command ends after state {state}")
            ending.add(state)


def _targets(grammar: Grammar, state: int) -> list[int]:
    return [target for ways in grammar.arcs[state].values() for _, target in ways]
