"""The page of a bundle: what is written, and what is refused."""

import base64
import json
import pathlib
import re
import threading
import urllib.request
from html.parser import HTMLParser

import pytest

from firmware_sim import bundle
from firmware_sim.web import __main__ as web
from firmware_sim.web import phrases, site
from tests.conftest import REPOSITORY, run_module

BARISTA = REPOSITORY / "pretrained" / "barista"


@pytest.fixture(scope="module")
def barista() -> bundle.Bundle:
    return bundle.load(BARISTA)


@pytest.fixture(scope="module")
def content(barista: bundle.Bundle) -> dict[str, bytes]:
    return site.files(barista, "barista", sorted((site.EXAMPLES / "barista").iterdir()))


class Addresses(HTMLParser):
    """What a page loads."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_a_page_loads_only_its_own_files(content: dict[str, bytes]) -> None:
    assert set(Addresses(content["index.html"]).found) == {"data:,", "page.css", "page.js"}
    scripts = {name: data.decode() for name, data in content.items() if name.endswith(".js")}
    for name, text in scripts.items():
        assert not re.search(r"https?://(?!localhost)\w", text), name
        for imported in re.findall(r"^import .* from '(.*)';$", text, re.MULTILINE):
            assert str(pathlib.PurePosixPath(name).parent / imported) in content
    assert b"connect-src 'self'" in content["index.html"]


def test_code_and_page_are_small(content: dict[str, bytes]) -> None:
    """All but the bundle, and the compiler, which is loaded for the first grammar: 150 KB."""
    compiler = len(content["speech/compiler.wasm"])
    own = {name: data for name, data in content.items() if not name.startswith("bundle/")}
    assert sum(map(len, own.values())) - compiler <= 150_000
    assert compiler <= 60_000


def test_the_description_has_sizes_and_what_may_be_said(
    content: dict[str, bytes], barista: bundle.Bundle
) -> None:
    description = json.loads(content["bundle/bundle.json"])
    loaded = ("speech/speech.wasm", "bundle/core.bin", "bundle/encoder.plan")
    sizes = [len(content[name]) for name in (*loaded, "bundle/decoder_step.plan")]
    assert description["bytes"] == sum(sizes)
    assert description["window"] == barista.window / 16000
    assert "small" in description["slots"]["size"]
    for example in description["examples"]:
        assert f"bundle/{example['file']}" in content
    grammar, letters = barista.grammar, barista.tokenizer.tokens
    assert grammar is not None
    assert len(description["sentences"]) == 12
    for sentence in description["sentences"]:
        tokens = [letters.index("<space>" if x == " " else x) for x in sentence]
        assert grammar.parse(tokens), sentence


def test_a_bundle_without_a_grammar_has_no_sentences(loaded: bundle.Bundle) -> None:
    assert phrases.samples(loaded, 5) == ([], {})


def test_the_service_worker_keeps_all_that_the_page_needs(content: dict[str, bytes]) -> None:
    head, files, *_ = content["service.js"].decode().splitlines()
    kept = set(json.loads(files.removeprefix("const FILES = ").rstrip(";")))
    assert kept >= {"./", "page.js", "bundle/encoder.plan", "speech/worker.js"}
    assert kept - {"./"} <= set(content)
    other = {**content, "page.css": b"", "service.js": (site.HERE / "page/service.js").read_bytes()}
    assert site._service(other).decode().splitlines()[0] != head


def test_a_single_page_has_everything_in_it(content: dict[str, bytes]) -> None:
    page = site.single(content)
    assert Addresses(page).found == ["data:,"]
    script = re.search(rb'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert script is not None and not re.search(rb"^(import|export) ", script[1], re.MULTILINE)
    assert site._hash(script[1].decode()) in page.decode()
    found = re.search(rb'id="assets">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assets = json.loads(found[1])
    assert base64.b64decode(assets["bundle"]["core.bin"]) == content["bundle/core.bin"]


def test_a_page_is_replaced_and_other_files_are_not(
    content: dict[str, bytes], tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "site"
    site.write(content, target)
    (target / "page.css").write_text("")
    site.write(content, target)
    assert (target / "page.css").read_bytes() == content["page.css"]
    assert (target / "speech" / "speech.wasm").read_bytes() == content["speech/speech.wasm"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    (target / "diary.txt").write_text("dear")
    with pytest.raises(site.SiteError, match=r"diary\.txt: is no file of a page"):
        site.write(content, target)


def test_the_server_sends_types_and_policy(
    content: dict[str, bytes], tmp_path: pathlib.Path
) -> None:
    site.write(content, tmp_path / "site")
    with web.server(tmp_path / "site", site.policy(content), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{serving.server_address[1]}/speech/speech.wasm"
        with urllib.request.urlopen(address) as answer:
            assert answer.headers["Content-Type"] == "application/wasm"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert answer.read() == content["speech/speech.wasm"]
        serving.shutdown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to do"),
        (["--single"], "--single writes one file"),
        (["--out=FILE"], "is a file; name another --out"),
        (["--out=OUT", "--examples=nowhere.wav"], "nowhere.wav: cannot be read"),
        (["--out=OUT", "more"], "Unexpected argument 'more'"),
    ],
)
def test_wrong_arguments_end_with_a_sentence(
    arguments: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "FILE").write_text("")
    given = [x.replace("--out=", f"--out={tmp_path}/") for x in arguments]
    done = run_module("firmware_sim.web", "--bundle=digits", *given)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]
