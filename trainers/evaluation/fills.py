"""Fills of a hole that nothing was learned for: what an inpainting network must beat."""

import functools
import importlib.util

import numpy as np
from absl import logging

from keras_an.backend import to_numpy
from keras_an.layers import DiffusionFill

_RADIUS = 3  # pixels around one that OpenCV looks at


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


def diffusion_fill(images, masks):
    """`keras_an.layers.DiffusionFill`, to which a generator of `first_fill: diffusion` adds what it has learned.

    Args:
        images: float32 `(images, height, width, channels)`.
        masks: `(images, height, width, 1)`, 1 = missing.

    Returns:
        float32, as `images`.
    """
    layer = DiffusionFill()
    filled = [layer([image[None], mask[None]]) for image, mask in zip(images, masks)]
    return np.concatenate([to_numpy(one) for one in filled]).astype(np.float32)


def opencv_fill(images, masks, method):
    """OpenCV's `inpaint`, of 8 bits and a radius of 3 pixels; takes some hundredths of a second for each image.

    Args:
        images: float32 `(images, height, width, 1 or 3)` in [-1, 1].
        masks: `(images, height, width, 1)`, 1 = missing.
        method: `"INPAINT_TELEA"`, which marches inwards with weighted means, or `"INPAINT_NS"`, which carries on the
            lines of equal brightness as a fluid flows.

    Returns:
        float32, as `images`; known pixels stay as they are.

    References:
        An Image Inpainting Technique Based on the Fast Marching Method (Telea, 2004); Navier-Stokes, Fluid Dynamics,
        and Image and Video Inpainting (Bertalmio, Bertozzi, Sapiro, CVPR 2001).
    """
    import cv2

    levels = np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    holes = (masks[..., 0] > 0).astype(np.uint8)
    filled = [cv2.inpaint(image, hole, _RADIUS, getattr(cv2, method)) for image, hole in zip(levels, holes)]
    filled = np.stack(filled).reshape(images.shape).astype(np.float32) / 127.5 - 1.0
    return np.where(masks > 0, filled, images).astype(np.float32)


FILLS = {
    "mean_fill": mean_fill,
    "diffusion": diffusion_fill,
    "biharmonic": biharmonic_fill,
    "telea": functools.partial(opencv_fill, method="INPAINT_TELEA"),
    "navier_stokes": functools.partial(opencv_fill, method="INPAINT_NS"),
}


def available(biharmonic=True):
    """The fills that can be made here, by name; OpenCV's need the extra `opencv`, and are left out without it.

    Args:
        biharmonic: whether to include the biharmonic one, which takes long.
    """
    left_out = [] if biharmonic else ["biharmonic"]
    if importlib.util.find_spec("cv2") is None:
        logging.info("Without the scores of OpenCV's fills: pip install '.[opencv]' brings it.")
        left_out += ["telea", "navier_stokes"]
    return {name: fill for name, fill in FILLS.items() if name not in left_out}
