"""Corpora: manifests, LibriSpeech, decoded recordings."""

import itertools
import os
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from tf_speech_transformer.corpora import corpus, recipes
from tf_speech_transformer.text.tokenizer import CharacterTokenizer

LINES = {
    "1089-134686": ["HE HOPED THERE WOULD BE STEW", "STUFF IT INTO YOU"],
    "1089-134691": ["HE COULD WAIT NO LONGER"],
    "121-121726": ["ALSO A POPULAR CONTRIVANCE"],
}


def manifest_of(directory: Path, rows: list[str], header: str = "audio\ttext\tspeaker") -> Path:
    path = directory / "manifest.tsv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def clips(tmp_path, speech) -> Path:
    """A directory of ten audio files, 0.flac to 9.flac, each of another length."""
    for i in range(10):
        soundfile.write(tmp_path / f"{i}.flac", speech[: 8_000 + i], 16_000)
    return tmp_path


@pytest.fixture
def librispeech(tmp_path, speech) -> Path:
    root = tmp_path / "LibriSpeech"
    for chapter, lines in LINES.items():
        folder = root / "dev-clean" / chapter.replace("-", "/")
        folder.mkdir(parents=True)
        transcript = ""
        for i, line in enumerate(lines):
            name = f"{chapter}-{i:04d}"
            soundfile.write(folder / f"{name}.flac", speech[: 9_000 + len(line)], 16_000)
            transcript += f"{name} {line}\n"
        (folder / f"{chapter}.trans.txt").write_text(transcript)
    return root


def packed(root: Path, mode: Literal["w", "w:gz", "w:bz2", "w:xz"], name: str) -> Path:
    path = root.parent / name
    with tarfile.open(path, mode) as archive:
        archive.add(root, "LibriSpeech")
    return path


def test_manifest_gives_audio_text_and_speaker(clips, speech):
    rows = [f"{i}.flac\tOne  Two\tspeaker {i % 2}" for i in range(10)]
    utterances = corpus.read_manifest(manifest_of(clips, rows))
    assert [x.text for x in utterances] == ["one two"] * 10
    assert utterances[3].speaker == "speaker 1"
    assert np.array_equal(utterances[3].audio(), speech[:8_003])


def test_manifest_needs_no_speaker_and_any_order_of_columns(clips):
    rows = [f"text {i}\t{i}.flac" for i in "12"]
    utterances = corpus.read_manifest(manifest_of(clips, rows, "text\taudio"))
    assert utterances[1] == corpus.Utterance(clips / "2.flac", "text 2", None)


def test_quotes_and_a_byte_order_mark_are_no_trouble(clips):
    path = manifest_of(clips, ['1.flac\t"one\tme'])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert corpus.read_manifest(path)[0].text == '"one'


def test_few_bad_rows_are_left_out_and_reported_with_their_lines(clips, capsys):
    rows = [f"{i}.flac\tone\ta" for i in range(10)]
    rows[2] = "missing.flac\tone\ta"
    rows[6] = "6.flac\t \ta"
    utterances = corpus.read_manifest(manifest_of(clips, rows))
    assert len(utterances) == 8
    printed = capsys.readouterr().out
    assert "line 4: missing.flac is not a file" in printed
    assert "line 8: 6.flac has no text" in printed


def test_many_bad_rows_are_an_error(clips):
    rows = [f"{i}.flac\tone\ta" for i in range(10)] + ["gone.flac\tone\ta"] * 5
    with pytest.raises(corpus.CorpusError, match=r"5 of 15 .* line 12: gone.flac is not a file"):
        corpus.read_manifest(manifest_of(clips, rows))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("audio\tspeaker", ["1.flac\tme"], "line 1: no column text"),
        ("file,transcript", ["1.flac,one"], "line 1: no column audio and text"),
        ("audio\ttext", [], "no utterances"),
        ("audio\ttext", ["gone.flac\tone"], "1 of 1 utterances are unusable"),
        ("audio\ttext", ["1.flac"], "line 2: 1.flac has no text"),
    ],
)
def test_unusable_manifest_says_what_is_wrong(header, rows, message, clips):
    with pytest.raises(corpus.CorpusError, match=message):
        corpus.read_manifest(manifest_of(clips, rows, header))


