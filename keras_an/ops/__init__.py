"""Pure functions without weights: the layout, the moments of its regions, and their normalisation."""

from keras_an.ops.layout import sample_positions, soft_layout, window_positions
from keras_an.ops.orthogonality import orthogonality
from keras_an.ops.regions import normalize_regions, region_moments, released_region_moments

__all__ = [
    "normalize_regions",
    "orthogonality",
    "region_moments",
    "released_region_moments",
    "sample_positions",
    "soft_layout",
    "window_positions",
]
