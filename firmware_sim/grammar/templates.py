"""Home Assistant's intents as a grammar: sentence templates in the form that `hassil` parses.

    (set|change) [the] {name} brightness to {brightness}[ percent]

`(a|b)` are alternatives, `[a]` is optional, also within a word; `(a;b)` are both in any order,
`{list:slot}` is a value of a list, `<rule>` stands for another template.  Values come as Home
Assistant expects them: "75", and names as they are written there.

Wildcards, which stand for any words, are left out, with the alternatives that need them.  So are
lists without values: with no areas, nothing is understood that names one.
"""

import functools
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from firmware_sim.grammar import spoken
from firmware_sim.grammar.automaton import GrammarError
from firmware_sim.grammar.home import KINDS, Home, Name, read_yaml
from firmware_sim.grammar.phrase import Choice, Measure, Phrase, Slot, Word, ended, measure
from firmware_sim.grammar.source import Grammar

BUILT_IN: Final = "home-assistant"  # the sentences of the package home-assistant-intents
_MOST_WAYS: Final = 5_000  # to write words that touch each other
_DEEPEST: Final = 24  # rules within rules
_WRITTEN: Final = (("%", " percent"), ("\u00b0", " degrees"))


class Templates:
    """The templates of some files.

    Args:
      content: as `hassil` reads it from YAML.
      where: for messages.

    Raises:
      GrammarError: a template or a list cannot be read, or `hassil` is not installed.
    """

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        try:
            from hassil import Intents
            from hassil.parser import ParseError
        except ModuleNotFoundError as error:
            raise GrammarError(
                f"{where} is in Home Assistant's form, which needs the Python package hassil: "
                "pip install 'integer-speech-transformer[wyoming]'"
            ) from error
        self.where = where
        try:
            self.intents: Any = Intents.from_dict({"language": "en", **content})
            for intent in self.intents.intents.values():
                for data in intent.data:
                    assert data.sentences is not None  # parsed here
        except (ParseError, AssertionError, KeyError, TypeError, ValueError, AttributeError) as e:
            raise GrammarError(f"{where}: not Home Assistant's sentences: {e!r:.200}") from e

    @classmethod
    def read(cls, path: pathlib.Path) -> "Templates":
        """Reads a YAML file, all of a directory, or the built-in ones.

        Raises:
          GrammarError: a file cannot be read, or is not in Home Assistant's form.
        """
        if str(path) == BUILT_IN:
            return cls(_built_in(), BUILT_IN)
        content = _content(path)
        if "intents" not in content:
            raise GrammarError(f"{path}: no `intents`: put sentences under an intent's name")
        return cls(content, str(path))

    def grammar(self, home: Home | None = None) -> Grammar:
        """The grammar of a home.

        Args:
          home: values of lists that the files do not have, or instead of theirs.

        Raises:
          GrammarError: a rule or list is missing, or nothing is left to say.
        """
        slots: dict[str, list[Phrase]] = {}
        expressions: dict[str, list[Phrase]] = {}
        names: dict[str, list[list[Phrase]]] = {}
        left_out: list[str] = []
        for name, data, sentence in self._sentences():
            where = f"{self.where}, {name}, {sentence.text!r}"
            lists = {**self.intents.slot_lists, **data.slot_lists}
            rules = {**self.intents.expansion_rules, **data.expansion_rules}
            converter = _Converter(
                where, rules, lists, home or {}, data.requires_context, slots, names
            )
            phrase = converter.phrase([sentence.expression])
            if phrase is None:
                left_out.append(f"{name}: {sentence.text}")
            elif measure([phrase], dict.fromkeys(slots, Measure(1, 1, False))).may_be_empty:
                raise GrammarError(f"{where} may be silence: add a word")
            else:
                expressions.setdefault(name, []).append(phrase)
        if not expressions:
            raise GrammarError(f"{self.where}: all sentences need names that are not there")
        result = Grammar(pathlib.Path(self.where).stem, expressions, slots, collisions=[])
        result.left_out = left_out
        result.names = names
        return result

    def _sentences(self) -> Iterator[tuple[str, Any, Any]]:
        for name, intent in self.intents.intents.items():
            for data in intent.data:
                for sentence in data.sentences:
                    yield name, data, sentence


