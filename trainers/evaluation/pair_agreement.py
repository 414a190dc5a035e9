"""Whether the two objects of `trainers.data.pairs_source` agree, measured from the pixels of pictures."""

import numpy as np
from scipy import ndimage

# Levels of 255 between the largest and the smallest colour of a pixel: the background is grey, objects are saturated.
_GREY, _COLOURED = 60.0, 120.0
_SMALLEST, _LARGEST = 0.012, 0.06  # shares of the picture's area; real objects have 0.02 to 0.04
_ONE_OBJECT = 0.8  # least share of the coloured area of a half that its largest object has
_ONE_COLOUR = 0.95  # least length of the mean direction of the object's hues; 1 is one hue
_ELONGATION = 1.5  # least ratio of the axes, without which there is no direction; real objects have 2 and more
HUE_TOLERANCE, ANGLE_TOLERANCE = 20.0, 15.0  # degrees, of 360 and of 180
REAL = ("pair_agreement_real", "pair_agreement_shuffled")  # scores of the real pictures
# What two objects that know nothing of each other would reach.
CHANCE = (2 * HUE_TOLERANCE / 360.0) * (2 * ANGLE_TOLERANCE / 180.0)


def agreement(pictures):
    """How well the objects of each picture agree.

    In each half the object is the largest connected area of saturated pixels. Its colour is the mean hue, its direction
    the axis of the largest second moment. A half has no object where that area is too small or too large, shares the
    half with others, has several hues, or is not longer than wide.

    Args:
        pictures: uint8 `(pictures, height, width, 3)`.

    Returns:
        Booleans `(pictures,)` by name: `found`, both halves have an object; `colour`, their hues differ by at most 20
        degrees; `orientation`, their axes by at most 15; `agreement`, both. What is not found does not agree.

    Raises:
        ValueError: where `pictures` are none.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(
            "`pictures` must be uint8 (pictures, height, width, 3). "
            f"Received: {pictures.dtype} of shape {pictures.shape}"
        )
    middle = pictures.shape[2] // 2
    rows = []
    for picture in pictures.astype(np.float64):
        area = picture.shape[0] * picture.shape[1]
        left, right = (_object(half, area) for half in (picture[:, :middle], picture[:, middle:]))
        found = left is not None and right is not None
        hue = found and _difference(left[0], right[0], 360.0) <= HUE_TOLERANCE
        angle = found and _difference(left[1], right[1], 180.0) <= ANGLE_TOLERANCE
        rows.append((found, hue, angle, hue and angle))
    names = ("found", "colour", "orientation", "agreement")
    return dict(zip(names, np.array(rows, bool).reshape(-1, len(names)).T))


def shuffled(pictures, labels):
    """Pictures whose right halves come from other pictures of the same class, in turn: each object is right, the pair
    is not.

    Args:
        pictures: uint8 `(pictures, height, width, 3)`.
        labels: integers `(pictures,)`.
    """
    mixed, middle = np.array(pictures), pictures.shape[2] // 2
    for label in np.unique(labels):
        (these,) = np.nonzero(labels == label)
        mixed[these, :, middle:] = pictures[np.roll(these, 1)][:, :, middle:]
    return mixed


class PairScores:
    """The scores of pictures that come in batches.

    Args:
        with_shuffled: whether to score them with their halves shuffled as well, a batch at a time.
    """

    def __init__(self, with_shuffled=False):
        self._parts, self._mixed = [], [] if with_shuffled else None

    def add(self, pictures, labels):
        """Adds a batch: uint8 `(pictures, height, width, 3)` and integers `(pictures,)`."""
        self._parts.append(agreement(pictures))
        if self._mixed is not None:
            self._mixed.append(agreement(shuffled(pictures, labels)))

    def of_generated(self):
        """Shares of the pictures, floats by name; none without pictures."""
        return {
            "pair_agreement": _share(self._parts, "agreement"),
            "pair_objects_found": _share(self._parts, "found"),
            "pair_colour_agreement": _share(self._parts, "colour"),
            "pair_orientation_agreement": _share(self._parts, "orientation"),
        }

    def of_real(self):
        """What `of_generated` compares with: the real pictures, and these with their halves shuffled."""
        return dict(zip(REAL, (_share(self._parts, "agreement"), _share(self._mixed, "agreement"))))


def _share(parts, name):
    return float(np.mean(np.concatenate([part[name] for part in parts])))


def _object(half, area):
    """Mean hue and direction in degrees of the object in `(height, width, 3)`, or None."""
    chroma = half.max(axis=-1) - half.min(axis=-1)
    weight = np.clip((chroma - _GREY) / (_COLOURED - _GREY), 0.0, 1.0)
    areas, count = ndimage.label(weight > 0.0, np.ones((3, 3)))
    if not count:
        return None
    sizes = ndimage.sum_labels(weight, areas, np.arange(1, count + 1))
    largest = int(np.argmax(sizes))
    size = sizes[largest]
    if not _SMALLEST <= size / area <= _LARGEST or size < _ONE_OBJECT * sizes.sum():
        return None
    rows, columns = np.nonzero(areas == largest + 1)
    weight, colours = weight[rows, columns], half[rows, columns]
    hue = _hue(weight, colours)
    return None if hue is None else _with_direction(hue, weight, rows, columns)


def _hue(weight, colours):
    red, green, blue = colours.T
    place = (red - 0.5 * (green + blue)) + 1j * np.sqrt(0.75) * (green - blue)
    mean = np.sum(weight * place / np.maximum(np.abs(place), 1e-9)) / weight.sum()
    return np.degrees(np.angle(mean)) if np.abs(mean) >= _ONE_COLOUR else None


def _with_direction(hue, weight, rows, columns):
    moments = np.cov(np.stack([columns, rows]), aweights=weight, ddof=0)
    short, long = np.linalg.eigvalsh(moments)
    if long < _ELONGATION**2 * short:
        return None
    return hue, np.degrees(0.5 * np.arctan2(2.0 * moments[0, 1], moments[0, 0] - moments[1, 1]))


def _difference(first, second, period):
    return abs((first - second + period / 2) % period - period / 2)
