"""Archives and records that are damaged, or odd: read whole, or refused in one sentence."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tf_speech_transformer.corpora import corpus, records

FOLDER = "LibriSpeech/dev-clean/84/121"
IDS = [f"84-121-{i:04d}" for i in range(5)]
LINES = "".join(f"{name} ONE TWO\n" for name in IDS)
Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def corpus_of(lines: str | bytes = LINES) -> list[Member]:
    """The members of a corpus; nothing decodes their sound here."""
    content = lines if isinstance(lines, bytes) else lines.encode()
    sounds = [member(f"{FOLDER}/{name}.flac", bytes(100)) for name in IDS]
    return [member(f"{FOLDER}/84-121.trans.txt", content), *sounds]


def archive(members: Sequence[Member], path: Path, mode: Any = "w") -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    path.write_bytes(stream.getvalue())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(corpus.CorpusError) as raised:
        corpus.read_librispeech(path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1 and str(path) in message
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208
    return message


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_links_within_an_archive_are_files(mode: str, tmp_path: Path) -> None:
    members = corpus_of()[:-2]
    target = f"{FOLDER}/{IDS[0]}.flac"
    members.append(member(f"{FOLDER}/{IDS[3]}.flac", kind=tarfile.LNKTYPE, link=target))
    members.append(member(f"{FOLDER}/{IDS[4]}.flac", kind=tarfile.SYMTYPE, link=f"{IDS[0]}.flac"))
    assert len(corpus.read_librispeech(archive(members, tmp_path / "dev.tar", mode))) == 5


def test_a_compressed_archive_is_checked_to_its_end(tmp_path: Path) -> None:
    path = archive(corpus_of(), tmp_path / "dev.tar.gz", "w:gz")
    data = path.read_bytes()
    for damaged in (data[:-8] + bytes(4) + data[-4:], data[:-20]):
        path.write_bytes(damaged)
        assert "fetch it again" in refusal(path)


def test_archives_that_exhaust_a_disk_or_python_are_refused(tmp_path: Path) -> None:
    members = corpus_of()
    path = archive([*members, member("big.flac", bytes(20 << 20))], tmp_path / "dev.tar", "w:gz")
    assert "far more than speech" in refusal(path)
    path = archive([*members, member("a/" * 1500 + "x.flac")], path, "w:gz")
    assert "too deep" in refusal(path)


def test_a_name_of_two_lines_is_reported_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive([*corpus_of(), member(f"{FOLDER}/a\nb.flac", bytes(9))], tmp_path / "dev.tar")
    assert len(corpus.read_librispeech(path)) == 5
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    "lines",
    [
        LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\n\n"),
        LINES.replace(" ", "\t"),
        LINES.replace(" TWO", "\u2028TWO"),
        LINES.replace(" TWO", "\x0cTWO"),
        "\ufeff" + LINES,
    ],
)
def test_transcripts_keep_all_their_words(lines: str, tmp_path: Path) -> None:
    utterances = corpus.read_librispeech(archive(corpus_of(lines), tmp_path / "dev.tar"))
    assert [utterance.text for utterance in utterances] == ["one two"] * 5


def test_a_transcript_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = archive(corpus_of(LINES.encode("utf-16")), tmp_path / "dev.tar")
    assert "not text in UTF-8" in refusal(path)


ROW = [12, 100, 5, "one two", "84", 0.25, "dev-clean"]
RECIPE = {"utterances": 1, "key": "", "features": "wheel", "shard": 1000}


def changed(place: int, value: Any) -> dict[str, Any]:
    return {"records": [[*ROW[:place], value, *ROW[place + 1 :]]], "bad": []}


@pytest.mark.parametrize(
    "recipe",
    [*({**RECIPE, key: x} for key in ("utterances", "shard") for x in ("5", 1.5, True, -1)), [], 1],
)
def test_a_damaged_recipe_of_records_is_refused(recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps(recipe))
    damaged(tmp_path, "corpus.json")


@pytest.mark.parametrize(
    "description",
    [
        *(changed(i, x) for i in range(3) for x in (-1, 1 << 70, 1.5, "12", None)),
        *(changed(i, x) for i in (3, 4, 6) for x in (None, [], 1)),
        changed(5, None),
        {"records": [ROW[:6]], "bad": []},
        {"records": [ROW]},
        {"records": [ROW], "bad": 5},
        [],
    ],
)
def test_a_damaged_description_of_records_is_refused(description: Any, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps(RECIPE))
    (tmp_path / "00000.tfrecord").touch()
    (tmp_path / "00000.json").write_text(json.dumps(description))
    damaged(tmp_path, "00000.json")


@pytest.mark.parametrize("name", ["corpus.json", "00000.json", "00000.tfrecord"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders_are_no_records(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "corpus.json").write_text(json.dumps(RECIPE))
    (tmp_path / "00000.json").write_text(json.dumps({"records": [ROW], "bad": []}))
    (tmp_path / "00000.tfrecord").touch()
    (tmp_path / name).unlink()
    make(tmp_path / name)
    damaged(tmp_path, name)


def damaged(folder: Path, name: str) -> None:
    """Asserts that records are refused for one of their files."""
    with pytest.raises(corpus.CorpusError) as raised:
        records.Records([folder], "wheel", 1000, 100)
    assert len(str(raised.value).splitlines()) == 1 and name in str(raised.value)


def test_an_archive_under_another_suffix_is_read(tmp_path: Path) -> None:
    path = archive(corpus_of(), tmp_path / "dev.txt")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(corpus.read_librispeech(path)) == 5
