"""Folders from which TensorFlow reads checkpoints and SavedModels: it takes their names for patterns."""

import os
import re

NETWORK_FILE = "network.json"  # in the folder of a SavedModel of the tools: the network that has its weights


def is_saved_model(folder):
    """Whether a folder is that of a SavedModel."""
    return os.path.isfile(os.path.join(folder, "saved_model.pb"))


def check(setting, path, error=ValueError):
    """Raises `error` where TensorFlow would not find again what lies at `path`.

    Args:
        setting: what the path was given as, such as "--model_dir".
        path: string.
        error: class of the error.
    """
    if special := re.search(r"[][*?\\]", path):
        raise error(
            f"{setting}={path} must have no {special[0]} in it: TensorFlow takes the name for a pattern and does not "
            "find checkpoints and SavedModels there. Name or rename the folder otherwise."
        )
