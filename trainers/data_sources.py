"""Where images come from: bundled digits and photographs, folders and TFRecords, as records not yet decoded."""

import functools
import glob
import os
import struct

import numpy as np
import tensorflow as tf
from absl import logging

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
INTERLEAVED_FILES = 16
BLOCK_LENGTH = 16
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4  # of a record in a TFRecord file


class IndexedSource:
    """Images that are read in any order, by number.

    Attributes:
        num_images: integer.
        class_names: tuple of strings, or None where the source does not tell.
        num_classes: integer, or None where the source does not tell.
        decoded: whether `read` gives images, for a vector of numbers, rather than encoded bytes, for one number.
        read: function from int64 numbers to `{"image", "label"}`, images or their encoded bytes.
        name_of: function from numbers of images to their names in errors.
        has_one_order: True: all workers shuffle alike, and each takes its part of every global batch.
    """

    has_one_order = True

    def __init__(self, num_images, class_names, read, name_of=None, decoded=False):
        self.num_images = num_images
        self.class_names = class_names
        self.num_classes = None if class_names is None else len(class_names)
        self.decoded = decoded
        self.read = read
        self.name_of = name_of

    def stream(self, context, seed, start):
        """Numbers of all images, shuffled anew in each epoch, without end.

        Args:
            context: `tf.distribute.InputContext`.
            seed: integer, on which alone the order depends.
            start: records to leave out at the beginning.

        Returns:
            `tf.data.Dataset` of what `read` takes.
        """
        epoch, start = divmod(start, self.num_images)

        def epoch_order(epoch):
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            numbers = tf.range(self.num_images, dtype=tf.int64)
            return tf.random.experimental.stateless_shuffle(numbers, key, alg="philox")

        return tf.data.Dataset.counter(epoch).map(epoch_order).unbatch().skip(start)

    def once(self):
        """All images once, in order, as a data set of what `read` takes."""
        return tf.data.Dataset.range(self.num_images)


class RecordSource:
    """Images that are read file after file.

    Attributes:
        num_images: integer.
        class_names: tuple of strings, or None where the source does not tell.
        num_classes: integer, or None where the source does not tell.
        read: function from what the records hold, with their `name`, to `{"image", "label"}`, with encoded bytes.
    """

    decoded = False

    has_one_order = False  # no worker reads what another one sees

    @staticmethod
    def name_of(record):
        """The names of records in errors."""
        return record["name"]

    def __init__(self, images_of_files, class_names, num_classes, records, read, shuffle_buffer_size):
        """`records`: function from an input context, or None for all, and a seed, or None for the order on disk."""
        self.num_images = sum(images_of_files)
        self.class_names = class_names
        self.num_classes = num_classes
        self.read = read
        self._images_of_files = images_of_files
        self._records = records
        self._shuffle_buffer_size = shuffle_buffer_size

    def stream(self, context, seed, start):
        """As `IndexedSource.stream`, but of one input pipeline, with its own files where enough, else every nth record.

        Whole epochs are left out unread; within an epoch records are read, but not decoded.
        """
        number, count = context.input_pipeline_id, context.num_input_pipelines
        by_file = len(self._images_of_files) >= count
        own = sum(self._images_of_files[number::count]) if by_file else len(range(number, self.num_images, count))
        epoch, start = divmod(start, own)

        def epoch_records(epoch):
            # The seed of this function's graph alone: with that of the process, shuffles would depend on it as well.
            tf.random.set_seed(1)
            key = tf.random.stateless_uniform(
                (2,), tf.stack([tf.constant(seed, tf.int64), epoch]), None, None, tf.int64, alg="philox"
            )
            records = self._records(context if by_file else None, key[0])
            records = records if by_file else records.shard(count, number)
            return records.shuffle(self._shuffle_buffer_size, seed=key[1], reshuffle_each_iteration=False)

        return tf.data.Dataset.counter(epoch).flat_map(epoch_records).skip(start)

    def once(self):
        """All records once, in the order on disk."""
        return self._records(None, None)


def array_source(images, labels, class_names=None):
    """Images in memory, uint8 or float32 in [-1, 1] `(images, height, width, channels)`, and int32 `(images,)`."""
    images, labels = tf.constant(images), tf.constant(labels)

    def read(indices):
        return {"image": tf.gather(images, indices), "label": tf.gather(labels, indices)}

    return IndexedSource(len(labels), class_names, read, decoded=True)


@functools.lru_cache(maxsize=4)
def load_digits(split, resolution):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 80 % train and 20 % test, resized with bicubic filter.

    Args:
        split: "train" (1,437 digits) or "test" (360), stratified by class with a fixed seed.
        resolution: side in pixels.

    Returns:
        Images float32 `(digits, resolution, resolution, 1)` in [-1, 1], and labels int32 `(digits,)`.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, labels = load(return_X_y=True)
    split_parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    images, labels = split_parts[0::2] if split == "train" else split_parts[1::2]
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 8.0 - 1.0  # from 0..16
    with tf.device("CPU:0"):
        resized = tf.image.resize(images, (resolution, resolution), "bicubic", antialias=True)
        return tf.clip_by_value(resized, -1.0, 1.0).numpy(), labels.astype(np.int32)


# Photographs that come inside the packages, without a download. No scene is on both sides.
_PHOTOS = {
    "train": {
        "skimage": (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "retina.jpg",
            "rocket.jpg",
        ),
        "sklearn": ("flower.jpg",),
    },
    "test": {"skimage": ("chelsea.png", "coffee.png"), "sklearn": ("china.jpg",)},
}
_PHOTO_SIDE = 256


