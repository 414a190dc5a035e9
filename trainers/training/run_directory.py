"""The folder of a run: made once, and never taken over by a run of something else."""

import dataclasses
import json
import os

from trainers import configs
from trainers.training.run_lock import LOCK_FILE

PARAMS_FILE = "params.yaml"
CLASS_NAMES_FILE = "class_names.json"


class RunDirectoryError(ValueError):
    """The folder cannot be used for this run; the message says why."""


def check(model_dir, params, must_exist=False):
    """Checks that the folder of a run is free, or belongs to the same run; writes nothing.

    A later start may change how long or how often (`trainer`, `runtime`), but not the networks, losses, training data
    or kinds of optimizers that the checkpoints were made with.

    Args:
        model_dir: the folder.
        params: `schema.ExperimentConfig`.
        must_exist: whether the run must be there already.

    Raises:
        RunDirectoryError: where the folder belongs to another run or to something else, or the run is missing.
    """
    if "://" in model_dir:
        raise RunDirectoryError(f"--model_dir={model_dir} must be a folder of a file system; mount the bucket.")
    path = os.path.join(model_dir, PARAMS_FILE)
    if os.path.exists(path):
        _check_same_run(path, params)
    elif must_exist:
        raise RunDirectoryError(f"--model_dir={model_dir} holds no run: there is no {PARAMS_FILE} in it.")
    elif os.path.isdir(model_dir) and set(os.listdir(model_dir)) - {LOCK_FILE}:
        raise RunDirectoryError(
            f"--model_dir={model_dir} is not empty and holds no {PARAMS_FILE}: it was made by something else. "
            "Name a new folder."
        )


def prepare(model_dir, params, class_names=None):
    """Makes the folder of a run, after `check`, and writes `params.yaml`, and `class_names.json` where there are names.

    Raises:
        RunDirectoryError: where it cannot be written.
    """
    path = os.path.join(model_dir, PARAMS_FILE)
    try:
        os.makedirs(model_dir, exist_ok=True)
        _write(path, configs.dump(params))
        if class_names:
            _write(os.path.join(model_dir, CLASS_NAMES_FILE), json.dumps(list(class_names)))
    except OSError as error:
        raise RunDirectoryError(f"--model_dir={model_dir} cannot be written: {error}") from error


def _write(path, text):
    with open(path + ".partial", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".partial", path)


def _check_same_run(path, params):
    old = configs.load_params(path)
    differences = configs.nested_differences(old.application, params.application, "application")
    for field in () if differences else dataclasses.fields(params.task):
        name = field.name
        if name not in ("validation_data", "evaluation"):
            pair = getattr(old.task, name), getattr(params.task, name)
            differences += configs.nested_differences(*pair, f"task.{name}")
    for name in configs.OPTIMIZERS:  # whose slots the checkpoints hold
        kinds = getattr(old.trainer, name).type, getattr(params.trainer, name).type
        differences += configs.nested_differences(*kinds, f"trainer.{name}.type")
    if differences:
        raise RunDirectoryError(
            f"{path} belongs to another run. It differs in {'; '.join(differences)}. Name a new --model_dir."
        )
