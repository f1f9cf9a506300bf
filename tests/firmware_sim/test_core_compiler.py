"""The compiler of grammars in C: blocks equal to Python's, and what it refuses."""

import json
import pathlib
import random
import re
import shutil
from typing import Any

import pytest

from firmware_sim import bundle
from firmware_sim.grammar.lexicon import Lexicon
from firmware_sim.grammar.pronunciation import ENGLISH
from firmware_sim.web.build import COMPILER
from tests.conftest import REPOSITORY
from tests.firmware_sim import compiler, core
from tests.firmware_sim.compiler import Compiler

SLOTS = {
    "state": ["on", "off"],
    "room": ["kitchen", "living room", "(upper) hall"],
    "place": ["in the $room", "$room:where (floor $pv.SingleDigitInteger:floor)"],
}
# Expressions by intent, and what else is in `context`.
GRAMMARS: dict[str, dict[str, Any]] = {
    "one word": {"expressions": {"go": ["go"]}},
    "alternatives": {"expressions": {"go": ["[go, come] (please) (back, home again)"]}},
    "a word within another": {"expressions": {"go": ["to", "too two", "two (to)"]}},
    "intents that share words": {
        "expressions": {"a": ["turn it on"], "b": ["turn it off", "turn [it, that] up"]}
    },
    "one meaning in two ways": {"expressions": {"a": ["turn on", "turn (it) on", "[turn on]"]}},
    "slots": {"expressions": {"a": ["[turn, switch] $state the light ($place)"]}, "slots": SLOTS},
    "names of slots": {
        "expressions": {"a": ["from $room:from to $room:to", "$room $room"]},
        "slots": SLOTS,
    },
    "a slot in a value": {"expressions": {"a": ["put it $place:place"]}, "slots": SLOTS},
    "a word of two slots": {
        "expressions": {"a": ["$x:one", "$x:other please"]},
        "slots": {"x": ["a", "b"]},
    },
    "unused slots": {"expressions": {"a": ["go"]}, "slots": {**SLOTS, "left": ["blork $state"]}},
    "macros": {
        "expressions": {"a": ["@polite $state"], "b": ["@polite go"]},
        "slots": SLOTS,
        "macros": {"polite": ["please (@very)"], "very": ["pretty", "in the $room"]},
    },
    "numbers": {
        "expressions": {
            "a": ["set $pv.TwoDigitInteger:x", "the $pv.TwoDigitOrdinal", "$pv.Percent:y"],
            "b": ["$pv.SingleDigitOrdinal:x $pv.SingleDigitInteger"],
        }
    },
    "pronunciations": {
        "expressions": {"a": ["call siobhan", "route it"]},
        "pronunciations": {
            "Siobhan": "SH AH V AO1 N",
            "route": ["r uw t", "R AW T", "R AW T"],
        },
    },
    "all kinds of words": {
        "expressions": {
            "a": ["x tv hdtv o'clock kettle's dogs' theatres organised the zzz don\u2019t 'tis"],
            "b": ["wuggle blorks Kitchen travelling'" + "s tomato data water twenty newer rotary"],
        }
    },
    "names in other scripts": {"expressions": {"\u00fcben \U0001d11e": ["$gr\u00f6\u00dfe"]},
                               "slots": {"gr\u00f6\u00dfe": ["small", "large"]}},
    "null": {"expressions": {"a": ["go"]}, "slots": None, "macros": None, "pronunciations": None},
}  # fmt: skip


