"""Colours of entities that colour-blind people can tell apart."""

import numpy as np

# The seven colours of Okabe and Ito (Color Universal Design, 2008), then those that lie furthest from all before, as
# eyes without red or green cones see them too: any two of the first 16 are 17 apart in CIELAB, of all 32, 14.
_PALETTE = """
    e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 0000ff 003333 bbee99 221199 553300 7766ff eedddd 332266 cc3344
    bbaa55 445577 6699ff 1155bb aaddff 99cc99 0022cc dddd66 447777 994400 337744 443322 33bbcc 6644ff 442288 44aa66
"""


def colors(entities):
    """The colours of the entities, uint8 `(entities, 3)`; from the 33rd on they come again."""
    palette = np.array([list(bytes.fromhex(color)) for color in _PALETTE.split()], np.uint8)
    return palette[np.arange(entities) % len(palette)]
