"""Losses: functions of logits, scores, gradients and pictures, and classes that `compile` takes.

The functions return float32, or float64 where an argument is float64.
"""

from keras_an.losses.adversarial import (
    critic_wasserstein_loss,
    discriminator_hinge_loss,
    generator_hinge_loss,
    generator_wasserstein_loss,
    gradient_penalty,
)
from keras_an.losses.compiled import CriticWassersteinLoss, DiscriminatorHingeLoss, IdMrfLoss
from keras_an.losses.reconstruction import id_mrf_loss, l1_loss, spatial_discount

__all__ = [
    "CriticWassersteinLoss",
    "DiscriminatorHingeLoss",
    "IdMrfLoss",
    "critic_wasserstein_loss",
    "discriminator_hinge_loss",
    "generator_hinge_loss",
    "generator_wasserstein_loss",
    "gradient_penalty",
    "id_mrf_loss",
    "l1_loss",
    "spatial_discount",
]
