"""The classes of a run: their number and names, as its folder keeps them."""

import json
import os
import unicodedata

from trainers import configs
from trainers.data import picture_files

NAMES_FILE = "class_names.json"


def take_stored_number(model, model_dir):
    """Replaces a `num_classes` of 0, which is the data's own number, by the one that the run was started with.

    Args:
        model: `schema.ModelConfig`.
        model_dir: the run's folder, which need not be there.
    """
    path = os.path.join(model_dir, configs.PARAMS_FILE)
    if model.num_classes == 0 and os.path.exists(path):
        stored = configs.load_params(path).task.model
        model.num_classes = getattr(stored, "num_classes", 0)


def check_names(model_dir, names, what):
    """Refuses data whose classes are not those that the run has learned.

    Args:
        model_dir: the run's folder; where it holds no names, all will do.
        names: strings, or None where the data do not tell.
        what: the data, for the error.

    Raises:
        ValueError: where the names differ, with both lists.
    """
    path = os.path.join(model_dir, NAMES_FILE)
    if names is None or not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        stored = json.load(file)
    if [composed(name) for name in names] != [composed(name) for name in stored]:
        raise ValueError(
            f"The classes of {what} must be those that the run in {model_dir} was started with, of which each label "
            f"is the place: {', '.join(map(picture_files.shown, stored))}. Received: "
            f"{', '.join(map(picture_files.shown, names))}. Name them as they were, or name a new --model_dir."
        )


def composed(name):
    """A name as most systems write it: a Mac may write é as two characters, and sort it elsewhere."""
    return unicodedata.normalize("NFC", name)
