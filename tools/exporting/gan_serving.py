"""The signatures of an exported class-conditional generator, their check, and what they are called in metadata."""

import numpy as np
import tensorflow as tf

from keras_an import models
from keras_an.layers import ConditionalBatchNormalization
from tools.exporting.exports import TOLERANCES, ExportError
from tools.exporting.guard import guarded
from tools.exporting.latents import draw_latent


class GanServing:
    """Signatures of a class-conditional generator. Every row of a batch depends on its own inputs alone.

    `serving_default`: `z` float32 (None, latent_dim) and `label` int32 (None,) to `images` float32 (None, height,
    width, channels) in [-1, 1].
    `generate`: `label` int32 (None,), `seed` int64 (None,) and `truncation` float32 (None,) to `images` uint8; the same
    row gives the same image everywhere. At 1 the latent is normal, as in training; at any other value in (0, 2] it is
    drawn from the normal distribution without what lies beyond 2, times this value.
    `layouts`: inputs of `serving_default` to `images` and `layouts` float32 (None, height', width', entities), the soft
    layout of the first Attentive Normalization, and `layouts_2`, ... of the others; absent where there is none.

    Args:
        generator: `keras.Model` of `keras_an.models.residual_generator`.
        dtype: of the computation, which sets the tolerance.

    Raises:
        ExportError: where it is another network.
    """

    application = "gan"
    random_signatures = ("generate",)

    def __init__(self, generator, dtype="float32"):
        norms = [layer for layer in generator.layers if isinstance(layer, ConditionalBatchNormalization)]
        if not norms:
            raise ExportError(
                "A generator of classes must have a ConditionalBatchNormalization. Received: one without."
            )
        self.num_classes = norms[0].num_classes
        self.latent_dim = generator.inputs[0].shape[-1]
        self.resolution = generator.outputs[0].shape[1]
        self._live = generator
        self._live_probe = models.attentive_probe(generator)
        self.dtype = dtype
        self._tolerance = TOLERANCES[dtype]
        self._folded = models.fold_spectral_normalization(generator)
        self._functions = self._make_functions()

    @property
    def network(self):
        """The network that the signatures run, whose kernels are normalised already."""
        return self._folded

    def functions(self):
        """The signatures: a `tf.function` each, by name."""
        return self._functions

    def _make_functions(self):
        probe = models.attentive_probe(self._folded)
        label = tf.TensorSpec((None,), tf.int32, name="label")
        latents = [tf.TensorSpec((None, self.latent_dim), tf.float32, name="z"), label]
        draws = [tf.TensorSpec((None,), dtype, name=name) for name, dtype in _DRAWN.items()]

        @tf.function(input_signature=latents, autograph=False)
        def serving_default(z, label):
            return {"images": self._folded([z, self._checked(label)], training=False)}

        @tf.function(input_signature=[label, *draws], autograph=False)
        def generate(label, seed, truncation):
            z = draw_latents(seed, truncation, self.latent_dim)
            levels = tf.round(self._folded([z, self._checked(label)], training=False) * 127.5 + 127.5)
            return {"images": tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)}

        @tf.function(input_signature=latents, autograph=False)
        def layouts(z, label):
            return _named(probe([z, self._checked(label)], training=False))

        functions = {"serving_default": serving_default, "generate": generate}
        return {**functions, "layouts": layouts} if models.attentive_layers(self._folded) else functions

    def _checked(self, label):
        """`label`, or an error: a GPU would take one out of range for a class without scale and offset."""
        is_class = tf.reduce_all((label >= 0) & (label < self.num_classes))
        return guarded(is_class, f"label must be in [0, {self.num_classes}).", label)[0]

    def metadata(self):
        """What a user needs to know and the signatures do not tell; `ranges` by the name of an input or output."""
        return {
            "application": self.application,
            "num_classes": self.num_classes,
            "latent_dim": self.latent_dim,
            "resolution": self.resolution,
            "ranges": {
                "z": "normal distribution, mean 0, deviation 1",
                "label": f"[0, {self.num_classes})",
                "seed": "any",
                "truncation": "(0, 2]",
                "images": "[-1, 1] as float32, [0, 255] as uint8",
                "layouts": "[0, 1], sum 1 over the last axis",
            },
        }

    def probes(self):
        """Pairs of a signature and its inputs: batches of 1, 3 and 8 of each."""
        random = np.random.default_rng(0)
        pairs = []
        for size in (1, 3, 8):
            label = random.integers(self.num_classes, size=size).astype(np.int32)
            latents = {"z": random.normal(size=(size, self.latent_dim)).astype(np.float32), "label": label}
            truncation = np.where(np.arange(size) % 2, 0.7, 1.0).astype(np.float32)
            draws = {"label": label, "seed": random.integers(2**40, size=size), "truncation": truncation}
            feeds = {"serving_default": latents, "generate": draws, "layouts": latents}
            pairs += [(name, feeds[name]) for name in self._functions]
        return pairs

    def expected(self, signature, feed):
        """What the live model says: pairs of an array and its tolerance, by the names of the outputs."""
        if signature == "generate":
            keys = zip(feed["seed"], feed["truncation"])
            z = tf.stack([_latent(seed, truncation, self.latent_dim) for seed, truncation in keys])
            images = self._live([z, tf.constant(feed["label"])], training=False).numpy()
            return {"images": (images * 127.5 + 127.5, 127.5 * self._tolerance + 0.5)}  # half a level is rounding's
        outputs = _named(self._live_probe([tf.constant(feed["z"]), tf.constant(feed["label"])], training=False))
        names = outputs if signature == "layouts" else ["images"]
        return {name: (outputs[name].numpy(), self._tolerance) for name in names}

    def check(self, signature, feed, found, place):
        """Nothing but the values is to be checked."""

    def call_probes(self):
        """Inputs of the whole model, in the order of their names: batches of 1, 3 and 8."""
        feeds = [feed for name, feed in self.probes() if name == "serving_default"]
        return [{"0": feed["z"], "1": feed["label"]} for feed in feeds]

    def called(self, feed):
        """As `expected`, of the whole model."""
        output = self._live([tf.constant(feed["0"]), tf.constant(feed["1"])], training=False)
        return {"output": (output.numpy(), self._tolerance)}


_DRAWN = {"seed": tf.int64, "truncation": tf.float32}


def draw_latents(seed, truncation, latent_dim):
    """Latents float32 (images, latent_dim), each a function of its row of `seed` and `truncation` alone."""
    return tf.map_fn(
        lambda row: _latent(row[0], row[1], latent_dim), (seed, truncation), fn_output_signature=tf.float32
    )


def _latent(seed, truncation, latent_dim):
    return draw_latent(tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)]), truncation, latent_dim)


def _named(seen):
    """Outputs of an `attentive_probe` by the names of the signatures."""
    layouts = {
        f"layouts_{number}" if number > 1 else "layouts": value for number, value in enumerate(seen["layouts"], 1)
    }
    return {"images": seen["outputs"], **layouts}