def read(path: pathlib.Path, slots: Mapping[str, Any] | None = None) -> Grammar:
    """Reads a grammar in either form.

    Args:
      path: a YAML file; of Home Assistant's form also a directory of them, or `BUILT_IN`.
      slots: further values of slots; of Home Assistant's form, texts or `Name`s by list.

    Raises:
      GrammarError: what is wrong, where, and what to do.
    """
    if is_templates(path):
        home = {
            key: [x if isinstance(x, Name) else Name(x) for x in values]
            for key, values in (slots or {}).items()
        }
        return Templates.read(path).grammar(home)
    return Grammar.read(path).with_values(slots or {})


def is_templates(path: pathlib.Path) -> bool:
    """Whether a path is in Home Assistant's form: a directory, `BUILT_IN`, or with `intents`."""
    if str(path) == BUILT_IN or path.is_dir():
        return True
    try:
        return re.search("(?m)^intents:", path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _content(path: pathlib.Path) -> dict[str, Any]:
    """What one file has, or all of a directory together."""
    files = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]) if path.is_dir() else [path]
    if not files:
        raise GrammarError(f"{path}: has no YAML files")
    content: dict[str, Any] = {}
    for file in files:
        more = read_yaml(file)
        if not isinstance(more, dict):
            raise GrammarError(f"{file}: not a mapping with `intents`")
        _merge(content, more)
    return content


