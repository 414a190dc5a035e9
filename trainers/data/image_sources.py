"""What a source of images is: where they are, and in which order they are read, not yet decoded."""

import os

import numpy as np
import tensorflow as tf

from trainers.data import picture_files

INTERLEAVED_FILES = 16
BLOCK_LENGTH = 16


class IndexedSource:
    """Images that are read in any order, by number.

    Attributes:
        num_images: integer.
        class_names: tuple of strings, or None where the source does not tell.
        num_classes: integer, or None where the source does not tell.
        decoded: whether `read` gives images, for a vector of numbers, rather than encoded bytes, for one number.
        read: function from int64 numbers to `{"image", "label"}`, images or their encoded bytes.
        name_of: function from numbers of images to their names in errors.
        labels: function that gives the labels of all images, int32 `(num_images,)`.
        has_one_order: True: all workers shuffle alike, and each takes its part of every global batch.
    """

    has_one_order = True

    def __init__(self, labels, class_names, read, name_of=None, decoded=False):
        """`labels`: int32 `(images,)`."""
        self.num_images = len(labels)
        self.labels = labels.numpy
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

    def labels(self):
        """The labels of all records that can be read, int32; they are read for it, but not decoded."""

        def label(record):
            read = tf.data.Dataset.from_tensors(record).map(self.read)
            return read.map(lambda example: example["label"]).ignore_errors()

        return np.fromiter(self.once().flat_map(label).as_numpy_iterator(), np.int32)


def array_source(images, labels, class_names=None):
    """Images in memory, uint8 or float32 in [-1, 1] `(images, height, width, channels)`, and int32 `(images,)`."""
    images, labels = tf.constant(images), tf.constant(labels)

    def read(indices):
        return {"image": tf.gather(images, indices), "label": tf.gather(labels, indices)}

    return IndexedSource(labels, class_names, read, decoded=True)


def picture_source(pictures, class_names=None):
    """Pictures of any size in memory, pairs of uint8 `(height, width, 3)` and a label.

    Raises:
        ValueError: where there are none.
    """
    if not pictures:
        raise ValueError("A data set must hold an image that can be used. Received none.")
    images, labels = zip(*pictures)
    shapes = tf.constant([image.shape for image in images], tf.int64)
    ends = np.cumsum([image.size for image in images])
    starts = tf.constant(ends - [image.size for image in images], tf.int64)
    with tf.device("CPU:0"):
        levels = tf.constant(np.concatenate([image.ravel() for image in images]))
    labels = tf.constant(labels, tf.int32)

    def read(index):
        size = tf.reduce_prod(shapes[index])
        image = tf.reshape(levels[starts[index] : starts[index] + size], shapes[index])
        return {"image": tf.ensure_shape(image, (None, None, 3)), "label": labels[index]}

    return IndexedSource(labels, class_names, read, name_of=tf.as_string)


def contents_of(folder):
    """What there is in place of a missing folder or file, for an error."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError as error:
        return f" {folder} cannot be read: {error.strerror}."
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f" In {folder or '.'} there are: {', '.join(map(picture_files.shown, names[:8])) or 'no files'}{more}."
