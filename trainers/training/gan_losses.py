"""The losses that the two networks of a GAN play, by `task.losses.type`."""

import tensorflow as tf

from keras_an import losses


def discriminator_non_saturating_loss(real_logits, fake_logits):
    """Logistic loss of the discriminator: `mean(softplus(-D(x))) + mean(softplus(D(G(z))))`.

    Args:
        real_logits: D on real images, any shape and float dtype.
        fake_logits: D on generated images.

    Returns:
        float32 scalar, at least 0.

    References:
        Generative Adversarial Nets (Goodfellow et al., NeurIPS 2014), Eq. 1, with the sigmoid in D.
    """
    real, fake = (tf.cast(logits, tf.float32) for logits in (real_logits, fake_logits))
    return tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))


def generator_non_saturating_loss(fake_logits):
    """Logistic loss of the generator that does not saturate: `mean(softplus(-D(G(z))))`.

    Args:
        fake_logits: D on generated images, any shape and float dtype.

    Returns:
        float32 scalar, at least 0.

    References:
        Generative Adversarial Nets (Goodfellow et al., NeurIPS 2014), Section 3.
    """
    return tf.reduce_mean(tf.nn.softplus(-tf.cast(fake_logits, tf.float32)))


# The loss of the discriminator, from real and generated logits, and that of the generator.
LOSSES = {
    "hinge": (lambda real, fake: losses.discriminator_hinge_loss(real, fake_logits=fake), losses.generator_hinge_loss),
    "non_saturating": (discriminator_non_saturating_loss, generator_non_saturating_loss),
    "wasserstein": (
        lambda real, fake: losses.critic_wasserstein_loss(real, fake_scores=fake),
        losses.generator_wasserstein_loss,
    ),
}
