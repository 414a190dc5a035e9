"""Pairs: pictures with a long-range rule, drawn from numbers, so that nothing is downloaded and agreement is known.

Two objects stand far apart on a textured grey background, one in each half of the picture. The class is their shape;
colour and direction are drawn for the picture, and both objects have them. A window that sees one object alone can
find nothing wrong with a picture whose objects do not agree.
"""

import math

import numpy as np
import tensorflow as tf

from trainers.data.image_sources import IndexedSource

CLASS_NAMES = ("bar", "triangle", "dumbbell", "cross")
NUM_IMAGES = {"train": 50_000, "test": 10_000}
_SEEDS = {"train": 2020, "test": 2021}  # no picture is in both: all numbers of a picture are drawn
_WAVES = 2
_OBJECT = 3  # row, column and brightness of an object
# hue and angle, then the objects, then direction, frequency and phase of each wave
NUMBERS = 2 + 2 * _OBJECT + 3 * _WAVES


def open_pairs(split, resolution):
    """The source of a split, "train" (50,000 pictures) or "test" (10,000), four classes in turn.

    Args:
        split: string.
        resolution: side of the pictures in pixels, at least 16; that of 64 shows what that of 32 shows.

    Returns:
        `IndexedSource` of decoded pictures, uint8 `(batch, resolution, resolution, 3)`. They depend on split, number
        and resolution alone.

    Raises:
        ValueError: where objects would be too small to have a direction.
    """
    if resolution < 16:
        raise ValueError(f"The objects of `dataset: pairs` need a resolution of at least 16. Received: {resolution}")
    count = NUM_IMAGES[split]
    # NumPy keeps what this older generator draws the same for ever.
    numbers = np.random.RandomState(_SEEDS[split]).random_sample((count, NUMBERS)).astype(np.float32)
    numbers, labels = tf.constant(numbers), tf.range(count) % len(CLASS_NAMES)

    def read(indices):
        label = tf.gather(labels, indices)
        return {"image": draw_pairs(tf.gather(numbers, indices), label, resolution), "label": label}

    return IndexedSource(labels, CLASS_NAMES, read, decoded=True)


def draw_pairs(numbers, labels, resolution):
    """Draws pictures.

    Args:
        numbers: float32 `(batch, 14)` in [0, 1): hue and angle of both objects; row, column and brightness of the left
            object, then of the right; direction, frequency and phase of two waves.
        labels: int32 `(batch,)`, places in `CLASS_NAMES`.
        resolution: integer.

    Returns:
        uint8 `(batch, resolution, resolution, 3)`.
    """
    places = (tf.range(resolution, dtype=tf.float32) + 0.5) / resolution
    rows, columns = places[None, :, None], places[None, None, :]
    picture = _background(numbers[:, 2 + 2 * _OBJECT :], rows, columns)[..., None]  # (batch, rows, columns, 1)
    hue, angle = numbers[:, 0], 2.0 * math.pi * numbers[:, 1]
    for side in range(2):
        row, column, brightness = tf.unstack(numbers[:, 2 + side * _OBJECT : 2 + (side + 1) * _OBJECT], axis=1)
        row, column = 0.2 + 0.6 * row, 0.195 + 0.06 * column + 0.55 * side
        down, right = rows - row[:, None, None], columns - column[:, None, None]
        cosine, sine = tf.cos(angle)[:, None, None], tf.sin(angle)[:, None, None]
        distance = _distance(labels, right * cosine + down * sine, down * cosine - right * sine)
        cover = tf.clip_by_value(0.5 - distance * resolution, 0.0, 1.0)[..., None]
        colour = _colour(hue, 0.75 + 0.25 * brightness)[:, None, None, :]
        picture = picture + cover * (colour - picture)
    return tf.cast(tf.round(255.0 * tf.clip_by_value(picture, 0.0, 1.0)), tf.uint8)


def _background(numbers, rows, columns):
    """Waves of 1 to 3 periods over the picture, grey between 0.3 and 0.7: `(batch, rows, columns)`."""
    levels = tf.fill((tf.shape(numbers)[0], rows.shape[1], columns.shape[2]), 0.5)
    for wave in tf.split(numbers[:, :, None], _WAVES, axis=1):
        direction, frequency, phase = tf.unstack(wave[..., None], axis=1)  # (batch, 1, 1)
        frequency = 2.0 * math.pi * (1.0 + 2.0 * frequency)
        direction, phase = math.pi * direction, 2.0 * math.pi * phase
        levels += 0.1 * tf.sin(frequency * (tf.cos(direction) * columns + tf.sin(direction) * rows) + phase)
    return levels


def _distance(labels, along, across):
    """About how far a place lies outside of the shapes, in sides of the picture; an object is 0.34 long."""
    across = tf.abs(across)
    bar = tf.maximum(tf.abs(along) - 0.17, across - 0.045)
    triangle = tf.maximum(-along - 0.17, 0.967 * across + 0.256 * (along - 0.17))
    disc = tf.sqrt(tf.square(tf.abs(along) - 0.105) + tf.square(across)) - 0.065
    dumbbell = tf.minimum(disc, tf.maximum(tf.abs(along) - 0.105, across - 0.025))
    cross = tf.minimum(
        tf.maximum(tf.abs(along) - 0.17, across - 0.03), tf.maximum(tf.abs(along) - 0.03, across - 0.095)
    )
    return tf.gather(tf.stack([bar, triangle, dumbbell, cross], axis=1), labels, axis=1, batch_dims=1)


def _colour(hue, brightness):
    """RGB in [0, 1] `(batch, 3)` of a hue in [0, 1), nine tenths saturated."""
    sixths = tf.math.floormod(tf.constant([5.0, 3.0, 1.0]) + 6.0 * hue[:, None], 6.0)
    lack = tf.clip_by_value(tf.minimum(sixths, 4.0 - sixths), 0.0, 1.0)
    return brightness[:, None] * (1.0 - 0.9 * lack)