def test_manifest_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(corpus.CorpusError, match="does not exist"):
        corpus.read_manifest(tmp_path / "manifest.tsv")
    (tmp_path / "manifest.tsv").write_bytes(b"audio\ttext\n\xff\xfe\n")
    with pytest.raises(corpus.CorpusError, match="UTF-8"):
        corpus.read_manifest(tmp_path / "manifest.tsv")


def test_librispeech_tree_is_read(librispeech):
    utterances = corpus.read_librispeech(librispeech)
    assert [x.text for x in utterances] == [
        line.lower() for chapter in sorted(LINES) for line in LINES[chapter]
    ]
    assert [x.speaker for x in utterances] == ["1089", "1089", "1089", "121"]
    assert len(utterances[0].audio()) == 9_000 + len(LINES["1089-134686"][0])


@pytest.mark.parametrize(("mode", "name"), [("w", "dev.tar"), ("w:gz", "dev.tar.gz")])
def test_librispeech_tar_holds_the_same_as_its_tree(mode, name, librispeech):
    tree = corpus.read_librispeech(librispeech)
    tar = corpus.read_librispeech(packed(librispeech, mode, name))
    assert [(x.text, x.speaker) for x in tar] == [(x.text, x.speaker) for x in tree]
    for ours, theirs in zip(tar, tree, strict=True):
        assert np.array_equal(ours.audio(), theirs.audio())


