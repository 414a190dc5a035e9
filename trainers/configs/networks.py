"""The networks that a configuration describes, and the weights that a run's checkpoints hold."""

import contextlib
import dataclasses
import os

import tensorflow as tf

from keras_an import models
from keras_an.backend import keras
from trainers.configs import folder_names, other_keras
from trainers.configs.resolve import PARAMS_FILE, load_params


def build_networks(params):
    """The generator and the discriminator that `params` describes.

    Args:
        params: `schema.ExperimentConfig`.

    Returns:
        Two `keras.Model`.
    """
    model = params.task.model
    generator = models.residual_generator(
        latent_dim=model.latent_dim,
        # Alone, a replica's own moments cost less.
        synchronized=model.synchronized_batch_norm and tf.distribute.get_strategy().num_replicas_in_sync > 1,
        **_arguments(params, model.generator),
    )
    # The gradient penalty is a gradient through the discriminator: see `build_critics`.
    with _float32() if params.task.losses.type == "wasserstein" else contextlib.nullcontext():
        return generator, models.projection_discriminator(**_arguments(params, model.discriminator))


def build_inpainting_generator(params):
    """The generator that `params`, a `schema.InpaintingConfig`, describes."""
    model = params.task.model
    arguments = dataclasses.asdict(model.generator)
    stddev = arguments.pop("entity_stddev")
    options = _attentive_options(params, stddev)
    return models.inpainting_generator(image_channels=model.image_channels, attentive_options=options, **arguments)


def build_generator(params):
    """The generator that `params` of either application describes."""
    return build_inpainting_generator(params) if params.application == "inpainting" else build_networks(params)[0]


def build_critics(params):
    """The critics that `params`, a `schema.InpaintingConfig`, describes, in float32 under any precision policy.

    The gradient penalty is a gradient through them. In bfloat16 on a CPU, besides, the gradient of a 5x5 kernel
    on a 1 x 1 map, which small images leave at the end, holds whatever the memory held.

    Args:
        params: `schema.InpaintingConfig`.

    Returns:
        `keras.Model` by name: `global`, and `local` where all holes are rectangles, else `patch`.
    """
    model = params.task.model
    arguments = {
        "image_channels": model.image_channels,
        "attentive_options": _attentive_options(params, None),
        **dataclasses.asdict(model.critic),
    }
    with _float32():
        critics = {"global": models.global_critic(model.resolution, **arguments)}
        if params.task.masks.kinds == ["rectangle"]:
            return {**critics, "local": models.local_critic(params.task.masks.size, **arguments)}
        return {**critics, "patch": models.patch_critic(**arguments)}


@contextlib.contextmanager
def _float32():
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(policy)


class CheckpointError(ValueError):
    """There is no such checkpoint, or it holds other networks."""


def find_checkpoint(model_dir, checkpoint=None):
    """The path of a checkpoint that is there.

    Args:
        model_dir: folder of a run.
        checkpoint: path of a checkpoint, or None for the newest of the run.

    Raises:
        CheckpointError: where there is none, or TensorFlow cannot read from a folder of that name.
    """
    folder_names.check("--checkpoint" if checkpoint else "--model_dir", checkpoint or model_dir, CheckpointError)
    checkpoint = checkpoint or tf.train.latest_checkpoint(model_dir)
    if not checkpoint or not tf.io.gfile.glob(checkpoint + ".index"):
        raise CheckpointError(f"There is no checkpoint {checkpoint or f'in --model_dir={model_dir}'}. Train first.")
    return checkpoint


def restore_generator(params, checkpoint, use_ema=True):
    """The generator of a run with the weights of a checkpoint.

    Args:
        params: `schema.ExperimentConfig` of the run.
        checkpoint: path, of a checkpoint of either Keras.
        use_ema: whether to take the averaged weights.

    Raises:
        CheckpointError: where the checkpoint's weights are not those of the configuration.
    """
    generator = build_generator(params)
    _restore(checkpoint, {"ema_generator" if use_ema else "generator": generator})
    return generator


