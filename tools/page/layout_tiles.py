"""Layouts as tiles with captions: the winning entities over the picture and alone, a heat map for each entity."""

import numpy as np

from keras_an_tensorboard.palette import colors
from keras_an_tensorboard.pictures import heat, resized, resized_nearest, to_uint8, winner_shares

LEAST_SIDE = 256  # of a tile, in pixels
_BAR = 16  # a tile is so many times as high as the bar of colours under it


def layout_tiles(pixels, layout, of=""):
    """The tiles of a layout.

    Args:
        pixels: uint8 (height, width, 3 or 1), the picture of the layout.
        layout: float32 (layout height, layout width, entities).
        of: what the captions say of the layer where there are several, as in " of layer 2".

    Returns:
        A list of pairs of a tile, uint8 (tile height, tile width, 3), and its caption. Under a heat map is a bar of its
        entity's colour, under the winners one of all colours, as long as their shares of the positions.
    """
    scale = -(-LEAST_SIDE // min(layout.shape[:2]))
    height, width = (scale * side for side in layout.shape[:2])
    shares, palette = winner_shares(layout), colors(layout.shape[-1])
    winners = resized_nearest(palette[layout.argmax(axis=-1)][None], height, width)[0]
    blend = (resized(to_uint8(pixels[None]), height, width)[0].astype(np.uint16) + winners) // 2
    bar = palette[np.searchsorted(np.cumsum(shares), (np.arange(width) + 0.5) / width)]
    tiles = [
        (_with_bar(blend, bar), f"Winning entities{of}, over the picture"),
        (_with_bar(winners, bar), f"Winning entities{of}"),
    ]
    for entity, (share, color) in enumerate(zip(shares, palette)):
        heat_map = heat(resized_nearest(layout[None, ..., entity], height, width)[0])
        tiles.append((_with_bar(heat_map, color), f"Entity {entity}{of}: {100.0 * share:.0f} %"))
    return tiles


def _with_bar(tile, bar):
    shape = (max(len(tile) // _BAR, 1), *tile.shape[1:])
    return np.concatenate([tile, np.broadcast_to(bar, shape)]).astype(np.uint8)
