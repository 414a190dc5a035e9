"""The folder of a run: made once, and never taken over by a run of something else."""

import fnmatch
import json
import os
import re

from absl import logging

from trainers import configs
from trainers.configs import folder_names
from trainers.configs.resuming import HELD, INEXACT, LEARNED
from trainers.data import classes

# What systems, job schedulers, shells and a start that was cut off leave in a folder that nobody used.
_LITTER = (
    *(".*", "lost+found", "Thumbs.db", "desktop.ini", "*.log", "*.out", "*.err", "*.lock"),
    *(f"{name}.partial" for name in (configs.PARAMS_FILE, classes.NAMES_FILE)),
)


class RunDirectoryError(ValueError):
    """The folder cannot be used for this run; the message says why."""


def check(model_dir, params, must_exist=False, is_read=False):
    """Checks that the folder of a run is free, or belongs to the same run; writes nothing.

    A later start may change what `trainers.configs.resuming` allows, and all else too where there is no checkpoint yet.

    Args:
        model_dir: the folder.
        params: `schema.ExperimentConfig`.
        must_exist: whether the run must be there already, to be read.
        is_read: whether it is only read, by an evaluation, which may change what is learned from what.

    Raises:
        RunDirectoryError: where the folder belongs to another run or to something else, or the run is missing.
    """
    _check_name(model_dir)
    path = os.path.join(model_dir, configs.PARAMS_FILE)
    names = _names(model_dir)
    if configs.PARAMS_FILE in names:
        old = configs.load_params(path)
        if has_checkpoint(model_dir):
            _check_same_run(path, old, params, is_read=is_read or must_exist)
    elif must_exist:
        raise RunDirectoryError(f"--model_dir={model_dir} holds no run: there is no {configs.PARAMS_FILE} in it.")
    elif others := [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in _LITTER)]:
        raise RunDirectoryError(
            f"--model_dir={model_dir} is not empty and holds no {configs.PARAMS_FILE}: it was made by something else, "
            f"which left {others[0]} there. Name a new folder."
        )


def has_checkpoint(model_dir):
    """Whether a run has come so far that its folder holds a checkpoint."""
    return any(re.fullmatch(r"ckpt-\d+\.index", name) for name in _names(model_dir))


def load(model_dir, overrides=()):
    """The configuration of a run, with `key=value` texts over it.

    Raises:
        ValueError: where the folder holds no run, or an override does not fit.
    """
    _check_name(model_dir)
    path = os.path.join(model_dir, configs.PARAMS_FILE)
    if not os.path.exists(path):
        raise RunDirectoryError(f"--model_dir={model_dir} holds no run: there is no {configs.PARAMS_FILE} in it.")
    return configs.load_params(path, overrides)


def prepare(model_dir, params, class_names=None):
    """Makes the folder of a run, after `check`, and writes `params.yaml`, and `class_names.json` where there are names.

    Raises:
        RunDirectoryError: where it cannot be written.
    """
    path = os.path.join(model_dir, configs.PARAMS_FILE)
    try:
        os.makedirs(model_dir, exist_ok=True)
        write(path, configs.dump(params))
        if class_names:
            write(os.path.join(model_dir, classes.NAMES_FILE), json.dumps(list(class_names)))
    except OSError as error:
        raise RunDirectoryError(f"--model_dir={model_dir} cannot be written: {error}") from error


def write(path, text):
    """Writes a text file, which is never seen in part."""
    with open(path + ".partial", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".partial", path)


def _check_name(model_dir):
    if "://" in model_dir:
        raise RunDirectoryError(f"--model_dir={model_dir} must be a folder of a file system; mount the bucket.")
    folder_names.check("--model_dir", model_dir, RunDirectoryError)


def _names(model_dir):
    try:
        return sorted(os.listdir(model_dir))
    except (FileNotFoundError, NotADirectoryError):  # the latter is said where it is written
        return []
    except OSError as error:
        raise RunDirectoryError(f"--model_dir={model_dir} cannot be read: {error}") from error


def _check_same_run(path, old, new, is_read):
    found = configs.changes(old, new)
    refused = found[HELD] + ([] if is_read else found[LEARNED])
    if refused:
        raise RunDirectoryError(
            f"{path} belongs to another run. It differs in {'; '.join(refused)}. Name a new --model_dir."
        )
    if found[INEXACT] and not is_read:
        logging.warning(
            "%s: the run goes on with other settings, and so not bit for bit as without a change: %s",
            path,
            "; ".join(found[INEXACT]),
        )
