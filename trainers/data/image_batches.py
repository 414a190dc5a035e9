"""Decodes, crops and resizes images, and makes batches of them.

The file is long because reading with a report of what is broken, cutting and resizing are one pass over an image.
"""

import functools

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.data import picture_files

_BLOCK = 1024  # images in one draw


class ImageBatches:
    """From what a source gives to batches of `{"image": float32 in [-1, 1], "label": int32}`.

    An image that cannot be decoded, or a label that is not in [0, num_classes), is an error which names file or
    record, or with `data.skip_corrupt` is logged and left out.

    Args:
        source: of `image_sources` or `tfds_source`.
        data: `schema.DataConfig`.
        resolution: side of the images in pixels, or None for `whole`.
        image_channels: 1 or 3, or None for what the source has.
        num_classes: integer, or None where labels do not matter.
        advice: what the error of an image tells to do.
    """

    def __init__(self, source, data, resolution, image_channels, num_classes, advice):
        self._source = source
        self._data = data
        self._resolution = resolution
        self._channels = image_channels or (1 if data.dataset == "digits" else 3)
        self._num_classes = num_classes
        self._advice = advice
        self._skipped = _left_out(data.dataset, data.name, data.path, data.split)
        self._decode = tf.function(self._decode)  # traced once for both ways of reading

    def shuffled(self, seed, start_batch, context):
        """Endless full batches of a worker, one after the other for its replicas.

        Args:
            seed: integer, of the order and the draws.
            start_batch: batches to leave out at the start, of each replica.
            context: `tf.distribute.InputContext`.
        """
        workers = context.num_input_pipelines
        batch_size = context.get_per_replica_batch_size(self._data.global_batch_size)
        own = batch_size * (context.num_replicas_in_sync // workers)  # images of this worker in a global batch
        one_order = self._source.has_one_order
        start = start_batch * (self._data.global_batch_size if one_order else own)
        records = self._source.stream(context, seed, start)
        if self._data.random_flip or self._data.random_crop:
            draws = _draws(seed, 0 if one_order else context.input_pipeline_id, start)
            records = tf.data.Dataset.zip((records, draws))
        if one_order and workers > 1:
            records = records.batch(own).shard(workers, context.input_pipeline_id).unbatch()

        def read(records, draws=None):
            batch = self._read(records, keep_size=True, places=self._places(draws) if self._data.random_crop else None)
            if not self._data.random_flip:
                return self._finished(batch)
            # These kinds of reversing and choosing take a sixth of the time of the newer ones.
            mirrored = tf.reverse(batch["image"], [2])
            image = tf.compat.v1.where(draws[:, 0] < 0.5, mirrored, batch["image"])
            return self._finished({**batch, "image": image})

        return self._map(records.batch(batch_size, drop_remainder=True), read)

    def _places(self, draws):
        """Where squares are cut out, and the share of the largest one's area that they have: float32 `(batch, 3)`."""
        least, most = self._data.random_crop_area or (1.0, 1.0)
        return tf.concat([draws[:, 1:3], least + (most - least) * draws[:, 3:]], axis=1)

    def once(self, batch_size, num_images=None):
        """All images in order, or `num_images` evenly out of all; the others are not decoded."""
        return self.once_unfinished(batch_size, num_images).map(self._finished)

    def once_unfinished(self, batch_size, num_images=None):
        """As `once`, at the resolution but in the type of the source, uint8 where they are decoded."""
        records = self._source.once()
        if num_images is not None and num_images < self._source.num_images:
            chosen = tf.constant(np.linspace(0, self._source.num_images - 1, num_images).astype(np.int64))
            records = records.enumerate().filter(lambda number, _: tf.reduce_any(number == chosen))
            records = records.map(lambda _, record: record)
        batches = self._map(records.batch(batch_size), lambda records: self._read(records, keep_size=False))
        return batches.unbatch().batch(batch_size) if self._data.skip_corrupt else batches

    def whole(self):
        """All images in order, one by one, decoded but neither cut nor resized: `{"image", "label"}`, uint8 and int32.

        Those that are left out are missing.
        """
        return self._map(self._source.once().batch(1), lambda records: self._read(records, keep_size=False)).unbatch()

    @staticmethod
    def _map(dataset, function):
        return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _read(self, records, keep_size, places=None):
        """`places`, of `_places`, say where squares are cut out; None is the middle."""
        if self._source.decoded:  # and checked, or made by this project
            batch = self._source.read(records)
            has_areas = places is not None and bool(self._data.random_crop_area)
            cut = cut_resized_squares if has_areas else cut_squares
            return {**batch, "image": cut(batch["image"], self._resolution, places)}
        size = tf.size(tf.nest.flatten(records)[0], tf.int64)
        middle = tf.tile([[-1.0, -1.0, 1.0]], tf.stack([size, 1]))
        each = tf.data.Dataset.from_tensor_slices((records, middle if places is None else places))
        # An operation's error cannot be caught in a graph, but a data set can drop what has one. Only where a batch has
        # is it read again, image by image: that costs more.
        swift = each.map(self._decode).batch(size, drop_remainder=True).ignore_errors()
        careful = each.map(self._decode_if_possible).batch(size)
        batch = swift.concatenate(careful).take(1).get_single_element()
        return self._without_problems(batch, self._source.name_of(records), keep_size)

    def _decode(self, record, place):
        """An image, uint8, its label, and whether it is broken: it is black then."""
        record = self._source.read(record)
        image = record["image"]  # encoded, or of `image_sources.picture_source`
        image = decode_image(image, self._data.background) if image.dtype == tf.string else image
        is_broken = tf.equal(tf.size(image), 0)
        image = tf.cond(is_broken, lambda: tf.zeros((1, 1, 3), tf.uint8), lambda: image)
        if self._resolution is None:
            return image, record["label"], is_broken
        image = crop_square(image, self._resolution, place)
        return tf.cast(tf.round(to_channels(image, self._channels)), tf.uint8), record["label"], is_broken

    def _decode_if_possible(self, record, place):
        """As `_decode`, or a black image, 0 and True where there is an error."""
        decoded = tf.data.Dataset.from_tensors((record, place)).map(self._decode).ignore_errors()
        side, channels = (self._resolution, self._channels) if self._resolution else (1, 3)
        black = tf.zeros((side, side, channels), tf.uint8)
        return decoded.concatenate(tf.data.Dataset.from_tensors((black, 0, True))).take(1).get_single_element()

    def _without_problems(self, batch, names, keep_size):
        images, labels, broken = batch
        bad = broken
        if self._num_classes is not None:
            bad |= (labels < 0) | (labels >= self._num_classes)

        def report_and_leave_out():
            error = tf.numpy_function(self._report, [names, labels, broken, bad, keep_size], tf.string)
            # An exception in `_report` would come with a trace of TensorFlow's; `value_errors` reads this one.
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(error, ""), [error])]):
                chosen = tf.where(~bad)[:, 0]
            if keep_size:
                # Others of the batch stand in, so that all later batches stay as they are; good ones keep their place.
                rank = tf.cumsum(tf.cast(~bad, tf.int64)) - 1
                chosen = tf.gather(chosen, tf.math.floormod(rank, tf.size(chosen, tf.int64)))
            return tf.gather(images, chosen), tf.gather(labels, chosen)

        images, labels = tf.cond(tf.reduce_any(bad), report_and_leave_out, lambda: (images, labels))
        return {"image": images, "label": labels}

    def _report(self, names, labels, broken, bad, keep_size):
        """Logs the bad images of a batch, and returns an empty string, or what the error is to tell."""
        problems = [
            f"{picture_files.shown(names[i])} "
            + (
                picture_files.fault(names[i])
                if broken[i]
                else f"has the label {labels[i]}, which is not in [0, {self._num_classes})"
            )
            for i in np.flatnonzero(bad)
        ]
        if not self._data.skip_corrupt:
            return f"{problems[0]}. {self._advice}".encode()
        for problem in problems:
            if problem not in self._skipped:
                self._skipped.add(problem)
                logging.warning("Left out, %d so far: %s.", len(self._skipped), problem)
        if keep_size and bad.all():
            return f"A batch must hold an image that can be used. Received none: {'; '.join(problems[:8])}".encode()
        return b""

    def _finished(self, batch):
        image = batch["image"]
        if image.dtype == tf.uint8:
            image = tf.cast(image, tf.float32) / 127.5 - 1.0
        return {"image": to_channels(image, self._channels), "label": batch["label"]}


