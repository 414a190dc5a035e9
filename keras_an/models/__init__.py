"""Networks, as functional Keras models built from the package's layers."""

from keras_an.models.folding import fold_spectral_normalization
from keras_an.models.inpainting_critics import global_critic, local_critic, patch_critic
from keras_an.models.inpainting_generator import inpainting_generator
from keras_an.models.layouts import attentive_layers, attentive_probe
from keras_an.models.projection_discriminator import projection_discriminator
from keras_an.models.residual_generator import residual_generator

__all__ = [
    "attentive_layers",
    "attentive_probe",
    "fold_spectral_normalization",
    "global_critic",
    "inpainting_generator",
    "local_critic",
    "patch_critic",
    "projection_discriminator",
    "residual_generator",
]
