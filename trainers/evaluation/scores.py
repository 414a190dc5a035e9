"""Scores of generated images as functions of what a network makes of them, through TF-GAN where it has them.

No function here knows which network that is: `evaluate` names the results as the network asks, so that nothing but
Inception's features gives a score called FID.
"""

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.evaluation import tfgan

_KERNEL_BLOCK = 1024  # TF-GAN's own
_NEIGHBOUR_BLOCK = 1024  # rows of distances at a time: 200 MB where there are 50,000 images
_NEIGHBOURS = 3  # of the paper


def evaluate(names, real, generated, intra_class=False):
    """All scores of a set of generated images.

    Args:
        names: `score_names.ScoreNames` of the network.
        real: `(features, labels)`, float32 `(images, features)` and int32 `(images,)`.
        generated: `(features, logits, labels)`, as `real`, with float32 `(images, classes of the network)`.
        intra_class: whether to compute the distance within classes, which takes as many matrix roots as there are
            classes.

    Returns:
        Floats by name. What cannot be computed is left out, and logged with the reason.
    """
    (real, real_labels), (features, logits, labels) = real, generated
    result = {
        **computed((names.frechet,), frechet_distance, real, features),
        **computed((names.kernel,), kernel_distance, real, features),
        **computed((names.classifier,), classifier_score, logits),
        **computed(("precision", "recall"), precision_and_recall, real, features),
    }
    if intra_class:
        result.update(computed((names.intra_class,), intra_class_distance, real, real_labels, features, labels))
    return result


def computed(names, function, *arguments):
    """What a function of as many scores as there are names gives, floats by name.

    A score that cannot be computed, for which the function raises ValueError or gives no finite number, is left out,
    and logged with the reason.
    """
    try:
        values = function(*arguments)
    except ValueError as error:
        logging.warning("Without %s: %s", ", ".join(names), error)
        return {}
    return finite(dict(zip(names, values if isinstance(values, tuple) else (values,))))


def finite(scores):
    """Scores by name without those that are not finite, which are logged."""
    for name, value in scores.items():
        if not np.isfinite(value):
            logging.warning("Without %s: it is %s", name, value)
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def frechet_distance(real, generated):
    """Fréchet distance between Gaussians fitted to two sets of features, by TF-GAN in float64.

    Args:
        real: `(images, features)`.
        generated: `(images, features)`.

    Returns:
        float, at least 0 but for rounding; larger where there are few images.

    Raises:
        ValueError: where a set has fewer than 2 images.

    References:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium", NeurIPS 2017, equation 6.
    """
    _check_sizes("A Fréchet distance", 2, real, generated)
    real, generated = tf.cast(real, tf.float64), tf.cast(generated, tf.float64)
    return float(tfgan.classifier_metrics().frechet_classifier_distance_from_activations(real, generated))


def kernel_distance(real, generated):
    """Squared maximum mean discrepancy with the kernel (x y / d + 1)^3, by TF-GAN in float64, in blocks.

    Args:
        real: `(images, features)`, in any order.
        generated: `(images, features)`, in any order. Of the larger set at most 64 times the smaller one is used.

    Returns:
        float, an unbiased estimate: for equal distributions it lies on both sides of 0.

    Raises:
        ValueError: where a set has fewer than 2 images.

    References:
        Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018, section 4.
    """
    _check_sizes("A kernel distance", 2, real, generated)
    # The blocks must be samples of the whole: folders and labels in turn come in order. With so much more of one set
    # than of the other, blocks would hold a single image of the smaller one.
    most = 64 * min(len(real), len(generated))
    random = np.random.default_rng(0)
    parts = [np.asarray(part, np.float64)[random.permutation(len(part))[:most]] for part in (real, generated)]
    metrics = tfgan.classifier_metrics()
    parts = [tf.constant(part) for part in parts]
    return float(metrics.kernel_classifier_distance_from_activations(*parts, max_block_size=_KERNEL_BLOCK))


def classifier_score(logits):
    """exp of the mean divergence of a class prediction from the mean prediction, by TF-GAN; Inception's is the IS.

    Args:
        logits: `(images, classes)`. All images make one score; there are no splits.

    Returns:
        float in [1, classes].

    References:
        Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, "Improved Techniques for Training GANs", NeurIPS 2016,
        section 4.
    """
    logits = np.asarray(logits, np.float64)
    # Where the exponential of a logit is 0 for every image, TF-GAN multiplies 0 by infinity.
    logits = np.maximum(logits, logits.max(axis=1, keepdims=True) - 700.0)
    return float(tfgan.classifier_metrics().classifier_score_from_logits(tf.constant(logits)))


def intra_class_distance(real, real_labels, generated, labels):
    """Mean over the classes of the Fréchet distance between real and generated images of the class.

    Args:
        real: `(images, features)`.
        real_labels: integers `(images,)`.
        generated: `(images, features)`.
        labels: integers `(images,)`.

    Returns:
        float.

    Raises:
        ValueError: where the sets have not the same classes, or a class has fewer than 2 images in one of them.

    References:
        Miyato, Koyama, "cGANs with Projection Discriminator", ICLR 2018, section 4.
    """
    real_labels, labels = np.asarray(real_labels), np.asarray(labels)
    classes = np.union1d(real_labels, labels)
    for name, these in (("real", real_labels), ("generated", labels)):
        counts = [np.count_nonzero(these == label) for label in classes]
        if min(counts) < 2:
            raise ValueError(
                f"A distance within classes needs at least 2 {name} images of each class. Received: {min(counts)} of "
                f"class {classes[int(np.argmin(counts))]}"
            )
    distances = [frechet_distance(real[real_labels == label], generated[labels == label]) for label in classes]
    return float(np.mean(distances))


