"""The grammar of a bundle: which token may follow, and what a text means.

`grammar.json` holds a finite automaton over tokens: `states` of them, `arcs` [from, token, to,
slot], `finals` [state, intent], `intents`, `slots`, and `between`, the tokens from one command to
the next. A state has at most one arc for a token and a slot. It may have several for a token, as
"medium" is a size or a roast. So a text leads to a set of states.

Version 2 is over phones: it has `words`, and `arcs` [from, phone, to, slot, word]. The last phone
of a word says which it is, and all others have `NO_WORD`: "two" and "too" differ in nothing else.
Where a word is said otherwise than it is written, `said` has how; where the value of a slot is not
its words, `values` has it at the slot's last word. Both are as long as `words`, "" for no such.
"""

import dataclasses
import functools
import json
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, TypeVar

from firmware_sim.grammar.phrase import Word

VERSION: Final = 1
PHONE_VERSION: Final = 2
NO_SLOT: Final = -1
NO_WORD: Final = -1
_MOST_STATES: Final = 1_000_000  # more would fill a small computer's memory before any check

States = frozenset[int]
Way = tuple[int, int, int]  # slot, word, state after it
_Step = TypeVar("_Step", bound=tuple[Any, ...])


class GrammarError(ValueError):
    """A grammar that cannot be used; the message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Command:
    """The meaning of a part of a text."""

    intent: str
    first: int  # its first token in the text
    last: int  # the token after its last one
    slots: dict[str, tuple[int, ...]]  # positions of each value's tokens, in the order of speech
    # Of a grammar of phones: the position of each word's last, and the word.
    words: tuple[tuple[int, Word], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentences:
    """What the sentences of an automaton mean; it may have its arcs in another form."""

    name: str
    intents: tuple[str, ...]
    slots: tuple[str, ...]
    start: int
    finals: dict[int, int]  # by state, the intent of a command that ends there
    between: int | None  # token between two commands, if there is one
    reject_below: float  # confidence below which a result is no command
    vocabulary: tuple[Word, ...] = ()  # of a grammar of phones

    def commands(self, path: Sequence[tuple[bool, int, int, int]]) -> list[Command]:
        """The commands along a path of the automaton from its start.

        A last one that is not complete has no intent.

        Args:
          path: for each token, whether it leads from one command to the next, its slot, its word
            and the state after it.
        """
        commands: list[Command] = []
        first = 0
        slots: dict[str, tuple[int, ...]] = {}
        words: list[tuple[int, Word]] = []
        state = self.start
        for i, (begins, slot, word, target) in enumerate(path):
            if begins:
                intent = self.intents[self.finals[state]]
                commands.append(Command(intent, first, i, slots, tuple(words)))
                first, slots, words = i + (self.between is not None), {}, []
            if slot != NO_SLOT:
                name = self.slots[slot]
                slots[name] = (*slots.get(name, ()), i)
            if word != NO_WORD:
                words.append((i, self.vocabulary[word]))
            state = target
        if path:
            intent = self.intents[self.finals[state]] if state in self.finals else ""
            commands.append(Command(intent, first, len(path), slots, tuple(words)))
        return commands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grammar(Sentences):
    """The automaton; a final state may go on at the start: several commands in one text."""

    arcs: tuple[dict[int, tuple[Way, ...]], ...]  # by state and token

    @property
    def of_phones(self) -> bool:
        """Whether its tokens are phones."""
        return bool(self.vocabulary)

    @property
    def words(self) -> tuple[str, ...]:
        """The words as they are written; none if the tokens are no phones."""
        return tuple(word.text for word in self.vocabulary)

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
        path = find_path(
            self.start, len(text), lambda state, i: self._ways(state, text[i]), self.finals
        )
        return self.commands(path or [])

    def _ways(self, state: int, token: int) -> Iterator[tuple[bool, int, int, int]]:
        """Where a token leads, as `commands` takes it."""
        for way in self.arcs[state].get(token, ()):
            yield False, *way
        if state in self.finals:
            for way in self._begin(token):
                yield True, *way

    def _begin(self, token: int) -> tuple[Way, ...]:
        """Ways from the end of a command into the next one."""
        if self.between is None:
            return self.arcs[self.start].get(token, ())
        return ((NO_SLOT, NO_WORD, self.start),) if token == self.between else ()

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - a grammar lives as long as its process
    def _followers(self, states: States) -> tuple[tuple[int, ...], dict[int, States]]:
        targets: dict[int, set[int]] = {}
        for state in states:
            for token, ways in self.arcs[state].items():
                targets.setdefault(token, set()).update(target for *_, target in ways)
        if self.may_end(states):
            begin = self.arcs[self.start] if self.between is None else (self.between,)
            for token in begin:
                targets.setdefault(token, set()).update(x for *_, x in self._begin(token))
        followers = {token: frozenset(targets[token]) for token in sorted(targets)}
        return tuple(followers), followers

    def __hash__(self) -> int:
        return id(self)


def find_path(
    start: int,
    length: int,
    ways: Callable[[int, int], Iterator[_Step]],
    finals: Container[int],
) -> list[_Step] | None:
    """The first way of a length through an automaton to a final state; None if there is none.

    Args:
      ways: of a state and a position in the text, in the order of preference; the last value of
        each is the state that it leads to.
    """
    dead: set[tuple[int, int]] = set()  # states that no way from a position on ends well from
    path: list[_Step] = []
    states = [start]
    untried = [ways(start, 0)] if length else []  # at each position
    while untried:
        way = next(untried[-1], None)
        if way is None:
            dead.add((states.pop(), len(path)))
            untried.pop()
            if path:
                path.pop()
            continue
        target = way[-1]
        if (target, len(path) + 1) in dead:
            continue
        if len(path) + 1 < length:
            path.append(way)
            states.append(target)
            untried.append(ways(target, len(path)))
        elif target in finals:
            return [*path, way]
    return None


def load(data: bytes, tokens: int, special: Collection[int], phones: int = 0) -> Grammar:
    """Reads and checks `grammar.json`.

    Args:
      data: the file.
      tokens: how many the bundle has.
      special: those of them that are no part of a text: start, end and blank.
      phones: how many the bundle has, without blank; 0 if its grammar must be over tokens.

    Raises:
      GrammarError: what does not fit.
    """
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise GrammarError(f"not valid JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    expected = PHONE_VERSION if phones else VERSION
    if version != expected:
        raise GrammarError(f"version is {version!r:.60}, but the bundle's format has {expected}")
    return build(content, phones, ()) if phones else build(content, tokens, special)


def build(content: Mapping[str, Any], tokens: int, special: Collection[int]) -> Grammar:
    """Checks what `grammar.json` holds; for the arguments and errors see `load`."""
    grammar = _read(content, tokens, special)
    _check_ways(grammar)
    return grammar


def _read(content: Mapping[str, Any], tokens: int, special: Collection[int]) -> Grammar:
    states = _whole(content.get("states"), 1, _MOST_STATES + 1, "states")
    intents, slots = _names(content, "intents"), _names(content, "slots")
    words = _vocabulary(content) if content["version"] == PHONE_VERSION else ()

    def text_token(value: Any, what: str, arc: Any = "") -> int:
        if _whole(value, 0, tokens, what, arc) in special:
            raise GrammarError(f"{what}{arc} is {value}, which is no part of a text")
        return int(value)

    arcs: list[dict[int, list[Way]]] = [{} for _ in range(states)]
    for arc in _rows(content, "arcs", 5 if words else 4):
        source, token, target, slot, word = arc if words else (*arc, NO_WORD)
        for state in (source, target):
            _whole(state, 0, states, "a state of the arc ", arc)
        text_token(token, "the token of the arc ", arc)
        _whole(slot, NO_SLOT, len(slots), "the slot of the arc ", arc)
        _whole(word, NO_WORD, max(1, len(words)), "the word of the arc ", arc)
        ways = arcs[source].setdefault(token, [])
        if any(way[:2] == (slot, word) for way in ways):
            raise GrammarError(f"two arcs from state {source} have token {token} and slot {slot}")
        ways.append((slot, word, target))
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
        vocabulary=words,
    )


def _names(content: Mapping[str, Any], field: str) -> tuple[str, ...]:
    names = content.get(field)
    if not _are_names(names, ""):
        raise GrammarError(f"{field} is {names!r:.200}, not a list of names")
    assert isinstance(names, list)
    if len(set(names)) != len(names):
        raise GrammarError(f"{field} has a name twice: {names!r:.200}")
    return tuple(names)


def vocabulary(content: Mapping[str, Any]) -> tuple[Word, ...]:
    """The words of what `Grammar.compile_phones` makes, which is not checked."""
    texts = content["words"]
    none = [""] * len(texts)
    columns = (texts, content.get("said", none), content.get("values", none))
    return tuple(Word(*entry) for entry in zip(*columns, strict=True))


def _vocabulary(content: Mapping[str, Any]) -> tuple[Word, ...]:
    texts = content.get("words")
    if not _are_names(texts, ""):
        raise GrammarError(f"words is {texts!r:.200}, not a list of names")
    assert isinstance(texts, list)
    for field in ("said", "values"):
        column = content.get(field, [""] * len(texts))
        if not _are_names(column, None) or len(column) != len(texts):
            raise GrammarError(f"{field} is {column!r:.200}, not a list of as many texts as words")
    words = vocabulary(content)
    if len(set(words)) != len(words):
        raise GrammarError(f"words has a name twice: {texts!r:.200}")
    return words


def _are_names(names: Any, forbidden: str | None) -> bool:
    return isinstance(names, list) and all(
        isinstance(name, str) and name != forbidden and name.isprintable() for name in names
    )


def _rows(content: Mapping[str, Any], field: str, length: int) -> list[list[Any]]:
    rows = content.get(field)
    if not isinstance(rows, list):
        raise GrammarError(f"{field} is missing or no list")
    for row in rows:
        if not isinstance(row, list) or len(row) != length:
            raise GrammarError(f"{field} holds {row!r:.60}, not a list of {length} numbers")
    return rows


def _whole(value: Any, low: int, limit: int, what: str, arc: Any = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < limit:
        raise GrammarError(
            f"{what}{arc} is {value!r:.60}, not a whole number from {low} to {limit - 1}"
        )
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
    return [target for ways in grammar.arcs[state].values() for *_, target in ways]
