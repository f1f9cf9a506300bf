"""The cache of examples, and batches of them."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import ml_collections
import numpy as np
import pytest
import soundfile

from tests.conftest import synthesise
from tf_speech_transformer.corpora import caches, dataset, digit_strings, recipes
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.corpus import CorpusError
from tf_speech_transformer.corpora.features import WHEEL, as_float
from tf_speech_transformer.text.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
ESPEAK = {"kind": "synthesised", "engine": "espeak", "part": "train"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Every digit by two voices."""
    directory: Path = tmp_path_factory.mktemp("voices")
    rows = ["audio\ttext\tspeaker"]
    for speaker in ("en-us+m3", "en+f2"):
        for word in digit_strings.WORDS:
            name = f"{speaker}-{word}.flac"
            soundfile.write(directory / name, synthesise(word, speaker), 16_000)
            rows.append(f"{name}\t{word}\t{speaker}")
    (directory / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return directory / "manifest.tsv"


def recipe_of(manifest: Path, **changes: object) -> recipes.Recipe:
    recipe = recipes.Recipe(
        sources=({"kind": "joined", "manifest": str(manifest), "weight": 1.0},),
        examples=40,
        seed=1,
        max_frames=512,
        max_tokens=64,
        augmentation=Augmentation(),
        shard_examples=15,
    )
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def make(recipe: recipes.Recipe, root: Path, shards: range) -> list[tuple]:
    recordings = [recipes.decode_source(source, root) for source in recipe.sources]
    return [caches.Maker(recipe, recordings).shard(i) for i in shards]


@pytest.fixture(scope="module")
def examples(manifest, tmp_path_factory) -> caches.Examples:
    features, texts = [], []
    made = make(recipe_of(manifest, examples=120), tmp_path_factory.mktemp("cache"), range(8))
    for part, lengths, words, _ in made:
        features += np.split(part, np.cumsum(lengths)[:-1])
        texts += words
    return caches.Examples(features, texts)


def batches(examples: caches.Examples, **changes: object) -> list[dict[str, np.ndarray]]:
    arguments: dict = {
        "batch_frames": 2_000, "seed": 1, "epoch": 0, "training": True, "spec_augment": False,
    }  # fmt: skip
    made = dataset.batches([examples], TOKENIZER, **{**arguments, **changes})
    return list(made.as_numpy_iterator())


def same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in x
    )


def test_cache_holds_what_one_process_would_make(manifest, tmp_path):
    """Made in processes of its own."""
    recipe = recipe_of(manifest, examples=18)
    directory = caches.build_cache(tmp_path, "train", recipe, processes=2)
    assert sorted(x.name for x in directory.iterdir()) == ["00000.npz", "00001.npz"]
    cache = caches.load_cache(directory)
    assert len(cache.texts) == len(cache.features) == recipe.examples
    ((features, _, texts, _),) = make(recipe, tmp_path, range(1, 2))
    assert cache.texts[-3:] == texts
    assert np.array_equal(np.concatenate(cache.features[-3:]), features)

    # A killed run leaves some shards; the next one makes what is missing, and just that.
    kept = (directory / "00000.npz").stat()
    (directory / "00001.npz").unlink()
    assert caches.build_cache(tmp_path, "train", recipe, processes=1) == directory
    assert (directory / "00000.npz").stat().st_mtime_ns == kept.st_mtime_ns
    again = caches.load_cache(directory)
    assert again.texts == cache.texts
    assert all(map(np.array_equal, again.features, cache.features))


def test_examples_are_features_of_strings_of_digits(examples):
    for features, text in zip(examples.features, examples.texts, strict=True):
        assert features.dtype == np.int8
        assert features.shape[1] == 40
        assert 10 < len(features) <= 512
        assert 1 <= len(text.split()) <= 7
        assert as_float(features).max() > 1


def test_longer_examples_are_drawn_again(manifest, tmp_path):
    recipe = recipe_of(manifest, max_frames=150, max_tokens=16)
    for _, lengths, texts, _ in make(recipe, tmp_path, range(2)):
        assert lengths.max() <= 150
        assert max(map(len, texts)) < 16
    with pytest.raises(ValueError, match="fits into 5 frames"):
        make(recipe_of(manifest, max_frames=5), tmp_path, range(1))


def test_key_changes_with_everything_that_decides_on_the_examples(manifest, tmp_path):
    recipe = recipe_of(manifest)
    copy = tmp_path / "manifest.tsv"
    copy.write_text(manifest.read_text())
    with copy.open("a") as file:
        file.write("another.flac\tone\tme\n")
    others = [
        recipe_of(copy),
        recipe_of(manifest, seed=2),
        recipe_of(manifest, examples=41),
        recipe_of(manifest, max_frames=256),
        recipe_of(manifest, augmentation=None),
        recipe_of(manifest, augmentation=Augmentation(noise=0.5)),
        recipe_of(manifest, sources=({**recipe.sources[0], "weight": 2.0},)),
    ]
    assert len({recipe.key(), *(x.key() for x in others)}) == 1 + len(others)
    assert recipe.key() == recipe_of(manifest).key()


