"""Images that come inside Python packages: handwritten digits and photographs, without a download."""

import functools
import os

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=4)
def load_digits(split, resolution):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 80 % train and 20 % test, resized with bicubic filter.

    Args:
        split: "train" (1,437 digits) or "test" (360), stratified by class with a fixed seed.
        resolution: side in pixels.

    Returns:
        Images float32 `(digits, resolution, resolution, 1)` in [-1, 1], and labels int32 `(digits,)`.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, labels = load(return_X_y=True)
    split_parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    images, labels = split_parts[0::2] if split == "train" else split_parts[1::2]
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 8.0 - 1.0  # from 0..16
    with tf.device("CPU:0"):
        resized = tf.image.resize(images, (resolution, resolution), "bicubic", antialias=True)
        return tf.clip_by_value(resized, -1.0, 1.0).numpy(), labels.astype(np.int32)


# Photographs that come inside the packages, without a download. No scene is on both sides.
_PHOTOS = {
    "train": {
        "skimage": (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "retina.jpg",
            "rocket.jpg",
        ),
        "sklearn": ("flower.jpg",),
    },
    "test": {"skimage": ("chelsea.png", "coffee.png"), "sklearn": ("china.jpg",)},
}
_PHOTO_SIDE = 256


def photo_paths(split):
    """Paths of the bundled photographs of a split, "train" (14) or "test" (3)."""
    import skimage
    import sklearn.datasets

    folders = {
        "skimage": os.path.join(os.path.dirname(skimage.__file__), "data"),
        "sklearn": os.path.join(os.path.dirname(sklearn.datasets.__file__), "images"),
    }
    return [os.path.join(folders[package], name) for package, names in _PHOTOS[split].items() for name in names]


@functools.lru_cache(maxsize=4)
def load_photos(split, resolution):
    """Squares of the bundled photographs of scikit-image and scikit-learn, their shorter sides resized to 256 pixels.

    Args:
        split: "train": squares of 256 x 256 that cover each photograph, out of which training cuts crops; or "test": of
            other photographs, all squares of `resolution` in a grid over those of 256.
        resolution: side in pixels, at most 256.

    Returns:
        uint8 `(squares, side, side, 3)`.

    Raises:
        ValueError: where `resolution` is above 256, or scikit-image lacks a photograph.
    """
    from PIL import Image

    if resolution > _PHOTO_SIDE:
        raise ValueError(f"The bundled photographs give squares of up to {_PHOTO_SIDE}. Received: {resolution}")
    squares = []
    for path in photo_paths(split):
        if not os.path.isfile(path):
            raise ValueError(f"scikit-image and scikit-learn must bring their photographs along: there is no {path}.")
        with Image.open(path) as image:
            scale = _PHOTO_SIDE / min(image.size)
            size = [max(round(side * scale), _PHOTO_SIDE) for side in image.size]
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        squares += [pixels[top : top + _PHOTO_SIDE, left : left + _PHOTO_SIDE] for top, left in _covering(pixels.shape)]
    squares = np.stack(squares)
    if split == "train":
        return squares
    number = _PHOTO_SIDE // resolution
    grid = squares[:, : number * resolution, : number * resolution]
    grid = grid.reshape(len(squares), number, resolution, number, resolution, 3).swapaxes(2, 3)
    return grid.reshape(-1, resolution, resolution, 3)


def _covering(shape):
    """Corners of as few squares as cover a picture whose shorter side is theirs."""
    rows, columns = (np.linspace(0, side - _PHOTO_SIDE, -(-side // _PHOTO_SIDE)).astype(int) for side in shape[:2])
    return [(top, left) for top in rows for left in columns]
