"""Fills of a hole that nothing was learned for: what an inpainting network must beat."""

import numpy as np


def mean_fill(images, masks):
    """Every hole takes the mean colour of its image's known pixels.

    Args:
        images: float32 `(images, height, width, channels)`.
        masks: `(images, height, width, 1)`, 1 = missing; something is known of every image.

    Returns:
        float32, as `images`.
    """
    known = 1.0 - masks
    means = (images * known).sum(axis=(1, 2), keepdims=True) / known.sum(axis=(1, 2), keepdims=True)
    return np.where(masks > 0, means, images).astype(np.float32)


def biharmonic_fill(images, masks):
    """scikit-image's `inpaint_biharmonic`: the smoothest continuation; takes up to some seconds for each image.

    Args:
        images: float32 `(images, height, width, channels)` in [-1, 1].
        masks: `(images, height, width, 1)`, 1 = missing.

    Returns:
        float32, as `images`, clipped to [-1, 1].
    """
    from skimage.restoration import inpaint_biharmonic

    filled = [inpaint_biharmonic(image, mask[..., 0] > 0, channel_axis=-1) for image, mask in zip(images, masks)]
    return np.clip(np.stack(filled), -1.0, 1.0).astype(np.float32)


FILLS = {"mean_fill": mean_fill, "biharmonic": biharmonic_fill}
