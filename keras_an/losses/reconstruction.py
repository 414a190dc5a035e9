"""Losses between a picture and its reconstruction. Each takes any float dtype and returns float32.

Where one of its arguments is float64, so is the result. No images at all have a loss of 0.
"""

import math

from keras_an.backend import Tensor, ops, softmax, widen
from keras_an.losses.reductions import mean


def l1_loss(target: Tensor, prediction: Tensor, weights: Tensor) -> Tensor:
    """Weighted L1: the mean over images of `sum(weights * |target - prediction|) / (channels * sum(weights > 0))`.

    Each image takes the mean over the pixels that count. So the loss of a batch is the mean of the losses of its parts,
    as data-parallel training needs it.

    Args:
        target: `(batch, height, width, channels)`.
        prediction: `(batch, height, width, channels)`.
        weights: `(batch, height, width, 1)`, at least 0: for the hole the mask, times a `spatial_discount` or not; for
            what is known `1 - mask`. Where they are 0, the pictures play no part, not even NaN.

    Returns:
        float32 scalar; an image where no pixel counts adds 0.

    References:
        Attentive Normalization for Conditional Image Generation (Wang et al., CVPR 2020), Section 4.2.
    """
    target, prediction, weights = widen(target, prediction, weights)
    # A product would be NaN where a pixel that does not count is, and so would the gradient of a choice of errors.
    errors = ops.abs(ops.where(weights > 0, target - prediction, 0.0))
    counted = ops.sum(ops.cast(weights > 0, weights.dtype), axis=(1, 2, 3))  # (batch,)
    sums = ops.sum(weights * mean(errors, (3,), keepdims=True), axis=(1, 2, 3))
    return mean(sums / ops.clip(counted, 1.0, math.inf))


def spatial_discount(mask: Tensor, gamma: float = 0.9, reach: int = 64) -> Tensor:
    """Weights of the pixels of a hole that fall with the distance to what is known: `gamma ** distance`.

    Deep in a hole many contents are plausible, so that those pixels count less. The distance counts steps to any of
    the eight neighbours.

    Args:
        mask: `(batch, height, width, 1)`, 1 = missing.
        gamma: float in (0, 1). Defaults to 0.9.
        reach: integer, the distance beyond which all pixels weigh the same. Defaults to 64.

    Returns:
        float32 `(batch, height, width, 1)`: 1 where a pixel is known, `gamma` at the edge of the hole, at least
        `gamma ** reach`.

    Raises:
        ValueError: if `gamma` is not between 0 and 1.

    References:
        Generative Image Inpainting with Contextual Attention (Yu et al., CVPR 2018), Section 3.4.
    """
    if not 0 < gamma < 1:
        raise ValueError(f"`gamma` must lie between 0 and 1. Received: gamma={gamma!r}")
    (mask,) = widen(mask)
    discount = ops.clip(1.0 - mask, gamma**reach, math.inf)
    if 0 in tuple(mask.shape):  # nothing to pool
        return discount
    for _ in range(reach):
        from_neighbours = gamma * ops.max_pool(discount, 3, 1, "same", "channels_last")
        discount = ops.where(from_neighbours > discount, from_neighbours, discount)
    return discount


def id_mrf_loss(target_features: Tensor, features: Tensor, bandwidth: float = 0.5) -> Tensor:
    """The loss of implicit diversified Markov random fields (ID-MRF), on features of a network such as VGG-19.

    Every patch of the target should be the nearest to some patch of the reconstruction. Let d be the cosine distance
    (0 to 1) of feature vectors after the target's mean is subtracted, p a position of the reconstruction, q one of the
    target, and `w[p, q] = softmax_q((1 - d[p, q] / (min_q d[p, q] + 1e-5)) / bandwidth)`. The loss is
    `-log mean_q max_p w[p, q]`, averaged over images. Its time and memory grow with the square of the number of
    positions.

    Args:
        target_features: `(batch, height, width, channels)`, of the original.
        features: `(batch, height, width, channels)`, of the reconstruction.
        bandwidth: positive float h. Defaults to 0.5.

    Returns:
        float32 scalar, at least 0.

    References:
        Image Inpainting via Generative Multi-column Convolutional Neural Networks (Wang et al., NeurIPS 2018), Eq. 2-4;
        the centring and the distance are those of its released code.
    """
    target, features = widen(target_features, features)
    if 0 in tuple(target.shape):  # no patch, nor a nearest one
        return ops.sum(features) * 0.0
    center = mean(target, (0, 1, 2), keepdims=True)
    target, features = _unit_rows(target - center), _unit_rows(features - center)  # (batch, positions, channels)
    distances = 0.5 - 0.5 * (features @ ops.transpose(target, (0, 2, 1)))  # (batch, positions, target's)
    nearest = -ops.max(-distances, axis=-1, keepdims=True)
    weights = softmax((1.0 - distances / (nearest + 1e-5)) / bandwidth)
    diversity = mean(ops.max(weights, axis=1), (1,))  # (batch,)
    return -mean(ops.log(diversity))


def _unit_rows(features):
    batch_size, height, width, channels = ops.shape(features)
    rows = ops.reshape(features, (batch_size, height * width, channels))
    return rows * ops.rsqrt(ops.sum(ops.square(rows), axis=-1, keepdims=True) + 1e-12)