def restore_networks(params, checkpoint, names):
    """Networks of a run with the weights of a checkpoint, by their names in it.

    Args:
        params: `schema.ExperimentConfig` or `schema.InpaintingConfig` of the run.
        checkpoint: path, of a checkpoint of either Keras.
        names: of "ema_generator", "generator", and of a GAN "discriminator", of inpainting "global_critic", ....

    Raises:
        CheckpointError: where the checkpoint's weights are not those of the configuration.
    """
    if params.application == "inpainting":
        found = {f"{name}_critic": critic for name, critic in build_critics(params).items()}
        generator = build_inpainting_generator(params)
    else:
        generator, discriminator = build_networks(params)
        found = {"discriminator": discriminator}
    found.update({name: generator for name in names if name.endswith("generator")})
    found = {name: network for name, network in found.items() if name in names}
    _restore(checkpoint, found)
    return found


def _restore(checkpoint, networks):
    item = tf.train.Checkpoint(**networks)
    try:
        with other_keras.for_this_keras(checkpoint, item) as path:
            item.restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise CheckpointError(f"{checkpoint} does not hold the networks of its run's params.yaml: {error}") from error


def read_file(path):
    """The generator of a `.keras` file, a `.weights.h5` file whose network the file beside it tells, or a SavedModel.

    That file is `NAME.json` for `NAME.weights.h5`, of `to_json` of the same Keras, or else the `params.yaml` of a run.
    A SavedModel is the folder that `tools.export_saved_model` or `tools.convert_checkpoint` wrote; of a
    class-conditional generator it holds the network without spectral normalisation, with the kernels that it had.

    Raises:
        CheckpointError: where a file is missing or cannot be read, or the weights are those of another network.
    """
    if folder_names.is_saved_model(path):
        return _read_saved_model(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"There is no file {path}.")
    if path.endswith(".keras"):
        try:
            return keras.saving.load_model(path, compile=False)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{path} cannot be read as a .keras file of this Keras: {_one_line(error)}"
            ) from error
    folder, name = os.path.split(path)
    description = os.path.join(folder, name.removesuffix(".weights.h5") + ".json")
    params = os.path.join(folder, PARAMS_FILE)
    if os.path.isfile(description):
        model = _read_network(description)
    elif os.path.isfile(params):
        model = build_generator(load_params(params))
    else:
        raise CheckpointError(
            f"{path} does not tell its network. Put the run's params.yaml beside it, or what the model's to_json gave "
            f"as {os.path.basename(description)}."
        )
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} does not hold the weights of the network beside it: {_one_line(error)}"
        ) from error
    return model


def _read_saved_model(path):
    description = os.path.join(path, folder_names.NETWORK_FILE)
    if not os.path.isfile(description):
        raise CheckpointError(
            f"{path} is a SavedModel without {folder_names.NETWORK_FILE}, which tells its network: one of another "
            "tool, or of an earlier version of this one. Export its run again."
        )
    model = _read_network(description)
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    shapes = reader.get_variable_to_shape_map()
    for index, weight in enumerate(model.weights):
        name = f"weights/{index}/.ATTRIBUTES/VARIABLE_VALUE"
        if shapes.get(name) != list(weight.shape):
            raise CheckpointError(f"{path}: weight {index} must be {list(weight.shape)}. Received: {shapes.get(name)}")
        weight.assign(reader.get_tensor(name))
    return model


def _read_network(path):
    """A network, with its first weights, of what `to_json` gave."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return keras.models.model_from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read as a network of this Keras: {_one_line(error)}") from error


def _one_line(error, most=300):
    return " ".join(str(error).split())[:most]


def _arguments(params, network):
    """What both networks take, from the groups that they share and their own."""
    model, arguments = params.task.model, dataclasses.asdict(network)
    options = _attentive_options(params, arguments.pop("entity_stddev"))
    own = ("temperature", "self_sampling", "value_projection", "epsilon")
    options.update({name: arguments.pop(name) for name in own})
    start, multiplier = arguments.pop("residual_start"), arguments.pop("residual_multiplier")
    options["residual_multiplier"] = multiplier
    options["residual_initializer"] = keras.initializers.Constant(start / multiplier)
    return {
        "resolution": model.resolution,
        "num_classes": model.num_classes,
        "image_channels": model.image_channels,
        "attention": model.attention,
        "attentive_options": options,
        **arguments,
    }


def _attentive_options(params, entity_stddev):
    options = {"orthogonal_weight": params.task.losses.orthogonal_weight, "seed": params.runtime.seed}
    if entity_stddev is not None:
        options["entity_initializer"] = keras.initializers.RandomNormal(stddev=entity_stddev, seed=params.runtime.seed)
    return options
