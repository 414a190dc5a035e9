"""The soft semantic layout, and the positions that self-sampling draws (paper, Section 3.1)."""

import math
from collections.abc import Sequence
from typing import Optional, Union

from keras_an.backend import (
    SeedGenerator,
    Tensor,
    compiles_for_cpu,
    custom_gradient,
    ops,
    random_uniform,
    softmax,
    widen,
)
from keras_an.ops.products import entity_products, mix, region_sums


def soft_layout(features: Tensor, filters: Tensor, bias: Optional[Tensor] = None, temperature: float = 0.1) -> Tensor:
    """Assigns every position softly to the entities: `softmax_i(temperature * (features . filters_i + bias_i))`.

    Args:
        features: float `(batch, positions, channels)`.
        filters: float `(entities, channels)`, or `(batch, entities, channels)` where each image has its own.
        bias: float `(batch, 1, entities)`, added to the logits; None adds nothing.
        temperature: float that multiplies the logits, as in the paper (Eq. 3).

    Returns:
        float32 `(batch, positions, entities)`, or float64 if an argument is; at least 0, with a sum of 1 over the
        entities.
    """
    features, filters, *biases = widen(features, filters, *([] if bias is None else [bias]))
    logits = _project(features, filters * temperature)  # (batch, positions, entities)
    for bias in biases:
        logits = logits + bias * temperature
    return _softmax(logits)


def _project(features, filters):
    """`entity_products` with its gradient in the cheapest order of products."""

    def backward(features, filters, upstream):
        by_filter = region_sums(features, upstream)
        if len(filters.shape) == 2:
            by_filter = ops.sum(by_filter, axis=0)
        return mix(upstream, filters), by_filter

    return custom_gradient(entity_products, backward)(features, filters)


def _softmax(logits):
    """The softmax over the entities, which are too few for XLA to sum fast on a CPU other than by a product."""
    if not compiles_for_cpu(logits):
        return softmax(logits)
    ones = ops.ones((logits.shape[-1], 1), dtype=logits.dtype)

    def forward(logits):
        # The result does not depend on the maximum, whose gradient would compare numbers that XLA computes twice.
        powers = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
        return powers * (1.0 / (powers @ ones))

    def backward(logits, upstream):
        layout = forward(logits)
        return (layout * (upstream - (layout * upstream) @ ones),)

    return custom_gradient(forward, backward)(logits)


def sample_positions(
    batch_size: Union[int, Tensor], num_positions: Union[int, Tensor], num_samples: int, seed_generator: SeedGenerator
) -> Tensor:
    """Draws positions for every image: uniform, without replacement, one from each of `num_samples` equal strata.

    The strata differ in size by one at most. One position is drawn from each, and all draws of an image are rotated by
    one uniform offset. So each draw by itself is uniform over all positions, and the draws of an image are distinct,
    without a sort of noise over all positions. If there are fewer positions than samples, positions repeat, and their
    counts differ by one at most.

    Args:
        batch_size: integer or scalar tensor.
        num_positions: integer or scalar tensor, at least 1; or `(batch_size, 1)` where each image has its own.
        num_samples: integer, draws per image.
        seed_generator: `keras_an.backend.SeedGenerator`.

    Returns:
        int32 `(batch_size, num_samples)`, in `[0, num_positions)`.
    """
    noise = random_uniform((batch_size, num_samples + 1), seed_generator)
    edges = ops.arange(num_samples + 1, dtype="int32") * num_positions // num_samples
    starts, ends = edges[..., :-1], edges[..., 1:]
    # float32 rounds products of the noise up to the interval's end where there are very many positions.
    sizes = ops.maximum(ends - starts, 1)
    within = ops.cast(noise[:, :-1] * ops.cast(sizes, "float32"), "int32")  # (batch, samples)
    within = ops.minimum(within, sizes - 1)
    offset = ops.cast(noise[:, -1:] * ops.cast(num_positions, "float32"), "int32")  # (batch, 1)
    return ops.mod(starts + within + offset, num_positions)


def sample_valid_windows(
    valid: Tensor,
    grid: Sequence[Union[int, Tensor]],
    spatial: Sequence[Union[int, Tensor]],
    pool_size: int,
    num_samples: int,
    seed_generator: SeedGenerator,
) -> Tensor:
    """Draws pooling windows without padding for every image, as `sample_positions` draws positions.

    If all windows of an image hold padding, it draws among those that also hold valid positions.

    Args:
        valid: boolean `(batch, positions)`, False at padding.
        grid, spatial, pool_size: those of `window_positions`.
        num_samples: integer, draws per image.
        seed_generator: `keras_an.backend.SeedGenerator`.

    Returns:
        int32 `(batch, num_samples)`, flat indices of windows.
    """
    num_windows = math.prod(grid)
    elements = window_positions(ops.arange(num_windows, dtype="int32")[None], grid, spatial, pool_size)[0]
    elements = ops.take(ops.cast(valid, "int32"), elements, axis=1)  # (batch, windows, elements)
    num_valid = ops.sum(elements, axis=-1)
    full = ops.cast(num_valid == pool_size ** len(spatial), "int32")
    has_full = ops.max(full, axis=-1, keepdims=True) > 0
    allowed = ops.where(has_full, full, ops.cast(num_valid > 0, "int32"))  # (batch, windows)
    num_allowed = ops.maximum(ops.sum(allowed, axis=-1, keepdims=True), 1)
    ranks = sample_positions(ops.shape(valid)[0], num_allowed, num_samples, seed_generator)
    # The window of rank r among those allowed has r of them before it.
    behind = ops.cumsum(allowed, axis=-1)[:, None, :] <= ranks[:, :, None]  # (batch, samples, windows)
    return ops.minimum(ops.sum(ops.cast(behind, "int32"), axis=-1), num_windows - 1)


def window_positions(
    windows: Tensor, grid: Sequence[Union[int, Tensor]], spatial: Sequence[Union[int, Tensor]], pool_size: int
) -> Tensor:
    """The flat positions, in the feature map, of all elements of pooling windows.

    Args:
        windows: int32 `(batch, samples)`, flat indices of windows.
        grid: windows along each spatial dimension, integers or scalar tensors.
        spatial: positions along each spatial dimension.
        pool_size: integer, side and stride of a window.

    Returns:
        int32 `(batch, samples, pool_size ** rank)`.
    """
    flat = ops.zeros_like(windows)[:, :, None]  # (batch, samples, elements so far)
    stride, num_elements = 1, 1
    for size, grid_size in zip(reversed(spatial), reversed(grid)):
        first = ops.mod(windows, grid_size)[:, :, None] * pool_size
        windows = windows // grid_size
        # A map narrower than a window is one window, whose missing elements repeat the last.
        along = ops.minimum(first + ops.arange(pool_size, dtype="int32"), size - 1)  # (batch, samples, pool_size)
        flat = flat[:, :, :, None] + along[:, :, None, :] * stride  # one more dimension of the window
        num_elements *= pool_size
        flat = ops.reshape(flat, (*ops.shape(windows), num_elements))
        stride = stride * size
    return flat
