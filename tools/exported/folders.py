"""Where the SavedModel of an export is, and what its metadata say."""

import json
import os

from tools.exporting.exports import FORMATS, METADATA_FILE
from trainers.configs.folder_names import is_saved_model

# The folder of the exports that come with the project.
PRETRAINED = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "pretrained"))
INPAINTING, GENERATION = "inpainting_photos", "gan_cifar10"  # what fills, and what draws


class FolderError(ValueError):
    """The folder holds no export; the message says why."""


def saved_model_in(path):
    """The folder of the SavedModel: `path` itself, or the one that `tools.convert_checkpoint` wrote in it.

    Raises:
        FolderError: where there is none.
    """
    inner = os.path.join(path, FORMATS["saved_model"][0])
    for folder in (path, inner):
        if is_saved_model(folder):
            return folder
    raise FolderError(f"--saved_model={path} is no SavedModel: there is no saved_model.pb in it.")


def pretrained(name):
    """The SavedModel of a name that comes with this project; raises FolderError where it is not there."""
    path = os.path.join(PRETRAINED, name, "saved_model")
    if not is_saved_model(path):
        raise FolderError(
            f"Without --saved_model the weights of this project are taken, and {path} holds none: get that folder back "
            "from the project's repository, or name a SavedModel of your own."
        )
    return path


def metadata_of(folder):
    """What the export of a SavedModel notes, a dictionary; empty where it notes nothing that can be read.

    The tools write it into the SavedModel's folder or beside that.
    """
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        try:
            with open(os.path.join(place, METADATA_FILE), encoding="utf-8") as file:
                return dict(json.load(file))
        except (OSError, ValueError, TypeError):
            continue
    return {}


def application_of(metadata):
    """`inpainting` or `gan`; an export that notes nothing is taken for one that fills, which needs no notes."""
    return metadata.get("application") or ("gan" if "num_classes" in metadata else "inpainting")
