"""What the Attentive Normalization layers of a functional model see and say."""

from keras_an.backend import keras
from keras_an.layers import AttentiveNormalization


def attentive_layers(model: keras.Model) -> list[AttentiveNormalization]:
    """The `AttentiveNormalization` layers of a functional model of this package, in the order of the graph.

    Args:
        model: `keras.Model` whose layers of that kind were called with `return_layout=True`, as in
            all networks of this package.

    Returns:
        A list of layers, empty where there are none.
    """
    return [layer for layer in model.layers if isinstance(layer, AttentiveNormalization)]


def attentive_probe(model: keras.Model) -> keras.Model:
    """A model that shares the weights of `model` and also returns what every attentive layer took and gave.

    Args:
        model: as for `attentive_layers`.

    Returns:
        `keras.Model` from the inputs of `model` to a dictionary: `outputs`, the output of `model`; `inputs`, a list of
        the input `(batch, height, width, channels)` of each attentive layer; and `layouts`, a list of the layouts
        `(batch, height, width, entities)`.
    """
    layers = attentive_layers(model)
    return keras.Model(
        model.inputs,
        {
            "outputs": model.output,
            "inputs": [layer.input for layer in layers],
            "layouts": [layer.output[1] for layer in layers],
        },
        name=f"{model.name}_probe",
    )