def photo_paths(split):
    """Paths of the bundled photographs of a split, "train" (14) or "test" (3)."""
    import skimage
    import sklearn.datasets

    folders = {
        "skimage": os.path.join(os.path.dirname(skimage.__file__), "data"),
        "sklearn": os.path.join(os.path.dirname(sklearn.datasets.__file__), "images"),
    }
    return [os.path.join(folders[package], name) for package, names in _PHOTOS[split].items() for name in names]


@functools.lru_cache(maxsize=4)
def load_photos(split, resolution):
    """Squares of the bundled photographs of scikit-image and scikit-learn, their shorter sides resized to 256 pixels.

    Args:
        split: "train": squares of 256 x 256 that cover each photograph, out of which training cuts crops; or "test": of
            other photographs, all squares of `resolution` in a grid over those of 256.
        resolution: side in pixels, at most 256.

    Returns:
        uint8 `(squares, side, side, 3)`.

    Raises:
        ValueError: where `resolution` is above 256, or scikit-image lacks a photograph.
    """
    from PIL import Image

    if resolution > _PHOTO_SIDE:
        raise ValueError(f"The bundled photographs give squares of up to {_PHOTO_SIDE}. Received: {resolution}")
    squares = []
    for path in photo_paths(split):
        if not os.path.isfile(path):
            raise ValueError(f"scikit-image and scikit-learn must bring their photographs along: there is no {path}.")
        with Image.open(path) as image:
            scale = _PHOTO_SIDE / min(image.size)
            size = [max(round(side * scale), _PHOTO_SIDE) for side in image.size]
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        squares += [pixels[top : top + _PHOTO_SIDE, left : left + _PHOTO_SIDE] for top, left in _covering(pixels.shape)]
    squares = np.stack(squares)
    if split == "train":
        return squares
    number = _PHOTO_SIDE // resolution
    grid = squares[:, : number * resolution, : number * resolution]
    grid = grid.reshape(len(squares), number, resolution, number, resolution, 3).swapaxes(2, 3)
    return grid.reshape(-1, resolution, resolution, 3)


def _covering(shape):
    """Corners of as few squares as cover a picture whose shorter side is theirs."""
    rows, columns = (np.linspace(0, side - _PHOTO_SIDE, -(-side // _PHOTO_SIDE)).astype(int) for side in shape[:2])
    return [(top, left) for top in rows for left in columns]


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
            f"A data set of images must be a folder, `path`/`split`: there is no folder {folder}.{_contents_of(folder)}"
        )
    classes = ["."]
    if labelled:
        classes = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
        if not classes:
            raise ValueError(
                f"A folder of images must hold a folder for each class: {folder} holds none.{_contents_of(folder)}"
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


def _contents_of(folder):
    """What there is in place of a missing folder or file, for an error."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    names = sorted(os.listdir(folder or "."))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f" In {folder or '.'} there are: {', '.join(names[:8]) or 'no files'}{more}."


def open_tfrecords(data):
    """`RecordSource` of the files `data.path`/`data.split`-... with `image/encoded` and `image/class/label`.

    Raises:
        ValueError: where there is no such file, or one is cut off.
    """
    # Not every file that starts with the name of the split: `train2017-...` is not of `train`.
    pattern = os.path.join(glob.escape(data.path), glob.escape(data.split) + "[-.]*")
    files = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if not files:
        raise ValueError(
            f"TFRecord files must be called `path`/`split`-...: there is no file {data.path}/{data.split}-*."
            f"{_contents_of(data.path)}"
        )

    def records(context, seed):
        own = files[context.input_pipeline_id :: context.num_input_pipelines] if context else files
        paths = tf.data.Dataset.from_tensor_slices(own)
        if seed is None:
            return paths.flat_map(_named_records)
        paths = paths.shuffle(len(own), seed=seed, reshuffle_each_iteration=False)
        return paths.interleave(
            _named_records, INTERLEAVED_FILES, BLOCK_LENGTH, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def read(record):
        features = {
            "image/encoded": tf.io.FixedLenFeature((), tf.string),
            "image/class/label": tf.io.FixedLenFeature((), tf.int64),
        }
        example = tf.io.parse_single_example(record["record"], features)
        label = tf.cast(example["image/class/label"], tf.int32) + data.label_offset
        return {"image": example["image/encoded"], "label": label}

    counts = [_count_records(path, os.path.getsize(path)) for path in files]
    if not sum(counts):
        raise ValueError(f"The TFRecord files {data.path}/{data.split}-* hold no record.")
    return RecordSource(counts, None, None, records, read, data.shuffle_buffer_size)


def _named_records(path):
    def name(number, record):
        return {"record": record, "name": tf.strings.join(["record ", tf.strings.as_string(number), " of ", path])}

    return tf.data.TFRecordDataset(path).enumerate().map(name)


@functools.lru_cache(maxsize=16384)
def _count_records(path, size):
    """Walks over the lengths of the records; a file of ImageNet's takes milliseconds."""
    number = 0
    with open(path, "rb") as file:
        while header := file.read(_LENGTH_BYTES):
            length = struct.unpack("<Q", header)[0] if len(header) == _LENGTH_BYTES else size
            end = file.tell() + _CHECKSUM_BYTES + length + _CHECKSUM_BYTES
            if end > size:
                raise ValueError(
                    f"A TFRecord file must hold whole records: record {number} of {path} ends past the {size} bytes of "
                    "the file, which is cut off or no TFRecord file."
                )
            file.seek(end)
            number += 1
    return number
