"""Moments of soft regions and their normalisation (paper, Eq. 4 and 5), each in O(entities * positions * channels).

No function builds a tensor of (batch, positions, channels, entities): sums over the positions, and over the regions,
are matrix products, or, where XLA fuses them into one loop, sums of products of broadcasts.
"""

from keras_an.backend import custom_gradient, fuses_elementwise, ops


def center(values, num_positions=64):
    """Subtracts a mean of every channel, so that moments of features far from 0 lose no digits.

    Regional normalisation does not change with what is subtracted, which only has to lie among the values: the mean of
    some positions, evenly spread, does.

    Args:
        values: float32 `(batch, positions, channels)`.
        num_positions: integer, how many positions the mean is of.

    Returns:
        The centred values, float32 `(batch, positions, channels)`.
    """
    spread = ops.arange(num_positions) * ops.shape(values)[1] // num_positions
    mean = ops.stop_gradient(ops.mean(ops.take(values, spread, axis=1), axis=1, keepdims=True))
    return values - mean


def region_moments(values, layout):
    """Weighted mean and variance of every region: `sum_p S v / sum_p S` and `sum_p S (v - mean)^2 / sum_p S`.

    The variance is `E[v^2] - mean^2`, which cancels unless `values` are near their mean: `center` them first.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`, at least 0.

    Returns:
        Mean and variance, float32 `(batch, entities, channels)`; a region without mass has both 0.
    """
    mass = _region_mass(layout)
    mean = _region_sums(values, layout) / mass
    variance = _region_sums(ops.square(values), layout) / mass - ops.square(mean)
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


def normalize_regions(values, layout, mean, scale, offset):
    """Normalises every region by its own moments: `sum_i S_i * ((v - mean_i) * scale_i + offset_i)` (paper, Eq. 5).

    Computed as `v * (S scale) + S (offset - mean * scale)`: two products of inner size `entities`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        mean: float32 `(batch, entities, channels)`.
        scale: float32 `(batch, entities, channels)`, `beta / sqrt(variance + epsilon)`.
        offset: float32 `(entities, channels)`, the paper's alpha.

    Returns:
        float32 `(batch, positions, channels)`.
    """
    return values * _mix(layout, scale) + _mix(layout, offset - mean * scale)


def regional_normalization(values, layout, beta, alpha, epsilon):
    """Eq. 4 and 5 in one: `sum_i S_i * ((v - mean_i) / sqrt(variance_i + epsilon) * beta_i + alpha_i)`.

    It is `normalize_regions` with `region_moments`, and a gradient derived by hand, which passes over the values fewer
    times and keeps less than automatic differentiation does. It may be differentiated again.

    Args:
        values: float32 `(batch, positions, channels)`, centred.
        layout: float32 `(batch, positions, entities)`, at least 0.
        beta: float32 `(entities, channels)`.
        alpha: float32 `(entities, channels)`.
        epsilon: positive float.

    Returns:
        float32 `(batch, positions, channels)`.
    """

    def forward(values, layout, beta, alpha):
        mean, variance = region_moments(values, layout)
        return normalize_regions(values, layout, mean, beta * ops.rsqrt(variance + epsilon), alpha)

    def backward(values, layout, beta, alpha, upstream):
        # Under XLA the moments are the forward pass's own.
        mean, variance = region_moments(values, layout)
        mass = _region_mass(layout)
        inverse = ops.rsqrt(variance + epsilon)
        scale = beta * inverse
        # What the output owes to each region's offset and scale, (batch, entities, channels).
        by_offset = _region_sums(upstream, layout)
        by_scale = _region_sums(upstream * values, layout) - mean * by_offset
        # Through variance and mean: every value of region i adds `(slope_i * v + level_i) * S_i` to its gradient.
        slope = -by_scale * scale * ops.square(inverse) / mass
        by_mean = -by_offset * scale / mass
        level = by_mean - slope * mean
        values_gradient = (
            upstream * _mix(layout, scale) + values * _mix(layout, slope) + _mix(layout, level)
        )  # (batch, positions, channels)
        constant = ops.sum(0.5 * slope * (ops.square(mean) - variance) - by_mean * mean, axis=-1)  # (batch, entities)
        layout_gradient = (
            _entity_products(upstream * values, scale)
            + _entity_products(upstream, alpha - mean * scale)
            + _entity_products(values, level)
            + _entity_products(ops.square(values), 0.5 * slope)
            + constant[:, None]
        )  # (batch, positions, entities)
        return values_gradient, layout_gradient, ops.sum(by_scale * inverse, axis=0), ops.sum(by_offset, axis=0)

    return custom_gradient(forward, backward)(values, layout, beta, alpha)


def _region_mass(layout):
    return ops.maximum(ops.sum(layout, axis=1), 1e-12)[:, :, None]  # (batch, entities, 1)


def _region_sums(values, layout):
    """`sum_p S_i v`: `(batch, entities, channels)`."""
    return ops.matmul(ops.transpose(layout, (0, 2, 1)), values)


def _entity_products(values, table):
    """`v . table_i` of every position: `(batch, positions, entities)`."""
    return ops.matmul(values, ops.transpose(table, (0, 2, 1)))


def _mix(layout, table):
    """`sum_i S_i table_i`: `(batch, positions, channels)` from a table `(batch, entities, channels)`."""
    if not fuses_elementwise(layout):
        return ops.matmul(layout, table)
    # XLA does not fuse a matrix product with what follows; this sum it does, and so never stores it.
    return sum(layout[:, :, i : i + 1] * table[:, i : i + 1] for i in range(layout.shape[-1]))
