"""Differentiable augmentation of what the discriminator sees, for small data sets."""

import tensorflow as tf


def draw(policy, num_images, key):
    """The random numbers of `augment`: apart from it, since draws inside a program of XLA differ from those outside.

    Args:
        policy: names in `POLICIES`.
        num_images: integer or scalar tensor.
        key: int64 `(2,)`, of `tf.random.stateless_uniform`.

    Returns:
        float32 `(num_images, 3 * len(policy), 1)` in [0, 1).
    """
    return tf.random.stateless_uniform((num_images, 3 * len(policy), 1), key, alg="philox")


def augment(images, policy, draws):
    """DiffAugment: the same kinds of random changes to real and generated images, through which gradients flow.

    Args:
        images: float32 `(batch, height, width, channels)` in [-1, 1].
        policy: names in `POLICIES`; none leaves the images as they are.
        draws: what `draw` gave.

    Returns:
        The images, changed one by one; brightness and contrast may take them beyond [-1, 1].

    References:
        Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., NeurIPS 2020), Section 3.2.
    """
    draws = tf.transpose(draws, (1, 0, 2))
    for index, name in enumerate(policy):
        images = POLICIES[name](images, draws[3 * index : 3 * index + 3])
    return images


def _color(images, draws):
    """Brightness by up to 0.5 either way, then saturation by 0 to 2, then contrast by 0.5 to 1.5."""
    factors = draws[:, :, :, None, None]  # (3, batch, 1, 1, 1)
    images = images + factors[0] - 0.5
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = grey + (images - grey) * (2.0 * factors[1])
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (0.5 + factors[2])


def _translation(images, draws):
    """Moves by up to an eighth of the side; what comes in from outside is 0."""
    height, width = tf.unstack(tf.shape(images)[1:3])
    rows, row_seen = _moved(draws[0], height)
    columns, column_seen = _moved(draws[1], width)
    moved = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return moved * row_seen[:, :, None, None] * column_seen[:, None, :, None]


def _moved(draw, size):
    """For every place along an axis the place that it takes its pixel from, and whether that is inside, 1 or 0."""
    reach = tf.cast((size + 4) // 8, tf.float32)
    source = tf.range(size) + tf.cast(tf.floor(draw * (2.0 * reach + 1.0)) - reach, tf.int32)  # (batch, size)
    inside = (source >= 0) & (source < size)
    return tf.clip_by_value(source, 0, size - 1), tf.cast(inside, tf.float32)


def _cutout(images, draws):
    """Sets a square of half the side, anywhere and cut off at the border, to 0."""
    height, width = tf.unstack(tf.shape(images)[1:3])
    inside = _covered(draws[0], height)[:, :, None, None] * _covered(draws[1], width)[:, None, :, None]
    return images * (1.0 - inside)


def _covered(draw, size):
    """1 along an axis where a stretch of half its length lies whose middle is drawn, 0 elsewhere: `(batch, size)`."""
    middle = tf.cast(tf.floor(draw * tf.cast(size, tf.float32)), tf.int32)
    start = middle - size // 4
    places = tf.range(size)
    return tf.cast((places >= start) & (places < start + size // 2), tf.float32)


POLICIES = {"color": _color, "translation": _translation, "cutout": _cutout}
