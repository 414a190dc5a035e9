"""What TensorBoard shows: statistics of the attentive layers, and the pictures of `trainers.monitoring.pictures`."""

import numpy as np
import tensorflow as tf

from keras_an.models import attentive_layers, attentive_probe
from keras_an.ops import orthogonality, region_moments
from trainers.monitoring.pictures import image_grid, layout_grid, to_uint8, write_png

__all__ = [
    "AttentionProbe",
    "image_grid",
    "layout_grid",
    "layout_statistics",
    "to_uint8",
    "write_png",
]


class AttentionProbe:
    """Reads what the attentive layers of a model do on fixed inputs.

    Args:
        model: functional `keras.Model` of `keras_an.models`.
        inputs: list of its inputs.
    """

    def __init__(self, model, inputs):
        self._layers = attentive_layers(model)
        self._inputs = inputs
        probe = attentive_probe(model)
        self._run = tf.function(lambda *inputs: probe(list(inputs), training=False))
        # One call of the device for all layers: training waits for it.
        self._measure = tf.function(lambda *inputs: self._statistics(probe(list(inputs), training=False)))

    def __call__(self):
        """Outputs, inputs and layouts of the attentive layers, as `keras_an.models.attentive_probe` gives them."""
        return self._run(*self._inputs)

    def scalars(self, prefix):
        """Statistics of every attentive layer.

        Args:
            prefix: string, first part of the names.

        Returns:
            Floats by `<prefix>/<layer>/<statistic>`: `rho`, `t` (mean, where the layer samples), `layout_entropy` (over
            log n, 1 is a layout that tells nothing), `entities_in_use` (share that wins at some position),
            `region_deviation` (inside regions over the whole map) and `orthogonality`.
        """
        if not self._layers:
            return {}
        names, values = zip(*self._measure(*self._inputs).items())
        return {f"{prefix}/{name}": value for name, value in zip(names, tf.stack(values).numpy().tolist())}

    def _statistics(self, seen):
        result = {}
        for layer, features, layout in zip(self._layers, seen["inputs"], seen["layouts"]):
            values = layout_statistics(features, layout)
            values["rho"] = tf.convert_to_tensor(layer.rho)
            if layer.self_sampling:
                values["t"] = tf.reduce_mean(tf.convert_to_tensor(layer.sampling_weight))
            values["orthogonality"] = orthogonality(tf.convert_to_tensor(layer.entities))
            result.update({f"{layer.name}/{name}": tf.reshape(value, ()) for name, value in values.items()})
        return result


def layout_statistics(features, layout):
    """How much a layout tells about a feature map.

    Args:
        features: `(batch, height, width, channels)`, what the layout was learned on.
        layout: float32 `(batch, height, width, entities)`.

    Returns:
        float32 scalars by name: `layout_entropy`, mean over positions, over log n; `entities_in_use`, share of entities
        that win somewhere in the batch; `region_deviation`, deviation inside the regions, weighted by their mass, over
        that of the whole map, both averaged over images and channels.
    """
    entities = layout.shape[-1]
    features = tf.cast(features, tf.float32)
    values = tf.reshape(features, (tf.shape(features)[0], -1, features.shape[-1]))
    values -= tf.reduce_mean(values, axis=1, keepdims=True)
    layout = tf.reshape(layout, (tf.shape(layout)[0], -1, entities))
    entropy = -tf.reduce_mean(tf.reduce_sum(layout * tf.math.log(layout + 1e-12), axis=-1))
    winners = tf.reduce_max(tf.one_hot(tf.argmax(layout, axis=-1), entities), axis=(0, 1))
    _, variance = region_moments(values, layout)
    mass = tf.reduce_mean(layout, axis=1)[..., None]  # (batch, entities, 1), summing to 1 over the entities
    inside = tf.reduce_mean(tf.reduce_sum(mass * tf.sqrt(variance), axis=1))
    whole = tf.reduce_mean(tf.math.reduce_std(values, axis=1))
    return {
        "layout_entropy": entropy / float(np.log(entities)) if entities > 1 else tf.constant(0.0),
        "entities_in_use": tf.reduce_mean(winners),
        "region_deviation": inside / tf.maximum(whole, 1e-12),
    }
