"""Losses as functions of logits."""

from keras_an.losses.adversarial import discriminator_hinge_loss, generator_hinge_loss

__all__ = ["discriminator_hinge_loss", "generator_hinge_loss"]
