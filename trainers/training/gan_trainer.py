"""One step of the class-conditional GAN: plumbing between networks, losses and optimizers."""

import functools

import tensorflow as tf

from keras_an.losses import gradient_penalty
from trainers.configs.networks import build_networks
from trainers.data import augmentation
from trainers.monitoring import cost
from trainers.training.gan_losses import LOSSES
from trainers.training.trainer import Trainer, mean_of, norm_of, sum_of

METRICS = (
    "discriminator_loss",
    "generator_loss",
    "discriminator_real",
    "discriminator_fake",
    "discriminator_real_square",
    "discriminator_fake_square",
    "orthogonality_loss",
    "discriminator_gradient_norm",
    "generator_gradient_norm",
)

# What a draw is for.
_DISCRIMINATOR, _GENERATOR, _AUGMENTATION, _INTERPOLATION = 0, 1, 2, 3


class GanTrainer(Trainer):
    """The state of a class-conditional GAN and its training step.

    Args:
        params: `schema.ExperimentConfig`.
        strategy: `tf.distribute.Strategy`.

    Raises:
        ValueError: where replicas should share the moments of batch norm within an XLA program.
    """

    def __init__(self, params, strategy):
        model, replicas = params.task.model, strategy.num_replicas_in_sync
        if params.runtime.enable_xla and model.synchronized_batch_norm and replicas > 1:
            raise ValueError(
                f"An XLA program cannot wait for others: with {replicas} replicas `runtime.enable_xla` needs "
                "`task.model.synchronized_batch_norm=false`, each replica's own moments."
            )
        super().__init__(params, strategy, lambda: build_networks(params)[0])
        with strategy.scope():
            _, self.discriminator = build_networks(params)
            self.discriminator_optimizer = self.optimizer(params.trainer.discriminator_optimizer, self.discriminator)
        self._discriminator_loss, self._generator_loss = LOSSES[params.task.losses.type]
        self._discriminator_gradients = self.compiled(self._discriminator_gradients)
        self._generator_gradients = self.compiled(self._generator_gradients)

    @property
    def batches_per_step(self):
        """Batches of real images that one step takes on every replica."""
        return self.params.trainer.discriminator_steps * self.params.trainer.gradient_accumulation_steps

    def batches_before(self, step):
        """Batches that every replica has taken before this step."""
        return step * self.batches_per_step

    def describe(self):
        """What the networks cost, as a Markdown table."""
        return cost.describe({"generator": self.generator, "discriminator": self.discriminator})

    def checkpoint_items(self):
        """Everything that a resumed run needs, by name, for `tf.train.Checkpoint`."""
        return {
            **super().checkpoint_items(),
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
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
        return self.run_steps(iterator, num_steps, METRICS, self.batches_per_step, self._replica_step)

    def _replica_step(self, batches):
        size = self.params.trainer.gradient_accumulation_steps
        for first in range(0, len(batches), size):
            discriminator, gradients = mean_of(
                self._discriminator_batch(batches[index], index) for index in range(first, first + size)
            )
            self.apply_gradients(self.discriminator_optimizer, gradients, self.discriminator.trainable_variables)
        generator, gradients = mean_of(self._generator_batch(batches[index], index) for index in range(size))
        self.apply_gradients(self.generator_optimizer, gradients, self.generator.trainable_variables)
        return tf.stack(
            [
                discriminator["loss"],
                generator["loss"],
                discriminator["real"],
                discriminator["fake"],
                discriminator["real_square"],
                discriminator["fake_square"],
                discriminator["orthogonality"] + generator["orthogonality"],
                discriminator["gradient_norm"],
                generator["gradient_norm"],
            ]
        )

    def _discriminator_batch(self, batch, index):
        z, fake_labels = self._draw(batch["label"], _DISCRIMINATOR, index)
        size = tf.shape(z)[0]
        draws = [self._augmentation_draws(size, 2 * index + part) for part in range(2)]  # of real, of generated images
        draws = tf.concat(draws, axis=0)
        factor, places = self.factor(self.discriminator_optimizer), None
        if self._has_penalty:
            places = self.draw(_places, _INTERPOLATION, index, size)
        return self._discriminator_gradients(batch["image"], batch["label"], z, fake_labels, draws, factor, places)

    def _generator_batch(self, batch, index):
        z, labels = self._draw(batch["label"], _GENERATOR, index)
        draws = self._augmentation_draws(tf.shape(z)[0], 2 * self.batches_per_step + index)
        return self._generator_gradients(z, labels, draws, self.factor(self.generator_optimizer))

    def _discriminator_gradients(self, images, labels, z, fake_labels, draws, factor, places=None):
        fakes = self.generator([z, fake_labels], training=True)
        images, labels = tf.concat([images, fakes], axis=0), tf.concat([labels, fake_labels], axis=0)
        images = augmentation.augment(images, self.params.task.augmentation, draws)
        with tf.GradientTape() as tape:
            logits = self.discriminator([images, labels], training=True)
            real, fake = tf.split(logits, 2)
            loss = self._discriminator_loss(real, fake)
            if self._has_penalty:
                loss += self.params.task.losses.gradient_penalty * self._penalty(images, labels, places)
            orthogonality = sum_of(self.discriminator.losses)
            scaled = (loss + orthogonality) * factor
        gradients = tape.gradient(scaled, self.discriminator.trainable_variables)
        metrics = {
            "loss": loss,
            "real": tf.reduce_mean(real),
            "fake": tf.reduce_mean(fake),
            "real_square": tf.reduce_mean(tf.square(real)),
            "fake_square": tf.reduce_mean(tf.square(fake)),
            "orthogonality": orthogonality,
            "gradient_norm": norm_of(gradients, factor),
        }
        return metrics, gradients

    def _generator_gradients(self, z, labels, draws, factor):
        with tf.GradientTape() as tape:
            fakes = self.generator([z, labels], training=True)
            fakes = augmentation.augment(fakes, self.params.task.augmentation, draws)
            loss = self._generator_loss(self.discriminator([fakes, labels], training=True))
            orthogonality = sum_of(self.generator.losses)
            scaled = (loss + orthogonality) * factor
        gradients = tape.gradient(scaled, self.generator.trainable_variables)
        norm = norm_of(gradients, factor)
        return {"loss": loss, "orthogonality": orthogonality, "gradient_norm": norm}, gradients

    @property
    def _has_penalty(self):
        return self.params.task.losses.type == "wasserstein"

    def _penalty(self, images, labels, places):
        """The gradient penalty, between real images and generated ones, as images of the real ones' classes."""
        real, fake = tf.split(tf.cast(images, tf.float32), 2)
        between = real + places * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            logits = self.discriminator([between, tf.split(labels, 2)[0]], training=True)
        return gradient_penalty(tape.gradient(logits, between))

    def _draw(self, real_labels, purpose, index):
        """Latent vectors, and labels of generated images, as many as `real_labels`."""
        model = self.params.task.model

        def draw(num_images, key):
            # From one key, the bits of the first latents would be those of the labels.
            of_z, of_labels = tf.unstack(tf.random.experimental.stateless_split(key, 2, alg="philox"))
            z = tf.random.stateless_normal((num_images, model.latent_dim), of_z, alg="philox")
            labels = tf.random.stateless_uniform((num_images,), of_labels, 0, model.num_classes, tf.int32, alg="philox")
            return z, labels

        z, labels = self.draw(draw, purpose, index, tf.shape(real_labels)[0])
        return z, real_labels if model.fake_labels == "natural" else labels

    def _augmentation_draws(self, num_images, index):
        draw = functools.partial(augmentation.draw, self.params.task.augmentation)
        return self.draw(draw, _AUGMENTATION, index, num_images)


def _places(num_images, key):
    """Where between a real and a generated image the gradient penalty is taken."""
    return tf.random.stateless_uniform((num_images, 1, 1, 1), key, alg="philox")
