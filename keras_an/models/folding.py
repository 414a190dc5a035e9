"""Networks for inference, without spectral normalisation's wrappers."""

from collections import Counter

from keras_an.backend import keras
from keras_an.layers import SpectralNormalization


def fold_spectral_normalization(model: keras.Model) -> keras.Model:
    """A copy of a model whose spectrally normalised kernels are divided by their norms once, not in each call.

    At inference the copy computes what `model` computes, with the vectors u as training left them (SN-GAN, Eq. 8). It
    is for inference alone: in training nothing would keep the norms at 1.

    Args:
        model: functional `keras.Model`, as all networks of this package are. It may hold other models.

    Returns:
        `keras.Model` with the inputs, outputs and layers of `model`, except that each `SpectralNormalization` gives way
        to the layer that it wraps. That layer takes its wrapper's name if another layer has its own. The two models
        share no weights.

    Raises:
        ValueError: if `SpectralNormalization` is inside a layer that is neither a model nor a Keras wrapper around it,
            such as `TimeDistributed`.

    Example:

    ```python
    >>> generator = keras_an.models.residual_generator(resolution=32, num_classes=10)
    >>> keras_an.models.fold_spectral_normalization(generator).export("saved_model")
    ```

    References:
        Spectral Normalization for Generative Adversarial Networks (Miyato et al., ICLR 2018).
    """
    layers = {id(layer): layer for layer in _layers(model)}.values()
    names = Counter(layer.name for layer in layers)
    names.update(layer.layer.name for layer in layers if isinstance(layer, SpectralNormalization))
    return _fold(model, names, {})


def _layers(model):
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _fold(model, names, copies):
    """The folded copy of a model.

    Args:
        model: the model.
        names: how often a name occurs among all layers, wrapped and not.
        copies: the copies made so far, by the id of what they copy; more come in.

    Returns:
        The copy, with its weights.
    """

    def copy(layer):
        if id(layer) not in copies:
            copies[id(layer)] = _fold(layer, names, copies) if _is_network(layer) else _copy(layer, names)
        return copies[id(layer)]

    folded = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        if layer.weights and not _is_network(layer):
            _copy_weights(layer, copies[id(layer)])
    return folded


def _copy(layer, names):
    inner = _unwrapped(layer)
    config = inner.get_config()
    if inner is not layer and names[inner.name] > 1:
        config["name"] = layer.name
    if _wraps_wrapper(layer):
        config["layer"] = keras.saving.serialize_keras_object(layer.layer.layer)
    copy = type(inner).from_config(config)
    if _has_wrappers(copy):
        raise ValueError(
            "`SpectralNormalization` is folded where it is a layer of a functional model, or what such a layer wraps. "
            f"Received: layer={layer.name!r} of type {type(layer).__name__}"
        )
    return copy


def _copy_weights(layer, copy):
    if isinstance(layer, SpectralNormalization):
        layer.fold_into(copy)
    elif _wraps_wrapper(layer):
        layer.layer.fold_into(copy.layer)
    else:
        copy.set_weights(layer.get_weights())


def _has_wrappers(layer):
    # Keras 3 hands over operations too, which are no layers.
    parts = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else ()
    return any(isinstance(part, SpectralNormalization) for part in parts)


def _is_network(layer):
    return isinstance(layer, keras.Model) and _has_wrappers(layer)


def _wraps_wrapper(layer):
    """Whether it is `TimeDistributed(SpectralNormalization(...))` or the like."""
    return isinstance(layer, keras.layers.Wrapper) and isinstance(layer.layer, SpectralNormalization)


def _unwrapped(layer):
    return layer.layer if isinstance(layer, SpectralNormalization) else layer
