"""Pictures with captions as HTML: layouts entity by entity, and rows of images."""

import base64
import html
from typing import NamedTuple, Optional

import numpy as np

from keras_an_tensorboard.palette import colors
from keras_an_tensorboard.pictures import heat, png, resized, resized_nearest, to_uint8, winner_shares

MOST_PIXELS = 320  # of the longer side of a tile; the page shows it smaller
CSS = """
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); gap: 12px; }
.tiles figure { margin: 0; }
.tiles img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.tiles figcaption { margin-top: 4px; font-size: 12px; white-space: nowrap; }
.tiles i { display: inline-block; width: 11px; height: 11px; margin-right: 5px; border-radius: 3px; }
"""


class Tile(NamedTuple):
    """uint8 (height, width, 3), the text under it, and the colour beside that, three levels, or None."""

    pixels: np.ndarray
    caption: str
    color: Optional[np.ndarray] = None


def layout_tiles(pixels, layout):
    """The winning entity of each position over the picture and alone, and a heat map for each entity.

    Args:
        pixels: uint8 (height, width, 3 or 1), the picture of the layout.
        layout: float32 (layout height, layout width, entities).

    Returns:
        A list of `Tile`; the captions of heat maps tell the share of the positions that the entity wins.
    """
    palette, shares = colors(layout.shape[-1]), winner_shares(layout)
    picture = _bounded(to_uint8(pixels[None]))
    winners = resized_nearest(palette[layout.argmax(axis=-1)][None], *picture.shape[1:3])
    blend = ((picture.astype(np.uint16) + winners) // 2).astype(np.uint8)
    maps = _bounded(layout[None])[0]
    tiles = [Tile(blend[0], "Blend"), Tile(winners[0], "Winner")]
    for entity, (share, color) in enumerate(zip(shares, palette)):
        tiles.append(Tile(heat(maps[..., entity]), f"Entity {entity}: {100.0 * share:.0f}\u202f%", color))
    return tiles


def _bounded(arrays):
    """(1, height, width, ...) of at most MOST_PIXELS a side."""
    step = max(max(arrays.shape[1:3]) / MOST_PIXELS, 1.0)
    return resized(arrays, *(max(round(side / step), 1) for side in arrays.shape[1:3]))


def grid(tiles, title, least):
    """Tiles as HTML.

    Args:
        tiles: of `Tile`.
        title: text above them.
        least: pixels of the width of a tile on the page, at the least.
    """
    figures = "".join(map(_figure, tiles))
    return f'<p><b>{html.escape(title)}</b></p><div class="tiles" style="--least: {least}px">{figures}</div>'


def _figure(tile):
    caption, source = html.escape(tile.caption), base64.b64encode(png(tile.pixels)).decode()
    swatch = f'<i style="background: rgb({",".join(map(str, tile.color))})"></i>' if tile.color is not None else ""
    image = f'<img alt="{caption}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption>{swatch}{caption}</figcaption></figure>"
