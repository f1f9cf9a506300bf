"""The report is one page of its own, and says what a run does not have yet."""

import html
import html.parser
import json
import math
import pathlib
import re
import shutil

import pytest

from tf_speech_transformer.corpora.features import as_float, microfrontend
from tf_speech_transformer.training import runs
from tflite_convert import layers, report
from tflite_convert.ladder import RUNGS
from tflite_convert.sections.run import MissingError

VOID = {"meta", "img", "br", "path", "use", "rect", "image"}


class Balance(html.parser.HTMLParser):
    """Fails where a tag is closed that was not opened last; collects ids and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parse(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(
    tiny_run: pathlib.Path, manifest: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The report of a run with a ladder."""
    workdir = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(tiny_run, workdir)
    rungs = [
        {
            "key": rung.key,
            "name": rung.name,
            "main": rung.main,
            "above": rung.above,
            "wer": 0.0123,
            "utterances": 1,
            "identical": None if rung.above is None else 0.987,
            "compared": 1,
        }
        for rung in RUNGS
    ]
    texts = {"float": "one two", "qat": "one two", "litert": "<b>"}
    content = {
        "manifest": str(manifest),
        "created": "2024-05-01T10:00:00+00:00",
        "rungs": rungs,
        "utterances": [{"audio": "0.wav", "reference": "one two", "texts": texts}],
    }
    (workdir / "ladder.json").write_text(json.dumps(content))
    return report.write(workdir).read_text()


def test_page_has_every_section(page: str) -> None:
    assert [html.unescape(x) for x in re.findall(r"<h2>(.*?)</h2>", page)] == list(report.SECTIONS)
    assert 'class="missing"' not in page
    for shown in ("1.23 %", "98.70 %", "All-integer", "encoder.0.attention.softmax", "KiB planned"):
        assert shown in page


def test_page_needs_nothing_from_elsewhere(page: str) -> None:
    parser = parse(page)
    assert "<script" not in page
    assert all(address.startswith(("#", "data:")) for address in parser.addresses)


def test_ids_of_the_pictures_are_apart(page: str) -> None:
    parser = parse(page)
    assert len(parser.ids) == len(set(parser.ids))
    assert {x[1:] for x in parser.addresses if x.startswith("#")} <= set(parser.ids)


def test_recognised_text_is_escaped(page: str) -> None:
    assert "<del>&lt;b&gt;</del>" in page


def test_run_without_ladder_bundle_and_checkpoint_has_a_page(
    tiny_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copy(tiny_run / "config.json", tmp_path)
    page = report.write(tmp_path).read_text()
    parse(page)
    assert page.count('class="missing"') == len(report.SECTIONS)
    assert "python -m tflite_convert.ladder" in page


def test_directory_that_is_no_run_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(MissingError, match="must name a training run"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_error_of_each_quantized_layer_is_measured(tiny_run: pathlib.Path, speech) -> None:
    model, tokenizer, _ = runs.load(tiny_run, "qat")
    features = as_float(microfrontend(speech))[:128]
    errors = layers.layer_errors(model, [(features, [tokenizer.start, 5, 9])])
    by_path = {error.path: error for error in errors}
    wrapped = {path for path, x in layers.walk(model) if isinstance(x, layers.Wrapper)}
    assert set(by_path) == wrapped - {"mask"}
    assert errors[0].path == "features"
    assert math.isinf(errors[0].sqnr_db)  # they are 8-bit numbers already
    assert by_path["embedding"].low is None
    assert by_path["encoder.0.attention.softmax"].high == 255 / 256
    assert 5 < by_path["logits"].sqnr_db < 60
    assert "call" not in vars(model.logits)  # as it was before
