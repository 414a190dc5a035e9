"""Reads the generator of a checkpoint of the authors' released inpainting code.

The checkpoint is TensorFlow 1's, of the released training script: variables `inpaint_net/conv1/kernel`, ...; those of
its optimizer and of its discriminator are left out. The generator computes what the released one does with
self-sampling off. The released code draws positions at inference too: where training has moved `inpaint_net/sn/alpha`
from 0, its results vary from run to run around these.
"""

import collections
import os
import re

import numpy as np
import tensorflow as tf
from absl import logging

from tools.exporting.exports import ExportError
from trainers.configs import folder_names

SCOPE = "inpaint_net/"
_PREFIXES = {"coarse": "", "dilated": "x", "attentive": "s", "fused": "f"}
# By the name of the layer's weight: the name under `inpaint_net/sn/`, and the sides of length 1 before our shape.
_ATTENTION = {
    "entities": ("mask_filters", 2),
    "key_kernel": ("sn_key_conv/kernel", 2),
    "key_bias": ("sn_key_conv/bias", 0),
    "query_kernel": ("sn_query_conv/kernel", 2),
    "query_bias": ("sn_query_conv/bias", 0),
    "sampling_weight": ("alpha", 3),
    "value_kernel": ("sn_value_conv/kernel", 2),
    "value_bias": ("sn_value_conv/bias", 0),
    "residual_weight": ("sigma", 1),
}
_SHOWN = 8


def read(path):
    """The released generator with the values of a checkpoint.

    Args:
        path: of a checkpoint, or of the folder of one, whose file `checkpoint` names the newest.

    Returns:
        `keras.Model`, the checkpoint's own path, and the arguments of `build_generator` by name.

    Raises:
        ExportError: where there is none, or it does not hold the released generator.
    """
    checkpoint = find_checkpoint(path)
    values = read_generator(checkpoint)
    sizes = {
        "g_cnum": _last_side(values, "conv1/kernel", checkpoint),
        "num_entities": _last_side(values, "sn/mask_filters", checkpoint),
    }
    generator = build_generator(**sizes)
    assign(generator, values, checkpoint)
    logging.info(
        "%s holds a released generator: g_cnum %d, %d entities, %d variables.", checkpoint, *sizes.values(), len(values)
    )
    return generator, checkpoint, sizes


def find_checkpoint(path):
    """The path of the checkpoint itself; raises ExportError where there is none that TensorFlow reads."""
    folder_names.check("--checkpoint", path, ExportError)
    checkpoint = path
    if os.path.isdir(path):
        state = tf.train.get_checkpoint_state(path)
        if state is None:
            raise ExportError(f"--checkpoint={path} is a folder without a file `checkpoint` that names one.")
        checkpoint = state.model_checkpoint_path
    if not os.path.isfile(checkpoint + ".index"):
        # A file `checkpoint` may name the place where the checkpoint was made.
        raise ExportError(
            f"--checkpoint={path}: there is no {checkpoint}.index. Name a checkpoint as DIR/snap-1000, or its folder."
        )
    return checkpoint


def read_generator(checkpoint):
    """Reads what a checkpoint holds of the generator, and counts the rest in one line of the log.

    Args:
        checkpoint: path.

    Returns:
        Arrays by name, without the scope and without the optimizer's slots.

    Raises:
        ExportError: where it cannot be read, or holds nothing of the generator.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        kinds = {name: _kind(name) for name in reader.get_variable_to_shape_map()}
        values = {
            name[len(SCOPE) :]: reader.get_tensor(name) for name, kind in sorted(kinds.items()) if kind == "generator"
        }
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise ExportError(f"--checkpoint={checkpoint} cannot be read: {error}") from error
    if not values:
        raise ExportError(
            f"--checkpoint={checkpoint} is none of the released inpainting code: it holds no variable {SCOPE}..."
        )
    ignored = collections.Counter(kind for kind in kinds.values() if kind != "generator")
    if ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common())
        logging.info("Ignored %d variables that are not the generator's: %s.", sum(ignored.values()), counts)
    return values


def _kind(name):
    """`generator`, or what else the variable is, for the log."""
    if not name.startswith(SCOPE):
        return name.split("/")[0]
    return "optimizer slots" if re.search(r"/Adam(_\d+)?$", name) else "generator"


def _last_side(values, name, checkpoint):
    """A size that the checkpoint tells by the shape of a kernel."""
    if name not in values:
        raise ExportError(f"--checkpoint={checkpoint} lacks {SCOPE}{name}, which tells the generator's size.")
    shape = values[name].shape
    if len(shape) != 4 or (name == "conv1/kernel" and shape[-1] % 2):
        rule = "an even number of filters" if len(shape) == 4 else "4 dimensions"
        raise ExportError(f"{SCOPE}{name} in --checkpoint={checkpoint} must have {rule}. Received: shape {shape}")
    return shape[-1]


def build_generator(g_cnum, num_entities):
    """The generator whose arithmetic is the released code's."""
    from keras_an.models import inpainting_generator

    options = {"seed": 0}  # without one, the written weights hold another seed each time
    return inpainting_generator(g_cnum, num_entities=num_entities, attentive_options=options, statistics="released")


def assign(generator, values, checkpoint):
    """Gives the generator the values of a checkpoint.

    Args:
        generator: `keras.Model` of `build_generator`.
        values: arrays by name, of `read_generator`.
        checkpoint: its path, for errors.

    Raises:
        ExportError: where a variable is missing, too many, of another shape or type, or not finite.
    """
    variables = released_variables(generator)
    faults = [f"{SCOPE}{name} is missing" for name in sorted(set(variables) - set(values))]
    faults += [f"{SCOPE}{name} is none of the generator's" for name in sorted(set(values) - set(variables))]
    for name, (_, shape) in variables.items():
        value = values.get(name)
        if value is not None and (value.shape, value.dtype) != (shape, np.float32):
            faults.append(f"{SCOPE}{name} is {value.dtype} {value.shape}, not float32 {shape}")
        elif value is not None and not np.isfinite(value).all():
            faults.append(f"{SCOPE}{name} is not finite")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ExportError(
            f"--checkpoint={checkpoint} must hold the variables of the released generator, finite and no others. "
            f"Received {len(faults)} faults: {'; '.join(faults[:_SHOWN])}{more}."
        )
    for name, (variable, _) in variables.items():
        value = values[name]
        variable.assign(value[0, 0].T if name == "sn/mask_filters" else value.reshape(tuple(variable.shape)))


def released_variables(generator):
    """The generator's variables and the shapes that the released code gives them, by its names without the scope."""
    variables = {}
    for layer in generator.layers:
        if layer.name == "attentive_attention":
            for weight, (name, sides) in _ATTENTION.items():
                variable = getattr(layer, weight)
                # Entities are rows here and columns there.
                shape = tuple(variable.shape)[:: -1 if weight == "entities" else 1]
                variables[f"sn/{name}"] = variable, (1,) * sides + shape
        elif layer.weights:
            for weight in ("kernel", "bias"):
                variable = getattr(layer, weight)
                variables[f"{_released_name(layer.name)}/{weight}"] = variable, tuple(variable.shape)
    return variables


def _released_name(layer_name):
    """`xconv7_atrous` for `dilated_conv7`."""
    branch, number = layer_name.split("_conv")
    name = f"{_PREFIXES[branch]}conv{number}"
    if number in ("13", "15"):
        return f"{name}_upsample/{name}_upsample_conv"
    if number in ("2", "4"):
        return f"{name}_downsample"
    return f"{name}_atrous" if number in ("7", "8", "9", "10") and branch != "attentive" else name
