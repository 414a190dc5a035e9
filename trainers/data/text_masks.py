"""Holes as text over a picture leaves them: lines of random letters."""

import functools
import math

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

_LINES, _LETTERS = 3, 12
# Row, column, height, turn and number of the lines, then their letters.
NUMBERS = 5 + _LINES * _LETTERS
# Without letters too wide for a cell. A fifth are blanks, between words.
_ALPHABET = "ABCDEFGHIJKLNOPRSTUVXYZabcdefghijklnoprstuvxyz0123456789.,!?&" + 15 * " "
_ROWS, _COLUMNS = 32, 24  # of the picture of a letter
_LARGEST_TURN = math.pi / 6.0


def texts(size, resolution, draws):
    """One to three lines of twelve letters, blanks among them, around a point anywhere, cut off at the border.

    A line is `size` / 8 to `size` / 3 high. Most lie nearly level; none is turned by more than 30 degrees.

    Args:
        size: `schema.MaskConfig.size`, in pixels.
        resolution: integer, side of the images in pixels.
        draws: float32 `(num_images, NUMBERS)` in [0, 1).

    Returns:
        float32 `(num_images, resolution, resolution, 1)` of 0 and 1.
    """
    middle = (draws[:, :2] * resolution)[..., None, None]  # (images, 2, 1, 1)
    height = (size * (1.0 + 5.0 / 3.0 * draws[:, 2]) / 8.0)[:, None, None]
    turn = (_LARGEST_TURN * (2.0 * draws[:, 3] - 1.0) ** 3)[:, None, None]
    lines = (1 + tf.cast(draws[:, 4] * _LINES, tf.int32))[:, None, None]
    places = tf.range(resolution, dtype=tf.float32) + 0.5
    rows, columns = places[:, None] - middle[:, 0], places - middle[:, 1]  # (images, side, 1), (images, 1, side)
    along, down = columns * tf.cos(turn) + rows * tf.sin(turn), rows * tf.cos(turn) - columns * tf.sin(turn)
    line, row = _cells(down / height + 0.5 * tf.cast(lines, tf.float32), _ROWS)
    letter, column = _cells(along / height * (_ROWS / _COLUMNS) + 0.5 * _LETTERS, _COLUMNS)
    inside = (line >= 0) & (line < lines) & (letter >= 0) & (letter < _LETTERS)
    chosen = tf.cast(draws[:, 5:] * len(_ALPHABET), tf.int32)
    which = tf.gather(chosen, tf.where(inside, line * _LETTERS + letter, 0), batch_dims=1)  # (images, side, side)
    hidden = inside & tf.gather(_letters().ravel(), (which * _ROWS + row) * _COLUMNS + column)
    # The pixel of the point is always missing.
    hidden |= (tf.abs(rows) <= 0.5) & (tf.abs(columns) <= 0.5)
    return tf.cast(hidden, tf.float32)[..., None]


def _cells(places, size):
    """The cells in which places lie, and which of `size` parts of them: int32."""
    cell = tf.floor(places)
    return tf.cast(cell, tf.int32), tf.minimum(tf.cast((places - cell) * size, tf.int32), size - 1)


@functools.lru_cache(maxsize=1)
def _letters():
    """Pictures of the alphabet with the outline that subtitles have: booleans `(letters, _ROWS, _COLUMNS)`."""
    font = ImageFont.load_default(size=24)
    pictures = []
    for letter in _ALPHABET:
        picture = Image.new("L", (_COLUMNS, _ROWS))
        ImageDraw.Draw(picture).text(
            (_COLUMNS / 2, 0.75 * _ROWS), letter, fill=255, font=font, anchor="ms", stroke_width=2
        )
        pictures.append(np.asarray(picture) >= 128)
    return np.stack(pictures)
