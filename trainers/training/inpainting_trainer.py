"""One step of inpainting: plumbing between generator, critics, losses and optimizers."""

import functools

import tensorflow as tf

from keras_an.losses import (
    critic_wasserstein_loss,
    generator_wasserstein_loss,
    gradient_penalty,
    l1_loss,
    spatial_discount,
)
from trainers.configs.networks import build_critics, build_inpainting_generator
from trainers.data import masks
from trainers.monitoring import cost
from trainers.training.trainer import Trainer, integer, mean_of, norm_of, sum_of
from trainers.training.vgg_features import IdMrf

RECONSTRUCTION_METRICS = (
    "generator_loss",
    "hole_l1",
    "known_l1",
    "orthogonality_loss",
    "mask_coverage",
    "mask_coverage_least",
    "mask_coverage_most",
    "generator_gradient_norm",
)
ADVERSARIAL_METRICS = (
    *RECONSTRUCTION_METRICS,
    "generator_adversarial",
    "critic_loss",
    "critic_real",
    "critic_fake",
    "critic_real_square",
    "critic_fake_square",
    "gradient_penalty",
    "critic_gradient_norm",
)

# What a draw is for.
_CRITIC, _GENERATOR, _INTERPOLATION = 0, 1, 2


class InpaintingTrainer(Trainer):
    """The state of the inpainting networks and their training step.

    The first `trainer.pretrain_steps` train the generator by reconstruction alone; after that each step is
    `trainer.discriminator_steps` updates of the critics (WGAN-GP), then one of the generator, each on images and holes
    of its own.

    Args:
        params: `schema.InpaintingConfig`.
        strategy: `tf.distribute.Strategy`.

    Raises:
        ValueError: where the folder of masks or the weights of VGG-19 are not as they must be.
    """

    optimizers = {"generator": "generator_optimizer", "discriminator": "critic_optimizer"}

    def __init__(self, params, strategy):
        super().__init__(params, strategy, lambda: build_inpainting_generator(params))
        with strategy.scope():
            self.critics = build_critics(params)
            self.critic_optimizer = self.optimizer(params.trainer.discriminator_optimizer, *self.critics.values())
            self._id_mrf = IdMrf(params.task.losses.vgg_weights) if params.task.losses.vgg_weights else None
        self._folder = None
        if "folder" in params.task.masks.kinds:
            config = params.task.masks
            self._folder = masks.load_folder(config.path, params.task.model.resolution, config.invert)
        self.phase_ends = (params.trainer.pretrain_steps,)
        self._critic_gradients = self.compiled(self._critic_gradients)
        self._generator_gradients = self.compiled(self._generator_gradients)

    def batches_before(self, step):
        """Batches that every replica has taken before this step."""
        config = self.params.trainer
        reconstruction = min(step, config.pretrain_steps)
        each = config.gradient_accumulation_steps
        return each * (reconstruction + (step - reconstruction) * (config.discriminator_steps + 1))

    def describe(self):
        """What the networks cost, as a Markdown table."""
        size = self.params.task.model.resolution
        critics = {f"{name} critic": critic for name, critic in self.critics.items()}
        sizes = {name: self.params.task.masks.size if name == "local critic" else size for name in critics}
        return cost.describe({"generator": self.generator, **critics}, {"generator": size, **sizes})

    def checkpoint_items(self):
        """Everything that a resumed run needs, by name, for `tf.train.Checkpoint`."""
        critics = {f"{name}_critic": critic for name, critic in self.critics.items()}
        return {**super().checkpoint_items(), **critics, "critic_optimizer": self.critic_optimizer}

    def train(self, iterator, num_steps):
        """Takes `num_steps` steps, none of them beyond the end of a phase.

        Args:
            iterator: of the distributed training data.
            num_steps: int32 scalar tensor.

        Returns:
            Means over steps and replicas, float32 scalars by the names in `RECONSTRUCTION_METRICS` or
            `ADVERSARIAL_METRICS`.
        """
        train = (
            self._train_reconstruction
            if integer(self.step) < self.params.trainer.pretrain_steps
            else self._train_adversarial
        )
        return train(iterator, num_steps)

    @tf.function
    def _train_reconstruction(self, iterator, num_steps):
        size = self.params.trainer.gradient_accumulation_steps
        return self.run_steps(iterator, num_steps, RECONSTRUCTION_METRICS, size, self._reconstruction_step)

    @tf.function
    def _train_adversarial(self, iterator, num_steps):
        config = self.params.trainer
        num_batches = config.gradient_accumulation_steps * (config.discriminator_steps + 1)
        return self.run_steps(iterator, num_steps, ADVERSARIAL_METRICS, num_batches, self._adversarial_step)

    def _reconstruction_step(self, batches):
        metrics = self._update_generator(batches, adversarial=False)
        return tf.stack([metrics[name] for name in RECONSTRUCTION_METRICS])

    def _adversarial_step(self, batches):
        size = self.params.trainer.gradient_accumulation_steps
        for first in range(0, len(batches) - size, size):
            critic, gradients = mean_of(
                self._critic_batch(batches[index], index) for index in range(first, first + size)
            )
            self.apply_gradients(self.critic_optimizer, gradients, self._critic_variables())
        metrics = {**critic, **self._update_generator(batches[-size:], adversarial=True)}
        return tf.stack([metrics[name] for name in ADVERSARIAL_METRICS])

    def _update_generator(self, batches, adversarial):
        metrics, gradients = mean_of(
            self._generator_batch(batch, index, adversarial) for index, batch in enumerate(batches)
        )
        self.apply_gradients(self.generator_optimizer, gradients, self.generator.trainable_variables)
        return metrics

    def _critic_variables(self):
        return [variable for critic in self.critics.values() for variable in critic.trainable_variables]

    def _holes(self, images, purpose, index):
        task = self.params.task
        draws = self.draw(functools.partial(masks.draw, task.masks), purpose, index, tf.shape(images)[0])
        return masks.make(task.masks, task.model.resolution, draws, self._folder)

    def _critic_batch(self, batch, index):
        images = batch["image"]
        mask, corner = self._holes(images, _CRITIC, index)

        def draw(num_images, key):
            return tf.random.stateless_uniform((num_images, len(self.critics), 1, 1, 1), key, alg="philox")

        places = self.draw(draw, _INTERPOLATION, index, tf.shape(images)[0])
        return self._critic_gradients(images, mask, corner, places, self.factor(self.critic_optimizer))

    def _generator_batch(self, batch, index, adversarial):
        mask, corner = self._holes(batch["image"], _GENERATOR, index)
        factor = self.factor(self.generator_optimizer)
        metrics, gradients = self._generator_gradients(batch["image"], mask, corner, factor, adversarial)
        covered = masks.coverage(mask)
        metrics = {
            **metrics,
            "mask_coverage": tf.reduce_mean(covered),
            "mask_coverage_least": tf.reduce_min(covered),
            "mask_coverage_most": tf.reduce_max(covered),
        }
        return metrics, gradients

    def _critic_gradients(self, images, mask, corner, places, factor):
        completed = self.generator([images, mask], training=True)["completed"]
        with tf.GradientTape() as tape:
            loss, penalty, orthogonality, spread = 0.0, 0.0, sum_of(self._critic_losses()), []
            for index, name in enumerate(self.critics):
                real, fake, hole = (self._seen(name, x, corner) for x in (images, completed, mask))
                scores = self._scores(name, tf.concat([real, fake], axis=0), tf.concat([hole, hole], axis=0))
                of_real, of_fake = tf.split(scores, 2)
                loss += critic_wasserstein_loss(of_real, fake_scores=of_fake)
                spread.append([part for one in (of_real, of_fake) for part in _moments(tf.cast(one, tf.float32))])
                penalty += self._penalty(name, real + places[:, index] * (fake - real), hole)
            total = loss + self.params.task.losses.gradient_penalty * penalty + orthogonality
            scaled = total * factor
        gradients = tape.gradient(scaled, self._critic_variables())
        norm = norm_of(gradients, factor)
        metrics = {"critic_loss": loss, "gradient_penalty": penalty, "critic_gradient_norm": norm}
        names = ("critic_real", "critic_real_square", "critic_fake", "critic_fake_square")
        metrics.update(zip(names, tf.unstack(tf.reduce_mean(tf.stack(spread), axis=0))))
        return metrics, gradients

    def _generator_gradients(self, images, mask, corner, factor, adversarial):
        weights = self.params.task.losses
        with tf.GradientTape() as tape:
            outputs = self.generator([images, mask], training=True)
            hole_weights = mask if weights.discount == 1 else mask * spatial_discount(mask, weights.discount)
            hole, known = (
                weights.coarse * l1_loss(images, outputs["coarse"], these)
                + weights.fine * l1_loss(images, outputs["fine"], these)
                for these in (hole_weights, 1.0 - mask)
            )
            orthogonality = sum_of(self.generator.losses)
            loss = weights.hole * hole + weights.known * known + orthogonality
            metrics = {"hole_l1": hole, "known_l1": known, "orthogonality_loss": orthogonality}
            if adversarial:
                metrics["generator_adversarial"] = sum_of(
                    [self._adversarial_loss(name, outputs["completed"], mask, corner) for name in self.critics]
                )
                loss += weights.adversarial * metrics["generator_adversarial"]
                if self._id_mrf:
                    loss += weights.id_mrf * weights.hole * self._id_mrf(images, outputs["fine"])
            scaled = loss * factor
        gradients = tape.gradient(scaled, self.generator.trainable_variables)
        return {"generator_loss": loss, "generator_gradient_norm": norm_of(gradients, factor), **metrics}, gradients

    def _adversarial_loss(self, name, completed, mask, corner):
        return generator_wasserstein_loss(
            self._scores(name, self._seen(name, completed, corner), self._seen(name, mask, corner))
        )

    def _penalty(self, name, interpolated, hole):
        """The gradient penalty, in float32 and in the hole alone: outside of it real and completed images are equal."""
        with tf.GradientTape() as tape:
            tape.watch(interpolated)
            scores = self._scores(name, interpolated, hole)
        return gradient_penalty(tape.gradient(scores, interpolated), mask=hole)

    def _scores(self, name, images, hole):
        inputs = [images, hole] if name == "patch" else images
        return self.critics[name](inputs, training=True)

    def _seen(self, name, images, corner):
        """What a critic sees of images or masks: the local one a square of side `task.masks.size` at `corner`."""
        if name != "local":
            return images
        places = corner[..., None] + tf.range(self.params.task.masks.size)  # (batch, 2, side)
        rows = tf.gather(images, places[:, 0], axis=1, batch_dims=1)
        return tf.gather(rows, places[:, 1], axis=2, batch_dims=1)

    def _critic_losses(self):
        return [loss for critic in self.critics.values() for loss in critic.losses]


def _moments(scores):
    """The means of scores and of their squares."""
    return tf.reduce_mean(scores), tf.reduce_mean(tf.square(scores))