def test_transcripts_that_the_tokenizer_cannot_spell_are_refused_before_the_work(
    manifest, tmp_path
):
    other = manifest.with_name("other.tsv")
    text = manifest.read_text()
    for word in digit_strings.WORDS:
        text = text.replace(f"\t{word}\t", "\t4\t")
    other.write_text(text)
    with pytest.raises(ValueError, match=r"character '4' of '4' is not in the vocabulary"):
        caches.build_cache(tmp_path, "train", recipe_of(other), tokenizer=TOKENIZER)
    assert not list(tmp_path.rglob("*.npz"))


def test_source_that_is_missing_or_unknown_is_refused(manifest, tmp_path):
    with pytest.raises(CorpusError, match="does not exist"):
        caches.build_cache(tmp_path, "train", recipe_of(tmp_path / "manifest.tsv"))
    recipe = recipe_of(manifest, sources=({"kind": "sung", "weight": 1.0},))
    with pytest.raises(ValueError, match="no corpus source 'sung'"):
        caches.build_cache(tmp_path, "train", recipe)


def test_whole_recordings_are_a_source_too(manifest, tmp_path):
    source = {"kind": "recorded", "manifest": str(manifest), "weight": 1.0}
    ((_, _, texts, _),) = make(recipe_of(manifest, sources=(source,)), tmp_path, range(1))
    assert set(texts) <= set(digit_strings.WORDS)


def test_nobody_speaking_is_a_source_too(manifest, tmp_path):
    recipe = recipe_of(manifest, sources=({"kind": "nothing", "weight": 1.0},), examples=6)
    ((features, lengths, texts, _),) = make(recipe, tmp_path, range(1))
    assert texts == [""] * 6
    assert lengths.min() > 30 and len(set(lengths)) > 1
    assert len(np.unique(features)) > 20  # noise


def test_a_crowd_is_several_at_once():
    babble = [np.full(100, 0.1, np.float32), np.full(300, 0.1, np.float32)]
    talk = caches.crowd(babble, np.random.default_rng(1))
    np.testing.assert_allclose(talk, caches.CROWD * 0.1, rtol=1e-6)
    assert len(talk) == 300


def test_preset_gets_caches_for_training_and_dev(manifest, tmp_path):
    config = ml_collections.ConfigDict()
    config.seed = 1
    config.limits = {"frames": 512, "tokens": 64}
    config.corpus = {
        "sources": ({"kind": "joined", "manifest": str(manifest), "weight": 1.0},),
        "train_examples": 6,
        "dev_examples": 4,
        "processes": 1,
        "augmentation": {"speed": (0.9, 1.1)},
    }
    (train,), dev = dataset.prepare_caches(config, tmp_path, TOKENIZER)
    assert (len(train.texts), len(dev.texts)) == (6, 4)
    assert train.texts[:4] != dev.texts


def test_batches_hold_every_example_once(examples):
    seen = []
    for batch in batches(examples):
        for tokens, length in zip(batch["tokens"], batch["token_lengths"], strict=True):
            seen.append(TOKENIZER.decode(tokens[:length].tolist()))
    assert sorted(seen) == sorted(examples.texts)


def test_batch_holds_features_tokens_and_their_lengths(examples):
    known = {
        (text, features.tobytes())
        for text, features in zip(examples.texts, examples.features, strict=True)
    }
    for batch in batches(examples):
        assert {key: value.dtype.name for key, value in batch.items()} == {
            "features": "float32",
            "frames": "int32",
            "tokens": "int32",
            "token_lengths": "int32",
        }
        assert batch["features"].shape[1] % dataset.BUCKET_FRAMES == 0
        for features, frames, tokens, length in zip(*batch.values(), strict=True):
            assert np.all(features[frames:] == 0)
            assert np.all(tokens[length:] == TOKENIZER.end)
            original = (features[:frames] * 32 - 128).astype(np.int8)
            text = TOKENIZER.decode(tokens[:length].tolist())
            assert (text, original.tobytes()) in known


def test_utterances_of_a_batch_are_of_about_one_length(examples):
    made = batches(examples)
    for batch in made:
        length = batch["features"].shape[1]
        assert np.all(batch["frames"] > length - dataset.BUCKET_FRAMES)
        assert (len(batch["frames"]) - 1) * length < 2_000
    assert max(len(batch["frames"]) * batch["features"].shape[1] for batch in made) >= 2_000


def test_batches_depend_on_seed_and_epoch_alone(examples):
    first = batches(examples, spec_augment=True)
    assert same(first, batches(examples, spec_augment=True))
    assert not same(first, batches(examples, spec_augment=True, epoch=1))
    assert not same(first, batches(examples, spec_augment=True, seed=2))


