"""Images and labels as `tf.data` pipelines of `{"image": float32 in [-1, 1], "label": int32}`."""

import contextlib
import os
import re

import numpy as np
import tensorflow as tf

from trainers.data import (
    bundled_sources,
    folder_source,
    image_batches,
    image_sources,
    pairs_source,
    picture_files,
    tfds_source,
    tfrecord_source,
)


def training_dataset(strategy, data, resolution, seed, start_batch=0, *, image_channels=None, num_classes=None):
    """An endless distributed data set of shuffled batches.

    Each worker sees images of its own, and all workers together see each image once an epoch. The global batches depend
    on `seed` alone; for TFDS and TFRecords, of which each worker reads a part, also on the number of workers.

    Images are cropped at the center, or with `data.random_crop` at random places, to a square, then resized with a
    bicubic filter that antialiases; from the bundled photographs squares of `resolution` are cut without resizing,
    unless `data.random_crop_area` says how large they are. With `data.cache` every picture is decoded only once.

    Args:
        strategy: `tf.distribute.Strategy`.
        data: `schema.DataConfig`.
        resolution: side of the images in pixels.
        seed: integer, of the order, the flips and the places of the squares.
        start_batch: batches to leave out at the start, so that a resumed run sees what it would have seen.
        image_channels: 1 or 3, or None for what the source has.
        num_classes: integer, one more than the largest label, or None where labels do not matter: any folder of images
            will do then, and labels may be 0.

    Returns:
        A distributed data set of `{"image", "label"}`, `global_batch_size / replicas` images for each replica. Its
        iterator raises `tf.errors.InvalidArgumentError`, naming file or record, for an image that cannot be decoded or
        a label out of range; with `data.skip_corrupt`, these are logged, and other images of the batch stand in.

    Raises:
        ValueError: see `check`.
    """
    source = check(strategy, data, resolution, num_classes=num_classes)
    advice = _advice("task.train_data")
    batches = image_batches.ImageBatches(source, data, resolution, image_channels, num_classes, advice)
    if data.cache and data.random_crop and not source.decoded:
        whole = image_batches.ImageBatches(source, data, None, 3, num_classes, advice).whole()
        with value_errors(data):
            pictures = [(picture["image"].numpy(), picture["label"].numpy()) for picture in whole]
        source = image_sources.picture_source(pictures, source.class_names)
        batches = image_batches.ImageBatches(source, data, resolution, image_channels, num_classes, advice)
    elif data.cache and not source.decoded:
        source = image_sources.array_source(*_arrays(batches.once_unfinished(256), data), source.class_names)
        batches = image_batches.ImageBatches(source, data, resolution, image_channels, num_classes, advice)

    def make(context):
        return batches.shuffled(seed, start_batch, context).prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make)


def evaluation_dataset(
    data,
    resolution,
    batch_size,
    *,
    image_channels=None,
    num_classes=None,
    num_images=None,
    group="task.validation_data",
):
    """All images once, in order, not flipped; the last batch may be smaller.

    Args:
        data: `schema.DataConfig`; its `global_batch_size` plays no part.
        resolution: side of the images in pixels.
        batch_size: integer.
        image_channels: 1 or 3, or None for what the source has.
        num_classes: as in `training_dataset`.
        num_images: integer, how many images evenly out of all; None is all.
        group: that of the configuration which `data` is; the error of an image names it.

    Returns:
        `tf.data.Dataset` of `{"image", "label"}`, float32 `(batch, resolution, resolution, image_channels)` in [-1, 1]
        and int32 `(batch,)`. Its iterator raises as that of `training_dataset`; with `data.skip_corrupt`, such images
        are logged and left out.

    Raises:
        ValueError: see `open_source`.
    """
    source = open_source(data, resolution, num_classes)
    batches = image_batches.ImageBatches(source, data, resolution, image_channels, num_classes, _advice(group))
    return batches.once(batch_size, num_images).prefetch(tf.data.AUTOTUNE)


def load_arrays(data, resolution, *, image_channels=None, num_classes=None, group="task.train_data"):
    """What `evaluation_dataset` gives, in memory: images float32 and labels int32.

    Raises:
        ValueError: see `open_source`, and for a corrupt image or a label out of range.
    """
    dataset = evaluation_dataset(
        data, resolution, 256, image_channels=image_channels, num_classes=num_classes, group=group
    )
    return _arrays(dataset, data)