def precision_and_recall(real, generated, num_neighbours=_NEIGHBOURS):
    """Improved precision and recall.

    Precision is the share of generated images that lie in the balls of the real ones, recall the share of real ones in
    the balls of the generated ones. The ball of an image reaches to its `num_neighbours`-th nearest of its own set.

    Args:
        real: `(images, features)`.
        generated: `(images, features)`.
        num_neighbours: integer.

    Returns:
        Precision and recall, floats in [0, 1].

    Raises:
        ValueError: where a set has not more than `num_neighbours` images.

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall Metric for Assessing Generative
        Models", NeurIPS 2019, equations 1 and 2.
    """
    _check_sizes(f"Precision and recall with {num_neighbours} neighbours", num_neighbours + 1, real, generated)
    # Far from the origin the differences of squares below would lose their digits.
    mean = np.mean(real, axis=0, dtype=np.float64)
    real, generated = (tf.constant((part - mean).astype(np.float32)) for part in (real, generated))
    real_radii, generated_radii = (_radii(part, num_neighbours) for part in (real, generated))
    in_real, in_generated = [], tf.zeros((len(real),), tf.bool)
    for start in range(0, len(generated), _NEIGHBOUR_BLOCK):
        block = slice(start, start + _NEIGHBOUR_BLOCK)
        distances = _squared_distances(generated[block], real)
        in_real.append(tf.reduce_any(distances <= real_radii, axis=1))
        in_generated |= tf.reduce_any(distances <= generated_radii[block, None], axis=0)
    return tuple(float(np.mean(part)) for part in (np.concatenate(in_real), in_generated.numpy()))


def _radii(points, num_neighbours):
    """Squared distances to the nth neighbour; the nearest point of all is the point itself."""
    radii = []
    for start in range(0, len(points), _NEIGHBOUR_BLOCK):
        distances = _squared_distances(points[start : start + _NEIGHBOUR_BLOCK], points)
        radii.append(-tf.math.top_k(-distances, num_neighbours + 1).values[:, -1])
    return tf.concat(radii, axis=0)


@tf.function(reduce_retracing=True, autograph=False)
def _squared_distances(first, second):
    squares = tf.reduce_sum(first**2, axis=1)[:, None] + tf.reduce_sum(second**2, axis=1)
    return tf.maximum(squares - 2.0 * tf.matmul(first, second, transpose_b=True), 0.0)


def slope(discriminator, images, labels):
    """How steep a discriminator is: the norm of the gradient of its logit by the image, the median over images.

    A Wasserstein critic's gradient penalty pulls it to 1 (Gulrajani et al., 2017, Eq. 3).

    Args:
        discriminator: `keras.Model` from `[image, label]` to logits.
        images, labels: float32 `(images, height, width, channels)` and int32 `(images,)`.
    """
    norms = []
    for start in range(0, len(images), 8):  # no more at a time than a training batch holds
        some = tf.convert_to_tensor(images[start : start + 8])
        with tf.GradientTape() as tape:
            tape.watch(some)
            logits = discriminator([some, labels[start : start + 8]], training=False)
        norms += [np.linalg.norm(one) for one in tf.cast(tape.gradient(logits, some), tf.float32).numpy()]
    return float(np.median(norms))


def spread_ratio(generated, real):
    """The spread of generated images over that of real ones.

    Raises:
        ValueError: where real images of a class do not differ, or no class has 2 images.
    """
    # Equal images have a spread of rounding errors; a level of 8 bits in one pixel of a thousand images has 2.5e-4.
    if not real > 1e-4 or not np.isfinite(generated):
        raise ValueError(
            "A ratio of spreads needs 2 images of a class in both sets, and real ones that differ. Received spreads of "
            f"{generated} and {real}"
        )
    return generated / real


def accuracy(logits, labels):
    """The share of images whose largest logit is that of their label.

    Raises:
        ValueError: where there are no images.
    """
    _check_sizes("An accuracy", 1, labels)
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def class_spread(images, labels):
    """Root mean square distance of images from the mean of their class, averaged over classes of at least 2 images.

    Args:
        images: `(images, height, width, channels)`.
        labels: integers `(images,)`.

    Returns:
        float, in units of the pixels; not a number where no class has 2 images.
    """
    spread = ClassSpread()
    spread.add(images, labels)
    return spread.result()


class ClassSpread:
    """`class_spread` of images that come in batches."""

    def __init__(self):
        self._sums = {}

    def add(self, images, labels):
        """Adds a batch: `(images, height, width, channels)` and integers `(images,)`."""
        flat = np.reshape(images, (len(images), -1)).astype(np.float64)
        for label in np.unique(labels):
            these = flat[labels == label]
            count, total, squares = self._sums.get(int(label), (0, 0.0, 0.0))
            self._sums[int(label)] = count + len(these), total + these.sum(axis=0), squares + np.square(these).sum()

    def result(self):
        """The spread of all images so far, a float."""
        spreads = [
            np.sqrt(max(squares - np.square(total).sum() / count, 0.0) / (count - 1))
            for count, total, squares in self._sums.values()
            if count > 1
        ]
        return float(np.mean(spreads)) if spreads else float("nan")


def _check_sizes(what, least, *parts):
    for part in parts:
        if len(part) < least:
            raise ValueError(f"{what} needs at least {least} images of each set. Received: {len(part)}")
