"""Holes for inpainting, made in the graph from keyed draws; 1 = missing everywhere."""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.configs import schema
from trainers.data import input_pipelines, picture_files, text_masks

_WAVES = 4  # of the outline of a blob


def draw(config, num_images, key):
    """The random numbers of `make`.

    Args:
        config: `schema.MaskConfig`.
        num_images: integer or scalar tensor.
        key: int64 `(2,)`, of `tf.random.stateless_uniform`.

    Returns:
        Dictionary of float32 `(num_images, ...)` in [0, 1).
    """
    keys = tf.unstack(tf.random.experimental.stateless_split(key, 5, alg="philox"))
    # Of keys of their own: all others are what they were before there were these kinds.
    keys += [
        tf.random.experimental.stateless_fold_in(key, tf.constant(number, tf.int64), alg="philox") for number in (5, 6)
    ]
    shapes = {
        "corner": (2,),
        "shrink": (2,),
        "strokes": (2 + 1 + 3 * config.max_vertices, config.num_strokes),
        "folder": (),
        "kind": (),
        "shape": (4 + 2 * _WAVES,),
        "text": (text_masks.NUMBERS,),
    }
    return {
        name: tf.random.stateless_uniform((num_images, *shape), key, alg="philox")
        for key, (name, shape) in zip(keys, shapes.items())
    }


def make(config, resolution, draws, folder=None):
    """Masks of the kinds in `config.kinds`, one of them at random for each image.

    Args:
        config: `schema.MaskConfig`.
        resolution: integer, side of the images in pixels.
        draws: what `draw` gave: the same numbers give the same masks.
        folder: uint8 `(masks, resolution, resolution, 1)` of `load_folder`, where a kind is "folder".

    Returns:
        mask: float32 `(num_images, resolution, resolution, 1)` of 0 and 1.
        corner: int32 `(num_images, 2)`, top and left of the square of side `config.size` that holds a rectangle.
    """
    corner = rectangle_corners(config, resolution, draws["corner"])
    kinds = {
        "rectangle": lambda: rectangles(config, resolution, corner, draws["shrink"]),
        "center": lambda: center(config, resolution, tf.shape(corner)[0]),
        "strokes": lambda: strokes(config, resolution, draws["strokes"]),
        "box": lambda: boxes(config, resolution, draws["shape"]),
        "blob": lambda: blobs(config, resolution, draws["shape"]),
        "border": lambda: borders(config, resolution, draws["shape"]),
        "text": lambda: text_masks.texts(config.size, resolution, draws["text"]),
        "folder": lambda: _from_folder(folder, draws["folder"]),
    }
    masks = tf.stack([kinds[kind]() for kind in config.kinds])  # (kinds, images, height, width, 1)
    if len(config.kinds) == 1:
        return masks[0], corner
    chosen = tf.cast(draws["kind"] * len(config.kinds), tf.int32)
    return tf.gather(tf.transpose(masks, (1, 0, 2, 3, 4)), chosen, axis=1, batch_dims=1), corner


def fixed(config, kind, resolution, num_images, folder=None):
    """The masks of one kind that validation uses: always the same for the same settings.

    Args:
        config: `schema.MaskConfig`.
        kind: one of the kinds of `config`.
        resolution: integer, side of the images in pixels.
        num_images: integer.
        folder: as for `make`.

    Returns:
        float32 `(num_images, resolution, resolution, 1)` of 0 and 1.
    """
    one_kind = dataclasses.replace(config, kinds=[kind])
    # One image after the other, so that the first masks do not depend on how many there are.
    keys = [tf.constant([0, index], tf.int64) for index in range(num_images)]
    return tf.concat([make(one_kind, resolution, draw(one_kind, 1, key), folder)[0] for key in keys], axis=0)


def coverage(mask):
    """Share of the pixels of each image that is missing: float32 `(images,)`."""
    return tf.reduce_mean(mask, axis=(1, 2, 3))