def test_parts_of_a_batch_are_the_batch(examples):
    whole = list(batches(examples, spec_augment=True))
    parts = [list(batches(examples, spec_augment=True, part=(k, 3))) for k in range(3)]
    whole = [batch for batch in whole if len(batch["frames"]) >= 3]
    for batch, *own in zip(whole, *parts, strict=True):
        for k, part in enumerate(own):
            assert part.keys() == batch.keys()
            for name, values in part.items():
                assert np.array_equal(values, batch[name][k::3])


def test_resumed_epoch_goes_on_with_the_same_batches(examples):
    whole = dataset.batches(
        [examples],
        TOKENIZER,
        batch_frames=2_000,
        seed=1,
        epoch=3,
        training=True,
        spec_augment=True,
    )
    every = list(whole.as_numpy_iterator())
    assert len(every) > 6
    assert same(list(whole.skip(5).as_numpy_iterator()), every[5:])


def test_spec_augment_hides_some_and_in_training_only(examples):
    plain, masked = batches(examples), batches(examples, spec_augment=True)
    hidden = [
        np.mean(b["features"][a["features"] > 0] == 0) for a, b in zip(plain, masked, strict=True)
    ]
    assert 0.05 < np.mean(hidden) < 0.5
    assert same(
        batches(examples, training=False), batches(examples, training=False, spec_augment=True)
    )


def test_warped_utterances_are_others_in_training_only(examples):
    plain, warped = batches(examples), batches(examples, warp=WHEEL)
    assert not same(plain, warped)
    for one, other in zip(plain, warped, strict=True):
        assert one["features"].shape == other["features"].shape
        for row, frames in enumerate(one["frames"]):
            assert not other["features"][row, frames:].any()  # padding stays silence
    assert same(batches(examples, training=False), batches(examples, training=False, warp=WHEEL))


def test_recordings_are_drawn_by_the_rarity_of_their_words(tmp_path):
    texts = ["on off"] * 9 + ["off on"]
    lines = []
    for i, text in enumerate(texts):
        soundfile.write(tmp_path / f"{i}.flac", np.full(16_000, 0.1 + i / 100), 16_000)
        lines.append(f"{i}.flac\t{text}\ta")
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("\n".join(["audio\ttext\tspeaker", *lines]) + "\n")
    shares = []
    for balanced in (False, True):
        source = {"kind": "recorded", "manifest": str(manifest), "balanced": balanced}
        built = recipes.build_source(source, recipes.decode_source(source, tmp_path / "cache"))
        rng = np.random.default_rng(0)
        shares.append(np.mean([built.draw(rng).text == "off on" for _ in range(300)]))
    assert shares[0] < 0.2 and 0.4 < shares[1] < 0.6


def test_several_caches_are_one(examples):
    half = len(examples.texts) // 2
    parts = [
        caches.Examples(examples.features[:half], examples.texts[:half]),
        caches.Examples(examples.features[half:], examples.texts[half:]),
    ]
    made = dataset.batches(
        parts,
        TOKENIZER,
        batch_frames=2_000,
        seed=1,
        epoch=0,
        training=True,
        spec_augment=False,
    )
    assert same(list(made.as_numpy_iterator()), batches(examples))


def test_making_examples_needs_no_tensorflow(manifest, tmp_path):
    """On a machine that trains without it: see `training.xla.train`."""
    source = {"kind": "joined", "manifest": str(manifest), "weight": 1.0}
    recipe = recipe_of(manifest, sources=(source, {**ESPEAK, "weight": 1.0}))
    recordings = [recipes.decode_source(x, tmp_path) for x in recipe.sources]
    code = f"""
import sys
from pathlib import Path, PosixPath
from tf_speech_transformer.corpora import caches
from tf_speech_transformer.corpora.augment import Augmentation
from tf_speech_transformer.corpora.recipes import Recipe
from tf_speech_transformer.corpora.features import FrontendParameters
maker = caches.Maker({recipe!r}, {recordings!r})
print([maker.example(i)[1] for i in range(10)])
print(*(x for x in sys.modules if x.split(".")[0] in ("tensorflow", "tensorflow_io", "tf_keras")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    texts, tensorflow = done.stdout.splitlines() or pytest.fail(done.stderr)
    assert "'" in texts
    assert tensorflow == ""


def test_commands_of_a_grammar_are_a_source_and_pairs_of_them(tmp_path):
    grammar = tmp_path / "grammar.yaml"
    grammar.write_text("context: {expressions: {order: ['[make, want] a [tea, juice]']}}\n")
    source = {
        "kind": "spoken", "engine": "espeak", "part": "train", "grammar": str(grammar),
        "weight": 1.0, "pairs": 0.5,
    }  # fmt: skip
    chosen = Augmentation(waiting=0.3, surroundings=0.7)
    recipe = recipe_of(tmp_path, sources=(source,), max_frames=1024, augmentation=chosen)
    _, lengths, texts, _ = make(recipe, tmp_path, range(1))[0]
    assert {len(text.split()) for text in texts} == {3, 6}
    assert max(lengths) > 400 > min(lengths)
    key = recipe.key()
    grammar.write_text(grammar.read_text().replace("tea", "milk"))
    assert recipe.key() != key
