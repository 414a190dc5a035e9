"""Networks for inference, without spectral normalisation's wrappers."""

from keras_an.backend import keras
from keras_an.layers import SpectralNormalization


def fold_spectral_normalization(model: keras.Model) -> keras.Model:
    """A copy of a model whose spectrally normalised kernels are divided by their norm once, not in each call.

    What it computes at inference is what `model` does: SN-GAN, Eq. 8 with the vectors u where training left them. It
    is for inference alone, as nothing in it keeps the norms at 1.

    Args:
        model: functional `keras.Model`, as all networks of this package are.

    Returns:
        `keras.Model` of the same inputs and outputs, and of the same layers but for `SpectralNormalization`, in whose
        places the wrapped layers are. The two share no weights.

    Example:

    >>> generator = keras_an.models.residual_generator(resolution=32, num_classes=10)
    >>> keras_an.models.fold_spectral_normalization(generator).export("saved_model")

    References:
        Spectral Normalization for Generative Adversarial Networks (Miyato et al., ICLR 2018).
    """
    folded = keras.models.clone_model(model, clone_function=lambda layer: _copy(_unwrapped(layer)))
    for layer in (layer for layer in model.layers if layer.weights):
        copy = folded.get_layer(_unwrapped(layer).name)
        if isinstance(layer, SpectralNormalization):
            layer.fold_into(copy)
        else:
            copy.set_weights(layer.get_weights())
    return folded


def _unwrapped(layer):
    return layer.layer if isinstance(layer, SpectralNormalization) else layer


def _copy(layer):
    return type(layer).from_config(layer.get_config())
