"""Moments of soft regions and their normalisation (paper, Eq. 4 and 5), each in O(entities * positions * channels).

No function builds a tensor of (batch, positions, channels, entities): sums over the positions, and over the regions,
are matrix products.
"""

from keras_an.backend import ops


def region_moments(values, layout):
    """Weighted mean and variance of every region: `sum_p S v / sum_p S` and `sum_p S (v - mean)^2 / sum_p S`.

    The variance is `E[v^2] - mean^2`, which cancels unless `values` are near their mean: subtract the mean of each
    image and channel first, as `AttentiveNormalization` does.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`, at least 0.

    Returns:
        Mean and variance, float32 `(batch, entities, channels)`; a region without mass has both 0.
    """
    weights = ops.transpose(layout, (0, 2, 1))  # (batch, entities, positions)
    mass = ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-12)  # (batch, entities, 1)
    mean = ops.matmul(weights, values) / mass
    variance = ops.matmul(weights, ops.square(values)) / mass - ops.square(mean)
    return mean, ops.maximum(variance, 0.0)


def released_region_moments(values, layout, epsilon=1e-7):
    """The statistics of the authors' released TensorFlow layer, which differ from the paper's Eq. 4.

    The mean is `mean_p(S v) / (sum_p S + epsilon)`, divided by the number of positions once too often, and the
    deviation `sqrt(sum_p (S v - mean)^2 / (sum_p S + epsilon))`, of the product `S v`. Weights trained with that layer
    need them. Factorised with `sum_p (S v - mean)^2 = sum S^2 v^2 - 2 mean sum S v + positions * mean^2`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        epsilon: float, added to a region's mass.

    Returns:
        Mean and deviation, float32 `(batch, entities, channels)`.
    """
    num_positions = ops.cast(ops.shape(values)[1], "float32")
    weights = ops.transpose(layout, (0, 2, 1))  # (batch, entities, positions)
    mass = ops.sum(weights, axis=-1, keepdims=True) + epsilon  # (batch, entities, 1)
    total = ops.matmul(weights, values)
    mean = total / num_positions / mass
    squares = ops.matmul(ops.square(weights), ops.square(values))
    deviation = (squares - 2.0 * mean * total + num_positions * ops.square(mean)) / mass
    # The root's gradient at 0 is infinite; a region of no deviation has none to give.
    return mean, ops.sqrt(ops.maximum(deviation, 1e-24))


def normalize_regions(values, layout, mean, scale, offset=None):
    """Normalises every region by its own moments: `sum_i S_i * ((v - mean_i) * scale_i + offset_i)` (paper, Eq. 5).

    Computed as `v * (S scale) + S (offset - mean * scale)`: two products of inner size `entities`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        mean: float32 `(batch, entities, channels)`.
        scale: float32 `(batch, entities, channels)`, `beta / sqrt(variance + epsilon)`.
        offset: float32 `(entities, channels)`, the paper's alpha; None is 0.

    Returns:
        float32 `(batch, positions, channels)`.
    """
    shift = -mean * scale if offset is None else offset - mean * scale
    return values * ops.matmul(layout, scale) + ops.matmul(layout, shift)
