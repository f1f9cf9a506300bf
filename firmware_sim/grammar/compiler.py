"""The compiler: phrases -> the smallest deterministic automaton of their sentences.

A network of places with free arcs comes first.  Its deterministic form has a state for each set of
places that the same labels reach.  States with the same continuations are merged at the end.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from firmware_sim.grammar.automaton import NO_SLOT, NO_WORD, GrammarError
from firmware_sim.grammar.phrase import Choice, Phrase, Slots, Word

MOST_STATES: Final = 100_000  # of an automaton; barista's has 300
_MOST_PLACES: Final = 2_000_000  # of a network
_MOST_STEPS: Final = 3_000_000  # places looked at; those of grammars/ need 11,284 at most
_MOST_COUNTED: Final = 10**30  # sentences

Label = tuple[Any, int]  # a token, and the index of the slot it belongs to or NO_SLOT
Spelling = Callable[[Word, bool], Sequence[Any]]


class TwoIntents(GrammarError):
    """A sentence, in tokens, that has two intents."""

    def __init__(self, name: str, tokens: Sequence[Hashable], intents: tuple[str, str]) -> None:
        self.tokens, self.intents = tokens, intents
        sentence = " ".join(map(str, tokens))
        super().__init__(
            f"grammar {name}: {sentence!r:.200} is both {intents[0]} and {intents[1]}: "
            "take it out of one of them"
        )


@dataclasses.dataclass(frozen=True)
class Automaton:
    """The sentences of a grammar as token sequences: minimal, without cycles, state 0 first.

    `arcs[state]` leads by (token, slot) to a state: at most one for each label, but a token may
    come with several slots. `finals` gives the intent of a sentence that ends in a state.
    """

    arcs: list[dict[Label, int]]
    finals: dict[int, int]

    def count(self) -> int:
        """Number of sentences, each with its slots; 10^30 if there are more."""
        counts: dict[int, int] = {}
        for state in self.backwards():
            following = sum(counts[target] for target in self.arcs[state].values())
            counts[state] = min(following + (state in self.finals), _MOST_COUNTED)
        return counts[0]

    def longest(self, lengths: Mapping[Any, int]) -> list[Any]:
        """The tokens of the longest sentence, by the length of each token."""
        best: dict[int, tuple[int, Any, int]] = {}  # length from a state on, token, next state
        for state in self.backwards():
            best[state] = max(
                (
                    (lengths[token] + best[target][0], token, target)
                    for (token, _), target in self.arcs[state].items()
                ),
                key=lambda way: way[0],
                default=(0, None, state),
            )
        tokens, state = [], 0
        while best[state][1] is not None:
            _, token, state = best[state]
            tokens.append(token)
        return tokens

    def backwards(self) -> list[int]:
        """The states, each after all that follow it."""
        return _backwards(self.arcs)


def build(
    name: str,
    expressions: Mapping[str, Sequence[Phrase]],
    slots: Slots,
    slot_names: Sequence[str],
    spell: Spelling,
    collisions: list[str] | None = None,
) -> Automaton:
    """The automaton of a grammar's expressions.

    Args:
      name: of the grammar, for messages.
      expressions: phrases by intent.
      slots: values by slot.
      slot_names: names in results; their positions become the labels' slots.
      spell: tokens of a word; the second argument says whether it is a sentence's first.
      collisions: None refuses a sentence with two intents.  A list gets what such sentences are,
        and the first intent holds.

    Raises:
      TwoIntents: a sentence, with its slots, has two intents.
      GrammarError: there are more than `MOST_STATES` states, or too much is optional.
    """
    network = _Network(slots, slot_names, spell)
    start = network.place()
    intent_of: dict[int, int] = {}  # by place
    for intent, phrases in enumerate(expressions.values()):
        for phrase in phrases:
            for end in network.lay(phrase, None, {True: start}).values():
                intent_of[end] = intent
    intents = list(expressions)
    return _minimal(*_deterministic(name, intents, network, start, intent_of, collisions))


class _Network:
    """Places and arcs; an arc without a label is free."""

    def __init__(self, slots: Slots, slot_names: Sequence[str], spell: Spelling) -> None:
        self._slots, self._spell = slots, spell
        self._slot_numbers = {name: number for number, name in enumerate(slot_names)}
        self.arcs: list[list[tuple[Label | None, int]]] = []  # by place
        self.steps = 0

    def place(self) -> int:
        """A new place."""
        if len(self.arcs) >= _MOST_PLACES:
            raise GrammarError(f"more than {_MOST_PLACES} words and letters: use fewer")
        self.arcs.append([])
        return len(self.arcs) - 1

    def lay(self, phrase: Phrase, slot: str | None, starts: dict[bool, int]) -> dict[bool, int]:
        """Adds the arcs of a phrase.

        Args:
          slot: the slot around the phrase.
          starts: places that it begins at, by whether the next word is the sentence's first.

        Returns:
          the places after it, likewise.
        """
        for item in phrase:
            ends: dict[bool, int] = {}
            for first, start in starts.items():
                if isinstance(item, Word):
                    self._join(ends, False, self._lay_word(item, slot, first, start))
                    continue
                if isinstance(item, Choice):
                    phrases, inner = item.phrases, slot
                else:
                    phrases, inner = tuple(self._slots[item.slot]), item.name or slot
                for alternative in phrases:
                    begin = self.place()
                    self.arcs[start].append((None, begin))
                    for still_first, end in self.lay(alternative, inner, {first: begin}).items():
                        self._join(ends, still_first, end)
            starts = ends
        return starts

    def reach(self, seeds: set[int], intent_of: Mapping[int, int]) -> frozenset[int]:
        """All places that free arcs reach."""
        places, stack = set(seeds), list(seeds)
        while stack:
            for label, target in self.arcs[stack.pop()]:
                if label is None and target not in places:
                    places.add(target)
                    stack.append(target)
        self.steps += len(places)
        # Places with only free arcs would make equal states look different.
        return frozenset(
            x
            for x in places
            if x in intent_of or any(label is not None for label, _ in self.arcs[x])
        )

    def _lay_word(self, word: Word, slot: str | None, first: bool, start: int) -> int:
        index = NO_SLOT if slot is None else self._slot_numbers[slot]
        for token in self._spell(word, first):
            self.arcs[start].append(((token, index), len(self.arcs)))
            start = self.place()
        return start

    def _join(self, ends: dict[bool, int], first: bool, end: int) -> None:
        """Leads from `end` to the place after the item."""
        if first not in ends:
            ends[first] = self.place()
        self.arcs[end].append((None, ends[first]))


def _deterministic(
    name: str,
    intents: list[str],
    network: _Network,
    start: int,
    intent_of: Mapping[int, int],
    collisions: list[str] | None,
) -> tuple[list[dict[Label, int]], dict[int, int]]:
    """Arcs and finals of an automaton with one state for each set of places."""
    first_state = network.reach({start}, intent_of)
    numbers = {first_state: 0}
    before: list[tuple[int, Hashable]] = [(0, None)]  # of each state one before it, and a token
    waiting = [first_state]
    arcs: list[dict[Label, int]] = []
    finals: dict[int, int] = {}
    for places in waiting:  # grows during the loop
        ending = sorted({intent_of[x] for x in places if x in intent_of})
        if len(ending) > 1:
            one, other, *_ = (intents[i] for i in ending)
            tokens = _tokens_to(len(arcs), before)
            if collisions is None:
                raise TwoIntents(name, tokens, (one, other))
            collisions.append(f"{' '.join(map(str, tokens))!r} is both {one} and {other}")
        if ending:
            finals[len(arcs)] = ending[0]
        targets: dict[Label, set[int]] = {}
        for place in sorted(places):
            for label, target in network.arcs[place]:
                if label is not None:
                    targets.setdefault(label, set()).add(target)
        here: dict[Label, int] = {}
        for label, seeds in targets.items():
            following = network.reach(seeds, intent_of)
            if network.steps > _MOST_STEPS:
                raise GrammarError(
                    f"grammar {name} leaves too much open: use fewer optional words side by side, "
                    "or fewer ways to say the same"
                )
            if following not in numbers:
                numbers[following] = len(numbers)
                waiting.append(following)
                before.append((len(arcs), label[0]))
            here[label] = numbers[following]
        arcs.append(here)
        if len(numbers) > MOST_STATES:
            raise GrammarError(
                f"grammar {name} needs more than {MOST_STATES} states: "
                "use fewer alternatives side by side"
            )
    return arcs, finals


def _tokens_to(state: int, before: list[tuple[int, Hashable]]) -> list[Hashable]:
    """The tokens of the way that a state was first found by."""
    tokens = []
    while state:
        state, token = before[state]
        tokens.append(token)
    return tokens[::-1]


def _minimal(arcs: list[dict[Label, int]], finals: dict[int, int]) -> Automaton:
    """Merges states with the same continuations; numbers states from the start on."""
    merged: dict[int, int] = {}
    known: dict[Hashable, int] = {}
    for state in _backwards(arcs):
        followers = frozenset((label, merged[target]) for label, target in arcs[state].items())
        merged[state] = known.setdefault((finals.get(state), followers), state)
    return _numbered(0, arcs, finals, merged)


def _numbered(
    start: int,
    arcs: list[dict[Label, int]],
    finals: dict[int, int],
    merged: Mapping[int, int] | range,
) -> Automaton:
    """The states that `start` reaches, in the order of arcs; `merged` names equal ones."""
    numbers = {merged[start]: 0}
    order = [merged[start]]
    for state in order:  # grows during the loop
        for target in arcs[state].values():
            if merged[target] not in numbers:
                numbers[merged[target]] = len(numbers)
                order.append(merged[target])
    return Automaton(
        [{label: numbers[merged[x]] for label, x in arcs[state].items()} for state in order],
        {numbers[state]: finals[state] for state in order if state in finals},
    )


def pronounced(
    automaton: Automaton, pronunciations: Mapping[Any, Sequence[Sequence[int]]]
) -> Automaton:
    """The automaton over phones of one over words.

    A word that several states have in common is spelt once for all of them.  So a grammar takes
    as long as its words need, not its sentences.

    Args:
      automaton: over words.
      pronunciations: of each word, sequences of phones.

    Returns:
      an automaton with labels ((phone, number of the word or NO_WORD), slot); numbers are the
      positions of words in `pronunciations`.
    """
    numbers = {word: number for number, word in enumerate(pronunciations)}
    ways = list(pronunciations.values())
    tries: dict[Hashable, list[_Node]] = {}
    known: dict[Hashable, int] = {}
    arcs: list[dict[Label, int]] = []
    finals: dict[int, int] = {}
    merged: dict[int, int] = {}

    def state_of(final: int | None, followers: Sequence[tuple[Label, int]]) -> int:
        """The state with these arcs."""
        key = (final, frozenset(followers))
        state = known.get(key)
        if state is None:
            state = known[key] = len(arcs)
            arcs.append(dict(followers))
            if final is not None:
                finals[state] = final
        return state

    for state in _backwards(automaton.arcs):
        by_slot: dict[int, dict[int, int]] = {}
        for (word, slot), target in automaton.arcs[state].items():
            by_slot.setdefault(slot, {})[numbers[word]] = merged[target]
        followers: list[tuple[Label, int]] = []
        for slot, targets in by_slot.items():
            exits = list(dict.fromkeys(targets.values()))
            places = {target: -1 - i for i, target in enumerate(exits)}
            key = (slot, tuple(sorted((word, places[x]) for word, x in targets.items())))
            if key not in tries:
                tries[key] = _trie(dict(key[1]), slot, ways)
            *inner, root = tries[key]
            states = exits[::-1]  # exits from the end, nodes after them
            begin = len(exits)
            for node in inner:
                states.append(state_of(None, [(x, states[begin + y]) for x, y in node]))
            followers += [(x, states[begin + y]) for x, y in root]
        merged[state] = state_of(automaton.finals.get(state), followers)
    # The smallest automaton is unique but for its numbers: so any compiler finds the same one.
    arcs = [dict(sorted(each.items(), key=_order)) for each in arcs]
    return _numbered(merged[0], arcs, finals, range(len(arcs)))


def _order(arc: tuple[Label, int]) -> tuple[int, int, int]:
    """The order of arcs over phones: phone, slot, word."""
    ((phone, word), slot), _ = arc
    return phone, slot, word


_Node = list[tuple[Label, int]]  # arcs to nodes, or to exits: -1 - number


def _trie(
    exits: Mapping[int, int], slot: int, ways: Sequence[Sequence[Sequence[int]]]
) -> list[_Node]:
    """The pronunciations of words, each node after those that follow it; the root is the last.

    Args:
      exits: where each word leads, below 0.
    """
    root: dict[Label, Any] = {}
    for word, end in exits.items():
        for phones in ways[word]:
            node = root
            for phone in phones[:-1]:
                node = node.setdefault(((phone, NO_WORD), slot), {})
            node[((phones[-1], word), slot)] = end
    nodes: list[_Node] = []
    known: dict[Hashable, int] = {}

    def number(node: dict[Label, Any]) -> int:
        arcs = [(x, number(y) if isinstance(y, dict) else y) for x, y in node.items()]
        key = frozenset(arcs)
        if key not in known:
            known[key] = len(nodes)
            nodes.append(arcs)
        return known[key]

    number(root)
    return nodes


def _backwards(arcs: list[dict[Label, int]]) -> list[int]:
    """The states that can be reached from 0, each after all that follow it."""
    done: dict[int, None] = {}
    stack: list[tuple[int, Iterator[int]]] = [(0, iter(arcs[0].values()))]
    while stack:
        state, targets = stack[-1]
        target = next((x for x in targets if x not in done), None)
        if target is None:
            done[state] = None
            stack.pop()
        else:
            stack.append((target, iter(arcs[target].values())))
    return list(done)