def _merge(content: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(content.get(key), dict) and isinstance(value, dict):
            _merge(content[key], value)
        elif isinstance(content.get(key), list) and isinstance(value, list):
            content[key] = [*content[key], *value]
        else:
            content[key] = value


def _built_in() -> dict[str, Any]:
    try:
        import home_assistant_intents
    except ModuleNotFoundError as error:
        raise GrammarError(
            "Home Assistant's sentences need the Python package home-assistant-intents: "
            "pip install 'integer-speech-transformer[wyoming]'"
        ) from error
    folder = pathlib.Path(home_assistant_intents.__file__).parent
    content: dict[str, Any] = json.loads((folder / "speech_to_phrase" / "en.json").read_bytes())
    return content


_Item = Any  # a text, or an expression of hassil that is no text and no sequence
_Piece = Any  # a text, or a slot


class _Converter:
    """Turns one template into a phrase.

    Args:
      where: for messages.
      rules, lists: of hassil.
      home: values that replace a list's.
      context: what the sentence requires, such as a domain.
      slots: takes the values of lists as they are needed.
      names: takes those of the home, by domain.
    """

    def __init__(
        self,
        where: str,
        rules: Mapping[str, Any],
        lists: Mapping[str, Any],
        home: Home,
        context: Mapping[str, Any],
        slots: dict[str, list[Phrase]],
        names: dict[str, list[list[Phrase]]],
    ) -> None:
        self._where, self._rules, self._lists, self._home = where, rules, lists, home
        self._context, self._slots, self._names = context, slots, names

    def phrase(self, expressions: Sequence[Any]) -> Phrase | None:
        """Expressions one after the other; None if one cannot be said."""
        items = [x for expression in expressions for x in self._items(expression, 0)]
        phrase: list[Word | Choice | Slot] = []
        for cluster in self._clusters(items):
            part = self._cluster(cluster)
            if part is None:
                return None
            phrase += part
        return tuple(phrase)

    def _items(self, expression: Any, depth: int) -> list[_Item]:
        """An expression without rules and sequences in it."""
        from hassil.expression import RuleReference, Sequence, TextChunk

        if isinstance(expression, TextChunk):
            text = expression.text
            for symbol, word in _WRITTEN:
                text = text.replace(symbol, word)
            return [text]
        if isinstance(expression, RuleReference):
            if expression.rule_name not in self._rules:
                raise GrammarError(f"{self._where}: there is no rule <{expression.rule_name}>")
            if depth > _DEEPEST:
                raise GrammarError(f"{self._where}: <{expression.rule_name}> contains itself")
            return self._items(self._rules[expression.rule_name].expression, depth + 1)
        if isinstance(expression, Sequence):
            return [x for item in expression.items for x in self._items(item, depth + 1)]
        return [expression]

    def _clusters(self, items: Sequence[_Item]) -> Iterator[list[_Item]]:
        """Items that touch each other, as spaces divide them."""
        cluster: list[_Item] = []
        for i, item in enumerate(items):
            if isinstance(item, str):
                for piece in re.split(r"(\s+)", item):
                    if piece.isspace():
                        if cluster:
                            yield cluster
                        cluster = []
                    elif piece:
                        cluster.append(piece)
                continue
            touches_next = i + 1 < len(items) and not self._spaced(items[i + 1], 0)
            within = bool(cluster) and touches_next and self._optional(item)
            if cluster and self._spaced(item, 0) and not within:
                yield cluster
                cluster = []
            cluster.append(item)
            if self._spaced(item, -1) and not within:
                yield cluster
                cluster = []
        if cluster:
            yield cluster

    def _spaced(self, item: _Item, side: int) -> bool:
        """Whether whatever is said of an item begins (side 0) or ends (-1) with a space."""
        if isinstance(item, str):
            return item[side:][:1].isspace() if item else False
        if not hasattr(item, "items"):  # a list
            return False
        edges = [[y for y in self._items(x, 0) if y != ""] for x in item.items]
        return any(edges) and all(self._spaced(x[side], side) for x in edges if x)

    def _optional(self, item: _Item) -> bool:
        return not isinstance(item, str) and bool(getattr(item, "is_optional", False))

    def _cluster(self, cluster: Sequence[_Item]) -> Phrase | None:
        from hassil.expression import Alternative, ListReference, Permutation

        if len(cluster) > 1 and not all(isinstance(x, str) for x in cluster):
            ways = [self._joined(x) for x in self._product(cluster)]
            return _choice([x for x in ways if x is not None])
        (item,) = ["".join(cluster)] if isinstance(cluster[0], str) else cluster
        if isinstance(item, str):
            return spoken.phrase(item)
        if isinstance(item, ListReference):
            return self._reference(item)
        if isinstance(item, Permutation):
            self._limit(item)
            orders = [self.phrase(x) for x in itertools.permutations(item.items)]
            return _choice([x for x in orders if x is not None])
        assert isinstance(item, Alternative)
        alternatives = [self.phrase([x]) for x in item.items]
        return _choice([x for x in alternatives if x is not None])

    def _limit(self, permutation: Any) -> None:
        if len(permutation.items) > 5:
            raise GrammarError(f"{self._where}: more than 5 parts in any order: use fewer")

    def _product(self, items: Sequence[_Item]) -> list[tuple[_Piece, ...]]:
        """All ways to write items that touch each other."""
        ways: list[tuple[_Piece, ...]] = [()]
        for item in items:
            ways = [(*way, *more) for way in ways for more in self._ways(item)]
            if len(ways) > _MOST_WAYS:
                raise GrammarError(
                    f"{self._where}: too many alternatives without a space between them: "
                    "put spaces around groups, or use fewer"
                )
        return ways

    def _ways(self, item: _Item) -> list[tuple[_Piece, ...]]:
        from hassil.expression import Alternative, Permutation

        if isinstance(item, Permutation):
            self._limit(item)
            orders = list(itertools.permutations(item.items))
        elif isinstance(item, Alternative):
            orders = [(x,) for x in item.items]
        else:
            return [(item,)]
        return [
            way
            for order in orders
            for way in self._product([y for x in order for y in self._items(x, 0)])
        ]

    def _joined(self, pieces: Sequence[_Piece]) -> Phrase | None:
        """Texts and lists that touch each other; words end where a list begins."""
        phrase: list[Word | Choice | Slot] = []
        for is_text, group in itertools.groupby(pieces, lambda x: isinstance(x, str)):
            if is_text:
                phrase += spoken.phrase("".join(group))
                continue
            for item in group:
                part = self._reference(item)
                if part is None:
                    return None
                phrase += part
        return tuple(phrase)

    def _reference(self, item: Any) -> Phrase | None:
        """A slot; None if its list has no values."""
        name, domains = item.list_name, self._context.get("domain")
        allowed = {domains} if isinstance(domains, str) else set(domains or ())
        key = " ".join([name, *sorted(allowed)])
        if name in self._lists and name not in self._home:
            key += f" {id(self._lists[name])}"  # a block of sentences may have lists of its own
        if key not in self._slots:
            if item.is_inline_range:
                first, last, step = item.get_inline_range()
                phrases = _range(range(first, last + 1, step), None)
            elif name in self._home:
                fitting = (x for x in self._home[name] if _fits(x.domain, allowed))
                parts: dict[str, list[Name]] = {}
                for each in fitting:
                    parts.setdefault(each.domain, []).append(each)
                named = [_named(tuple(x)) for x in parts.values()]
                phrases = list(dict.fromkeys(itertools.chain(*named)))
                if phrases:
                    self._names[key] = named
            elif name in self._lists:
                phrases = self._values(self._lists[name], allowed)
            elif name in KINDS.values():
                phrases = []
            else:
                raise GrammarError(f"{self._where}: there is no list {{{name}}}")
            if not phrases:
                return None
            self._slots[key] = phrases
        return (Slot(key, item.slot_name),)

    def _values(self, values: Any, allowed: set[str]) -> list[Phrase]:
        """The phrases of a list; none of a wildcard."""
        from hassil.intents import RangeSlotList, TextSlotList

        if isinstance(values, RangeSlotList):
            return _range(values.get_numbers(), values.multiplier)
        if not isinstance(values, TextSlotList):
            return []
        phrases: list[Phrase] = []
        for value in values.values:
            if not _fits((value.context or {}).get("domain", ""), allowed):
                continue
            text = self.phrase([value.text_in])
            if text:
                phrases += _meaning(text, "" if value.value_out is None else str(value.value_out))
        return list(dict.fromkeys(phrases))


def _fits(domain: Any, allowed: set[str]) -> bool:
    return not allowed or not domain or domain in allowed


def _meaning(phrase: Phrase, value: str) -> list[Phrase]:
    """A phrase as the value of a slot."""
    if any(isinstance(x, Slot) for x in phrase):
        raise GrammarError(f"{value!r} has a list within its text: write its values out")
    if all(isinstance(x, Word) for x in phrase) and " ".join(map(str, phrase)) == value:
        return [phrase]
    return ended(phrase, value)


def _range(numbers: Any, multiplier: float | None) -> list[Phrase]:
    phrases: list[Phrase] = []
    for number in numbers:
        phrases += _meaning(spoken.number(number), f"{number * (multiplier or 1):g}")
    return phrases


@functools.lru_cache(maxsize=64)
def _named(names: tuple[Name, ...]) -> list[Phrase]:
    """Names as they are said; their values are as they are written."""
    phrases = [_meaning(spoken.phrase(x.text), x.value or x.text) for x in names]
    return list(dict.fromkeys(itertools.chain(*phrases)))


def _choice(phrases: Sequence[Phrase]) -> Phrase | None:
    """One of several phrases; None if there is none."""
    different = list(dict.fromkeys(phrases))
    if not different:
        return None
    return different[0] if len(different) == 1 else (Choice(tuple(different)),)
