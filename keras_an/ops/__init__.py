"""Pure functions without weights: the layout, the moments of its regions, their normalisation; resampled convolutions.

They compute in float32, or in float64 where an argument is float64; resampling computes in the arguments' own dtype.
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
from keras_an.ops.resampling import double, doubled_convolution, halve, halved_convolution

__all__ = [
    "center",
    "double",
    "doubled_convolution",
    "fill_padding",
    "halve",
    "halved_convolution",
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
