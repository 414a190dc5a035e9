"""What TensorBoard shows: statistics of the attentive layers, and pictures as uint8 arrays."""

import colorsys

import numpy as np
import tensorflow as tf

from keras_an.models import attentive_layers, attentive_probe
from keras_an.ops import orthogonality, region_moments


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
        seen = self()
        result = {}
        for layer, features, layout in zip(self._layers, seen["inputs"], seen["layouts"]):
            values = layout_statistics(features, layout)
            values["rho"] = float(tf.convert_to_tensor(layer.residual_weight))
            if layer.self_sampling:
                values["t"] = float(np.mean(tf.convert_to_tensor(layer.sampling_weight)))
            values["orthogonality"] = float(orthogonality(tf.convert_to_tensor(layer.entities)))
            result.update({f"{prefix}/{layer.name}/{name}": value for name, value in values.items()})
        return result


def layout_statistics(features, layout):
    """How much a layout tells about a feature map.

    Args:
        features: `(batch, height, width, channels)`, what the layout was learned on.
        layout: float32 `(batch, height, width, entities)`.

    Returns:
        Floats by name: `layout_entropy`, mean over positions, over log n; `entities_in_use`, share of entities that win
        somewhere in the batch; `region_deviation`, deviation inside the regions, weighted by their mass, over that
        of the whole map, both averaged over images and channels.
    """
    entities = layout.shape[-1]
    features = tf.cast(features, tf.float32)
    values = tf.reshape(features, (features.shape[0], -1, features.shape[-1]))
    values -= tf.reduce_mean(values, axis=1, keepdims=True)
    layout = tf.reshape(layout, (layout.shape[0], -1, entities))
    entropy = -tf.reduce_mean(tf.reduce_sum(layout * tf.math.log(layout + 1e-12), axis=-1))
    winners = tf.size(tf.unique(tf.reshape(tf.argmax(layout, axis=-1), (-1,)))[0])
    _, variance = region_moments(values, layout)
    mass = tf.reduce_mean(layout, axis=1)[..., None]  # (batch, entities, 1), summing to 1 over the entities
    inside = tf.reduce_mean(tf.reduce_sum(mass * tf.sqrt(variance), axis=1))
    whole = tf.reduce_mean(tf.math.reduce_std(values, axis=1))
    return {
        "layout_entropy": float(entropy) / float(np.log(entities)) if entities > 1 else 0.0,
        "entities_in_use": int(winners) / entities,
        "region_deviation": float(inside / tf.maximum(whole, 1e-12)),
    }


def image_grid(images, columns, gap=2):
    """Lays images out in rows.

    Args:
        images: uint8 `(images, height, width, 3)`.
        columns: integer, images in a row.
        gap: white pixels between images.

    Returns:
        uint8 `(grid height, grid width, 3)`.
    """
    _, height, width, channels = images.shape
    rows = -(-len(images) // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def layout_grid(images, layouts):
    """Shows layouts beside their images: a row an image; image, winning entity in colours, one heat map an entity.

    Args:
        images: float `(images, height, width, 1 or 3)` in [-1, 1].
        layouts: float `(images, layout height, layout width, entities)`; its sides divide the images'.

    Returns:
        uint8 `(grid height, grid width, 3)`.
    """
    images, layouts = to_uint8(images), np.asarray(layouts)
    entities = layouts.shape[-1]
    scale = images.shape[1] // layouts.shape[1]
    layouts = layouts.repeat(scale, axis=1).repeat(scale, axis=2)
    palette = np.array([colorsys.hsv_to_rgb(i / entities, 0.75, 0.95) for i in range(entities)])
    winners = (palette[layouts.argmax(axis=-1)] * 255).astype(np.uint8)
    tiles = np.stack([images, winners, *(_heat(layouts[..., i]) for i in range(entities))], axis=1)
    return image_grid(tiles.reshape(-1, *tiles.shape[2:]), columns=entities + 2)


def to_uint8(images):
    """Images in [-1, 1], grey or colour, as uint8 `(images, height, width, 3)`."""
    images = np.clip(np.asarray(images) * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3)) if images.shape[-1] == 1 else images


def write_png(path, image):
    """Writes a uint8 `(height, width, 3)` image, whole or not at all."""
    tf.io.write_file(path + ".partial", tf.io.encode_png(image))
    tf.io.gfile.rename(path + ".partial", path, overwrite=True)


def _heat(values):
    """Maps [0, 1] from black over red and yellow to white."""
    levels = np.clip(3.0 * values[..., None] - np.arange(3), 0.0, 1.0)
    return (levels * 255).astype(np.uint8)
