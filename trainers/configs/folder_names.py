"""Names of folders from which TensorFlow reads checkpoints and SavedModels: it takes them for patterns."""

import re


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
