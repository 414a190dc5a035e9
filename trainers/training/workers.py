"""The processes that train together."""

import tensorflow as tf


def has_several_workers(strategy):
    """Whether other processes, too, may train under a `tf.distribute.Strategy`."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


class Workers:
    """The processes that train together.

    Args:
        strategy: `tf.distribute.Strategy`.

    Attributes:
        count: integer.
        number: integer, of this process.
        is_chief: whether this process writes checkpoints, summaries and pictures.
    """

    def __init__(self, strategy):
        self.count, self.number = 1, 0
        if has_several_workers(strategy):
            resolver = strategy.cluster_resolver
            tasks = resolver.cluster_spec().as_dict()
            self.count = sum(len(tasks.get(kind, ())) for kind in ("chief", "worker"))
            chiefs = len(tasks.get("chief", ()))
            self.number = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
        self.is_chief = self.number == 0
        self._mean = tf.function(
            lambda values: strategy.reduce("mean", strategy.run(tf.identity, args=(values,)), axis=None)
        )

    def mean(self, *values):
        """The means of numbers over all workers, as a list; every worker must call it."""
        if self.count == 1:
            return list(values)
        return self._mean(tf.constant(values, tf.float64)).numpy().tolist()
