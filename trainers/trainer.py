"""What the trainers share: the averaged generator, the loop over steps, keys of draws, optimizers."""

import tensorflow as tf

from keras_an.backend import keras

_ONLY_FIRST = tf.VariableAggregation.ONLY_FIRST_REPLICA


class Trainer:
    """A generator with its optimizer, its running average and the step; see `gan_trainer`, `inpainting_trainer`.

    Args:
        params: `schema.ExperimentConfig` or `schema.InpaintingConfig`.
        strategy: `tf.distribute.Strategy`.
        build_generator: function that gives a new generator.
    """

    phase_ends = ()  # steps at which what a step does changes; the loop asks for no steps across one

    def __init__(self, params, strategy, build_generator):
        self.params = params
        self.strategy = strategy
        with strategy.scope():
            self.generator = build_generator()
            # Evaluation, samples and export use this running average of the generator's weights.
            self.ema_generator = build_generator()
            for average, variable in zip(self.ema_generator.variables, self.generator.variables):
                average.assign(variable)
            self.generator_optimizer = adam(params.trainer.generator_optimizer, self.generator)
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=_ONLY_FIRST, name="step")

    @property
    def images_per_step(self):
        """Real images that the next step takes, over all replicas."""
        step = int(tf.convert_to_tensor(self.step))  # a mirrored variable has no int()
        num_batches = self.batches_before(step + 1) - self.batches_before(step)
        return self.params.task.train_data.global_batch_size * num_batches

    def checkpoint_items(self):
        """Everything that a resumed run needs, by name, for `tf.train.Checkpoint`."""
        return {
            "generator": self.generator,
            "ema_generator": self.ema_generator,
            "generator_optimizer": self.generator_optimizer,
            "step": self.step,
        }

    def run_steps(self, iterator, num_steps, names, num_batches, replica_step):
        """Takes steps, inside a `tf.function`.

        Args:
            iterator: of the distributed training data.
            num_steps: int32 scalar tensor.
            names: of the metrics.
            num_batches: integer, batches that a step takes.
            replica_step: function from a list of batches to float32 `(len(names),)`, run on each replica.

        Returns:
            Means over steps and replicas, float32 scalars by name.
        """
        totals = tf.zeros((len(names),))
        for _ in tf.range(num_steps):
            batches = [next(iterator) for _ in range(num_batches)]
            values = self.strategy.run(replica_step, args=(batches,))
            totals += self.strategy.reduce("mean", values, axis=None)
            self._update_average()
            self.step.assign_add(1)
        return dict(zip(names, tf.unstack(totals / tf.cast(num_steps, tf.float32))))

    def compiled(self, function):
        """`function` of losses and gradients as a graph, by XLA where the configuration says so.

        Nothing else is compiled: a strategy's variables cannot be updated inside an XLA program.
        """
        return tf.function(function, jit_compile=True) if self.params.runtime.enable_xla else tf.function(function)

    def key(self, purpose, index):
        """The key of a draw by seed, step, replica, purpose and number: the same in a resumed run."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        key = tf.stack([tf.constant(self.params.runtime.seed, tf.int64), self.step])
        for part in (replica, purpose, index):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(part, tf.int64), alg="philox")
        return key

    def _update_average(self):
        """Moves the averaged generator on; the decay starts small, as the first weights are worth little."""
        step = tf.cast(self.step, tf.float32)
        config = self.params.trainer
        decay = tf.minimum(config.ema_decay, (1.0 + step) / (10.0 + step))
        decay = tf.where(self.step < config.ema_start_step, 0.0, decay)
        for average, variable in zip(self.ema_generator.variables, self.generator.variables):
            value = tf.convert_to_tensor(variable)
            if value.dtype.is_floating:
                old = tf.convert_to_tensor(average)
                value = value + tf.cast(decay, value.dtype) * (old - value)
            average.assign(value)


def adam(config, *models):
    """Adam of `schema.OptimizerConfig`, built for the weights of the models."""
    optimizer = keras.optimizers.Adam(config.learning_rate, config.beta_1, config.beta_2, config.epsilon)
    optimizer.build([variable for model in models for variable in model.trainable_variables])
    return optimizer


def sum_of(losses):
    """The sum of a list of scalars, 0 where it is empty."""
    return tf.add_n(losses) if losses else tf.constant(0.0)


def mean_of(results):
    """The means of metrics and gradients over batches, from pairs of a dictionary and a list."""
    results = list(results)
    return (
        tf.nest.map_structure(lambda *values: tf.add_n(values) / len(values), *results) if results[1:] else results[0]
    )