def open_source(data, resolution, num_classes=None):
    """Finds the images that a configuration names, and decodes none of them.

    Args:
        data: `schema.DataConfig`.
        resolution: side in pixels, for the digits.
        num_classes: as in `training_dataset`.

    Returns:
        A source of `image_sources`, with `num_images`, `class_names` and `num_classes`, the latter None where the data
        do not tell.

    Raises:
        ValueError: where a data set, folder, file, split or class is missing, or there are not `num_classes` classes.
    """
    if data.dataset in ("folder", "tfrecord") and "://" in data.path:
        raise ValueError(f"`path` must be a folder of a file system; mount the bucket. Received: {data.path}")
    # A single class needs no labels.
    labelled = num_classes not in (None, 1)
    if data.dataset == "digits":
        images, labels = bundled_sources.load_digits(data.split, resolution)
        source = image_sources.array_source(images, labels, tuple("0123456789"))
    elif data.dataset == "pairs":
        source = pairs_source.open_pairs(data.split, resolution)
    elif data.dataset == "photos":
        if num_classes not in (None, 0, 1):
            raise ValueError("The photographs have no labels: `dataset: photos` is for inpainting, or one class.")
        images = bundled_sources.load_photos(data.split, resolution)
        source = image_sources.array_source(images, np.zeros(len(images), np.int32))
        source.num_classes = 1
    elif data.dataset == "tfds":
        source = tfds_source.open_tfds(data, labelled)
    elif data.dataset == "tfrecord":
        source = tfrecord_source.open_tfrecords(data, labelled)
    else:
        folder = os.path.normpath(os.path.join(data.path, data.split))
        source = folder_source.open_folder(folder, num_classes is not None, data.skip_corrupt, num_classes in (0, 1))
    if num_classes == 0 and source.num_classes is None:
        raise ValueError(
            f"`task.model.num_classes` must be given: {_describe(data)} does not tell how many classes there are."
        )
    if num_classes and source.num_classes not in (None, num_classes):
        told = ", as `class_names` gives them" if data.dataset == "tfrecord" else ""
        raise ValueError(
            f"`task.model.num_classes` must be the number of classes of {_describe(data)}, {source.num_classes}"
            f"{_some(source.class_names)}{told}. Received: {num_classes}"
        )
    return source


def check(strategy, data, resolution, *, num_classes=None, validation_data=None):
    """Opens the training data; with `validation_data`, also looks whether these have the same classes.

    Returns:
        As `open_source`.

    Raises:
        ValueError: as `open_source`, and where the global batch does not divide by the replicas, or exceeds the data.
    """
    size, replicas = data.global_batch_size, strategy.num_replicas_in_sync
    if size % replicas:
        raise ValueError(
            f"`task.train_data.global_batch_size` must divide by the {replicas} replicas. Received: {size}"
        )
    source = open_source(data, resolution, num_classes)
    if size > source.num_images:
        raise ValueError(
            f"`task.train_data.global_batch_size` must not exceed the {source.num_images} images of "
            f"{_describe(data)}. Received: {size}"
        )
    if validation_data is not None:
        other = open_source(validation_data, resolution, source.num_classes if num_classes == 0 else num_classes)
        if None not in (num_classes, source.class_names, other.class_names) and source.class_names != other.class_names:
            raise ValueError(
                f"Training and validation data must have the same classes. Received: {_describe(data)}"
                f"{_some(source.class_names)}, {_describe(validation_data)}{_some(other.class_names)}"
            )
    return source


def make_paths_absolute(task):
    """Makes all paths of files good in any working folder, and puts a home folder for `~`.

    Args:
        task: `schema.TaskConfig` or `schema.InpaintingTaskConfig`.
    """
    groups = [(task.train_data, "path"), (task.validation_data, "path"), (getattr(task, "masks", None), "path")]
    others = [(task.evaluation, name) for name in ("inception_path", "statistics_dir", "classifier_dir")]
    others += [(task.losses, "vgg_weights"), (task, "init_checkpoint")]
    for group, name in groups + others:
        path = getattr(group, name, "")
        if path and "://" not in path:
            setattr(group, name, os.path.abspath(os.path.expanduser(path)))


@contextlib.contextmanager
def value_errors(*groups):
    """A context in which what data sets raise for a corrupt image or a label out of range is a ValueError, in a line.

    Args:
        *groups: `schema.DataConfig` of what is read, so that a damaged file of TFDS is found.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        # What `image_batches` asserts, as TensorFlow escapes it; or what Python raised, before TensorFlow's trace.
        asserted = re.search(r"assertion failed: \[(.*)\]", error.message)
        raised = re.search("ValueError: (.*)", error.message)
        message = asserted[1].encode().decode("unicode_escape").encode("latin-1").decode() if asserted else None
        raise ValueError(message or (raised[1] if raised else error.message)) from error
    except tf.errors.DataLossError as error:
        raise ValueError(tfds_source.describe_damage(groups, error.message.splitlines()[0])) from error


def _advice(group):
    if group == "task.masks":
        return "Replace it, or take it out of `task.masks.path`."
    return f"To leave such images out, set {group}.skip_corrupt=true."


def _arrays(dataset, data):
    with value_errors(data):
        parts = [(batch["image"].numpy(), batch["label"].numpy()) for batch in dataset]
    if not sum(len(labels) for _, labels in parts):
        raise ValueError("A data set must hold an image that can be used. Received none.")
    images, labels = zip(*parts)
    return np.concatenate(images), np.concatenate(labels)


def _describe(data):
    names = {
        "digits": "the digits",
        "pairs": "the pairs",
        "photos": "the photographs",
        "tfds": f"{data.name!r} of TFDS",
    }
    return f"{names.get(data.dataset, data.path)}, split {data.split!r}"


def _some(class_names):
    if not class_names:
        return ""
    return f" ({', '.join(map(picture_files.shown, class_names[:8]))}{', ...' if len(class_names) > 8 else ''})"
