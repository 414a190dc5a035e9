"""What the tests of both trainers share."""

import tensorflow as tf

from trainers.data import input_pipelines
from trainers.training import optimizers

ONE = tf.distribute.OneDeviceStrategy("CPU:0")


def batches_from(params, start_batch=0, strategy=ONE):
    data, resolution = params.task.train_data, params.task.model.resolution
    return iter(input_pipelines.training_dataset(strategy, data, resolution, params.runtime.seed, start_batch))


def values(variables):
    return [tf.convert_to_tensor(variable).numpy() for variable in variables]


def state(trainer):
    """All that a checkpoint holds, in order."""
    items = trainer.checkpoint_items()
    found = {}
    for name, item in items.items():
        variables = [item] if isinstance(item, tf.Variable) else optimizers.variables_of(item)
        found.update({f"{name}/{index}": value for index, value in enumerate(values(variables))})
    return found


def train(trainer, iterator, num_steps):
    return {name: float(value) for name, value in trainer.train(iterator, tf.constant(num_steps)).items()}
