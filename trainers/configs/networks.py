"""The networks that a configuration describes."""

import dataclasses

from keras_an import models
from keras_an.backend import keras


def build_networks(params):
    """The generator and the discriminator that `params` describes.

    Args:
        params: `schema.ExperimentConfig`.

    Returns:
        Two `keras.Model`.
    """
    model = params.task.model
    generator = models.residual_generator(latent_dim=model.latent_dim, **_arguments(params, model.generator))
    return generator, models.projection_discriminator(**_arguments(params, model.discriminator))


def _arguments(params, network):
    """What both networks take, from the groups that they share and their own."""
    model, arguments = params.task.model, dataclasses.asdict(network)
    options = {"orthogonal_weight": params.task.losses.orthogonal_weight, "seed": params.runtime.seed}
    stddev = arguments.pop("entity_stddev")
    if stddev is not None:
        options["entity_initializer"] = keras.initializers.RandomNormal(stddev=stddev, seed=params.runtime.seed)
    return {
        "resolution": model.resolution,
        "num_classes": model.num_classes,
        "image_channels": model.image_channels,
        "attention": model.attention,
        "attentive_options": options,
        **arguments,
    }
