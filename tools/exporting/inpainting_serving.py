"""The signatures of an exported inpainting generator, their check, and what they are called in metadata."""

import numpy as np
import tensorflow as tf

from tools.exporting.exports import TOLERANCES, ExportError
from tools.exporting.guard import guarded

DIVISOR = 4  # of height and width, in the inpainting generator


class InpaintingServing:
    """Signatures of an inpainting generator.

    Both take `image` uint8 (None, None, None, channels) of any height and width, and `mask` uint8 (None, None, None, 1)
    of the image's size, in which any value above 0 is missing:

    `serving_default`: `completed` uint8, of the image's size; its known pixels are the image's own, bit for bit.
    `raw`: `coarse`, `fine` and `completed`, float32 in [-1, 1] of the image's size, and `layout` float32 (None,
    height / 4, width / 4, entities), sides rounded up; absent where the generator has no Attentive Normalization.

    Args:
        generator: `keras.Model` of `keras_an.models.inpainting_generator`.
        dtype: of the computation, which sets the tolerance.

    Raises:
        ExportError: where it is another network.
    """

    application = "inpainting"
    random_signatures = ()

    def __init__(self, generator, dtype="float32"):
        if not isinstance(generator.output, dict) or "completed" not in generator.output:
            raise ExportError("An inpainting generator must have an output `completed`. Received: one without.")
        self._live = generator
        self._channels = generator.inputs[0].shape[-1]
        self.dtype = dtype
        self._tolerance = TOLERANCES[dtype]
        sizes = [tf.TensorSpec((None, None, None, last)) for last in (self._channels, 1)]
        self._graph = tf.function(self._run_live, [sizes], autograph=False)  # of any size, so it is traced once
        self._functions = self._make_functions()

    def _run_live(self, inputs):
        return self._live(inputs, training=False)

    @property
    def network(self):
        """The network that the signatures run."""
        return self._live

    def functions(self):
        """The signatures: a `tf.function` each, by name."""
        return self._functions

    def _make_functions(self):
        signature = [
            tf.TensorSpec((None, None, None, channels), tf.uint8, name=name)
            for name, channels in (("image", self._channels), ("mask", 1))
        ]

        @tf.function(input_signature=signature, autograph=False)
        def raw(image, mask):
            # An operation would stretch a mask of one row, or one for a whole batch.
            same_size = tf.reduce_all(tf.shape(mask)[:3] == tf.shape(image)[:3])
            image, mask = guarded(same_size, "Image and mask must be of the same size.", image, mask)
            height, width = tf.shape(image)[1], tf.shape(image)[2]
            pixels = tf.cast(image, tf.float32) / 127.5 - 1.0
            hole = tf.minimum(tf.cast(mask, tf.float32), 1.0)
            outputs = self._run_live([_padded(pixels), _padded(hole)])
            return {name: value if name == "layout" else value[:, :height, :width] for name, value in outputs.items()}

        @tf.function(input_signature=signature, autograph=False)
        def complete(image, mask):
            # In floats, since LiteRT does not compare uint8; the levels of known pixels stay what they are.
            levels = tf.clip_by_value(tf.round(raw(image, mask)["completed"] * 127.5 + 127.5), 0.0, 255.0)
            missing = tf.cast(mask, tf.float32) > 0.0
            return {"completed": tf.cast(tf.where(missing, levels, tf.cast(image, tf.float32)), tf.uint8)}

        return {"serving_default": complete, "raw": raw}

    def metadata(self):
        """What a user needs to know and the signatures do not tell; `ranges` by the name of an input or output."""
        return {
            "application": self.application,
            "ranges": {
                "image": "[0, 255], any height and width",
                "mask": "0 is known, above 0 is missing; of the image's size",
                "completed": "[0, 255] as uint8, [-1, 1] as float32",
                "coarse": "[-1, 1]",
                "fine": "[-1, 1]",
                "layout": "[0, 1], sum 1 over the last axis",
            },
        }

    def probes(self):
        """Pairs of a signature and its inputs: batches of 1, 3 and 8 in two sizes, one of which is padded.

        The pictures are as smooth as photographs are: on anything else a trained network is at the mercy of rounding.
        """
        random = np.random.default_rng(0)
        pairs = []
        for batch_size, height, width in ((1, 64, 96), (1, 61, 83), (3, 61, 83), (8, 64, 96)):
            colours = random.integers(40, 216, size=(batch_size, 4, 6, self._channels))
            image = tf.image.resize(colours, (64, 96), "bicubic").numpy().round().astype(np.uint8)[:, :height, :width]
            mask = np.zeros((batch_size, height, width, 1), np.uint8)
            mask[:, 12:37, 20:50] = 255
            mask[:, 50:, 70:] = 1  # reaches an edge
            pairs += [(name, {"image": image, "mask": mask}) for name in self._functions]
        return pairs

    def expected(self, signature, feed):
        """What the live model says: pairs of an array and its tolerance, by the names of the outputs."""
        image, mask = feed["image"], feed["mask"]
        height, width = image.shape[1:3]
        sides = [(0, 0), (0, -height % DIVISOR), (0, -width % DIVISOR), (0, 0)]
        pixels = np.pad(image, sides, mode="edge").astype(np.float32) / 127.5 - 1.0
        outputs = self.called({"0": pixels, "1": np.pad(mask > 0, sides, mode="edge").astype(np.float32)})
        outputs = {
            name: (value if name == "layout" else value[:, :height, :width], tolerance)
            for name, (value, tolerance) in outputs.items()
        }
        if signature == "raw":
            return outputs
        completed, tolerance = outputs["completed"]
        return {"completed": (completed * 127.5 + 127.5, 127.5 * tolerance + 0.5)}  # half a level is rounding's

    def check(self, signature, feed, found, place):
        """Raises ExportError where a known pixel does not come back as it was."""
        same = np.where(feed["mask"] > 0, feed["image"], found["completed"]) if signature == "serving_default" else None
        if same is not None and not np.array_equal(same, feed["image"]):
            raise ExportError(f"{place}: known pixels do not come back as they were. Nothing was replaced.")

    def call_probes(self):
        """Inputs of the whole model, in the order of their names: batches of 1, 3 and 8."""
        feeds = [feed for name, feed in self.probes() if name == "raw" and feed["image"].shape[1] == 64]
        feeds.append({name: np.repeat(value[:1], 3, axis=0) for name, value in feeds[0].items()})
        return [
            {"0": feed["image"].astype(np.float32) / 127.5 - 1.0, "1": (feed["mask"] > 0).astype(np.float32)}
            for feed in feeds
        ]

    def called(self, feed):
        """As `expected`, of the whole model."""
        inputs = [tf.constant(feed["0"]), tf.constant(feed["1"])]
        live, graph = self._run_live(inputs), self._graph(inputs)
        # Kernels of a graph round otherwise. Where the activations of a trained network are large, their last digit is
        # a visible part of a picture, also without an export.
        return {
            name: (value.numpy(), self._tolerance + 2.0 * float(np.abs(value - graph[name]).max()))
            for name, value in live.items()
        }


def _padded(images):
    """Repeats the last row and column until both sides divide by DIVISOR."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        padded_size = (size + DIVISOR - 1) // DIVISOR * DIVISOR  # ONNX rounds a negative quotient the other way
        images = tf.gather(images, tf.minimum(tf.range(padded_size), size - 1), axis=axis)
    return images
