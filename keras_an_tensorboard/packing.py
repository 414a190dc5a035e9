"""The blobs of a summary of the page "Layouts": small, bounded, and without loss of what they show.

1. JSON: `version`, `images`, `entities`, `height` and `width` of the layouts, `image_height` and `image_width`,
   `palette` (colours of the entities, `#rrggbb`), `shares` (of the positions that each entity wins, of all inputs), and
   `labels`, strings, of the images, or null.
2. zlib of uint8 `(images, entities, height, width)`: the layouts, 255 is 1.
3. PNG of the images, one below the other.
"""

import json
import zlib

import numpy as np

from keras_an_tensorboard.palette import colors
from keras_an_tensorboard.pictures import png, resized, to_uint8

VERSION = 1
MOST_IMAGES = 8
MOST_LAYOUT_SIDE = 32
MOST_LAYOUT_BYTES = 262_144  # before zlib
MOST_IMAGE_SIDE = 96


def pack(images, layouts, shares, labels=None):
    """The blobs of a summary.

    Args:
        images: `(images, height, width, 1 or 3)`, as `pictures.to_uint8` takes them.
        layouts: float `(images, layout height, layout width, entities)`; the first 8, at most 32 x 32, are kept.
        shares: float `(entities,)`.
        labels: strings, of the images, or None.

    Returns:
        Three `bytes`, together at most 0.5 MB.
    """
    entities = layouts.shape[-1]
    side = int(np.sqrt(MOST_LAYOUT_BYTES / (MOST_IMAGES * entities)))
    layouts = _shrunk(np.asarray(layouts[:MOST_IMAGES], np.float32), min(side, MOST_LAYOUT_SIDE))
    images = _shrunk(to_uint8(images[:MOST_IMAGES]), MOST_IMAGE_SIDE)
    header = {
        "version": VERSION,
        "images": len(images),
        "entities": entities,
        "height": layouts.shape[1],
        "width": layouts.shape[2],
        "image_height": images.shape[1],
        "image_width": images.shape[2],
        "palette": ["#{:02x}{:02x}{:02x}".format(*color) for color in colors(entities).tolist()],
        "shares": [round(float(share), 4) for share in shares],
        "labels": None if labels is None else [str(label)[:40] for label in labels[:MOST_IMAGES]],
    }
    levels = (layouts * 255.0 + 0.5).astype(np.uint8).transpose(0, 3, 1, 2)
    strip = images.reshape(-1, *images.shape[2:])
    return json.dumps(header).encode(), zlib.compress(levels.tobytes(), 6), png(strip, 6)


def _shrunk(arrays, most):
    """Means of blocks, so that neither side is over `most`."""
    height, width = arrays.shape[1:3]
    factor = -(-max(height, width) // most)
    if factor == 1:
        return arrays
    height, width = max(height // factor, 1), max(width // factor, 1)
    # What is left over at the ends is cut off, less than a block.
    return resized(arrays[:, : height * factor, : width * factor], height, width)
