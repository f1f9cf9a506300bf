"""Reads a grammar's file: YAML, and the language of its expressions; see `source`.

A file that ends in .txt has a phrase in each line instead, and one intent, "phrase".

Every limit is there so that any file of up to 1 MB gives an answer in seconds.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from firmware_sim.grammar import phones
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.lexicon import Pronunciation
from firmware_sim.grammar.numbers import BUILT_IN
from firmware_sim.grammar.phrase import Choice, Measure, Phrase, Slot, Word, measure, used_slots

MACRO: Final = "@"  # before the name of a macro among the slots
_LARGEST: Final = 1_000_000  # bytes of a file
_DEEPEST_YAML: Final = 20
_DEEPEST: Final = 60  # brackets and slots in each other
_MOST_WORDS: Final = 200_000  # of all expressions, their slots written out
_MOST_LEXEMES: Final = 500_000
_MOST_NODES: Final = 300_000
WORD: Final = re.compile(r"'*[a-z][a-z']*")
_MOST_LETTERS: Final = 30  # of a word
_NAME: Final = r"[\w.]+"
_LEXEME: Final = re.compile(rf"[\[\](),]|\${_NAME}(?::\w+)?|@{_NAME}|[^\s\[\](),$@]+|[$@]")
_CLOSING: Final = {"[": "]", "(": ")"}
# libyaml is ten times as fast, and its events need no recursion.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass
class Content:
    """What a file says: phrases by name, and the lines of the expressions."""

    expressions: dict[str, list[Phrase]]
    slots: dict[str, list[Phrase]]  # macros among them, as `MACRO` and their names
    lines: dict[str, list[int]]  # by intent
    pronunciations: dict[str, list[Pronunciation]]  # of words that the file says how to say


@dataclasses.dataclass
class _Node:
    """A part of the YAML: a text, a list of nodes or a list of pairs of them."""

    line: int
    value: Any
    plain: bool = False  # a text without quotes


def read(path: Path) -> Content:
    """Reads and checks a file.

    Raises:
      GrammarError: the message says what is wrong, in which line, and what to do.
    """
    return _Reader(path).content()


class _Reader:
    """Reads one file; `error` adds its path and the line to a message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lexemes = 0

    def error(self, node: _Node | None, problem: str) -> GrammarError:
        where = f", line {node.line}" if node is not None else ""
        # A name in the file may be of several lines; the message is one.
        problem = "".join(x if x.isprintable() else repr(x)[1:-1] for x in problem)
        return GrammarError(f"{self.path}{where}: {problem}")

    def content(self) -> Content:
        root = self.root()
        top = self.mapping(root, "the file")
        if "context" not in top:
            raise self.error(root, "no `context`: put `expressions` and `slots` under one")
        context = self.mapping(top["context"], "`context`")
        if "expressions" not in context:
            raise self.error(top["context"], "no `expressions`: add an intent with what people say")
        intents = self.mapping(context["expressions"], "`expressions`")
        if not intents:
            raise self.error(context["expressions"], "no expressions: add an intent with some")
        for name in intents:
            if not name.strip() or not name.isprintable():
                raise self.error(context["expressions"], f"an intent is called {name!r:.60}")
        slot_nodes = self.optional(context, "slots")
        nodes = {
            **slot_nodes,
            **{MACRO + name: node for name, node in self.optional(context, "macros").items()},
        }
        slots = {
            name: self.phrases(node, _label(name), not name.startswith(MACRO))
            for name, node in nodes.items()
        }
        expressions = {
            name: self.phrases(node, f"intent {name:.60}", False) for name, node in intents.items()
        }
        self.check_slots_exist({**nodes, **intents}, {**slots, **expressions}, slots)
        measures = self.measures(slots, nodes)
        self.check_expressions(intents, expressions, measures)
        lines = {name: [item.line for item in node.value] for name, node in intents.items()}
        own = {
            self.word(node, word).text: self.pronunciations(node, word)
            for word, node in self.optional(context, "pronunciations").items()
        }
        return Content(expressions, slots, lines, own)

    def optional(self, context: Mapping[str, _Node], key: str) -> dict[str, _Node]:
        """A mapping that may be missing, or empty."""
        node = context.get(key)
        if node is None or (node.plain and node.value in ("", "~", "null")):
            return {}
        return self.mapping(node, f"`{key}`")

    def check_expressions(
        self,
        nodes: Mapping[str, _Node],
        expressions: Mapping[str, Sequence[Phrase]],
        slots: Mapping[str, Measure],
    ) -> None:
        words = 0
        for name, node in nodes.items():
            for item, phrase in zip(node.value, expressions[name], strict=True):
                size = measure((phrase,), slots)
                words += size.words
                if size.may_be_empty:
                    raise self.error(item, f"an expression of {name} may be silence: add a word")
                if size.depth > _DEEPEST:
                    raise self.error(item, f"brackets and slots lie {size.depth} deep: use fewer")
                if words > _MOST_WORDS:
                    raise self.error(
                        item,
                        f"more than {_MOST_WORDS} words up to here, slots written out: use fewer",
                    )

    def root(self) -> _Node | None:
        """The node of the file."""
        try:
            if not self.path.is_file() and self.path.exists():
                raise GrammarError(f"{self.path} is not a file: name a grammar file")
            with self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            text = data.decode("utf-8-sig")
            if len(data) > _LARGEST:
                raise GrammarError(f"{self.path} has more than {_LARGEST} bytes: make it smaller")
            return _lines(text) if self.path.suffix == ".txt" else self.nodes(text)
        except OSError as error:
            raise GrammarError(f"{self.path}: {error.strerror}: name a grammar file") from error
        except UnicodeDecodeError as error:
            raise GrammarError(
                f"{self.path} is not text in UTF-8: save it as such ({error})"
            ) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or getattr(error, "reason", None)
            problem = " ".join(str(problem or "it cannot be read").split())
            raise GrammarError(f"{self.path}{where}: not YAML: {problem}") from error

    def nodes(self, text: str) -> _Node | None:
        """The document, built from events: depth and aliases cannot exhaust anything."""
        root: list[_Node] = []
        open_: list[list[_Node]] = [root]  # the items of each collection that is not closed
        collections: list[tuple[_Node, bool]] = []  # and its node, and whether it is a mapping
        anchors: dict[str, _Node] = {}
        count = 0
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent) and root:
                raise self.error(_Node(line, ""), "a second document begins: put all into one")
            if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                items = open_.pop()
                node, is_mapping = collections.pop()
                node.value = (
                    list(zip(items[::2], items[1::2], strict=True)) if is_mapping else items
                )
                continue
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    raise self.error(_Node(line, ""), f"*{event.anchor:.60} stands for nothing")
                open_[-1].append(anchors[event.anchor])
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            node = _Node(line, None)
            count += 1
            open_[-1].append(node)
            if event.anchor:
                anchors[event.anchor] = node
            if isinstance(event, yaml.ScalarEvent):
                node.value, node.plain = event.value, not event.style
            else:
                collections.append((node, isinstance(event, yaml.MappingStartEvent)))
                open_.append([])
            if len(open_) > _DEEPEST_YAML or count > _MOST_NODES:
                raise self.error(node, "too many lists in lists, or too many of them: use fewer")
        return root[0] if root else None

    def check_slots_exist(
        self,
        nodes: Mapping[str, _Node],
        phrases: Mapping[str, Sequence[Phrase]],
        slots: dict[str, list[Phrase]],
    ) -> None:
        """Adds built-in slots to `slots`; refuses those that are not there."""
        for name, node in nodes.items():
            for item, phrase in zip(node.value, phrases[name], strict=True):
                for slot in used_slots(phrase):
                    if slot in slots:
                        continue
                    if slot in BUILT_IN:
                        slots[slot] = BUILT_IN[slot]
                    elif slot.startswith(MACRO):
                        raise self.error(
                            item, f"{slot} is not defined: add it under `macros` or rename it"
                        )
                    elif slot.startswith("pv."):
                        raise self.error(
                            item, f"${slot} is not among the built-in slots: {', '.join(BUILT_IN)}"
                        )
                    else:
                        raise self.error(
                            item, f"${slot} is not defined: add it under `slots` or rename it"
                        )

    def mapping(self, node: _Node | None, what: str) -> dict[str, _Node]:
        if node is None or not isinstance(node.value, list) or not _pairs(node):
            raise self.error(node, f"{what} must be a mapping of names")
        entries: dict[str, _Node] = {}
        for key, value in node.value:
            if not isinstance(key.value, str):
                raise self.error(key, f"a name in {what} is a list or a mapping: use a text")
            if key.value in entries:
                raise self.error(key, f"{key.value:.60} is there twice: keep one")
            entries[key.value] = value
        return entries

    def phrases(self, node: _Node, what: str, values: bool) -> list[Phrase]:
        if not isinstance(node.value, list) or (node.value and _pairs(node)):
            raise self.error(node, f"{what} must be a list")
        if not node.value:
            raise self.error(node, f"{what} is empty: add what people say")
        return [self.phrase(item, what, values) for item in node.value]

    def phrase(self, node: _Node, what: str, value: bool) -> Phrase:
        if not isinstance(node.value, str):
            raise self.error(node, f"{what} holds something else than texts")
        lexemes = _LEXEME.findall(node.value)
        self.lexemes += len(lexemes)
        if self.lexemes > _MOST_LEXEMES:
            raise self.error(node, "too many words up to here: use fewer")
        position = depth = 0
        shown = f"{node.value!r:.80}"

        def sequence(closing: str) -> Phrase:
            nonlocal position
            items: list[Word | Choice | Slot] = []
            while position < len(lexemes):
                lexeme = lexemes[position]
                if lexeme in ("]", ")", ","):
                    if not closing or (lexeme != "," and lexeme != closing):
                        raise self.error(node, f"{lexeme!r} has no beginning in {shown}")
                    return tuple(items)
                position += 1
                if lexeme in _CLOSING:
                    items.append(choice(lexeme))
                elif lexeme in "$@":
                    raise self.error(node, f"{lexeme} without a name in {shown}")
                elif lexeme.startswith(MACRO):
                    items.append(Slot(lexeme, None))
                elif lexeme.startswith("$"):
                    slot, _, name = lexeme[1:].partition(":")
                    items.append(Slot(slot, name or (None if value else slot)))
                else:
                    items.append(self.word(node, lexeme))
            if closing:
                raise self.error(node, f"{closing!r} is missing in {shown}")
            return tuple(items)

        def choice(opening: str) -> Choice:
            nonlocal position, depth
            depth += 1
            if depth > _DEEPEST:
                raise self.error(node, f"brackets lie more than {_DEEPEST} deep in {shown}")
            phrases: list[Phrase] = [] if opening == "[" else [()]
            while True:
                phrase = sequence(_CLOSING[opening])
                if not phrase:
                    raise self.error(node, f"an alternative of {shown} has no words")
                phrases.append(phrase)
                position += 1
                if lexemes[position - 1] != ",":
                    depth -= 1
                    return Choice(tuple(phrases))

        phrase = sequence("")
        if not phrase:
            raise self.error(node, f"{what} holds a text without words")
        return phrase

    def word(self, node: _Node, text: str) -> Word:
        word = text.lower().replace("\u2019", "'")
        if not WORD.fullmatch(word):
            raise self.error(
                node,
                f"{text!r:.60} cannot be said as it is written: spell it in the letters a to z "
                "(an apostrophe is allowed), as 'twelve ounce' for '12oz'",
            )
        if len(word) > _MOST_LETTERS:
            raise self.error(
                node, f"{text!r:.60} has more than {_MOST_LETTERS} letters: write several words"
            )
        return Word(word)

    def pronunciations(self, node: _Node, word: str) -> list[Pronunciation]:
        """Of a word: a text with its phones, or a list of such texts, the best first."""
        items = node.value if isinstance(node.value, list) and not _pairs(node) else [node]
        texts = [item.value for item in items if isinstance(item.value, str)]
        if len(texts) < len(items) or not all(text.split() for text in texts):
            raise self.error(node, f"{word:.60} needs its phones, as in `mocha: M OW K AH`")
        try:
            return [tuple(phones.ids(text.upper().split())) for text in texts]
        except ValueError as error:
            raise self.error(node, f"{word:.60}: {error}") from error

    def measures(
        self, slots: Mapping[str, list[Phrase]], nodes: Mapping[str, _Node]
    ) -> dict[str, Measure]:
        """The size of each slot; refuses one that contains itself, or is endless in effect."""
        measures: dict[str, Measure] = {}
        for first in slots:
            above = {first: None}  # those that contain each other, in order
            stack = [_used(slots[first])]
            while stack:
                inner = next((x for x in stack[-1] if x not in measures), None)
                name = next(reversed(above))
                if inner is None:
                    size = measure(slots[name], measures)
                    if size.words > _MOST_WORDS or size.depth > _DEEPEST:
                        raise self.error(
                            nodes.get(name),
                            f"{_label(name)} holds more than {_MOST_WORDS} words, or slots more "
                            f"than {_DEEPEST} deep: use fewer",
                        )
                    measures[name] = size
                    above.pop(name)
                    stack.pop()
                elif inner in above:
                    names = list(above)
                    circle = [*names[names.index(inner) :], inner]
                    raise self.error(
                        nodes[circle[0]],
                        f"{_label(circle[0])} contains itself ({' -> '.join(circle)[:200]}): "
                        "break the circle",
                    )
                else:
                    above[inner] = None
                    stack.append(_used(slots[inner]))
        return measures


def _used(phrases: Sequence[Phrase]) -> Any:
    """The slots that alternatives refer to, each time once."""
    return iter({slot: None for phrase in phrases for slot in used_slots(phrase)})


def _label(name: str) -> str:
    kind = "macro" if name.startswith(MACRO) else "slot"
    return f"{kind} {name.removeprefix(MACRO):.60}"


def _lines(text: str) -> _Node:
    """What the YAML of a grammar with these lines would be."""
    lines = text.splitlines()
    phrases = [_Node(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    node = _Node(1, phrases)
    for name in ("phrase", "expressions", "context"):
        node = _Node(1, [(_Node(1, name), node)])
    return node


def _pairs(node: _Node) -> bool:
    """Whether a collection is a mapping; an empty one is either."""
    return all(isinstance(item, tuple) for item in node.value)
