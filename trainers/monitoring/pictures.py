"""Images and layouts as pictures, which trainers and tools draw alike: uint8 arrays and PNG files."""

import numpy as np
import tensorflow as tf

from keras_an_tensorboard.palette import colors
from keras_an_tensorboard.pictures import heat


def image_grid(images, columns, gap=2):
    """Lays images out in rows.

    Args:
        images: uint8 `(images, height, width, 3)`.
        columns: integer, images in a row.
        gap: white pixels between images.

    Returns:
        uint8 `(grid height, grid width, 3)`.
    """
    _, height, width, channels = images.shape
    rows = -(-len(images) // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def layout_grid(images, layouts):
    """Shows layouts beside their images: a row an image; image, winning entity in colours, one heat map an entity.

    Args:
        images: float `(images, height, width, 1 or 3)` in [-1, 1].
        layouts: float `(images, layout height, layout width, entities)`; its sides divide the images'.

    Returns:
        uint8 `(grid height, grid width, 3)`.
    """
    images = to_uint8(images)
    tiles = np.concatenate([images[:, None], layout_tiles(layouts, images.shape[1])], axis=1)
    return image_grid(tiles.reshape(-1, *tiles.shape[2:]), columns=tiles.shape[1])


def layout_tiles(layouts, height):
    """The winning entity of every position in colours, and a heat map for each entity.

    Args:
        layouts: float `(images, layout height, layout width, entities)`.
        height: integer, of the tiles; a multiple of the layouts'.

    Returns:
        uint8 `(images, 1 + entities, height, width, 3)`.
    """
    layouts = np.asarray(layouts)
    entities, scale = layouts.shape[-1], height // layouts.shape[1]
    layouts = layouts.repeat(scale, axis=1).repeat(scale, axis=2)
    winners = colors(entities)[layouts.argmax(axis=-1)]
    return np.stack([winners, *(heat(layouts[..., i]) for i in range(entities))], axis=1)


def to_uint8(images):
    """Images in [-1, 1], grey or colour, as uint8 `(images, height, width, 3)`."""
    images = np.clip(np.asarray(images) * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3)) if images.shape[-1] == 1 else images


def write_png(path, image):
    """Writes a uint8 `(height, width, 3)` image, whole or not at all."""
    tf.io.write_file(path + ".partial", tf.io.encode_png(image))
    tf.io.gfile.rename(path + ".partial", path, overwrite=True)
