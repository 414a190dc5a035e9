"""What the trainers share: the averaged generator, the loop over steps, keys of draws, optimizers."""

import contextlib
import math

import tensorflow as tf

from keras_an.backend import apply_scaled_gradients, keras, loss_scale
from trainers.training import optimizers, warm_start
from trainers.training.workers import has_several_workers

_ONLY_FIRST = tf.VariableAggregation.ONLY_FIRST_REPLICA


class Trainer:
    """A generator with its optimizer, its running average and the step; see `gan_trainer`, `inpainting_trainer`.

    Args:
        params: `schema.ExperimentConfig` or `schema.InpaintingConfig`.
        strategy: `tf.distribute.Strategy`.
        build_generator: function that gives a new generator.
    """

    # Attributes, by the group of `trainer` that describes them.
    optimizers = {"generator": "generator_optimizer", "discriminator": "discriminator_optimizer"}
    phase_ends = ()  # steps at which what a step does changes; the loop asks for no steps across one

    def __init__(self, params, strategy, build_generator):
        self.params = params
        self.strategy = strategy
        with strategy.scope():
            self.generator = build_generator()
        # Evaluation, samples and export use this running average of the generator's weights. Of several workers the
        # chief alone evaluates, and must not wait for the others when it reads a variable.
        with contextlib.nullcontext() if has_several_workers(strategy) else strategy.scope():
            self.ema_generator = build_generator()
        with strategy.scope():
            for average, variable in zip(self.ema_generator.variables, self.generator.variables):
                average.assign(variable)
            self.generator_optimizer = self.optimizer(params.trainer.generator_optimizer, self.generator)
            self.step = _counter("step")
            # What a recovery from a loss that was not finite leaves out.
            self.skipped_batches = _counter("skipped_batches")

    @property
    def images_per_step(self):
        """Real images that the next step takes, over all replicas."""
        step = integer(self.step)
        num_batches = self.batches_before(step + 1) - self.batches_before(step)
        return self.params.task.train_data.global_batch_size * num_batches

    def checkpoint_items(self):
        """Everything that a resumed run needs, by name, for `tf.train.Checkpoint`."""
        return {
            "generator": self.generator,
            "ema_generator": self.ema_generator,
            "generator_optimizer": self.generator_optimizer,
            "step": self.step,
            "skipped_batches": self.skipped_batches,
        }

    def start_from_another(self, model_dir):
        """Takes the weights of `task.init_checkpoint`, where there is one and the run has no checkpoint of its own.

        Raises:
            ValueError: where they do not fit; see `warm_start`.
        """
        items = {name: item for name, item in self.checkpoint_items().items() if isinstance(item, keras.Model)}
        with self.strategy.scope():
            warm_start.start(self.params, items, model_dir)

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
        # AutoGraph need not rewrite what a step calls: that is a second of each start.
        replica_step = tf.autograph.experimental.do_not_convert(replica_step)
        for _ in tf.range(num_steps):
            batches = [next(iterator) for _ in range(num_batches)]
            values = self.strategy.run(replica_step, args=(batches,))
            totals += self.strategy.reduce("mean", values, axis=None)
            self._update_average()
            self.step.assign_add(1)
        return dict(zip(names, tf.unstack(totals / tf.cast(num_steps, tf.float32))))

    def compiled(self, function):
        """`function` of losses and gradients as a graph that is traced once, by XLA where the configuration says so.

        Nothing else is compiled: a strategy's variables cannot be updated inside an XLA program. Without XLA several
        replicas call `function` itself, since within a graph of its own batch norm could not meet that of others.
        """
        if self.params.runtime.enable_xla:
            return tf.function(function, jit_compile=True, autograph=False)
        return function if self.strategy.num_replicas_in_sync > 1 else tf.function(function, autograph=False)

    def draw(self, function, purpose, index, num_images):
        """This replica's share of random numbers: replicas draw together what one alone would for all of their images.

        Args:
            function: from a number of images and a key of `tf.random.stateless_uniform` to tensors `(images, ...)`.
            purpose: integer, what the draw is for.
            index: integer, the number of the draw for this purpose within a step.
            num_images: integer scalar tensor, images of this replica.

        Returns:
            What `function` gives, `num_images` of each. It depends on the seed, the step, purpose and index alone: it
            is the same in a resumed run, and with fewer replicas of more images each.
        """
        key = tf.stack([tf.constant(self.params.runtime.seed, tf.int64), tf.convert_to_tensor(self.step)])
        for part in (purpose, index):
            key = tf.random.experimental.stateless_fold_in(key, tf.constant(part, tf.int64), alg="philox")
        drawn = function(num_images * self.strategy.num_replicas_in_sync, key)
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * num_images
        return tf.nest.map_structure(lambda values: values[first : first + num_images], drawn)

    def set_learning_rates(self):
        """Gives the optimizers the configuration's learning rates: a checkpoint holds those of its time."""
        for name in ("generator", "discriminator"):
            config = getattr(self.params.trainer, f"{name}_optimizer")
            optimizer = getattr(self, self.optimizers[name])
            if config.is_constant:
                with self.strategy.scope():
                    optimizer.learning_rate = config.learning_rate

    def learning_rates(self):
        """The learning rates now, floats by network."""
        found = {}
        for name, attribute in self.optimizers.items():
            optimizer = getattr(self, attribute)
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # under loss scaling
            rate = optimizer.learning_rate
            found[name] = float(tf.convert_to_tensor(rate(optimizer.iterations) if callable(rate) else rate))
        return found

    def optimizer(self, config, *models):
        """What `schema.OptimizerConfig` describes, for the weights of the models; with loss scaling under float16."""
        variables = [variable for model in models for variable in model.trainable_variables]
        return optimizers.make(config, variables, self.params.trainer.ema_decay, self._scales_losses)

    def factor(self, optimizer):
        """What a replica multiplies its loss by: optimizers add up the replicas' gradients; and the loss scale."""
        share = 1.0 / self.strategy.num_replicas_in_sync
        return share * loss_scale(optimizer) if self._scales_losses else tf.constant(share)

    def apply_gradients(self, optimizer, gradients, variables):
        """Applies gradients of losses times `factor`, on all replicas or on none."""
        if not self._scales_losses:
            optimizer.apply_gradients(zip(gradients, variables))
            return
        # Keras asks each replica alone whether its gradients are finite, before they are added up.
        bad = tf.reduce_any([tf.reduce_any(~tf.math.is_finite(gradient)) for gradient in gradients])
        bad = tf.distribute.get_replica_context().all_reduce("sum", tf.cast(bad, tf.float32)) > 0
        gradients = [tf.where(bad, tf.constant(math.nan, gradient.dtype), gradient) for gradient in gradients]
        apply_scaled_gradients(optimizer, gradients, variables)

    @property
    def _scales_losses(self):
        return self.params.runtime.mixed_precision_dtype == "float16"

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


def norm_of(gradients, factor):
    """The norm of the gradients of a loss, from those of the loss times `factor`."""
    return tf.linalg.global_norm(gradients) / factor


def integer(variable):
    """The value of a scalar variable: a mirrored one has no `int()`."""
    return int(tf.convert_to_tensor(variable))


def _counter(name):
    return tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=_ONLY_FIRST, name=name)


def sum_of(losses):
    """The sum of a list of scalars, 0 where it is empty."""
    return tf.add_n(losses) if losses else tf.constant(0.0)


def mean_of(results):
    """The means of metrics and gradients over batches, from pairs of a dictionary and a list."""
    results = list(results)
    return (
        tf.nest.map_structure(lambda *values: tf.add_n(values) / len(values), *results) if results[1:] else results[0]
    )
