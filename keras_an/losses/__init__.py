"""Losses as functions of logits, scores, gradients and pictures."""

from keras_an.losses.adversarial import (
    critic_wasserstein_loss,
    discriminator_hinge_loss,
    generator_hinge_loss,
    generator_wasserstein_loss,
    gradient_penalty,
)
from keras_an.losses.reconstruction import id_mrf_loss, l1_loss, spatial_discount

__all__ = [
    "critic_wasserstein_loss",
    "discriminator_hinge_loss",
    "generator_hinge_loss",
    "generator_wasserstein_loss",
    "gradient_penalty",
    "id_mrf_loss",
    "l1_loss",
    "spatial_discount",
]
