"""Text in pictures: a font of 5 x 7 pixels, drawn at twice its size."""

import numpy as np

_SCALE = 2
_FONT = {  # columns from left to right, the lowest bit on top
    "0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "2141454b31", "4": "1814127f10",
    "5": "2745454539", "6": "3c4a494930", "7": "0171090503", "8": "3649494936", "9": "064949291e",
    "a": "2054545478", "b": "7f48444438", "c": "3844444420", "d": "384444487f", "e": "3854545418",
    "f": "087e090102", "g": "0c5252523e", "h": "7f08040478", "i": "00447d4000", "j": "2040443d00",
    "k": "7f10284400", "l": "00417f4000", "m": "7c04180478", "n": "7c08040478", "o": "3844444438",
    "p": "7c14141408", "q": "081414187c", "r": "7c08040408", "s": "4854545420", "t": "043f444020",
    "u": "3c4040207c", "v": "1c2040201c", "w": "3c4030403c", "x": "4428102844", "y": "0c5050503c",
    "z": "4464544c44", "%": "2313086462", ".": "0060600000", "-": "0808080808", "_": "4040404040",
    "/": "2010080402", " ": "0000000000",
}  # fmt: skip


def text_size(text):
    """Height and width of a text in pixels."""
    return 7 * _SCALE, 6 * _SCALE * len(text)


def draw(canvas, top, left, text, color=(0, 0, 0)):
    """Draws a text on a uint8 `(height, width, 3)` canvas, as far as it fits; what the font has not is a blank."""
    mask = np.concatenate([_glyph(character) for character in text.lower() or " "], axis=1)
    mask = mask.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    part = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    part[mask[: part.shape[0], : part.shape[1]]] = color


def _glyph(character):
    """Boolean `(7, 6)`."""
    columns = np.frombuffer(bytes.fromhex(_FONT.get(character, _FONT[" "]) + "00"), np.uint8)
    return (columns[None] >> np.arange(7)[:, None] & 1).astype(bool)