@functools.lru_cache(maxsize=16)
def _left_out(*data):
    """What was left out of some data and told already: training, scores and their classifier read the same."""
    del data
    return set()


def _draws(seed, worker, start):
    """An endless data set of float32 `(4,)` in [0, 1), from the one with the number `start`, keyed by seed, worker."""

    def block(number):
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, worker], tf.int64), number, alg="philox")
        draws = tf.random.stateless_uniform((_BLOCK, 3), key, alg="philox")
        # Of a key of its own: the three are what they were before there was a fourth.
        key = tf.random.experimental.stateless_fold_in(key, tf.constant(1, tf.int64), alg="philox")
        return tf.concat([draws, tf.random.stateless_uniform((_BLOCK, 1), key, alg="philox")], axis=1)

    first, start = divmod(start, _BLOCK)
    return tf.data.Dataset.counter(first).map(block).unbatch().skip(start)


def decode_image(encoded, background=(255, 255, 255)):
    """Decodes a picture of `picture_files.formats`, turned as EXIF says; of an animation, the first frame.

    Args:
        encoded: string scalar tensor.
        background: three levels in [0, 255] on which a transparent picture is laid; without any, alpha is ignored.

    Returns:
        uint8 `(height, width, 3)`; grey becomes colour. `(0, 0, 3)` where Pillow cannot decode it.
    """

    def decode(encoded):
        try:
            return picture_files.decode(_bytes(encoded), background)
        except Exception:  # Pillow's decoders raise most kinds there are; TensorFlow would log a trace of each
            return np.zeros((0, 0, 3), np.uint8)

    # TensorFlow, which decodes fastest, drops alpha, and knows neither EXIF nor most kinds.
    is_plain = tf.numpy_function(lambda encoded: picture_files.is_plain(_bytes(encoded)), [encoded], tf.bool)
    image = tf.cond(
        is_plain,
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
        lambda: tf.numpy_function(decode, [encoded], tf.uint8),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _bytes(encoded):
    return encoded if isinstance(encoded, bytes) else encoded.item()  # the latter outside of graphs


def cut_squares(images, side, places=None):
    """Cuts squares out of images that are at least as large, without resizing.

    Args:
        images: `(batch, height, width, channels)`.
        side: integer.
        places: float32 `(batch, 2 or more)` in [0, 1), or None for the middle.

    Returns:
        `(batch, side, side, channels)`
    """
    height, width = images.shape[1:3]
    if (height, width) == (side, side):
        return images
    if places is None:
        top, left = (height - side) // 2, (width - side) // 2
        return images[:, top : top + side, left : left + side]
    for axis, excess in ((1, height - side), (2, width - side)):
        first = tf.cast(places[:, axis - 1] * (excess + 1), tf.int32)
        images = tf.gather(images, first[:, None] + tf.range(side), axis=axis, batch_dims=1)
    return images


def cut_resized_squares(images, side, places):
    """`crop_square` of each of some images, uint8 `(batch, height, width, channels)`, at `places` `(batch, 3)`."""
    channels = images.shape[-1]
    images = tf.map_fn(
        lambda one: crop_square(one[0], side, one[1]),
        (to_channels(images, 3), places),
        fn_output_signature=tf.TensorSpec((side, side, 3)),
    )
    return tf.cast(tf.round(to_channels(images, channels)), tf.uint8)


def crop_square(image, resolution, place=(-1.0, -1.0, 1.0)):
    """Cuts a square out and resizes it with a bicubic filter that antialiases.

    The result is that of resizing the shorter side and cropping then, but for the filter's reach past the edge of the
    square, and costs less.

    Args:
        image: uint8 `(height, width, 3)`.
        resolution: integer, side of the result.
        place: float32 `(3,)`: where the square lies between the first and the last that fits, along height and width,
            in [0, 1), below 0 the middle; and its area as a share of the largest square's, in (0, 1].

    Returns:
        float32 `(resolution, resolution, 3)` in [0, 255].
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.round(tf.sqrt(place[2]) * shorter), tf.int32), 1)

    def start(excess, place):
        return tf.where(place < 0, excess // 2, tf.cast(place * tf.cast(excess + 1, tf.float32), tf.int32))

    top, left = start(height - side, place[0]), start(width - side, place[1])
    image = image[top : top + side, left : left + side]

    def resize():
        resized = tf.image.resize(image, (resolution, resolution), "bicubic", antialias=True)
        return tf.clip_by_value(resized, 0.0, 255.0)  # The filter overshoots at edges.

    image = tf.cond(tf.equal(side, resolution), lambda: tf.cast(image, tf.float32), resize)
    return tf.ensure_shape(image, (resolution, resolution, 3))


def to_channels(image, channels):
    """Grey to colour and back.

    Args:
        image: float32 `(..., 1 or 3)`.
        channels: 1 or 3.

    Returns:
        float32 `(..., channels)`.
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return tf.repeat(image, 3, axis=-1)
    # ITU-R 601, as JPEG; these weights add up to 1, so that grey stays as it is.
    return tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), axes=1)
