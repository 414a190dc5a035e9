"""Layouts as labelled pictures, in NumPy: uint8 arrays, and PNG bytes."""

import struct
import zlib

import numpy as np

from keras_an_tensorboard.palette import colors
from keras_an_tensorboard.text import draw, text_size

TILE = 96  # the least side of a tile in pixels
_GAP = 2
_HEADER = 22
_MOST_ROWS = 8
_MOST_PIXELS = 1_500_000  # of a picture; rows that do not fit are left out
_CELL = (28, 52)  # height and width, of a table


def to_uint8(images):
    """Images as uint8 `(images, height, width, 3)`.

    Args:
        images: `(images, height, width, 1 or 3)`, uint8, or numbers in [-1, 1], [0, 1] or [0, 255]: which, their least
            and largest tell.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
        low, high = (images.min(), images.max()) if images.size else (0.0, 0.0)
        if low < 0.0:
            images = images * 127.5 + 127.5
        elif high <= 1.0:
            images = images * 255.0
        images = np.nan_to_num(np.clip(images, 0.0, 255.0)).round().astype(np.uint8)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def heat(values):
    """Maps [0, 1] from black over red and yellow to white: uint8 `(*values.shape, 3)`."""
    levels = np.clip(3.0 * np.asarray(values, np.float32)[..., None] - np.arange(3), 0.0, 1.0)
    return (levels * 255).astype(np.uint8)


def resized(arrays, height, width):
    """Resizes `(images, h, w, ...)`: means of blocks where the sides divide, the nearest value otherwise."""
    arrays = np.asarray(arrays)
    old_height, old_width = arrays.shape[1:3]
    if old_height % height == 0 and old_width % width == 0:
        shape = (len(arrays), height, old_height // height, width, old_width // width, *arrays.shape[3:])
        means = arrays.reshape(shape).mean(axis=(2, 4))
        return means.round().astype(arrays.dtype) if arrays.dtype.kind in "iu" else means
    rows = (np.arange(height) + 0.5) * old_height / height
    columns = (np.arange(width) + 0.5) * old_width / width
    return arrays[:, rows.astype(int)][:, :, columns.astype(int)]


def tile_size(height, width):
    """Height and width at which an image is shown: whole multiples or fractions, the shorter side at least `TILE`."""
    short = min(height, width)
    if short < TILE:
        scale = -(-TILE // short)
        return height * scale, width * scale
    scale = short // TILE
    return height // scale, width // scale


def layout_picture(images, layouts, shares=None):
    """Shows layouts beside their images: a row an image, and above each column what it is.

    The columns are the image, the winning entities over the image, the winning entities, and a heat map for each
    entity, under its number, its share and its colour. Tiles are at least 96 pixels high and wide.

    Args:
        images: `(images, height, width, 1 or 3)`, as `to_uint8` takes them.
        layouts: float `(images, layout height, layout width, entities)`.
        shares: float `(entities,)`, share of the positions that each entity wins; None counts these images alone.

    Returns:
        uint8 `(height, width, 3)` of at most 8 rows and 1.5 million pixels, or of one row.
    """
    layouts = np.asarray(layouts, np.float32)
    entities = layouts.shape[-1]
    height, width = tile_size(*np.shape(images)[1:3])
    rows = _MOST_PIXELS // ((3 + entities) * (width + _GAP) * (height + _GAP))
    rows = min(max(rows, 1), _MOST_ROWS)
    shares = winner_shares(layouts) if shares is None else shares
    images, layouts = resized(to_uint8(images[:rows]), height, width), layouts[:rows]
    winners = resized_nearest(colors(entities)[layouts.argmax(axis=-1)], height, width)
    blend = (images.astype(np.uint16) + winners) // 2
    maps = [heat(resized_nearest(layouts[..., index], height, width)) for index in range(entities)]
    tiles = np.stack([images, blend.astype(np.uint8), winners, *maps], axis=1)
    labels = ["image", "blend", "winner", *(f"{i} {_percent(share)}" for i, share in enumerate(shares))]
    return _grid(tiles, labels, [None] * 3 + list(colors(entities)))


def resized_nearest(arrays, height, width):
    """Resizes `(images, h, w, ...)` to the nearest value."""
    old_height, old_width = arrays.shape[1:3]
    if height % old_height == 0 and width % old_width == 0:
        return arrays.repeat(height // old_height, axis=1).repeat(width // old_width, axis=2)
    rows, columns = np.arange(height) * old_height // height, np.arange(width) * old_width // width
    return arrays[:, rows][:, :, columns]


def winner_shares(layouts):
    """The share of the positions that each entity wins: float `(entities,)`."""
    layouts = np.asarray(layouts)
    counts = np.bincount(layouts.argmax(axis=-1).ravel(), minlength=layouts.shape[-1])
    return counts / max(counts.sum(), 1)


def table_picture(names, means):
    """A table as a picture: a row for each name, a column for each entity, in the cells mean assignments in per cent.

    Args:
        names: strings, of the rows.
        means: float `(rows, entities)` in [0, 1].

    Returns:
        uint8 `(height, width, 3)`.
    """
    means = np.asarray(means, np.float32)
    (height, width), left = _CELL, 12 + max(text_size(name)[1] for name in names)
    canvas = np.full((height * (len(names) + 1), left + width * means.shape[1], 3), 255, np.uint8)
    for column, color in enumerate(colors(means.shape[1])):
        begin = left + column * width
        draw(canvas, 4, begin + 6, str(column))
        canvas[height - 6 : height - 1, begin : begin + width - 1] = color
    for row, name in enumerate(names, 1):
        draw(canvas, row * height + 7, 6, name)
        for column, value in enumerate(means[row - 1]):
            begin = left + column * width
            cell = heat(value)
            canvas[row * height : (row + 1) * height - 1, begin : begin + width - 1] = cell
            dark = cell.astype(int) @ (299, 587, 114) < 128_000
            draw(canvas, row * height + 7, begin + 6, _percent(value), (255, 255, 255) if dark else (0, 0, 0))
    return canvas


def png(image, level=3):
    """The bytes of a PNG file of a uint8 `(height, width, 3)` image.

    Args:
        image: the image.
        level: of zlib's compression.
    """
    height, width, _ = image.shape
    rows = np.ascontiguousarray(image).reshape(height, width * 3)
    # Rows as differences to those above: tiles are blocks of equal rows.
    lines = np.full((height, 1 + width * 3), 2, np.uint8)
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines.tobytes(), level)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _grid(tiles, labels, swatches):
    rows, columns, height, width, _ = tiles.shape
    canvas = np.full((_HEADER + rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for column, (label, swatch) in enumerate(zip(labels, swatches)):
        left = column * (width + _GAP)
        draw(canvas, 2, left, label)
        if swatch is not None:
            canvas[_HEADER - 5 : _HEADER - 1, left : left + width] = swatch
        for row in range(rows):
            top = _HEADER + row * (height + _GAP)
            canvas[top : top + height, left : left + width] = tiles[row, column]
    return canvas


def _percent(share):
    return f"{100.0 * share:.0f}%"
