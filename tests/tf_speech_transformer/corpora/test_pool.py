"""Examples in phones, and a pool of them that is renewed."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from firmware_sim.grammar import phones
from tf_speech_transformer.corpora import augment, caches, dataset, readers, recipes
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.recording import Spoken
from tf_speech_transformer.corpora.sources import Pairs
from tf_speech_transformer.text.tokenizer import CharacterTokenizer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool")
    (path / "texts").write_text("The cat sat down. Open the big window. Nobody knows.")
    (path / "grammar.yaml").write_text(
        "context: {expressions: {open: ['open the [big, small] window']}, slots: {}}"
    )
    return path


@pytest.fixture(scope="module")
def recipe(root: Path) -> recipes.Recipe:
    source = {
        "kind": "parametric",
        "texts": (str(root / "text*"),),
        "excluded": (str(root / "grammar.yaml"),),
        "weight": 1.0,
    }
    return recipes.Recipe(
        sources=(source,),
        examples=10**9,
        seed=1,
        max_frames=800,
        max_tokens=128,
        shard_examples=6,
        augmentation=Augmentation(noise=1.0, recorded_noise=1.0, room=1.0, recorded_room=1.0),
        noises=str(_pieces(root / "noises.npz", 20_000)),
        rooms=str(_pieces(root / "rooms.npz", 2_000)),
    )


def _pieces(file: Path, length: int) -> Path:
    samples = np.random.default_rng(1).standard_normal(2 * length).astype(np.float16)
    np.savez(file, samples=samples, lengths=np.array([length, length], np.int32))
    return file


@pytest.fixture(scope="module")
def pool(root: Path, recipe: recipes.Recipe) -> caches.Pool:
    recordings = recipes.decode_sources(recipe, root, CharacterTokenizer())
    pool = caches.Pool(root, recipe, recordings, first=1, window=2, renewed=1, processes=1)
    for epoch in range(3):
        pool.at(epoch)
    assert pool.maker is not None
    pool.maker.join()
    return pool


def test_a_pass_reads_a_window_that_grows_and_then_moves(pool: caches.Pool) -> None:
    assert [list(pool.shards(i)) for i in range(4)] == [[0], [0, 1], [1, 2], [2, 3]]


def test_shards_of_the_next_pass_are_there_and_used_ones_are_not(pool: caches.Pool) -> None:
    names = sorted(path.name for path in pool.directory.glob("*.npz"))
    assert names == ["00001.npz", "00002.npz", "00003.npz"]


def test_batches_hold_phones_of_every_example(pool: caches.Pool) -> None:
    examples = caches.load_shards(sorted(pool.directory.glob("*.npz")))
    assert len(examples.phones) == len(examples.texts) == 18
    seen = 0
    for batch in dataset.batches(
        [examples],
        CharacterTokenizer(),
        batch_frames=1600,
        seed=1,
        epoch=0,
        training=False,
        spec_augment=False,
    ):
        lengths = batch["phone_lengths"].numpy()
        assert batch["phones"].shape[1] == lengths.max()
        assert (lengths > 0).all()
        seen += len(lengths)
    assert seen == 18


def test_the_first_passes_have_only_short_examples(root: Path, recipe: recipes.Recipe) -> None:
    recordings = recipes.decode_sources(recipe, root, CharacterTokenizer())
    pool = caches.Pool(
        root, recipe, recordings, first=2, window=2, renewed=0, processes=1, frames=(150, 400)
    )
    first, second = pool.at(0), pool.at(1)
    assert 0 < len(first.lengths) < len(second.lengths) == 12
    assert max(first.lengths) <= 150
    assert len(first.texts) == len(first.phones) == len(first.lengths)


def test_excluded_sentences_are_not_read(root: Path, recipe: recipes.Recipe) -> None:
    file = recipes.write_sentences(dict(recipe.sources[0]), root)
    assert file.read_text().splitlines() == ["the cat sat down"]


def test_recorded_noises_are_read_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "noise" / "home").mkdir(parents=True)
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 3000)
    soundfile.write(tmp_path / "noise" / "fan.wav", samples, 16000, "FLOAT")
    soundfile.write(tmp_path / "noise" / "home" / "tap.flac", samples[:2000], 8000)
    (tmp_path / "noise" / "LICENCE").write_text("none")
    file = recipes.write_pieces(tmp_path / "noise", tmp_path / "cache")
    fan, tap = augment.read_pieces(file)
    np.testing.assert_allclose(fan, samples, atol=1e-3)
    assert len(tap) == 4000  # at 16 kHz
    with pytest.raises(ValueError, match="holds no recording"):
        recipes.write_pieces(tmp_path / "cache", tmp_path)


def test_other_texts_or_exclusions_are_another_recipe(
    root: Path, recipe: recipes.Recipe, tmp_path: Path
) -> None:
    def key(texts: str, grammar: str) -> str:
        (tmp_path / "a.txt").write_text(texts)
        (tmp_path / "b.yaml").write_text(grammar)
        source = {
            **recipe.sources[0],
            "texts": (str(tmp_path / "a.txt"),),
            "excluded": (str(tmp_path / "b.yaml"),),
        }
        return dataclasses.replace(recipe, sources=(source,)).key()

    grammar = (root / "grammar.yaml").read_text()
    keys = [key("Hello there, you.", grammar), key("Hello there.", grammar)]
    keys.append(key("Hello there, you.", grammar.replace("big", "old")))
    assert len(set(keys)) == 3
    assert key("Hello there, you.", grammar) == keys[0]


def test_texts_that_are_not_there_are_named(root: Path) -> None:
    source = {"texts": (str(root / "missing*"),), "excluded": ()}
    with pytest.raises(ValueError, match=r"missing\*"):
        recipes.write_sentences(source, root)


def test_transcripts_become_letters_and_pronunciations() -> None:
    text = "Don\N{RIGHT SINGLE QUOTATION MARK}t stop - 'now'!"
    assert readers.letters_of(text) == "don't stop now"
    words = readers.pronounce(text)
    assert words is not None
    assert phones.ids(words[1][0]) == phones.ids(["S", "T", "AA", "P"])
    assert readers.pronounce("stop xqzv") is None
    assert readers.pronounce("room 101") is None


def test_phones_stay_beside_their_texts_where_a_shard_has_none(tmp_path: Path) -> None:
    content = {"features": np.zeros([3, 40], np.int8), "lengths": np.array([1, 2])}
    np.savez(tmp_path / "0.npz", texts=np.array(["", ""]), **content)
    spoken = {"texts": np.array(["a", "no"]), "phones": np.array(["AH", "N OW"])}
    np.savez(tmp_path / "1.npz", **spoken, **content)
    first, second = tmp_path / "0.npz", tmp_path / "1.npz"
    assert caches.load_shards([first, second]).phones == ["", "", "AH", "N OW"]
    assert caches.load_shards([first]).phones == []


def test_two_in_a_row_have_the_phones_of_both() -> None:
    class Word:
        texts: ClassVar[list[str]] = ["no"]

        def __init__(self, said: str | None) -> None:
            self.said = said

        def draw(self, rng: np.random.Generator) -> Spoken:
            return Spoken([np.zeros(160, np.float32)], "no", "somebody", phones=self.said)

    rng = np.random.default_rng(1)
    assert Pairs(Word("N OW"), 1.0).draw(rng).phones == "N OW N OW"
    assert Pairs(Word(None), 1.0).draw(rng).phones is None
