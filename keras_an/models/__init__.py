"""Networks, as functional Keras models built from the package's layers."""

from keras_an.models.layouts import attentive_layers, attentive_probe
from keras_an.models.projection_discriminator import projection_discriminator
from keras_an.models.residual_generator import residual_generator

__all__ = ["attentive_layers", "attentive_probe", "projection_discriminator", "residual_generator"]
