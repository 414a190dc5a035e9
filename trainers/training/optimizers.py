"""The trainers' optimizers: Keras's, and those of TensorFlow Addons where that can be imported; and schedules."""

import importlib
import inspect

import tensorflow as tf

from keras_an.backend import adam_slots, keras
from trainers.configs.schema import ADDONS_OPTIMIZERS, KERAS_OPTIMIZERS

# Settings that each of Keras's takes, beside the rate.
_SETTINGS = {
    "adam": ("beta_1", "beta_2", "epsilon"),
    "adamw": ("beta_1", "beta_2", "epsilon", "weight_decay"),
    "sgd": ("momentum", "nesterov"),
    "rmsprop": ("rho", "momentum", "epsilon"),
}


class _Fused:
    """Before Adam: its update by TensorFlow's one kernel for it, which passes over everything once.

    The formula, the slots and the checkpoints are Keras's.
    """

    def update_step(self, gradient, variable, learning_rate=None):
        dtype = variable.dtype
        rate = self.learning_rate if learning_rate is None else learning_rate  # Keras 2 hands none over
        count = tf.cast(self.iterations + 1, dtype)
        momentum, velocity = adam_slots(self, variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), count),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), count),
            lr=tf.cast(rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )


class FusedAdam(_Fused, keras.optimizers.Adam):
    """`keras.optimizers.Adam`, faster."""


class FusedAdamW(_Fused, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, faster."""


class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises in a line to where another schedule then is, as Model Garden's `LinearWarmup`.

    Args:
        after: the schedule, or a float; it too counts from the first update.
        warmup_steps: positive integer, updates of the rise.
        warmup_learning_rate: float, where it begins.
    """

    def __init__(self, after, warmup_steps, warmup_learning_rate=0.0):
        super().__init__()
        self._after, self._warmup_steps, self._first = after, warmup_steps, warmup_learning_rate

    def __call__(self, step):
        last = self._after_at(self._warmup_steps)
        share = tf.cast(step, tf.float32) / self._warmup_steps
        return tf.where(share < 1.0, self._first + share * (last - self._first), self._after_at(step))

    def get_config(self):
        return {
            "after": self._after,
            "warmup_steps": self._warmup_steps,
            "warmup_learning_rate": self._first,
        }

    def _after_at(self, step):
        return self._after(step) if callable(self._after) else tf.constant(self._after)


def learning_rate(config):
    """The float or `keras.optimizers.schedules.LearningRateSchedule` of a `schema.OptimizerConfig`."""
    schedules, rate = keras.optimizers.schedules, config.learning_rate
    if config.decay_steps and config.schedule == "cosine":
        rate = schedules.CosineDecay(rate, config.decay_steps, alpha=config.alpha)
    elif config.decay_steps and config.schedule == "polynomial":
        rate = schedules.PolynomialDecay(rate, config.decay_steps, config.end_learning_rate, config.power)
    if config.warmup_steps:
        rate = LinearWarmup(rate, config.warmup_steps, config.warmup_learning_rate)
    return rate


def make(config, variables, average_decay, scales_losses=False):
    """The optimizer that a configuration describes, with all of its variables.

    Args:
        config: `schema.OptimizerConfig`.
        variables: list of those that it will change.
        average_decay: of the "moving_average", which starts small as that of the averaged generator does.
        scales_losses: whether to scale losses, as float16 needs it.
    """
    rate, is_keras = learning_rate(config), config.type in KERAS_OPTIMIZERS
    if is_keras:
        settings = {name: getattr(config, name) for name in _SETTINGS[config.type]}
        fused = {"adam": FusedAdam, "adamw": FusedAdamW}
        optimizer_class = fused.get(config.type) or getattr(keras.optimizers, KERAS_OPTIMIZERS[config.type])
        optimizer = optimizer_class(rate, **settings)
    else:
        optimizer = _addons(config.type, (rate, config.beta_1, config.beta_2, config.epsilon), average_decay)
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
