"""How the tools draw latents."""

import tensorflow as tf


def draw_latent(key, truncation, latent_dim):
    """A latent that is a function of its key and truncation alone.

    Args:
        key: int64 (2,).
        truncation: float scalar. At 1 the latent is normal, as in training; at any other value it is drawn from the
            normal distribution without what lies beyond 2, times this value.
        latent_dim: integer.

    Returns:
        float32 (latent_dim,), the same on all devices, in a graph too.
    """
    normal = tf.random.stateless_normal((latent_dim,), key, alg="philox")
    truncated = truncation * tf.random.stateless_truncated_normal((latent_dim,), key, alg="philox")
    return tf.where(tf.equal(truncation, 1.0), normal, truncated)
