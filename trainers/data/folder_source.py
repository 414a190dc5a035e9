"""Images in a folder, or in a folder of class folders."""

import functools
import os

import tensorflow as tf
from absl import logging

from trainers.data import classes, picture_files
from trainers.data.image_sources import IndexedSource, contents_of

# Folders that systems put among people's own: of a disk, a Mac's archive, and network storages, whose thumbnails are
# pictures too. Names with a dot in front are left out as well.
_OF_SYSTEMS = {
    *("lost+found", "System Volume Information", "$RECYCLE.BIN", "__MACOSX"),
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
}


@functools.lru_cache(maxsize=4)  # A large folder on a network takes minutes to list.
def open_folder(folder, labelled, skip_empty=False, may_be_flat=False):
    """`IndexedSource` of files that `picture_files` reads.

    Args:
        folder: path.
        labelled: whether the folders in it are the classes, in the order of their names; images may lie deeper. A name
            counts in its composed form of Unicode, whatever the file system makes of it. Otherwise all images below it
            are taken, and their label is 0.
        skip_empty: whether a class may be empty; it is logged then.
        may_be_flat: whether a folder without class folders will do: all of its images are of one class then.

    Raises:
        ValueError: where the folder is missing, one cannot be read, there is no class or no image, or a class is empty.
    """
    if not os.path.isdir(folder):
        raise ValueError(
            f"A data set of images must be a folder, `path`/`split`: there is no folder {folder}.{contents_of(folder)}"
        )
    visited = _ancestors(folder)
    class_folders = _class_folders(folder, visited) if labelled else []
    if labelled and not class_folders and not may_be_flat:
        raise ValueError(
            f"A folder of images must hold a folder for each class: {folder} holds none. With task.model.num_classes=1 "
            f"a GAN takes it as it is.{contents_of(folder)}"
        )
    roots = [os.path.join(folder, name) for name in class_folders] or [folder]
    # What a class holds is not met again through a link in another.
    visited |= {_identity(root) for root in roots}
    files = [_files_below(root, visited) for root in roots]
    loose = _files_in(folder) if class_folders else []
    pictures = {*picture_files.chosen(folder, [*loose, *(path for found in files for path in found)])}
    loose = [path for path in loose if path in pictures]
    if loose:
        logging.warning("Left out of %s: %d images that lie in no class folder.", folder, len(loose))
    found = [sorted(path for path in found if path in pictures) for found in files]
    for label, paths in enumerate(found):
        if not paths:
            message = f"The folder {roots[label]} holds no image; {', '.join(picture_files.endings())} are read."
            if not skip_empty or not class_folders:
                raise ValueError(message)
            logging.warning("%s Its class %d stays empty.", message, label)
    labels = tf.constant([label for label, paths in enumerate(found) for _ in paths], tf.int32)
    # Bytes: names of files need not be UTF-8.
    paths = tf.constant([os.fsencode(path) for paths in found for path in paths], tf.string)
    if not len(labels):
        raise ValueError(f"The folder {folder} holds no image; {', '.join(picture_files.endings())} are read.")

    def read(index):
        return {"image": tf.io.read_file(paths[index]), "label": labels[index]}

    names = tuple(classes.composed(name) for name in class_folders)
    source = IndexedSource(labels, names or None, read, lambda index: tf.gather(paths, index))
    source.num_classes = max(len(class_folders), 1)
    return source


def _class_folders(folder, visited):
    """The names of the classes; a link to what holds the folder is none."""
    folders = (entry for entry in _entries(folder) if entry.is_dir() and not _is_of_system(entry.name))
    return sorted((entry.name for entry in folders if _identity(entry.path) not in visited), key=classes.composed)


def _files_below(folder, visited):
    """The files at any depth, by links too, but each folder once; `visited` grows by those that were met."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        new = {}
        for name in sorted(folders):
            identity = _identity(os.path.join(parent, name))
            if not _is_of_system(name) and identity not in visited:
                visited.add(identity)
                new[identity] = name
        folders[:] = new.values()
        found += [os.path.join(parent, name) for name in files if not name.startswith(".")]
    return found


def _files_in(folder):
    return sorted(entry.path for entry in _entries(folder) if entry.is_file() and not entry.name.startswith("."))


def _entries(folder):
    try:
        return list(os.scandir(folder))
    except OSError as error:
        _refuse(error)


def _refuse(error):
    """What cannot be looked into is no empty folder: its images would be missed without a word."""
    raise ValueError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error


def _is_of_system(name):
    return name.startswith(".") or name in _OF_SYSTEMS


def _ancestors(folder):
    """The folder and all that hold it."""
    folder = os.path.realpath(folder)
    found = {_identity(folder)}
    while folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        found.add(_identity(folder))
    return found


def _identity(folder):
    """The same for all paths to a folder; None for what is gone or not to be looked into."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
