"""Moments of soft regions and their normalisation (paper, Eq. 4 and 5), each in O(entities * positions * channels)."""

from typing import Optional

from keras_an.backend import Tensor, compiles_for_cpu, custom_gradient, ops
from keras_an.ops.products import entity_products, mix, region_sums


def center(values: Tensor) -> Tensor:
    """Subtracts a mean of every channel, so that moments of features far from 0 lose no digits.

    Regional normalisation does not change with what is subtracted, which only has to lie among the values: the mean of
    64 positions, evenly spread, does.

    Args:
        values: float32 `(batch, positions, channels)`.

    Returns:
        The centred values, float32 `(batch, positions, channels)`.
    """
    return values - _spread_moments(values)[0]


def fill_padding(values: Tensor, valid: Tensor) -> Tensor:
    """Replaces padding by the mean of an image's other positions, so that it plays no part and digits are kept.

    Args:
        values: float32 `(batch, positions, channels)`.
        valid: boolean `(batch, positions, 1)`, False at padding.

    Returns:
        float32 `(batch, positions, channels)`; 0 in an image of padding alone.
    """
    total = ops.sum(ops.where(valid, values, ops.zeros_like(values)), axis=1, keepdims=True)
    count = ops.sum(ops.cast(valid, values.dtype), axis=1, keepdims=True)
    return ops.where(valid, values, total / ops.maximum(count, 1.0))


