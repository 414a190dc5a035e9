"""Starts a run from the weights of another: `task.init_checkpoint`."""

import glob
import os

from absl import logging

from trainers.configs import PARAMS_FILE, folder_names, load_params
from trainers.configs.networks import CheckpointError, find_checkpoint, read_file, restore_networks

_SHOWN = 8
# Settings of a layer that do not change what its weights compute.
_OF_TRAINING = {
    "name",
    "registered_name",
    "module",
    "class_name",
    "dtype",
    "trainable",
    "seed",
    "orthogonal_weight",
    "self_sampling",
}


def start(params, networks, model_dir):
    """Gives the networks of a new run the weights that `task.init_checkpoint` names; a run that goes on has its own.

    Weights are taken layer by layer, by name. Those of layers which the source lacks, or has in another shape, stay as
    they start; a warning names them, and the layers of the source that were of no use. Another names what takes the
    weights but computes something else with them.

    Args:
        params: `schema.ExperimentConfig` or `schema.InpaintingConfig` of the new run.
        networks: its networks, `keras.Model` by name, among them "generator" and "ema_generator", in whose strategy's
            scope this is called.
        model_dir: its folder.

    Raises:
        ValueError: where there is no such source, it is of the other application, or no layer of a network fits.
    """
    path = params.task.init_checkpoint
    if not path or glob.glob(f"{glob.escape(model_dir)}/ckpt-*.index"):
        return
    wanted = [
        name for name in networks if name != "generator" and _is_chosen(name, params.task.init_checkpoint_modules)
    ]
    sources = _read(path, params.application, wanted)
    for name, source in sources.items():
        logging.info("task.init_checkpoint=%s: %s", path, _take(path, name, source, networks[name]))
    if "ema_generator" in sources:
        for variable, average in zip(networks["generator"].variables, networks["ema_generator"].variables):
            variable.assign(average)


def _is_chosen(name, modules):
    """Whether a network, by its name in a checkpoint, is of a module that was asked for."""
    module = "generator" if name == "ema_generator" else "critics" if name.endswith("_critic") else name
    return "all" in modules or module in modules


def _read(path, application, names):
    """The source's networks, by name; a file, or a SavedModel, holds a generator alone."""
    if path.endswith((".keras", ".h5")) or folder_names.is_saved_model(path):
        others = [name for name in names if name != "ema_generator"]
        if "ema_generator" not in names or others:
            logging.info("task.init_checkpoint=%s holds a generator alone.", path)
        return {"ema_generator": read_file(path)} if "ema_generator" in names else {}
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if not os.path.isfile(os.path.join(folder, PARAMS_FILE)):
        raise CheckpointError(
            "`task.init_checkpoint` must be a run, its DIR/ckpt-STEP, a SavedModel of tools.export_saved_model, or a "
            ".keras or .weights.h5 file, as tools.convert_checkpoint writes them of the authors' checkpoints too. "
            f"Received: {path}"
        )
    old = load_params(os.path.join(folder, PARAMS_FILE))
    if old.application != application:
        raise CheckpointError(f"`task.init_checkpoint` must be of the same trainer. {path} is of {old.application!r}.")
    return restore_networks(old, find_checkpoint(folder, None if path == folder else path), names)


def _take(path, name, source, target):
    """Copies what fits from one network to another, and returns a line that says what did."""
    theirs = {layer.name: layer for layer in source.layers if layer.weights}
    fitting, faults = {}, []
    for layer in target.layers:
        if not layer.weights:
            continue
        other = theirs.pop(layer.name, None)
        mine, found = (
            None if one is None else [tuple(weight.shape) for weight in one.weights] for one in (layer, other)
        )
        if mine == found:
            fitting[layer.name] = layer, other
        else:
            faults.append(f"{layer.name} {'is not there' if found is None else f'is {found}, not {mine}'}")
    if not fitting:
        raise CheckpointError(
            f"`task.init_checkpoint`: no layer of the {name} fits {path}: {'; '.join(faults[:_SHOWN])}"
            f"{f' and {len(faults) - _SHOWN} more' if len(faults) > _SHOWN else ''}."
        )
    for layer, other in fitting.values():
        for weight, value in zip(layer.weights, other.weights):
            weight.assign(value)
    if faults or theirs:
        logging.warning(
            "task.init_checkpoint=%s: of the %s these layers stay as they start: %s; of the source's these are of no "
            "use: %s.",
            path,
            name,
            "; ".join(faults) or "none",
            ", ".join(theirs) or "none",
        )
    others = _set_otherwise(fitting.values(), source, target)
    if others:
        logging.warning(
            "task.init_checkpoint=%s: the %s has the weights, but not the settings that they were learned with: %s.",
            path,
            name,
            "; ".join(others),
        )
    return f"{len(fitting)} layers of the {name} taken"


def _set_otherwise(pairs, source, target):
    """Where weights are the same: settings of layers that differ, and kinds of layers that only one network has."""
    found = []
    for layer, other in pairs:
        mine, theirs = (dict(_settings(one.get_config())) for one in (layer, other))
        found += [
            f"{layer.name} has {key}={mine[key]!r}, not {theirs[key]!r}"
            for key in mine
            if key in theirs and mine[key] != theirs[key]
        ]
    mine, theirs = ({type(one).__name__ for one in model.layers if not one.weights} for model in (target, source))
    return [
        *found,
        *(f"it has a {kind}" for kind in sorted(mine - theirs)),
        *(f"it has no {kind}" for kind in sorted(theirs - mine)),
    ]


def _settings(config, prefix=""):
    """The settings that a layer computes with, of its own and, under the name of its place, of a layer within it."""
    for key, value in config.items():
        if key in _OF_TRAINING or key.endswith(("initializer", "regularizer")):
            continue
        if isinstance(value, dict):
            yield from _settings(value, prefix if key == "config" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
