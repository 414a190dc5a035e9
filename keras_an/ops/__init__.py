"""Pure functions without weights: the layout, the moments of its regions, and their normalisation.

They compute in float32, or in float64 where an argument is float64.
"""

from keras_an.ops.layout import sample_positions, sample_valid_windows, soft_layout, window_positions
from keras_an.ops.orthogonality import orthogonality
from keras_an.ops.regions import (
    center,
    fill_padding,
    normalize_regions,
    region_moments,
    regional_normalization,
    released_region_moments,
)

__all__ = [
    "center",
    "fill_padding",
    "normalize_regions",
    "orthogonality",
    "region_moments",
    "regional_normalization",
    "released_region_moments",
    "sample_positions",
    "sample_valid_windows",
    "soft_layout",
    "window_positions",
]