@pytest.mark.parametrize(("mode", "name"), [("w", "dev.tar"), ("w:gz", "dev.tar.gz")])
def test_truncated_tar_is_refused_and_leaves_nothing(mode, name, librispeech):
    path = packed(librispeech, mode, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(corpus.CorpusError, match=r"no whole tar|unusable"):
        corpus.read_librispeech(path)
    assert sorted(x.name for x in path.parent.iterdir()) == ["LibriSpeech", name]


def test_directory_without_transcripts_is_no_librispeech(tmp_path):
    with pytest.raises(corpus.CorpusError, match="not a LibriSpeech corpus"):
        corpus.read_librispeech(tmp_path)
    with pytest.raises(corpus.CorpusError, match="does not exist"):
        corpus.read_librispeech(tmp_path / "train-clean-100")


def test_recordings_are_decoded_once_and_come_back(clips, speech):
    path = manifest_of(clips, [f"{i}.flac\ttext {i}\tme" for i in range(10)])
    utterances = corpus.read_manifest(path)
    directory = corpus.decode_all(path, utterances, clips / "cache")
    recordings = corpus.Recordings(directory)
    assert len(recordings) == 10
    assert recordings.texts[4] == "text 4"
    assert np.array_equal(recordings.audio(4), speech[:8_004].astype(np.float32) / 32_768)
    (clips / "4.flac").unlink()
    assert corpus.decode_all(path, utterances, clips / "cache") == directory
    assert corpus.decode_all(path, utterances[:3], clips / "cache") != directory


def test_few_broken_files_are_left_out_and_many_are_an_error(clips, capsys):
    (clips / "3.flac").write_bytes(b"")
    (clips / "5.flac").write_bytes((clips / "4.flac").read_bytes()[:5_000])
    path = manifest_of(clips, [f"{i}.flac\ttext {i}\tme" for i in range(10)])
    utterances = corpus.read_manifest(path)
    recordings = corpus.Recordings(corpus.decode_all(path, utterances, clips / "cache"))
    assert recordings.texts == [f"text {i}" for i in range(10) if i not in (3, 5)]
    printed = capsys.readouterr().out
    assert "3.flac: the file is empty" in printed
    assert "5.flac: the audio is truncated or damaged" in printed

    for i in range(6):
        (clips / f"{i}.flac").write_bytes(b"")
    with pytest.raises(corpus.CorpusError, match=r"6 of 10 .*0.flac: the file is empty"):
        corpus.decode_all(path, utterances, clips / "other")
    assert not list((clips / "other").iterdir())


def test_parts_of_a_corpus_share_no_voice():
    voices = [f"voice_{i}" for i in range(40)]
    blends = [f"{a}*0.5+{b}*0.5" for a, b in itertools.pairwise(voices)]
    train = corpus.part_of(voices + blends, "train")
    dev = corpus.part_of(voices + blends, "dev")
    heard = {name.split("*")[0] for speaker in train for name in speaker.split("+")}
    assert heard.isdisjoint(name.split("*")[0] for speaker in dev for name in speaker.split("+"))
    assert heard | set(dev) >= set(voices)
    assert len(train) > 2 * len(dev) > 0
    assert corpus.part_of(voices, "all") == sorted(voices)


def test_few_voices_are_all_for_training():
    assert corpus.part_of(["allison", "joe"], "train") == ["allison", "joe"]
    with pytest.raises(corpus.CorpusError, match="no speakers are in the part 'dev'"):
        corpus.part_of(["allison", "joe"], "dev")


def test_unknown_part_is_an_error():
    with pytest.raises(corpus.CorpusError, match="no part 'test'"):
        corpus.part_of(["a"], "test")


def test_typographic_apostrophes_are_those_of_a_typewriter(clips):
    texts = ("it\u2019s one", "\u2018tis one", "it\uff07s one")
    path = manifest_of(clips, [f"0.flac\t{text}\tx" for text in texts])
    assert {x.text for x in corpus.read_manifest(path)} == {"it's one", "'tis one"}


def test_texts_are_checked_before_anything_is_decoded(clips, capsys, tmp_path):
    """A manifest whose audio cannot be decoded, and whose texts cannot be spelt."""
    (clips / "none.flac").write_text("no audio")
    rows = ["none.flac\tone\tx", "none.flac\tcaf\u00e9\tx", "none.flac\t2 cups\tx"]
    path = manifest_of(clips, rows)
    source = {"kind": "recorded", "manifest": str(path), "weight": 1.0}
    with pytest.raises(corpus.CorpusError) as refusal:
        recipes.decode_source(source, tmp_path / "cache", CharacterTokenizer())
    message = str(refusal.value)
    assert "2 of 3 utterances are unusable" in message
    assert "line 3: character '\u00e9'" in message and "line 4: character '2'" in message
    utterances = corpus.read_manifest(manifest_of(clips, rows[:1] * 200 + rows[1:2]))
    good = corpus.check_texts(path, utterances, CharacterTokenizer().encode)
    assert len(good) == 200 and "line 202: character" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_known_by_its_content(mode, librispeech):
    path = packed(librispeech, mode, "corpus.tar")
    assert [x.text for x in corpus.read_librispeech(path)] == [
        x.text for x in corpus.read_librispeech(librispeech)
    ]


def test_what_other_systems_leave_in_a_tree_is_no_trouble(librispeech):
    expected = corpus.read_librispeech(librispeech)
    transcript = min(librispeech.rglob("*.trans.txt"))
    folder = transcript.parent
    (folder / "._84-121.trans.txt").write_bytes(b"\0\xff")
    (folder / "._1.flac").write_bytes(b"\0\xff")
    (folder / "x.trans.txt").mkdir()
    os.mkfifo(folder / "y.trans.txt")
    (folder / "z.trans.txt").symlink_to("nowhere")
    transcript.write_text("\ufeff" + transcript.read_text(), encoding="utf-8")
    assert corpus.read_librispeech(librispeech) == expected
    transcript.write_bytes(b"84-121-0000 caf\xe9")
    with pytest.raises(corpus.CorpusError, match=r"trans\.txt is not text in UTF-8"):
        corpus.read_librispeech(librispeech)


def test_wav_files_take_the_place_of_flac(librispeech):
    expected = corpus.read_librispeech(librispeech)
    for path in librispeech.rglob("*.flac"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path.with_suffix(".wav"), samples, rate)
        path.unlink()
    found = corpus.read_librispeech(librispeech)
    assert [x.text for x in found] == [x.text for x in expected]
    assert found[0].source.suffix == ".wav" and len(found[0].audio()) > 0


@pytest.mark.parametrize(
    "row", ["\0.flac\tone\tx", "x" * 5000 + "\tone\tx", "0.flac\t" + "x" * 200_000 + "\tx"]
)
def test_a_row_that_no_reader_takes_is_refused_in_a_sentence(clips, row):
    with pytest.raises(corpus.CorpusError) as refusal:
        corpus.read_manifest(manifest_of(clips, [row]))
    assert len(str(refusal.value)) < 1000