def compile_in_webassembly(made: Compiler, text: bytes) -> bytes:
    """What the compiler of the browser's module makes of a text: a machine of 32 bits."""
    wasmtime = pytest.importorskip("wasmtime", reason="Wasmtime is not installed")
    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(COMPILER))
    linker = wasmtime.Linker(store.engine)
    linker.define_unknown_imports_as_traps(module)
    exports = linker.instantiate(store, module).exports(store)
    memory, room = exports["memory"], 1 << 20
    memory.grow(store, 1 + (len(made.block) + len(made.lexicon) + len(text) + room >> 16))
    place, given = -(-exports["__heap_base"].value(store) // 16) * 16, []
    for content in (made.block, made.lexicon, text):
        memory.write(store, content, place)
        given += [place, len(content)]
        place += -(-len(content) // 16) * 16
    size = exports["grammar_compile"](store, *given, place, room)
    return bytes(memory.read(store, place, place + size))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, loaded: bundle.Bundle) -> Compiler:
    library = compiler.build(tmp_path_factory.mktemp("compiler"))
    return Compiler(library, compiler.general(loaded))


@pytest.mark.parametrize("name", ["barista", "calendar", "home"])
def test_the_grammars_of_the_repository_compile_to_the_bytes_of_python(
    name: str, made: Compiler, tmp_path: pathlib.Path
) -> None:
    content = compiler.host_reads(REPOSITORY / "grammars" / f"{name}.yaml")
    found = made.compile(json.dumps(content))
    assert (found.status, found.fault, found.message) == (compiler.OK, "sound", "")
    assert found.block == made.python(content, tmp_path)
    assert found.room <= 1 << 18
    assert compile_in_webassembly(made, json.dumps(content).encode()) == found.block


@pytest.mark.parametrize("name", GRAMMARS)
def test_grammars_compile_to_the_bytes_of_python(
    name: str, made: Compiler, tmp_path: pathlib.Path
) -> None:
    content = {"context": GRAMMARS[name]}
    for ascii_only in (True, False):
        found = made.compile(
            json.dumps(content, ensure_ascii=ascii_only, indent=ascii_only or None)
        )
        assert found.message == ""
        assert found.block == made.python(content, tmp_path)


def test_a_large_grammar_compiles_to_the_bytes_of_python(
    made: Compiler, tmp_path: pathlib.Path
) -> None:
    """Names for a telephone: more arcs than 16 bits can number."""
    lexicon, chance = Lexicon.read(ENGLISH), random.Random(1)
    words = [word for block in range(900) for word in lexicon._decode(block) if len(word) > 3]
    names = [" ".join(chance.sample(words, 2)) for _ in range(7000)]
    content = {"context": {"expressions": {"call": ["call $name"]}, "slots": {"name": names}}}
    found = made.compile(json.dumps(content))
    assert found.block == made.python(content, tmp_path)
    assert found.block is not None
    width = found.block[28 + 4 * 9]
    assert width == 4


def test_a_text_has_a_phrase_a_line(made: Compiler, tmp_path: pathlib.Path) -> None:
    lines = ["turn [on, off] the light", "", "  set it to $pv.TwoDigitInteger:level\r", "\tgo home"]
    phrases = [line for line in lines if line.strip()]
    expected = made.python({"context": {"expressions": {"phrase": phrases}}}, tmp_path)
    assert made.compile("\n".join(lines)).block == expected
    assert made.compile("\ufeff" + "\n".join(lines) + "\n").block == expected


FAULTY: dict[str, tuple[str, dict[str, Any], str, str]] = {
    # Where it is in the text, what it is, the fault, and what the message says.
    "digit": ("12oz", {"expressions": {"a": ["a 12oz can"]}}, "word", '"12oz" cannot be said'),
    "letters": ("\u00e9", {"expressions": {"a": ["the \u00e9"]}}, "word", '"\u00e9" cannot be'),
    "apostrophe": ("''", {"expressions": {"a": ["it ''"]}}, "word", "cannot be said"),
    "too long": ("a" * 31, {"expressions": {"a": ["a" * 31]}}, "word", "more than 30 letters"),
    "open bracket": ('"]', {"expressions": {"a": ["go [on, off"]}}, "syntax", '"]" is missing'),
    "closed bracket": (") on", {"expressions": {"a": ["go) on"]}}, "syntax", '")" has no beginn'),
    "other bracket": (")", {"expressions": {"a": ["go [on)"]}}, "syntax", '")" has no beginning'),
    "comma": (", come", {"expressions": {"a": ["go, come"]}}, "syntax", '"," has no beginning'),
    "empty": ("]", {"expressions": {"a": ["go [on, ]"]}}, "syntax", "alternative has no words"),
    "no words": (' "]', {"expressions": {"a": [" "]}}, "syntax", "without words"),
    "nameless": ("$ ", {"expressions": {"a": ["go $ on"]}}, "syntax", '"$" without a name'),
    "missing": ("$rom", {"expressions": {"a": ["in $rom"]}}, "slot", '"rom" is not defined'),
    "macro": ("@m", {"expressions": {"a": ["in @m"]}}, "slot", '"@m" is not defined'),
    "numbers": ("$pv.X", {"expressions": {"a": ["in $pv.X"]}}, "slot", '"pv.X" is not defined'),
    "circle": ("$a\"", {"expressions": {"x": ["$a"]}, "slots": {"a": ["b $b"], "b": ["c $a"]}},
               "slot", '"a" contains itself'),
    "silence": ("(go)", {"expressions": {"a": ["(go)"]}}, "silence", "may be silence"),
    "ambiguous": ("b\": [", {"expressions": {"a": ["turn (it) on"], "b": ["turn on", "go"]}},
                  "ambiguity", '"turn on" is both "a" and "b"'),
    "ambiguous by slots": ("b\": [", {"expressions": {"a": ["$x:one go"], "b": ["$x:two go"]},
                                      "slots": {"x": ["to", "from"]}},
                           "ambiguity", 'go" is both "a" and "b"'),
    "phones": ('"M OW Q"', {"expressions": {"a": ["mocha"]}, "pronunciations": {"mocha": "M OW Q"}},
               "phones", '"mocha" needs its phones'),
    "no phones": ("[]}", {"expressions": {"a": []}}, "form", "must be a list"),
    "list": ('"go"}', {"expressions": {"a": "go"}}, "form", "must be a list"),
    "number": ("12]", {"expressions": {"a": ["go", 12]}}, "form", "else than texts"),
    "no way": ("[]}", {"expressions": {"a": ["go"]}, "pronunciations": {"go": []}},
               "phones", '"go" needs its phones'),
    "no intents": ("{}", {"expressions": {}}, "form", "no expressions"),
    "no expressions": ("{", {"slots": {"a": ["b"]}}, "form", 'no "expressions"'),
    "too large": ("$f\"", {"expressions": {"x": ["$f"]}, "slots": {
        "a": ["one two three four five six seven eight nine ten"],
        **{name: [" ".join([f"${chr(ord(name) - 1)}"] * 10)] for name in "bcdef"},
    }}, "size", "more than 200000 words"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_grammar_is_refused_where_python_refuses_it(
    name: str, made: Compiler, tmp_path: pathlib.Path
) -> None:
    place, context, fault, message = FAULTY[name]
    text = json.dumps({"context": context}, ensure_ascii=False)
    found = made.compile(text)
    assert (found.status, found.fault) == (compiler.GRAMMAR, fault)
    assert message in found.message and found.line == 1
    if fault != "size":
        assert text.encode()[found.position :].decode().startswith(place)
    with pytest.raises(ValueError):
        made.python({"context": context}, tmp_path)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "there are no phrases"),
        ("go\n(on)\n", 3, "a phrase that may be silence"),
        ("go\ncome\nturn [on", 16, '"]" is missing'),
        ('{"context": {"expressions": {"a": ["go"],}}}', 41, "not JSON from here on"),
        ('{"context": {"expressions": {"a": ["go"]}}', 42, "not JSON from here on"),
        ('{"context": {}, "context": {}}', 17, '"context" is there twice'),
        ('{"context": {"expressions": {"a": ["go"], "a": ["on"]}}}', 43, '"a" is there twice'),
        ('{"a":' * 30, 96, "not JSON from here on"),
        (b"go \xff", 3, "no UTF-8 from here on"),
        ("a" * 1_000_001, 0, "more than 1000000 bytes"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_its_place(
    text: str | bytes, position: int, message: str, made: Compiler
) -> None:
    found = made.compile(text)
    assert found.status == compiler.GRAMMAR
    assert (found.position, found.message[: len(message)]) == (position, message)
    content = text.encode() if isinstance(text, str) else text
    assert found.line == 1 + content[:position].count(b"\n")


def test_other_files_and_small_buffers_are_refused(made: Compiler, loaded: bundle.Bundle) -> None:
    assert made.compile("go", room=8_192).status == compiler.MEMORY
    enough = made.compile("go").room
    for room in range(0, enough, 1_000):
        assert made.compile("go", room // 8 * 8).status in (compiler.MEMORY, compiler.OK)
    other = Compiler.__new__(Compiler)
    other.__dict__ = {**made.__dict__, "lexicon": made.lexicon[:-1]}
    assert other.compile("go").status == compiler.LEXICON
    other.__dict__ = {**made.__dict__, "block": core.block_of(loaded)}
    assert other.compile("go").status == compiler.BLOCK


def test_words_are_said_as_python_says_them(made: Compiler, tmp_path: pathlib.Path) -> None:
    """One grammar of words from the lexicon, with changed letters, and of any letters."""
    lexicon, chance = Lexicon.read(ENGLISH), random.Random(5)
    words: set[str] = set()
    for number in chance.sample(range(len(lexicon._blocks)), 20):
        for word in lexicon._decode(number):
            place = chance.randrange(len(word) + 1)
            other = chance.choice(["'s", "s", "ised", "our", "x", "'", "ence", "lling", "z", "re"])
            words |= {word, word[:place] + other, word[:place] + other + word[place:]}
    words |= {"".join(chance.choices("aeioubcdfghlmnprstvwyz'", k=chance.randint(1, 9)))
              for _ in range(200)}  # fmt: skip
    said = sorted(word for word in words if re.search("[a-z]", word) and len(word) <= 30)
    content = {"context": {"expressions": {"say": said}}}
    assert made.compile(json.dumps(content)).block == made.python(content, tmp_path)


def test_damaged_texts_and_lexicons_do_no_harm_under_sanitizers(
    made: Compiler, tmp_path: pathlib.Path
) -> None:
    program = tmp_path / "fuzz"
    fuzz = pathlib.Path(__file__).parent / "firmware" / "fuzz_compiler.c"
    flags = ["-std=c99", "-O1", *core.WARNINGS, *core.SANITIZERS, *compiler.includes()]
    sources = [*compiler.sources(), core.SOURCES / "speech_core.c", fuzz]
    core.run_command("gcc", *flags, *sources, "-o", program)
    (tmp_path / "core.bin").write_bytes(made.block)
    content = compiler.host_reads(REPOSITORY / "grammars" / "home.yaml")
    texts = [json.dumps(content), "turn [on, off] the light\nblork (the theatres)\nset it to zzz"]
    for text in texts:
        (tmp_path / "text").write_text(text)
        files = tmp_path / "core.bin", ENGLISH, tmp_path / "text"
        compiled, refused = map(int, core.run_command(program, *files, 250, 1).split())
        assert compiled > 50 and refused > 50


def test_the_compiler_calls_nothing_but_memory_functions_and_itself_never(
    tmp_path: pathlib.Path,
) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    target = ["-mcpu=cortex-m55+nofp", "-mfloat-abi=soft", "-Os", "-std=c99"]
    objects = []
    for source in compiler.sources():
        objects.append(tmp_path / f"{source.name}.o")
        command = ["arm-none-eabi-gcc", *target, *core.WARNINGS, f"-I{core.SOURCES}"]
        core.run_command(*command, "-c", source, "-o", objects[-1])
        text = re.sub(r"/\*.*?\*/", "", source.read_text("ascii"), flags=re.DOTALL)
        for found in re.finditer(r"^[a-z][\w *]*?(\w+)\([^;]*?\) \{\n(.*?)^\}", text, re.M | re.S):
            assert not re.search(rf"(?<!->)\b{found[1]}\(", found[2]), (source.name, found[1])
    listed = core.run_command("arm-none-eabi-nm", *objects)
    rows = [line.split() for line in listed.splitlines() if " " in line]
    undefined = {row[1] for row in rows if row[0] == "U" and not row[1].startswith("speech_")}
    shifts = {"__aeabi_llsl", "__aeabi_llsr"}  # of 64-bit integers
    assert undefined <= {"memcpy", "memmove", "memset"} | shifts
    assert not [row for row in rows if len(row) == 3 and row[1] in "bBdDcC"]  # nothing static
