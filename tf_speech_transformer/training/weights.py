"""Weights of a model: by path, in files, from checkpoints."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_speech_transformer.model.transformer import SpeechTransformer


def copy_weights(
    source: SpeechTransformer, target: SpeechTransformer, only_shared: bool = False
) -> None:
    """`set_weights` with another model's values."""
    set_weights(by_path(source), target, only_shared)


def set_weights(
    values: Mapping[str, Any], target: SpeechTransformer, only_shared: bool = False
) -> None:
    """Sets every variable of `target` by its path.

    A quantized target keeps its ranges, which the values of a float model lack. The further layers
    of a deeper float target begin by adding nothing, so that it computes what the model of the
    values does.

    Args:
        only_shared: sets only what both have; the models may have different modules.

    Raises ValueError, with nothing changed, if the dimensions of the models differ.
    """
    places = by_path(target)
    if only_shared:
        shared = values.keys() & places.keys()
        if not shared:
            raise ValueError("the two models have no layer in common: name weights of another run")
        values, places = ({name: x[name] for name in shared} for x in (values, places))
    further = []
    if not target.quantized:
        for blocks in (target.encoder, target.decoder):
            present = [not values.keys().isdisjoint(map(path, x.variables)) for x in blocks]
            if any(present):
                further += [x for x, known in zip(blocks, present, strict=True) if not known]
    new = {path(v) for block in further for v in block.variables}
    without_place = sorted(values.keys() - places.keys())
    trained = {path(v) for v in target.trained_variables} & places.keys()
    without_value = sorted(trained - values.keys() - new)
    of_other_shape = sorted(
        name for name in values.keys() & places.keys() if values[name].shape != places[name].shape
    )
    for problem, names in (
        ("no place for", without_place),
        ("no values for", without_value),
        ("other shapes of", of_other_shape),
    ):
        if names:
            listed = ", ".join(names[:3])
            raise ValueError(
                f"{problem} {len(names)} weights ({listed}{', ...' if names[3:] else ''}): "
                "the two models differ in their dimensions"
            )
    for name, value in values.items():
        places[name].assign(tf.cast(value, places[name].dtype))
    for block in further:
        block.add_nothing()


def by_path(model: SpeechTransformer) -> dict[str, tf.Variable]:
    """The model's variables by their paths; no two paths are the same."""
    variables = {path(variable): variable for variable in model.variables}
    if len(variables) < len(model.variables):
        raise AssertionError("two variables of the model have one name: scope their layers")
    return variables


def path(variable: tf.Variable) -> str:
    """The variable's name without the model's own number."""
    return variable.name.split("/", 1)[1].split(":")[0]


def read_archive(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises ValueError for one that is torn, or something else."""
    try:
        with np.load(file) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is no whole .npz: copy it again ({error})") from error


def write_weights(model: SpeechTransformer, file: Path) -> None:
    """The float weights by path, as float16: half the size at the same word error rate."""
    values = {name: value.numpy().astype(np.float16) for name, value in by_path(model).items()}
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        np.savez_compressed(out, **values)
    temporary.replace(file)


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads what the checkpoint holds; raises ValueError for a file of another model."""
    try:
        checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"{path} is a checkpoint of another model: its preset or its vocabulary is not that of"
            " config.json and tokenizer/ beside it"
        ) from error


def restore_average(model: SpeechTransformer, directory: Path, count: int) -> None:
    """Sets the model's variables to the mean of the last `count` checkpoints of a stage.

    Raises FileNotFoundError if there are fewer.
    """
    known = tf.train.get_checkpoint_state(str(directory))
    paths = known.all_model_checkpoint_paths if known else []
    if not paths:
        raise FileNotFoundError(f"no checkpoint in {directory}: finish training first")
    if len(paths) < count:
        raise FileNotFoundError(
            f"{len(paths)} checkpoints in {directory}, and {count} to be averaged: train for longer"
        )
    means = [np.zeros(variable.shape, np.float64) for variable in model.variables]
    for path in paths[-count:]:
        restore(tf.train.Checkpoint(model=model), path)
        for mean, variable in zip(means, model.variables, strict=True):
            mean += variable.numpy() / count
    for mean, variable in zip(means, model.variables, strict=True):
        variable.assign(mean)
