"""Loads a class-conditional generator, and draws the latents that it takes."""

import math

import numpy as np

from trainers import cpu


class SampleError(ValueError):
    """The images cannot be drawn; the message names the flag and its value."""


def load(path, with_layouts):
    """Loads a SavedModel.

    Args:
        path: its folder.
        with_layouts: whether layouts are computed too, where it has them.

    Returns:
        A function from `z` float32 (images, latent_dim) and `label` int32 (images,) to arrays by name: `images` in
        [-1, 1], and `layouts`, `layouts_2`, ...; latent_dim; and whether there are layouts among them.

    Raises:
        SampleError: where it cannot be loaded, or has another signature.
    """
    cpu.choose_kernels()
    import tensorflow as tf

    if not tf.config.get_visible_devices("GPU"):
        cpu.keep_freed_memory()
    try:
        signatures = tf.saved_model.load(path).signatures
        signature = signatures["layouts" if with_layouts and "layouts" in signatures else "serving_default"]
        latent_dim = int(signature.structured_input_signature[1]["z"].shape[1])
        outputs = signature.structured_outputs
    except (OSError, ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        raise SampleError(
            f"--saved_model={path} does not load as a generator: {type(error).__name__} {error}"
        ) from error

    def serve(z, label):
        found = signature(z=tf.constant(z, tf.float32), label=tf.constant(label, tf.int32))
        return {name: value.numpy() for name, value in found.items()}

    return serve, latent_dim, "layouts" in outputs


def draw_latents(indices, latent_dim, seed, truncation):
    """Latents by their number: float32 (indices, latent_dim), each a function of its index and the flags alone."""
    from tools.exporting.latents import draw_latent

    keys = np.array([(seed, index) for index in indices], np.int64)
    return np.stack([draw_latent(key, truncation, latent_dim) for key in keys])


def interpolated(first, last, steps):
    """Spherical interpolation: float32 (steps, latent_dim) from `first` to `last`; straight where they are aligned."""
    first, last, along = first.astype(np.float64), last.astype(np.float64), np.linspace(0.0, 1.0, steps)[:, None]
    cosine = first @ last / max(np.linalg.norm(first) * np.linalg.norm(last), 1e-12)
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if math.sin(angle) < 1e-6:
        return ((1.0 - along) * first + along * last).astype(np.float32)
    weights = np.sin((1.0 - along) * angle), np.sin(along * angle)
    return ((weights[0] * first + weights[1] * last) / math.sin(angle)).astype(np.float32)