def region_moments(values: Tensor, layout: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance of every region: `sum_p S v / sum_p S` and `sum_p S (v - mean)^2 / sum_p S`.

    The variance is `E[v^2] - mean^2`, which cancels unless `values` are near their mean: `center` them first.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`, at least 0.

    Returns:
        Mean and variance, float32 `(batch, entities, channels)`; a region without mass has both 0.
    """
    mass = _region_mass(layout)
    return _moments(region_sums(values, layout) / mass, values, layout, mass)


def released_region_moments(
    values: Tensor, layout: Tensor, epsilon: float = 1e-7, num_positions: Optional[Tensor] = None
) -> tuple[Tensor, Tensor]:
    """The statistics of the authors' released TensorFlow layer, which differ from the paper's Eq. 4.

    The mean is `mean_p(S v) / (sum_p S + epsilon)`, divided by the number of positions once too often, and the
    deviation `sqrt(sum_p (S v - mean)^2 / (sum_p S + epsilon))`, of the product `S v`. Weights trained with that layer
    need them. Factorised with `sum_p (S v - mean)^2 = sum S^2 v^2 - 2 mean sum S v + positions * mean^2`.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`.
        epsilon: float, added to a region's mass.
        num_positions: float32 `(batch, 1, 1)`, where some positions are padding without a layout; None counts all.

    Returns:
        Mean and deviation, float32 `(batch, entities, channels)`.
    """
    if num_positions is None:
        num_positions = ops.cast(ops.shape(values)[1], "float32")
    mass = ops.sum(layout, axis=1)[:, :, None] + epsilon  # (batch, entities, 1)
    total = region_sums(values, layout)
    mean = total / num_positions / mass
    squares = region_sums(ops.square(values), ops.square(layout))
    deviation = (squares - 2.0 * mean * total + num_positions * ops.square(mean)) / mass
    # The root's gradient at 0 is infinite; a region of no deviation has none to give.
    return mean, ops.sqrt(ops.maximum(deviation, 1e-24))


def normalize_regions(values: Tensor, layout: Tensor, mean: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
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
    return values * mix(layout, scale) + mix(layout, offset - mean * scale)


def regional_normalization(
    values: Tensor, layout: Tensor, beta: Tensor, alpha: Tensor, epsilon: float, is_centered: bool = False
) -> Tensor:
    """Eq. 4 and 5 in one: `sum_i S_i * ((v - mean_i) / sqrt(variance_i + epsilon) * beta_i + alpha_i)`.

    It is `normalize_regions` with `region_moments` of the centred values, and a gradient derived by hand, which passes
    over the values fewer times and keeps less than automatic differentiation does. It may be differentiated again.

    Args:
        values: float32 `(batch, positions, channels)`.
        layout: float32 `(batch, positions, entities)`, at least 0.
        beta: float32 `(entities, channels)`.
        alpha: float32 `(entities, channels)`.
        epsilon: positive float.
        is_centered: whether the values went through `center`, or are linear in such values.

    Returns:
        float32 `(batch, positions, channels)`.
    """
    # XLA subtracts within its loops, so that centred values need not be stored.
    in_loops = not is_centered and compiles_for_cpu(values)
    if not (is_centered or in_loops):
        values = center(values)

    def moments(values, layout):
        """What to subtract from the values, and mass, mean and variance of every region of the rest."""
        mass = _region_mass(layout)
        if not in_loops:
            return None, mass, *_moments(region_sums(values, layout) / mass, values, layout, mass)
        shift, variance = _spread_moments(values)
        # Products are no loops; they take the values as they are unless those are so far from 0 that digits are lost.
        is_near = ops.all(ops.square(shift) <= 16.0 * (variance + epsilon))
        sums = ops.cond(
            is_near,
            lambda: region_sums(values, layout) - mass * shift,
            lambda: region_sums(values - shift, layout),
        )
        return shift, mass, *_moments(sums / mass, values - shift, layout, mass)

    def forward(values, layout, beta, alpha):
        shift, _, mean, variance = moments(values, layout)
        return normalize_regions(_less(values, shift), layout, mean, beta * ops.rsqrt(variance + epsilon), alpha)

    def backward(values, layout, beta, alpha, upstream):
        # Under XLA the moments are the forward pass's own.
        shift, mass, mean, variance = moments(values, layout)
        centered = _less(values, shift)
        inverse = ops.rsqrt(variance + epsilon)
        scale = beta * inverse
        # What the output owes to each region's offset and scale, (batch, entities, channels).
        by_offset = region_sums(upstream, layout)
        by_scale = region_sums(upstream * centered, layout) - mean * by_offset
        # Through variance and mean: every value of region i adds `(slope_i * v + level_i) * S_i` to its gradient.
        slope = -by_scale * scale * ops.square(inverse) / mass
        by_mean = -by_offset * scale / mass
        level = by_mean - slope * mean
        values_gradient = (
            upstream * mix(layout, scale) + centered * mix(layout, slope) + mix(layout, level)
        )  # (batch, positions, channels)
        constant = ops.sum(0.5 * slope * (ops.square(mean) - variance) - by_mean * mean, axis=-1)  # (batch, entities)
        layout_gradient = (
            entity_products(upstream * centered, scale)
            + entity_products(upstream, alpha - mean * scale)
            + entity_products(values, level, shift)
            + entity_products(ops.square(centered), 0.5 * slope)
            + constant[:, None]
        )  # (batch, positions, entities)
        return values_gradient, layout_gradient, ops.sum(by_scale * inverse, axis=0), ops.sum(by_offset, axis=0)

    return custom_gradient(forward, backward)(values, layout, beta, alpha)


def _spread_moments(values, num_positions=64):
    """Mean and variance of every channel over some positions: `(batch, 1, channels)` each."""
    spread = ops.arange(num_positions) * ops.shape(values)[1] // num_positions
    some = ops.stop_gradient(ops.take(values, spread, axis=1))
    mean = ops.mean(some, axis=1, keepdims=True)
    return mean, ops.mean(ops.square(some - mean), axis=1, keepdims=True)


def _less(values, shift):
    return values if shift is None else values - shift


def _region_mass(layout):
    return ops.maximum(ops.sum(layout, axis=1), 1e-12)[:, :, None]  # (batch, entities, 1)


def _moments(mean, values, layout, mass):
    variance = region_sums(ops.square(values), layout) / mass - ops.square(mean)
    return mean, ops.maximum(variance, 0.0)
