"""Adversarial losses. Each takes logits of any float dtype and returns a float32 scalar."""

from keras_an.backend import ops


def discriminator_hinge_loss(real_logits, fake_logits):
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


def generator_hinge_loss(fake_logits):
    """Hinge loss of the generator: `-mean(D(G(z)))`.

    Args:
        fake_logits: D on generated images, any shape.

    Returns:
        float32 scalar.

    References:
        SAGAN (Zhang et al., ICML 2019), Eq. 4.
    """
    return -ops.mean(ops.cast(fake_logits, "float32"))
