"""What the Attentive Normalization layers of a functional model see and say."""

from collections.abc import Iterator
from typing import Any

from keras_an.backend import Tensor, calls_of, is_functional, keras, outputs_of
from keras_an.layers import AttentiveNormalization


def attentive_layers(model: keras.Model) -> list[AttentiveNormalization]:
    """The `AttentiveNormalization` layers of a functional model and of the models in it, in the order of the graph.

    Args:
        model: functional or sequential `keras.Model`.

    Returns:
        A list of layers, one for each call; empty if there are none.

    Raises:
        ValueError: if the model is neither, or another layer wraps an attentive one.
    """
    layers = []
    for part, _, _ in _calls(model):
        layers += [part] if isinstance(part, AttentiveNormalization) else attentive_layers(part)
    return layers


def attentive_probe(model: keras.Model) -> keras.Model:
    """A model that shares the weights of `model` and also returns the input and the layout of every attentive layer.

    It computes a layout that a layer did not return, and the layers of a model in `model`, a second time.

    Args:
        model: functional or sequential `keras.Model`.

    Returns:
        `keras.Model` from the inputs of `model` to a dictionary: `outputs`, the output of `model`; `inputs`, a list of
        the input `(batch, *spatial, channels)` of each attentive layer, in the order of `attentive_layers`; and
        `layouts`, a list of the layouts `(batch, *spatial, entities)`.

    Raises:
        ValueError: if the model is neither, or another layer wraps an attentive one.
    """
    inputs, layouts, probes = [], [], {}
    for part, taken, given in _calls(model):
        if isinstance(part, AttentiveNormalization):
            features, *mask = taken
            inputs.append(features)
            layouts.append(given[1] if len(given) > 1 else _Layout(part)(features, *mask))
        else:
            if part.name not in probes:
                probes[part.name] = attentive_probe(part)
            seen = probes[part.name](taken[: len(part.inputs)])
            inputs += seen["inputs"]
            layouts += seen["layouts"]
    outputs = {"outputs": outputs_of(model), "inputs": inputs, "layouts": layouts}
    return keras.Model(model.inputs, outputs, name=f"{model.name}_probe")


def _calls(model: keras.Model) -> Iterator[Any]:
    """The calls of attentive layers, and of models that hold some, as `calls_of` gives them."""
    if not is_functional(model):
        raise ValueError(f"`model` must be a functional or a built sequential model. Received: model={model!r}")
    for part, taken, given in calls_of(model):
        if isinstance(part, AttentiveNormalization) or (is_functional(part) and attentive_layers(part)):
            yield part, taken, given
        elif not is_functional(part) and _holds_attentive_layers(part):
            raise ValueError(
                "The layout is known of `AttentiveNormalization` that a functional model calls, not of what another "
                f"layer wraps. Received: layer={part.name!r} of type {type(part).__name__}"
            )


def _holds_attentive_layers(part):
    # Keras 3 hands over operations too, which are no layers.
    parts = part._flatten_layers() if isinstance(part, keras.layers.Layer) else ()
    return any(isinstance(layer, AttentiveNormalization) for layer in parts)


class _Layout(keras.layers.Layer):
    """The layout of a layer, whose own graph of calls it leaves alone."""

    def __init__(self, layer: AttentiveNormalization) -> None:
        super().__init__(dtype=layer.dtype_policy, autocast=False)
        self.layer = layer
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Any = None) -> Tensor:
        return self.layer.get_layout(inputs, mask=mask)
