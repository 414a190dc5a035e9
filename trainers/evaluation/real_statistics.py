"""What scores need to know of the real images, kept in a file together with what made it."""

import contextlib
import json
import os

import numpy as np

_DESCRIPTION, _SCORES, _ARRAYS = "description", "scores", ("features", "labels")


class StatisticsError(ValueError):
    """A file of statistics does not belong to this evaluation."""


class RealStatistics:
    """Features and labels of the real images, and scores of the real images themselves.

    The features themselves are kept, not their mean and covariance: kernel distance, precision, recall and the
    distances within classes need them.

    Args:
        features: float32 `(images, features)`.
        labels: int32 `(images,)`.
        scores: floats by name.
    """

    def __init__(self, features, labels, scores):
        self.features = features
        self.labels = labels
        self.scores = scores

    def save(self, path, description):
        """Writes the file, whole or not at all.

        Args:
            path: string, ends in ".npz". Its folder is made where it is missing.
            description: JSON values by name: what made the statistics.
        """
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        partial = f"{path}.{os.getpid()}.partial"  # Runs may share a folder of statistics.
        try:
            with open(partial, "wb") as file:
                np.savez(
                    file,
                    description=json.dumps(description, indent=1, sort_keys=True),
                    scores=json.dumps(self.scores),
                    features=self.features,
                    labels=self.labels,
                )
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.remove(partial)
            raise


def load(path, description):
    """Reads a file that `RealStatistics.save` wrote, and refuses one that something else made.

    Args:
        path: string.
        description: as `RealStatistics.save`.

    Returns:
        `RealStatistics`.

    Raises:
        StatisticsError: see `check`.
    """
    with _open(path, description) as file:
        features, labels = (file[name] for name in _ARRAYS)
        return RealStatistics(features, labels, json.loads(str(file[_SCORES])))


def check(path, description):
    """Raises the error that `load` would raise, without reading the features.

    Raises:
        StatisticsError: where the file cannot be read, or was made from other data or with other features.
    """
    _open(path, description).close()


def description_of(path):
    """What made the statistics of a file: JSON values by name, {} where there is no file or no such one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(json.loads(str(file[_DESCRIPTION])))
    except Exception:  # np.load has one for each way in which a file can be broken; `check` says which
        return {}


def labels_of(path):
    """The labels of the real images, int32 `(images,)`, or None where there is no file or no such one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["labels"]
    except Exception:  # as above
        return None


def _open(path, description):
    try:
        file = np.load(path, allow_pickle=False)
        missing = {_DESCRIPTION, _SCORES, *_ARRAYS} - set(file.files)
        found = None if missing else json.loads(str(file[_DESCRIPTION]))
    except Exception as error:  # np.load has one for each way in which a file can be broken
        raise StatisticsError(f"{path} cannot be read as statistics of real images: {error}. {_HINT}") from error
    if missing:
        raise StatisticsError(f"{path} holds no statistics of real images: {sorted(missing)} are missing. {_HINT}")
    differences = [
        f"{name}: {found.get(name)!r} in the file, {description.get(name)!r} here"
        for name in sorted({*found, *description})
        if found.get(name) != description.get(name)
    ]
    if differences:
        file.close()
        raise StatisticsError(f"{path} does not fit this evaluation: {'; '.join(differences)}. {_HINT}")
    return file


_HINT = "Delete the file to have it made anew, or set task.evaluation.statistics_dir to another folder."
