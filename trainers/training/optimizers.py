"""The trainers' optimizers: Keras's Adam, and those of TensorFlow Addons where that can be imported."""

import importlib
import inspect

from keras_an.backend import keras
from trainers.configs.schema import ADDONS_OPTIMIZERS

_LAST_RATE = 0.01  # of the learning rate, where it decays


def make(config, variables, average_decay, scales_losses=False):
    """The optimizer that a configuration describes, with all of its variables.

    Args:
        config: `schema.OptimizerConfig`.
        variables: list of those that it will change.
        average_decay: of the "moving_average", which starts small as that of the averaged generator does.
        scales_losses: whether to scale losses, as float16 needs it.
    """
    rate = config.learning_rate
    if config.decay_steps:
        rate = keras.optimizers.schedules.CosineDecay(rate, config.decay_steps, alpha=_LAST_RATE)
    settings = rate, config.beta_1, config.beta_2, config.epsilon
    is_keras = config.type == "adam"
    optimizer = keras.optimizers.Adam(*settings) if is_keras else _addons(config.type, settings, average_decay)
    if scales_losses:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    # Addons' are of the class that Keras had up to version 2.10, whose `build` has another name.
    optimizer.build(variables) if is_keras else optimizer._create_all_weights(variables)
    return optimizer


def _addons(name, settings, average_decay):
    make = getattr(importlib.import_module("tensorflow_addons.optimizers"), ADDONS_OPTIMIZERS[name])
    if name == "lookahead":
        return make(keras.optimizers.legacy.Adam(*settings))
    if name == "moving_average":
        return make(keras.optimizers.legacy.Adam(*settings), average_decay, dynamic_decay=True)
    return make(*settings)


def variables_of(item):
    """The variables of a network or an optimizer, a list that is empty for anything else.

    Addons' optimizers have a method `variables`, which leaves out those of an optimizer within.
    """
    variables = getattr(item, "variables", ())
    return list(item.weights if inspect.ismethod(variables) else variables)
