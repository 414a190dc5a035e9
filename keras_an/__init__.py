"""Attentive Normalization (Wang et al., CVPR 2020) for Keras: layers, losses, networks and callbacks."""

from keras_an import callbacks, layers, losses, models, regularizers
from keras_an.layers import AttentiveNormalization

__version__ = "0.1.0"

__all__ = ["AttentiveNormalization", "callbacks", "layers", "losses", "models", "regularizers"]
