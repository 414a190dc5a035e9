"""What tells images from others of the same names and number, without reading all of them."""

import hashlib
import os

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.data import classes, input_pipelines, picture_files, tfds_source, tfrecord_files
from trainers.evaluation import real_statistics

_SAMPLE = 64  # files, or images, whose contents are looked at; blocks, where there are fewer files
_BLOCK = 1 << 16  # bytes of such a file that are looked at in one place


def describe(groups, open_source, statistics_path, model_dir, must_be_there):
    """What the images are, as they lie there, or as the statistics tell where the images are not there.

    Args:
        groups: `schema.DataConfig` by the names of their groups.
        open_source: function from such a configuration to its source.
        statistics_path: of the stored statistics of the real images.
        model_dir: the run's folder, whose classes the data must have.
        must_be_there: whether the statistics may not stand in for the images.

    Returns:
        JSON values by name: `<group>.contents`, and `num_images` of the validation data.

    Raises:
        ValueError: where the images are not as they must be.
    """
    result, stored = {}, real_statistics.description_of(statistics_path)
    for group, data in groups.items():
        names = [f"{group}.contents"] + (["num_images"] if group == "validation_data" else [])
        if not must_be_there and not are_there(data) and all(name in stored for name in names):
            logging.warning(
                "The images of `task.%s` are not in %s: %s stands in for them.", group, _place(data), statistics_path
            )
            result.update({name: stored[name] for name in names})
        else:
            source = open_source(data)
            classes.check_names(model_dir, source.class_names, f"task.{group}")
            result.update(zip(names, (fingerprint(data, source), source.num_images)))
    return result


def are_there(data):
    """Whether there is what a `schema.DataConfig` names, without fetching anything."""
    if data.dataset == "folder":  # of a disk that is not mounted, there is an empty one
        folder = os.path.join(data.path, data.split)
        return os.path.isdir(folder) and bool(os.listdir(folder))
    if data.dataset == "tfds":
        return tfds_source.is_prepared(data)
    return data.dataset != "tfrecord" or bool(tfrecord_files.files_of(data))


def _place(data):
    if data.dataset == "tfds":
        return f"{data.path or 'the folder of TensorFlow Datasets'}, as {data.name!r}"
    return os.path.join(data.path, data.split)


def check_classes(data, open_source, statistics_path, num_classes):
    """Refuses a distance within classes where a class has fewer than two real images.

    Args:
        data: `schema.DataConfig` of the real images; of TFRecords and TFDS all are read, but not decoded, unless there
            are statistics of them.
        open_source: as for `describe`.
        statistics_path: as for `describe`.
        num_classes: integer.

    Raises:
        ValueError: with the class, and its name where the data tell.
    """
    names = None
    labels = real_statistics.labels_of(statistics_path)
    if labels is None:
        source = open_source(data)
        names = source.class_names
        with input_pipelines.value_errors(data):
            labels = source.labels()
    counts = np.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)
    label = int(np.argmin(counts))
    if counts[label] < 2:
        name = f" ({picture_files.shown(names[label])})" if names else ""
        raise ValueError(
            "`task.evaluation.intra_class` needs at least 2 images of each class in `task.validation_data`. Received: "
            f"{counts[label]} of class {label}{name}. Add images, or turn it off."
        )


def fingerprint(data, source):
    """Names and sizes of all files, and what a sample of them holds; of data sets without files the latter.

    Times play no part: a copy on another disk holds the same images.

    Args:
        data: `schema.DataConfig`.
        source: what `input_pipelines.open_source` gives for it.

    Returns:
        string, with a SHA-256.
    """
    digest = hashlib.sha256()
    if data.dataset == "folder":
        files = [os.fsdecode(path) for path in source.name_of(tf.range(source.num_images, dtype=tf.int64)).numpy()]
    else:
        files = tfrecord_files.files_of(data) if data.dataset == "tfrecord" else []
    if not files:
        for image in _some_images(source):
            digest.update(image)
        return f"sha256 {digest.hexdigest()}"
    sizes = [os.path.getsize(path) for path in files]
    for path, size in zip(files, sizes):
        digest.update(os.fsencode(f"{os.path.relpath(path, data.path)}\0{size}\n"))
    for index in _sample(len(files)):
        with open(files[index], "rb") as file:
            for place in np.linspace(0, max(sizes[index] - _BLOCK, 0), max(_SAMPLE // len(files), 2)).astype(np.int64):
                file.seek(place)
                digest.update(file.read(_BLOCK))
    return f"{len(files)} files of {sum(sizes)} bytes, sha256 {digest.hexdigest()}"


def _some_images(source):
    """The bytes of some images, as they are stored or as arrays."""
    if source.decoded:
        yield source.read(tf.constant(_sample(source.num_images), tf.int64))["image"].numpy().tobytes()
        return
    for record in source.once().take(_SAMPLE):
        yield source.read(record)["image"].numpy()


def _sample(count):
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist()
