"""One step of the class-conditional GAN: plumbing between networks, losses and optimizers."""

import tensorflow as tf

from keras_an.backend import keras
from keras_an.losses import discriminator_hinge_loss, generator_hinge_loss
from trainers.configs.networks import build_networks

METRICS = ("discriminator_loss", "generator_loss", "discriminator_real", "discriminator_fake", "orthogonality_loss")

# What a draw is for; with the seed, the step and the replica it is the key of the draw.
_DISCRIMINATOR, _GENERATOR = 0, 1


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
    def images_per_step(self):
        """Real images that one step takes, over all replicas."""
        return self.params.task.train_data.global_batch_size * self.params.trainer.discriminator_steps

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
            batches = [next(iterator) for _ in range(self.params.trainer.discriminator_steps)]
            values = self.strategy.run(self._replica_step, args=(batches,))
            totals += self.strategy.reduce("mean", values, axis=None)
            self._update_average()
            self.step.assign_add(1)
        return dict(zip(METRICS, tf.unstack(totals / tf.cast(num_steps, tf.float32))))

    def _replica_step(self, batches):
        for index, batch in enumerate(batches):
            z, fake_labels = self._draw(tf.shape(batch["label"])[0], _DISCRIMINATOR, index)
            discriminator, gradients = self._discriminator_gradients(batch["image"], batch["label"], z, fake_labels)
            self.discriminator_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_variables))
        z, fake_labels = self._draw(tf.shape(batches[0]["label"])[0], _GENERATOR, 0)
        generator, gradients = self._generator_gradients(z, fake_labels)
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

    def _discriminator_gradients(self, images, labels, z, fake_labels):
        fakes = self.generator([z, fake_labels], training=True)
        images, labels = tf.concat([images, fakes], axis=0), tf.concat([labels, fake_labels], axis=0)
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

    def _generator_gradients(self, z, labels):
        with tf.GradientTape() as tape:
            fakes = self.generator([z, labels], training=True)
            loss = generator_hinge_loss(self.discriminator([fakes, labels], training=True))
            orthogonality = _sum(self.generator.losses)
            scaled = (loss + orthogonality) / self.strategy.num_replicas_in_sync
        gradients = tape.gradient(scaled, self.generator.trainable_variables)
        return {"loss": loss, "orthogonality": orthogonality}, gradients

    def _draw(self, batch_size, purpose, index):
        """Latent vectors and labels, keyed by seed, step, replica and purpose: the same in a resumed run."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        key = tf.stack([tf.constant(self.params.runtime.seed, tf.int64), self.step])
        for part in (replica, purpose, index):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(part, tf.int64), alg="philox")
        model = self.params.task.model
        z = tf.random.stateless_normal((batch_size, model.latent_dim), key, alg="philox")
        labels = tf.random.stateless_uniform((batch_size,), key, 0, model.num_classes, dtype=tf.int32, alg="philox")
        return z, labels

    def _update_average(self):
        """Moves the averaged generator on; the decay starts small, as the first weights are worth little."""
        step = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.params.trainer.ema_decay, (1.0 + step) / (10.0 + step))
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
