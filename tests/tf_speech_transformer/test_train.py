"""Training runs to its end, is not disturbed by a kill, and refuses what does not fit."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import REPOSITORY, ended
from tf_speech_transformer import paper_table, train
from tf_speech_transformer.configs import digits, digits_people, paper
from tf_speech_transformer.corpora import caches
from tf_speech_transformer.model import transformer
from tf_speech_transformer.model.transformer import SpeechTransformer
from tf_speech_transformer.text.tokenizer import SentencePieceTokenizer
from tf_speech_transformer.training import losses, metrics, preset, runs, stages, weights

# No layer in the encoder: the decoder's has every operation of it, and tracing takes most of the
# time.  The paper's recipe trains one.
TINY = {
    "corpus.train_examples": 40,
    "corpus.dev_examples": 8,
    "model.conv_channels": (4, 8),
    "model.d_model": 16,
    "model.heads": 2,
    "model.d_ff": 16,
    "model.encoder_layers": 0,
    "model.decoder_layers": 1,
    "train.steps": 6,
    "train.batch_frames": 1200,
    "train.warmup_steps": 2,
    "train.log_steps": 1,
    "train.dev_steps": 6,
    "train.checkpoint_steps": 2,
    "quantization.range_steps": 2,
    "quantization.steps": 3,
    "quantization.warmup_steps": 1,
}


def command(workdir: pathlib.Path, **changes: object) -> list[str]:
    return [
        sys.executable,
        "-m",
        "tf_speech_transformer.train",
        "--config=tf_speech_transformer/configs/digits.py",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in {**TINY, **changes}.items()),
    ]


def configured(**changes: object) -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.update_from_flattened_dict({**TINY, **changes})
    return config


def train_here(workdir: pathlib.Path, **changes: object) -> None:
    """What `command` does, in this process: starting another and loading TensorFlow takes long."""
    train.train(preset.read(configured(**changes)), workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("train") / "undisturbed"
    train_here(workdir)
    return workdir


@pytest.fixture(scope="module")
def one_layer(undisturbed: pathlib.Path) -> SpeechTransformer:
    """A float model with a layer in encoder and decoder, and weights as if trained."""
    dims = runs.load(undisturbed, "float")[0].dims
    runs.set_seed(4)
    model = transformer.build(dataclasses.replace(dims, encoder_layers=1), quantized=False)
    rng = np.random.default_rng(4)
    for variable in model.trained_variables:
        variable.assign_add(rng.normal(0, 0.1, variable.shape))
    return model


def values_of(model: SpeechTransformer) -> dict[str, np.ndarray]:
    return {weights.path(variable): variable.numpy() for variable in model.variables}


def test_every_stage_logs_and_leaves_a_model(undisturbed: pathlib.Path) -> None:
    lines = [json.loads(x) for x in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == set(runs.STAGES)
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert list((undisturbed / "tensorboard" / "qat").glob("events*"))


def test_post_training_changes_ranges_alone_and_qat_weights_too(undisturbed: pathlib.Path) -> None:
    models = {stage: values_of(runs.load(undisturbed, stage)[0]) for stage in runs.STAGES}
    shared = models["float"].keys()
    assert all(np.array_equal(models["float"][k], models["ptq"][k]) for k in shared)
    assert any(not np.array_equal(models["ptq"][k], models["qat"][k]) for k in shared)
    ranges = [k for k in models["ptq"] if k.endswith("output_max")]
    assert len(ranges) > 50
    assert all(models["ptq"][k] > 0 for k in ranges)


def test_a_killed_run_ends_as_if_never_killed(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "killed"
    shutil.copytree(undisturbed / "cache", workdir / "cache")
    log, errors = workdir / "metrics.jsonl", tmp_path / "errors"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command(workdir), stdout=subprocess.DEVNULL, stderr=file, cwd=REPOSITORY
        )
    while process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= 3:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (workdir / "qat").exists()
    # Neither warnings of libraries nor bars.
    assert [x for x in errors.read_text().splitlines() if not x.startswith("float: step")] == []
    train_here(workdir)
    one, other = (values_of(runs.load(path, "qat")[0]) for path in (undisturbed, workdir))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(other[name], one[name], err_msg=name)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    undisturbed: pathlib.Path, small_disk: pathlib.Path
) -> None:
    only_float = {"quantization.range_steps": 0, "quantization.steps": 0}
    workdir, filler = small_disk / "run", small_disk / "filler"
    shutil.copytree(undisturbed / "cache", workdir / "cache")
    state = os.statvfs(small_disk)
    filler.write_bytes(bytes(state.f_bavail * state.f_frsize - 150_000))
    refused = command(workdir, **only_float)
    done = subprocess.run(refused, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode not in (0, -signal.SIGABRT)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train: ")
    assert "No space left on device" in last
    assert str(workdir) in last
    assert "Traceback" not in done.stderr
    filler.unlink()
    train_here(workdir, **only_float)
    one, other = (values_of(runs.load(path, "float")[0]) for path in (undisturbed, workdir))
    for name in one:
        np.testing.assert_array_equal(other[name], one[name], err_msg=name)


def test_another_configuration_is_refused(undisturbed: pathlib.Path) -> None:
    before = (undisturbed / "config.json").read_bytes()
    said = ended(train, config=configured(**{"train.steps": 7}), workdir=str(undisturbed))
    assert said.startswith("train: ") and "holds another configuration" in said
    assert (undisturbed / "config.json").read_bytes() == before


def test_metrics_torn_by_a_full_disk_do_not_stop_a_resumed_run(tmp_path: pathlib.Path) -> None:
    whole = [{"stage": "float", "step": step, "split": "train", "loss": 1.0} for step in (2, 4)]
    lines = "".join(json.dumps(line) + "\n" for line in whole)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"stage": "float", "st')
    metrics.MetricsLog(tmp_path, "float", 2)
    kept = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == whole[:1]


def test_a_missing_manifest_is_one_clear_sentence(tmp_path: pathlib.Path) -> None:
    config = digits_people.get_config()
    config.voices = str(tmp_path)
    said = ended(train, config=config, workdir=str(tmp_path / "run"))
    assert said.startswith("train: ") and "\n" not in said
    assert "kokoro" in said
    assert "does not exist" in said


def test_an_untrained_workdir_cannot_be_loaded(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist"):
        runs.load(tmp_path, "qat")
    with pytest.raises(ValueError, match="no stage"):
        runs.load(tmp_path, "fp8")


def test_a_run_can_start_from_the_float_weights_of_another(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = ml_collections.ConfigDict(json.loads((undisturbed / "config.json").read_text()))
    config.train.initial = str(undisturbed)
    config.train.steps = config.quantization.steps = 0
    shutil.copytree(undisturbed / "cache", tmp_path / "cache")
    train.train(config, tmp_path)
    before, after = (
        values_of(runs.load(undisturbed, "float")[0]),
        values_of(runs.load(tmp_path, "ptq")[0]),
    )
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_a_run_can_start_from_a_file_of_weights(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    model = runs.load(undisturbed, "float")[0]
    before = values_of(model)
    model.variables[0].assign_add(tf.ones_like(model.variables[0]))
    weights.set_weights(runs.read_weights(undisturbed / runs.WEIGHTS_FILE), model)
    for name, value in values_of(model).items():
        np.testing.assert_allclose(value, before[name], rtol=1e-3, atol=1e-6, err_msg=name)

    torn = tmp_path / "weights.npz"
    torn.write_bytes((undisturbed / runs.WEIGHTS_FILE).read_bytes()[:500])
    for bad in (torn, undisturbed / "config.json"):
        with pytest.raises(ValueError, match=f"{bad.name} holds no weights: name a run's workdir"):
            runs.read_weights(bad)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runs.read_weights(tmp_path / "nowhere")


def test_a_deeper_model_starts_as_what_the_shallower_one_computes(
    one_layer: SpeechTransformer,
) -> None:
    shallow = one_layer
    more = dataclasses.replace(shallow.dims, encoder_layers=3, decoder_layers=2)
    deep = transformer.build(more, quantized=False)
    weights.copy_weights(shallow, deep)
    rng = np.random.default_rng(3)
    speech = {
        "features": rng.normal(size=(2, 64, shallow.dims.feature_channels)).astype(np.float32),
        "frames": np.array([64, 40], np.int32),
        "tokens": rng.integers(0, shallow.dims.vocabulary, (2, 5), np.int32),
    }
    before, after = shallow(speech), deep(speech)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-5)
    np.testing.assert_allclose(after.ctc, before.ctc, atol=1e-5)
    with pytest.raises(ValueError, match="no place for"):
        weights.copy_weights(deep, shallow)


def test_what_two_models_share_may_come_from_another_run(one_layer: SpeechTransformer) -> None:
    source = one_layer
    convolutional = dataclasses.replace(
        source.dims, decoder_convolutions=(8,), d_embedding=16, encoder_layers=2
    )
    target = transformer.build(convolutional, quantized=False)
    with pytest.raises(ValueError, match=r"no (place|values) for"):
        weights.copy_weights(source, target)
    before = values_of(target)
    with pytest.raises(ValueError, match="no layer in common"):
        weights.set_weights({"another/kernel": np.zeros(3)}, target, only_shared=True)
    weights.copy_weights(source, target, only_shared=True)
    speech = tf.random.stateless_normal([1, 32, source.dims.feature_channels], [1, 2])
    masks = [model.memory_mask(tf.constant([32]), 8) for model in (source, target)]
    pairs = zip(source.encode(speech, masks[0]), target.encode(speech, masks[1]), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(other, one, atol=1e-5)
    after = values_of(target)
    changed = {k for k in before if not np.array_equal(before[k], after[k])}
    assert any(k.startswith("decoder_0/") for k in changed)
    assert not any(k.startswith(("convolution_", "decoder_linear")) for k in changed)


def test_a_checkpoint_of_another_model_is_refused_by_name(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name, value in (("encoder_layers", 2), ("d_ff", 24)):
        run = tmp_path / name
        shutil.copytree(undisturbed / "float", run / "float")
        shutil.copytree(undisturbed / "tokenizer", run / "tokenizer")
        config = json.loads((undisturbed / "config.json").read_text())
        config["model"][name] = value
        (run / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"float/ckpt-\d+ is a checkpoint of another model"):
            runs.load(run, "float")


def test_a_model_learns_its_teachers_outputs(undisturbed: pathlib.Path) -> None:
    teacher, tokenizer, config = runs.load(undisturbed, "float")
    cache = caches.load_cache(next((undisturbed / "cache").glob("train-*")))
    position = tf.Variable([0, 0], dtype=tf.int64)
    batch = next(stages.endless_batches(config, [cache], tokenizer, position))

    def taught(model: SpeechTransformer) -> float:
        found = losses.losses(config, model, tokenizer, batch, training=False, teacher=teacher)
        return float(found["loss"])

    assert taught(teacher) == pytest.approx(0, abs=1e-6)
    runs.set_seed(9)
    pupil = transformer.build(dataclasses.replace(teacher.dims, dropout=0.0), quantized=False)
    before = taught(pupil)
    assert before > 0.1
    stage = stages.Stage("qat", steps=40, learning_rate=1e-2, warmup_steps=1)
    optimizer = stages.make_optimizer(config, stage, pupil)
    for _ in range(10):
        losses.update(config, pupil, optimizer, tokenizer, batch, teacher=teacher)
    assert taught(pupil) < 0.7 * before


def test_some_tokens_that_the_decoder_is_given_are_random() -> None:
    tokens = tf.constant(np.full([50, 40], 7, np.int32))
    one, same, other = (
        losses.replace_some(tokens, 0.1, 28, tf.constant(number)).numpy() for number in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert 0.07 < np.mean(one != 7) < 0.13
    assert one.min() >= 0 and 20 < one.max() < 28


def test_noise_is_for_the_training_of_the_float_model_alone(undisturbed: pathlib.Path) -> None:
    cache = caches.load_cache(next((undisturbed / "cache").glob("train-*")))
    position = tf.Variable([0, 0], dtype=tf.int64)

    def loss(stage: str, noise: float, training: bool) -> float:
        model, tokenizer, config = runs.load(undisturbed, stage)
        batch = next(stages.endless_batches(config, [cache], tokenizer, position))
        position.assign([0, 0])
        with config.unlocked():
            config.train.token_noise = noise
        runs.set_seed(1)  # of dropout
        return float(losses.losses(config, model, tokenizer, batch, training)["attention"])

    assert loss("float", 0.5, True) != loss("float", 0.0, True)
    assert loss("float", 0.5, False) == loss("float", 0.0, False)
    assert loss("qat", 0.5, True) == loss("qat", 0.0, True)


def test_checkpoints_are_averaged(undisturbed: pathlib.Path) -> None:
    model = runs.load(undisturbed, "float")[0]
    paths = tf.train.get_checkpoint_state(str(undisturbed / "float")).all_model_checkpoint_paths
    each = []
    for path in paths:
        tf.train.Checkpoint(model=model).restore(path).expect_partial()
        each.append(values_of(model))
    weights.restore_average(model, undisturbed / "float", 2)
    for name, value in values_of(model).items():
        np.testing.assert_allclose(value, (each[0][name] + each[1][name]) / 2, atol=1e-6)
    assert any((each[0][name] != each[1][name]).any() for name in each[0])
    with pytest.raises(FileNotFoundError, match=r"2 checkpoints .* and 3 to be averaged"):
        weights.restore_average(model, undisturbed / "float", 3)


def test_the_recipe_of_the_paper_trains(undisturbed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """All its switches, on a tiny model: features, pieces, AdaDelta, accumulation, the mean."""
    config = paper.get_config("conv_context")
    tiny = json.loads((undisturbed / "config.json").read_text())
    config.corpus = ml_collections.ConfigDict({**tiny["corpus"], "augmentation": None})
    changed = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1}
    config.model.update({**changed, "conv_channels": (4, 8), "d_embedding": 6})
    config.model.decoder_convolutions = (8, 12)
    config.tokenizer.pieces = 60
    config.limits.frames = 512
    config.train.update({"batch_frames": 1200, "accumulate": 3, "steps": 4, "average": 2})
    config.train.update({"log_steps": 2, "dev_steps": 4, "checkpoint_steps": 2})
    config.quantization.update({"range_steps": 1, "steps": 1})
    train.train(config, tmp_path)
    model, tokenizer, _ = runs.load(tmp_path, "qat")
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert model.dims.feature_channels == 80 and model.ctc is None
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {x["stage"] for x in lines} == {"float", "ptq", "qat"}
    assert all(np.isfinite(x["loss"]) and "ctc" not in x for x in lines)


def test_accumulated_batches_step_by_the_mean_of_their_gradients(
    undisturbed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    trained, tokenizer, config = runs.load(undisturbed, "float")
    model = transformer.build(dataclasses.replace(trained.dims, dropout=0.0), quantized=False)
    weights.copy_weights(trained, model)
    config.train.accumulate = 2
    cache = caches.load_cache(next((undisturbed / "cache").glob("train-*")))
    stage = stages.Stage("float", steps=1, learning_rate=1e-2, warmup_steps=1)
    start = values_of(model)
    position = tf.Variable([0, 0], dtype=tf.int64)
    batches = stages.endless_batches(config, [cache], tokenizer, position)
    found = [losses.gradients(config, model, tokenizer, next(batches))[0] for _ in range(2)]
    pairs = zip(*found, strict=True)
    means = [(tf.convert_to_tensor(x) + tf.convert_to_tensor(y)) / 2 for x, y in pairs]
    optimizer = stages.make_optimizer(config, stage, model)
    optimizer.apply_gradients(zip(means, model.trained_variables, strict=True))
    expected = values_of(model)
    for variable in model.variables:
        variable.assign(start[weights.path(variable)])
    dev_step = stages.make_dev_step(config, model, tokenizer)
    stages.train_stage(config, stage, model, dev_step, tokenizer, [cache], cache, tmp_path)
    assert any(np.abs(expected[name] - start[name]).max() > 1e-3 for name in start)
    for name, value in values_of(model).items():
        if not name.endswith("key/bias"):  # softmax takes it away: its gradient is noise
            np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("row", ["proposed", "conv_context"])
def test_rows_have_the_parameters_that_the_paper_prints(row: str) -> None:
    assert paper_table.parameters(row) // 10**6 == paper_table.PAPER[row][0]


def test_an_empty_text_is_blanks_alone() -> None:
    logits = tf.Variable(tf.random.stateless_normal([2, 9, 5], [1, 1]))
    with tf.GradientTape() as tape:
        each = losses.sparse_ctc(
            tf.constant([[1, 2], [4, 4]]), tf.constant([2, 0]), logits, tf.constant([9, 6])
        )
    blanks = tf.nn.log_softmax(logits[1, :6])[:, -1]
    assert float(each[1]) == pytest.approx(-float(tf.reduce_sum(blanks)), rel=1e-5)
    gradient = tape.gradient(each, logits).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[1, :6, -1] < 0).all() and not gradient[1, 6:].any()


def test_what_the_paper_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no row 'base'"):
        paper.get_config("base")
    config = paper.get_config()
    config.train.optimizer = "lion"
    with pytest.raises(ValueError, match="no optimizer 'lion'"):
        stages.make_optimizer(config, stages.Stage("float", 1, 1.0, 0), None)
    config.tokenizer.kind = "words"
    with pytest.raises(ValueError, match="no tokenizer 'words'"):
        runs.tokenizer_class(config)
