"""Layers: Attentive Normalization, and what the networks around it are built from."""

from keras_an.layers.attentive_normalization import AttentiveNormalization
from keras_an.layers.conditional_batch_normalization import ConditionalBatchNormalization
from keras_an.layers.conv2d import Conv2D
from keras_an.layers.diffusion_fill import DiffusionFill
from keras_an.layers.known_pixels import KnownPixels
from keras_an.layers.masked_mean import MaskedMean
from keras_an.layers.nearest_upsampling import NearestUpsampling
from keras_an.layers.self_attention import SelfAttention
from keras_an.layers.spectral_normalization import SpectralNormalization

__all__ = [
    "AttentiveNormalization",
    "ConditionalBatchNormalization",
    "Conv2D",
    "DiffusionFill",
    "KnownPixels",
    "MaskedMean",
    "NearestUpsampling",
    "SelfAttention",
    "SpectralNormalization",
]
