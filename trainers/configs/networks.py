"""The networks that a configuration describes."""

from keras_an import models


def build_networks(params):
    """The generator and the discriminator that `params` describes.

    Args:
        params: `schema.ExperimentConfig`.

    Returns:
        Two `keras.Model`.
    """
    model, seed = params.task.model, params.runtime.seed
    common = {
        "resolution": model.resolution,
        "num_classes": model.num_classes,
        "image_channels": model.image_channels,
        "orthogonal_weight": params.task.losses.orthogonal_weight,
        "seed": seed,
    }
    generator = models.residual_generator(latent_dim=model.latent_dim, **common, **vars(model.generator))
    discriminator = models.projection_discriminator(**common, **vars(model.discriminator))
    return generator, discriminator
