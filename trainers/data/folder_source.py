"""Images in a folder, or in a folder of class folders."""

import functools
import os

import tensorflow as tf
from absl import logging

from trainers.data.image_sources import IndexedSource, contents_of

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")


@functools.lru_cache(maxsize=4)  # A large folder on a network takes minutes to list.
def open_folder(folder, labelled, skip_empty=False):
    """`IndexedSource` of PNG, JPEG and WebP files.

    Args:
        folder: path.
        labelled: whether the folders in it are the classes, in the order of their names; images may lie deeper.
            Otherwise all images below it are taken, and their label is 0.
        skip_empty: whether a class may be empty; it is logged then.

    Raises:
        ValueError: where the folder is missing, or there is no class or no image, or a class is empty.
    """
    if not os.path.isdir(folder):
        raise ValueError(
            f"A data set of images must be a folder, `path`/`split`: there is no folder {folder}.{contents_of(folder)}"
        )
    classes = ["."]
    if labelled:
        classes = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
        if not classes:
            raise ValueError(
                f"A folder of images must hold a folder for each class: {folder} holds none.{contents_of(folder)}"
            )
    paths, labels = [], []
    for label, name in enumerate(classes):
        below = os.path.join(folder, name) if labelled else folder
        found = _images_below(below)
        if not found:
            message = f"The folder {below} holds no image; {', '.join(_EXTENSIONS)} are read."
            if not skip_empty or not labelled:
                raise ValueError(message)
            logging.warning("%s Its class %d stays empty.", message, label)
        paths += found
        labels += [label] * len(found)
    paths, labels = tf.constant(paths, tf.string), tf.constant(labels, tf.int32)
    if not len(labels):
        raise ValueError(f"The folder {folder} holds no image; {', '.join(_EXTENSIONS)} are read.")

    def read(index):
        return {"image": tf.io.read_file(paths[index]), "label": labels[index]}

    return IndexedSource(len(labels), tuple(classes) if labelled else None, read, lambda index: tf.gather(paths, index))


def _images_below(folder):
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in files
            if name.lower().endswith(_EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(found)
