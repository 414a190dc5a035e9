"""What the attentive layers of a network see and say on fixed inputs."""

import tensorflow as tf

from keras_an.models import attentive_layers, attentive_probe
from keras_an_tensorboard.health import LayerView


class AttentionProbe:
    """Reads what the attentive layers of a model do on fixed inputs.

    Args:
        model: functional `keras.Model` of `keras_an.models`.
        inputs: list of its inputs.
        images: `(images, height, width, 1 or 3)` in [-1, 1], shown beside the layouts; None shows the outputs.
        labels: names of the images' classes, for a table of what each uses, or None.
        groups: `{name: weights}` of parts of the images, for a table of what they use; see `health.LayerView`.
    """

    def __init__(self, model, inputs, images=None, labels=None, groups=None):
        self._layers = attentive_layers(model)
        self._inputs = inputs
        self._images = images
        self._labels = labels
        self._groups = groups
        probe = attentive_probe(model)
        self._run = tf.function(lambda *inputs: probe(list(inputs), training=False), autograph=False)

    def __call__(self):
        """Outputs, inputs and layouts of the attentive layers, as `keras_an.models.attentive_probe` gives them."""
        return self._run(*self._inputs)

    def views(self, network):
        """`health.LayerView` of every attentive layer, in order.

        Args:
            network: its name, the first part of those of the views.
        """
        if not self._layers:
            return []
        seen, images = self(), self._images
        if images is None:
            images = seen["outputs"]
            images = images["completed"] if isinstance(images, dict) else images
        images = tf.cast(images, tf.float32).numpy()
        return [
            LayerView(
                name=f"{network}/{layer.name}",
                features=tf.cast(features, tf.float32).numpy(),
                layout=tf.cast(layout, tf.float32).numpy(),
                rho=float(tf.convert_to_tensor(layer.rho)),
                entities=tf.convert_to_tensor(layer.entities).numpy(),
                t=tf.convert_to_tensor(layer.sampling_weight).numpy() if layer.self_sampling else None,
                epsilon=layer.epsilon,
                images=images,
                labels=self._labels,
                groups=self._groups,
            )
            for layer, features, layout in zip(self._layers, seen["inputs"], seen["layouts"])
        ]
