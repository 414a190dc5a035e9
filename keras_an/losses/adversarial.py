"""Adversarial losses. Each takes logits, scores or gradients of any float dtype and returns a float32 scalar.

Where one of them is float64, so is the loss. No logits at all have a loss of 0. None is for `compile`, which would hand
over labels as the first argument, and so what follows it goes by name: such a call is a TypeError. For `compile` there
are `DiscriminatorHingeLoss` and `CriticWassersteinLoss`.
"""

from typing import Optional

from keras_an.backend import Tensor, ops, widen
from keras_an.losses.reductions import mean


def discriminator_hinge_loss(real_logits: Tensor, *, fake_logits: Tensor) -> Tensor:
    """Hinge loss of the discriminator: `mean(relu(1 - D(x))) + mean(relu(1 + D(G(z))))`.

    Args:
        real_logits: D on real images, any shape.
        fake_logits: D on generated images, any shape.

    Returns:
        float32 scalar, at least 0.

    References:
        Geometric GAN (Lim and Ye, 2017); SAGAN (Zhang et al., ICML 2019), Eq. 4.
    """
    real_logits, fake_logits = widen(real_logits, fake_logits)
    return mean(ops.relu(1.0 - real_logits)) + mean(ops.relu(1.0 + fake_logits))


def generator_hinge_loss(fake_logits: Tensor) -> Tensor:
    """Hinge loss of the generator: `-mean(D(G(z)))`.

    Args:
        fake_logits: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        SAGAN (Zhang et al., ICML 2019), Eq. 4.
    """
    return generator_wasserstein_loss(fake_logits)


def critic_wasserstein_loss(real_scores: Tensor, *, fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the critic: `mean(D(G(z))) - mean(D(x))`, without the gradient penalty.

    Args:
        real_scores: D on real images, any shape.
        fake_scores: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        Wasserstein GAN (Arjovsky et al., ICML 2017), Eq. 3.
    """
    real_scores, fake_scores = widen(real_scores, fake_scores)
    return mean(fake_scores) - mean(real_scores)


def generator_wasserstein_loss(fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the generator: `-mean(D(G(z)))`.

    Args:
        fake_scores: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        Wasserstein GAN (Arjovsky et al., ICML 2017), Eq. 3.
    """
    (fake_scores,) = widen(fake_scores)
    return -mean(fake_scores)


def gradient_penalty(gradients: Tensor, *, mask: Optional[Tensor] = None, epsilon: float = 1e-10) -> Tensor:
    """The gradient penalty of WGAN-GP: the mean over images of `(sqrt(sum((mask * g)^2) + epsilon) - 1)^2`.

    g is the gradient of an image's score with respect to the image.

    Args:
        gradients: float `(batch, height, width, channels)`, at images between real and generated ones.
        mask: float `(batch, height, width, 1)`, 1 where the gradient counts, for images that differ in a hole alone.
            Where it is 0, the gradient plays no part, not even NaN. None, the default, counts it everywhere.
        epsilon: float under the root, since the gradient of a root is infinite at 0. Defaults to 1e-10.

    Returns:
        float32 scalar, at least 0.

    References:
        Improved Training of Wasserstein GANs (Gulrajani et al., NeurIPS 2017), Eq. 3; Generative Image Inpainting with
        Contextual Attention (Yu et al., CVPR 2018), Eq. 4, for the mask.
    """
    gradients, *masks = widen(gradients, *([] if mask is None else [mask]))
    for mask in masks:
        # A product would be NaN where a gradient that does not count is.
        gradients = ops.where(mask != 0, gradients, 0.0) * mask
    slopes = ops.sqrt(ops.sum(ops.square(gradients), axis=(1, 2, 3)) + epsilon)
    return mean(ops.square(slopes - 1.0))
