"""Reads a generator from what a person has: a checkpoint, ours or the authors', a file of Keras, or a SavedModel."""

import hashlib
import os
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import keras_an
from keras_an.backend import keras
from tools.exporting import runs
from tools.exporting.exports import ExportError
from tools.exporting.gan_serving import GanServing
from tools.exporting.inpainting_serving import InpaintingServing
from trainers import configs
from trainers.configs import folder_names, networks

_RULE = (
    "a run, its DIR/ckpt-STEP, a .keras or .weights.h5 file, a SavedModel of these tools, or a checkpoint of the "
    "released inpainting code"
)


class Generator(NamedTuple):
    """A live generator, its signatures, and the metadata of what is made of it."""

    model: Any
    serving: Any
    metadata: dict


def load(path, use_ema=True):
    """Reads a generator of any kind.

    Args:
        path: folder of a run, `DIR/ckpt-STEP` in it, `.keras` or `.weights.h5` file, SavedModel of these tools, or a
            checkpoint of the authors' released inpainting code or its folder.
        use_ema: whether a run's averaged weights are read.

    Returns:
        `Generator`.

    Raises:
        ExportError: where there is no generator of this package, or its weights are not finite.
        ConfigError, CheckpointError: where a run is not as it must be.
    """
    is_saved_model = folder_names.is_saved_model(path)
    if is_saved_model or path.endswith((".keras", ".h5")):
        if not is_saved_model and not os.path.isfile(path):
            raise ExportError(f"--checkpoint={path} is no file. Name {_RULE}.")
        model = networks.read_file(path)
        dtype = _computed_dtype(model)
        metadata = {"checkpoint": os.path.basename(path), "dtype": dtype}
        weights = os.path.join(path, "variables", "variables.index") if is_saved_model else path
        return _checked(model, path, metadata, {"file": _digest(weights)}, dtype)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if os.path.isfile(os.path.join(folder, configs.PARAMS_FILE)):
        return from_run(folder, None if path == folder else path, use_ema)
    from tools.exporting import released_checkpoint

    model, checkpoint, sizes = released_checkpoint.read(path)
    metadata = {"checkpoint": os.path.basename(checkpoint), **sizes}
    return _checked(model, checkpoint, metadata, {"index": _digest(checkpoint + ".index")})


def from_run(model_dir, checkpoint=None, use_ema=True, dtype="float32"):
    """Reads the generator of a run.

    Args:
        model_dir: folder of the run.
        checkpoint: path, or None for the run's newest.
        use_ema: whether the averaged weights are read.
        dtype: "float32", "float16" or "bfloat16": of the computation; weights stay float32.

    Returns, Raises:
        As `load`.
    """
    params = configs.load_params(os.path.join(model_dir, configs.PARAMS_FILE))
    checkpoint = networks.find_checkpoint(model_dir, checkpoint)
    _check_same_networks(model_dir, params, checkpoint)
    made_of = {"index": _digest(checkpoint + ".index"), "use_ema": use_ema, "dtype": dtype}
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    try:
        model = networks.restore_generator(params, checkpoint, use_ema)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    match = re.search(r"-(\d+)$", checkpoint)
    step = int(match[1]) if match else None
    metadata = {
        "experiment": params.experiment,
        "checkpoint": os.path.basename(checkpoint),
        "step": step,
        "metrics": runs.scores_of(model_dir).get(step, {}),
        "use_ema": use_ema,
        "dtype": dtype,
        "class_names": runs.class_names(model_dir),
    }
    return _checked(model, checkpoint, metadata, made_of, dtype)


def _check_same_networks(model_dir, params, checkpoint):
    """Raises CheckpointError where a checkpoint lies in the folder of a run with other networks."""
    path = os.path.join(os.path.dirname(checkpoint), configs.PARAMS_FILE)
    if os.path.abspath(os.path.dirname(checkpoint)) == os.path.abspath(model_dir) or not os.path.isfile(path):
        return
    other = configs.load_params(path)
    differences = configs.nested_differences(params.application, other.application, "application")
    differences = differences or configs.nested_differences(params.task.model, other.task.model, "task.model")
    if differences:
        raise networks.CheckpointError(
            f"--checkpoint={checkpoint} is one of another experiment than --model_dir={model_dir}. "
            f"It differs in {'; '.join(differences)}. Name its own folder as --model_dir."
        )


def _checked(model, path, metadata, made_of, dtype="float32"):
    """A `Generator`; raises ExportError where the model is none of this package, or its weights are not finite."""
    faults = [variable.name for variable in model.variables if not np.isfinite(np.asarray(variable, np.float64)).all()]
    if faults:
        raise ExportError(
            f"{path} holds weights that are not finite: {len(faults)}, the first of which is {faults[0]}. "
            "Take an earlier checkpoint."
        )
    names = [tensor.name.split(":")[0] for tensor in model.inputs]
    kinds = {("z", "label"): GanServing, ("image", "mask"): InpaintingServing}
    if tuple(names) not in kinds:
        raise ExportError(
            f"{path} holds no generator of keras_an. Its inputs are {names}, not z and label or image and mask."
        )
    serving = kinds[tuple(names)](model, dtype)
    versions = {"keras_an": keras_an.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    metadata = {**versions, **serving.metadata(), **metadata, "made_of": {**made_of, "keras_an": keras_an.__version__}}
    return Generator(model, serving, metadata)


def _computed_dtype(model):
    """The least exact of the dtypes in which the layers of a model compute."""
    found = {layer.compute_dtype for layer in model.layers}
    return next((dtype for dtype in ("bfloat16", "float16") if dtype in found), "float32")


def _digest(path):
    """SHA-256 of a file. The index of a checkpoint holds a checksum of every tensor."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
