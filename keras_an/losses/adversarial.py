"""Adversarial losses. Each takes logits, scores or gradients of any float dtype and returns a float32 scalar.

None is for `compile`, which would hand over labels as the first argument: `DiscriminatorHingeLoss` and
`CriticWassersteinLoss` are.
"""

from typing import Optional

from keras_an.backend import Tensor, ops


def discriminator_hinge_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Hinge loss of the discriminator: `mean(relu(1 - D(x))) + mean(relu(1 + D(G(z))))`.

    Args:
        real_logits: D on real images, any shape.
        fake_logits: D on generated images, any shape.

    Returns:
        float32 scalar, at least 0.

    References:
        Geometric GAN (Lim and Ye, 2017); SAGAN (Zhang et al., ICML 2019), Eq. 4.
    """
    real = ops.mean(ops.relu(1.0 - ops.cast(real_logits, "float32")))
    fake = ops.mean(ops.relu(1.0 + ops.cast(fake_logits, "float32")))
    return real + fake


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


def critic_wasserstein_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the critic: `mean(D(G(z))) - mean(D(x))`, without the gradient penalty.

    Args:
        real_scores: D on real images, any shape.
        fake_scores: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        Wasserstein GAN (Arjovsky et al., ICML 2017), Eq. 3.
    """
    return ops.mean(ops.cast(fake_scores, "float32")) - ops.mean(ops.cast(real_scores, "float32"))


def generator_wasserstein_loss(fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the generator: `-mean(D(G(z)))`.

    Args:
        fake_scores: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        Wasserstein GAN (Arjovsky et al., ICML 2017), Eq. 3.
    """
    return -ops.mean(ops.cast(fake_scores, "float32"))


def gradient_penalty(gradients: Tensor, mask: Optional[Tensor] = None, epsilon: float = 1e-10) -> Tensor:
    """`mean((sqrt(sum((mask * g)^2) + epsilon) - 1)^2)` over images, g the gradient of an image's score at the image.

    Args:
        gradients: float `(batch, height, width, channels)`, at images between real and generated ones.
        mask: float `(batch, height, width, 1)`, 1 where the gradient counts, for images that differ in a hole alone;
            None, the default, counts it everywhere.
        epsilon: float under the root, whose own gradient has no bounds at 0.

    Returns:
        float32 scalar, at least 0.

    References:
        Improved Training of Wasserstein GANs (Gulrajani et al., NeurIPS 2017), Eq. 3; Generative Image Inpainting with
        Contextual Attention (Yu et al., CVPR 2018), Eq. 4, for the mask.
    """
    gradients = ops.cast(gradients, "float32")
    if mask is not None:
        gradients = gradients * ops.cast(mask, "float32")
    slopes = ops.sqrt(ops.sum(ops.square(gradients), axis=(1, 2, 3)) + epsilon)
    return ops.mean(ops.square(slopes - 1.0))
