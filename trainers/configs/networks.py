"""The networks that a configuration describes, and the weights that a run's checkpoints hold."""

import dataclasses

import tensorflow as tf

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


class CheckpointError(ValueError):
    """There is no such checkpoint, or it holds other networks."""


def find_checkpoint(model_dir, checkpoint=None):
    """The path of a checkpoint that is there.

    Args:
        model_dir: folder of a run.
        checkpoint: path of a checkpoint, or None for the newest of the run.

    Raises:
        CheckpointError: where there is none.
    """
    checkpoint = checkpoint or tf.train.latest_checkpoint(model_dir)
    if not checkpoint or not tf.io.gfile.glob(checkpoint + ".index"):
        raise CheckpointError(f"There is no checkpoint {checkpoint or f'in --model_dir={model_dir}'}. Train first.")
    return checkpoint


def restore_generator(params, checkpoint, use_ema=True):
    """The generator of a run with the weights of a checkpoint.

    Args:
        params: `schema.ExperimentConfig` of the run.
        checkpoint: path.
        use_ema: whether to take the averaged weights.

    Raises:
        CheckpointError: where the checkpoint's weights are not those of the configuration.
    """
    generator, _ = build_networks(params)
    name = "ema_generator" if use_ema else "generator"
    try:
        status = tf.train.Checkpoint(**{name: generator}).restore(checkpoint)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise CheckpointError(f"{checkpoint} does not hold the networks of its run's params.yaml: {error}") from error
    return generator


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
