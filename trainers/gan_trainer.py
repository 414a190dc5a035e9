"""One step of the class-conditional GAN: plumbing between networks, losses and optimizers."""

import tensorflow as tf

from keras_an.backend import keras
from keras_an.losses import discriminator_hinge_loss, generator_hinge_loss
from trainers import augmentation, cost
from trainers.configs.networks import build_networks

METRICS = ("discriminator_loss", "generator_loss", "discriminator_real", "discriminator_fake", "orthogonality_loss")

# What a draw is for; with the seed, the step, the replica and the batch's number it is the key of the draw.
_DISCRIMINATOR, _GENERATOR, _AUGMENTATION = 0, 1, 2


class GanTrainer:
    """The state of a class-conditional hinge GAN and its training step.

    Args:
        params: `schema.ExperimentConfig`.
        strategy: `tf.distribute.Strategy`.
    """

    def __init__(self, params, strategy):
        self.params = params
        self.strategy = strategy
        with strategy.scope():
            self.generator, self.discriminator = build_networks(params)
            # Evaluation, samples and export use this running average of the generator's weights.
            self.ema_generator, _ = build_networks(params)
            for average, variable in zip(self.ema_generator.variables, self.generator.variables):
                average.assign(variable)
            self.generator_optimizer = _adam(params.trainer.generator_optimizer, self.generator)
            self.discriminator_optimizer = _adam(params.trainer.discriminator_optimizer, self.discriminator)
            self.step = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=_ONLY_FIRST, name="step")
        # Only losses and gradients are compiled: a strategy's variables cannot be updated inside an XLA program.
        compiled = tf.function(jit_compile=True) if params.runtime.enable_xla else tf.function
        self._discriminator_gradients = compiled(self._discriminator_gradients)
        self._generator_gradients = compiled(self._generator_gradients)

    @property
    def batches_per_step(self):
        """Batches of real images that one step takes on every replica."""
        return self.params.trainer.discriminator_steps * self.params.trainer.gradient_accumulation_steps

    @property
    def images_per_step(self):
        """Real images that one step takes, over all replicas."""
        return self.params.task.train_data.global_batch_size * self.batches_per_step

    def describe(self):
        """What the networks cost, as a Markdown table."""
        return cost.describe({"generator": self.generator, "discriminator": self.discriminator})

    def checkpoint_items(self):
        """Everything that a resumed run needs, by name, for `tf.train.Checkpoint`."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema_generator": self.ema_generator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "step": self.step,
        }

    @tf.function
    def train(self, iterator, num_steps):
        """Takes `num_steps` steps.

        Args:
            iterator: of the distributed training data.
            num_steps: int32 scalar tensor.

        Returns:
            Means over steps and replicas, float32 scalars by the names in `METRICS`.
        """
        totals = tf.zeros((len(METRICS),))
        for _ in tf.range(num_steps):
            batches = [next(iterator) for _ in range(self.batches_per_step)]
            values = self.strategy.run(self._replica_step, args=(batches,))
            totals += self.strategy.reduce("mean", values, axis=None)
            self._update_average()
            self.step.assign_add(1)
        return dict(zip(METRICS, tf.unstack(totals / tf.cast(num_steps, tf.float32))))

    def _replica_step(self, batches):
        size = self.params.trainer.gradient_accumulation_steps
        for first in range(0, len(batches), size):
            discriminator, gradients = _mean_of(
                self._discriminator_batch(batches[index], index) for index in range(first, first + size)
            )
            self.discriminator_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_variables))
        generator, gradients = _mean_of(self._generator_batch(batches[index], index) for index in range(size))
        self.generator_optimizer.apply_gradients(zip(gradients, self.generator.trainable_variables))
        return tf.stack(
            [
                discriminator["loss"],
                generator["loss"],
                discriminator["real"],
                discriminator["fake"],
                discriminator["orthogonality"] + generator["orthogonality"],
            ]
        )

    def _discriminator_batch(self, batch, index):
        z, fake_labels = self._draw(batch["label"], _DISCRIMINATOR, index)
        draws = self._augmentation_draws(2 * tf.shape(z)[0], index)
        return self._discriminator_gradients(batch["image"], batch["label"], z, fake_labels, draws)

    def _generator_batch(self, batch, index):
        z, labels = self._draw(batch["label"], _GENERATOR, index)
        draws = self._augmentation_draws(tf.shape(z)[0], self.batches_per_step + index)
        return self._generator_gradients(z, labels, draws)

    def _discriminator_gradients(self, images, labels, z, fake_labels, draws):
        fakes = self.generator([z, fake_labels], training=True)
        images, labels = tf.concat([images, fakes], axis=0), tf.concat([labels, fake_labels], axis=0)
        images = augmentation.augment(images, self.params.task.augmentation, draws)
        with tf.GradientTape() as tape:
            logits = self.discriminator([images, labels], training=True)
            real, fake = tf.split(logits, 2)
            loss = discriminator_hinge_loss(real, fake)
            orthogonality = _sum(self.discriminator.losses)
            # Optimizers add up the gradients of the replicas.
            scaled = (loss + orthogonality) / self.strategy.num_replicas_in_sync
        gradients = tape.gradient(scaled, self.discriminator.trainable_variables)
        real, fake = tf.reduce_mean(real), tf.reduce_mean(fake)
        return {"loss": loss, "real": real, "fake": fake, "orthogonality": orthogonality}, gradients

    def _generator_gradients(self, z, labels, draws):
        with tf.GradientTape() as tape:
            fakes = self.generator([z, labels], training=True)
            fakes = augmentation.augment(fakes, self.params.task.augmentation, draws)
            loss = generator_hinge_loss(self.discriminator([fakes, labels], training=True))
            orthogonality = _sum(self.generator.losses)
            scaled = (loss + orthogonality) / self.strategy.num_replicas_in_sync
        gradients = tape.gradient(scaled, self.generator.trainable_variables)
        return {"loss": loss, "orthogonality": orthogonality}, gradients

    def _key(self, purpose, index):
        """The key of a draw by seed, step, replica, purpose and number: the same in a resumed run."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        key = tf.stack([tf.constant(self.params.runtime.seed, tf.int64), self.step])
        for part in (replica, purpose, index):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(part, tf.int64), alg="philox")
        return key

    def _draw(self, real_labels, purpose, index):
        """Latent vectors, and labels of generated images, as many as `real_labels`."""
        key, model, size = self._key(purpose, index), self.params.task.model, tf.shape(real_labels)[:1]
        z = tf.random.stateless_normal((size[0], model.latent_dim), key, alg="philox")
        if model.fake_labels == "natural":
            return z, real_labels
        return z, tf.random.stateless_uniform(size, key, 0, model.num_classes, dtype=tf.int32, alg="philox")

    def _augmentation_draws(self, num_images, index):
        return augmentation.draw(self.params.task.augmentation, num_images, self._key(_AUGMENTATION, index))

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


_ONLY_FIRST = tf.VariableAggregation.ONLY_FIRST_REPLICA


def _adam(config, model):
    optimizer = keras.optimizers.Adam(config.learning_rate, config.beta_1, config.beta_2, config.epsilon)
    optimizer.build(model.trainable_variables)
    return optimizer


def _sum(losses):
    return tf.add_n(losses) if losses else tf.constant(0.0)


def _mean_of(results):
    """The means of metrics and gradients over batches, from pairs of a dictionary and a list."""
    results = list(results)
    return (
        tf.nest.map_structure(lambda *values: tf.add_n(values) / len(values), *results) if results[1:] else results[0]
    )