def rectangle_corners(config, resolution, draws):
    """Top and left of squares of side `config.size` inside the image, int32 `(num_images, 2)`, as the draws."""
    return tf.cast(draws * (resolution - config.size + 1), tf.int32)


def rectangles(config, resolution, corner, draws):
    """The squares at `corner`; opposite sides move in alike, by up to half of `config.max_shrink`."""
    shrink = tf.cast(draws * (config.max_shrink // 2 + 1), tf.int32)
    first, last = corner + shrink, corner + config.size - shrink
    places = tf.range(resolution)
    inside = (places >= first[..., None]) & (places < last[..., None])  # (images, 2, side)
    inside = tf.cast(inside, tf.float32)
    return (inside[:, 0, :, None] * inside[:, 1, None, :])[..., None]


def center(config, resolution, num_images):
    """The square of side `config.size` in the middle."""
    corner = tf.fill((num_images, 2), (resolution - config.size) // 2)
    return rectangles(config, resolution, corner, tf.zeros((num_images, 2)))


def boxes(config, resolution, draws):
    """Rectangles around a point anywhere, cut off at the border, of sides from `config.size` / 8 to `config.size`."""
    middle, sides = draws[:, :2] * resolution, config.size * (0.125 + 0.875 * draws[:, 2:4])
    places = tf.range(resolution, dtype=tf.float32) + 0.5
    # The pixel of the point is always missing.
    inside = tf.abs(places - middle[..., None]) <= tf.maximum(0.5 * sides, 0.5)[..., None]  # (images, 2, side)
    inside = tf.cast(inside, tf.float32)
    return (inside[:, 0, :, None] * inside[:, 1, None, :])[..., None]


def blobs(config, resolution, draws):
    """Outlines as objects have them, around a point anywhere: circles whose radius goes up and down with the angle.

    The radius is `config.size` / 12 to `config.size` / 2 on average, and swings by up to a third to either side.
    """
    middle = (draws[:, :2] * resolution)[..., None, None]  # (images, 2, 1, 1)
    radius = 0.5 * config.size * (1.0 + 5.0 * draws[:, 2]) / 6.0
    places = tf.range(resolution, dtype=tf.float32) + 0.5
    rows, columns = places[:, None] - middle[:, 0], places - middle[:, 1]  # (images, side, 1), (images, 1, side)
    angle = tf.atan2(rows + tf.zeros_like(columns), columns + tf.zeros_like(rows))
    waves = 1.0
    for number in range(_WAVES):
        size, phase = draws[:, 4 + 2 * number, None, None], draws[:, 5 + 2 * number, None, None]
        waves += size / (3.0 * _WAVES) * tf.sin((number + 1) * angle + 2.0 * math.pi * phase)
    reach = tf.maximum(radius[:, None, None] * waves, 0.75)  # which holds the point's own pixel
    return tf.cast(rows**2 + columns**2 <= reach**2, tf.float32)[..., None]


def borders(config, resolution, draws):
    """A strip along one side, at random, of up to half of `config.size`, or at all four of up to a quarter of it."""
    width = 1.0 + tf.floor(0.5 * config.size * draws[:, 0])[:, None]
    half = tf.maximum(tf.floor(0.5 * width), 1.0)
    side = tf.cast(5.0 * draws[:, 1], tf.int32)[:, None]  # of 0 to 3; 4 is all
    top, bottom, left, right = (
        tf.where(side == 4, half, tf.where(side == number, width, 0.0)) for number in range(4)
    )  # (images, 1)
    places = tf.range(resolution, dtype=tf.float32)
    rows = (places < top) | (places >= resolution - bottom)  # (images, side)
    columns = (places < left) | (places >= resolution - right)
    return tf.cast(rows[:, :, None] | columns[:, None, :], tf.float32)[..., None]


def strokes(config, resolution, draws):
    """Broken lines with round ends and corners.

    Every stroke starts anywhere; each of its pieces has an angle, a length and a width of its own and ends inside the
    image. Every other angle is mirrored, so that lines go to and fro.

    References:
        Free-Form Image Inpainting with Gated Convolution (Yu et al., ICCV 2019), Section 3.5.
    """
    pieces = config.max_vertices
    draws = tf.transpose(draws, (1, 0, 2))  # (3 + 3 * pieces, images, strokes)
    position = draws[:2] * resolution  # (2, images, strokes): rows and columns
    num_pieces = 1 + tf.cast(draws[2] * pieces, tf.int32)
    mask = tf.zeros((tf.shape(draws)[1], resolution, resolution))
    for index in range(pieces):
        turn, length, width = (draws[3 + 3 * index + part] for part in range(3))
        angle = turn * math.radians(config.max_angle) * (1 if index % 2 else -1)
        direction = tf.stack([tf.cos(angle), tf.sin(angle)])
        end = tf.clip_by_value(position + direction * length * config.max_length, 0.0, resolution - 1.0)
        radius = 0.5 * (config.min_width + width * (config.max_width - config.min_width))
        radius = tf.where(index < num_pieces, radius, -1.0)
        mask = tf.maximum(mask, _pieces(position, end, radius, resolution))
        position = end
    return mask[..., None]


def _pieces(start, end, radius, resolution):
    """Where a pixel lies within `radius` of a piece from `start` to `end`: float32 `(images, height, width)`."""
    start, along, radius = start[..., None, None], (end - start)[..., None, None], radius[..., None, None]
    places = tf.range(resolution, dtype=tf.float32)
    rows, columns = places[:, None] - start[0], places - start[1]  # (images, strokes, height, 1), (..., 1, width)
    part = (rows * along[0] + columns * along[1]) / (along[0] ** 2 + along[1] ** 2 + 1e-6)
    part = tf.clip_by_value(part, 0.0, 1.0)  # (images, strokes, height, width)
    distance = (rows - part * along[0]) ** 2 + (columns - part * along[1]) ** 2
    inside = (distance <= radius**2) & (radius > 0)
    return tf.cast(tf.reduce_any(inside, axis=1), tf.float32)


def load_folder(path, resolution, invert=False):
    """The masks in a folder of images, cut to squares in the middle; more than half bright is missing.

    Alpha is ignored. Masks that hide everything or nothing are left out, counted and named in the log.

    Args:
        path: of the folder.
        resolution: integer, side in pixels.
        invert: whether more than half bright is known instead, and the rest missing.

    Returns:
        uint8 `(masks, resolution, resolution, 1)` of 0 and 1, on the host.

    Raises:
        ValueError: where there is none of use, or one cannot be decoded.
    """
    data = schema.DataConfig(dataset="folder", path=path, split=".", background=[])
    images, _ = input_pipelines.load_arrays(data, resolution, image_channels=1, group="task.masks")
    masks = ((images > 0) != invert).astype(np.uint8)
    covered = masks.mean(axis=(1, 2, 3))
    is_useful = (covered > 0) & (covered < 1)
    if not is_useful.all():
        source = input_pipelines.open_source(data, resolution)
        names = [source.name_of(index).numpy() for index in np.flatnonzero(~is_useful)]
        logging.warning(
            "Left out of `task.masks.path`: %d of %d masks, %d of which hide everything and %d nothing: %s%s.",
            len(names),
            len(masks),
            (covered == 1).sum(),
            (covered == 0).sum(),
            ", ".join(map(picture_files.shown, names[:8])),
            f" and {len(names) - 8} more" if len(names) > 8 else "",
        )
    if not is_useful.any():
        hides = "everything" if covered[0] else "nothing"
        raise ValueError(
            f"A mask must hide some pixels and leave others, {'black' if invert else 'white'} = missing: each of the "
            f"{len(masks)} in `task.masks.path`, {path}, hides everything or nothing, the first {hides}."
        )
    with tf.device("CPU:0"):
        return tf.constant(masks[is_useful])


def _from_folder(folder, draws):
    with tf.device("CPU:0"):
        chosen = tf.cast(draws * len(folder), tf.int32)
        return tf.cast(tf.gather(folder, chosen), tf.float32)
