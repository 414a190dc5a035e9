"""What the benchmark of the layer runs: layers that compare, and one pass of each as a compiled program."""

import math
from typing import NamedTuple

import numpy as np
from absl import flags, logging

from keras_an.backend import NO_AUTOCAST, SeedGenerator, keras, ops
from keras_an.layers import AttentiveNormalization, SelfAttention
from keras_an.ops import sample_positions

FLAGS = flags.FLAGS

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class ReleasedFormulation(keras.layers.Layer):
    """Attentive Normalization as released, which copies the feature map for every region: (b, h, w, c, n).

    It computes `AttentiveNormalization(num_entities, statistics="released", value_projection=True, affine=False,
    pool_size=1)` and has that layer's trainable weights, in its order. The released code draws positions at inference
    too; here only training draws, as in the layer that it is compared with.
    """

    def __init__(self, num_entities, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_entities = num_entities
        self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape):
        channels = input_shape[-1]
        key_dim = max(channels // 8, 1)
        shapes = {"entities": (self.num_entities, channels)}
        shapes.update(query_kernel=(channels, key_dim), query_bias=(key_dim,))
        shapes.update(key_kernel=(channels, key_dim), key_bias=(key_dim,), sampling_weight=(self.num_entities,))
        shapes.update(value_kernel=(channels, channels), value_bias=(channels,), residual_weight=())
        for name, shape in shapes.items():
            setattr(self, name, self.add_weight(name=name, shape=shape, dtype="float32", **NO_AUTOCAST))
        self.built = True

    def call(self, inputs, training=None):
        features = ops.cast(inputs, "float32")
        batch, height, width, channels = ops.shape(features)
        flat = ops.reshape(features, (batch, height * width, channels))
        logits = ops.matmul(flat, ops.transpose(self.entities))  # (batch, positions, entities)
        if training:
            queries = ops.matmul(flat, self.query_kernel) + self.query_bias
            keys = ops.matmul(flat, self.key_kernel) + self.key_bias
            drawn = sample_positions(batch, height * width, self.num_entities, self.seed_generator)
            rows = drawn + (ops.arange(batch) * (height * width))[:, None]
            keys = ops.take(ops.reshape(keys, (-1, keys.shape[-1])), rows, axis=0)  # (batch, entities, key_dim)
            similarity = ops.matmul(queries, ops.transpose(keys, (0, 2, 1)))
            logits = logits + ops.clip(self.sampling_weight, 0.0, 1.0) * similarity
        layout = ops.reshape(ops.softmax(0.1 * logits, axis=-1), (batch, height, width, 1, self.num_entities))
        values = ops.reshape(ops.matmul(flat, self.value_kernel) + self.value_bias, (batch, height, width, channels, 1))
        mass = ops.sum(layout, axis=(1, 2), keepdims=True) + 1e-7
        regions = layout * values  # (batch, height, width, channels, entities)
        mean = ops.mean(regions, axis=(1, 2), keepdims=True) / mass
        deviation = ops.sqrt(ops.sum(ops.square(regions - mean), axis=(1, 2), keepdims=True) / mass)
        normalized = ops.sum((values - mean) / (deviation + 1e-7) * layout, axis=-1)
        return ops.cast(features + self.residual_weight * normalized, self.compute_dtype)


class PositionAttention(keras.layers.Layer):
    """Keras's `MultiHeadAttention` over all positions, with one head."""

    def __init__(self, key_dim, dtype):
        super().__init__(dtype=dtype)
        self.attention = keras.layers.MultiHeadAttention(num_heads=1, key_dim=key_dim, dtype=dtype)

    def call(self, inputs):
        batch, height, width, channels = ops.shape(inputs)
        flat = ops.reshape(inputs, (batch, height * width, channels))
        return ops.reshape(self.attention(flat, flat), (batch, height, width, channels))


# Made from channels, entities and dtype policy; all keep the shape of their input.
LAYERS = {
    "an": lambda c, n, dtype: AttentiveNormalization(n, dtype=dtype),
    "an_value": lambda c, n, dtype: AttentiveNormalization(n, value_projection=True, dtype=dtype),
    "group_norm": lambda c, n, dtype: keras.layers.GroupNormalization(groups=-1, dtype=dtype),
    "conv3x3": lambda c, n, dtype: keras.layers.Conv2D(c, 3, padding="same", dtype=dtype),
    "self_attention": lambda c, n, dtype: SelfAttention(dtype=dtype),
    "multi_head_attention": lambda c, n, dtype: PositionAttention(max(c // 8, 1), dtype=dtype),
    "released": lambda c, n, dtype: ReleasedFormulation(n, dtype=dtype),
    "copy": lambda c, n, dtype: keras.layers.Rescaling(0.5, dtype=dtype),
}


class Case(NamedTuple):
    """What all layers are measured on at once."""

    size: str
    dtype: str
    direction: str

    @property
    def shape(self):
        height, width, channels, batch = map(int, self.size.split("x"))
        return batch, height, width, channels

    @property
    def input_bytes(self):
        return math.prod(self.shape) * (4 if self.dtype == "float32" else 2)

    def row(self, layer, note, **measured):
        """One row of the results; `note` says why it has no numbers."""
        positions = {"positions": math.prod(self.shape[1:3])}
        settings = {name: FLAGS[name].value for name in ("jit", "training", "num_entities")}
        return {"layer": layer, **self._asdict(), **positions, **settings, **measured, "note": note}


class Program:
    """One pass of one layer, compiled as a function of random inputs and weights; calling it waits for the result."""

    def __init__(self, layer, case):
        random = np.random.default_rng(0)

        def draw(shape):
            return ops.cast(ops.convert_to_tensor(random.standard_normal(shape, "float32")), case.dtype)

        channels = case.shape[-1]
        self.layer = LAYERS[layer](channels, FLAGS.num_entities, POLICIES[case.dtype])
        self.layer(draw((1, 4, 4, channels)))
        for weight in self.layer.trainable_weights:
            weight.assign(weight.numpy() + 0.1 * random.standard_normal(tuple(weight.shape)))
        self.options = {"training": FLAGS.training} if layer in ("an", "an_value", "released") else {}
        # The input, and what a loss sends back to the output.
        self.arguments = [draw(case.shape) for _ in range(1 if case.direction == "forward" else 2)]
        getattr(self, f"_prepare_{keras.backend.backend()}")(case.direction)

    def __call__(self):
        self.wait(self.function(*self.arguments))

    def _prepare_tensorflow(self, direction):
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # It warns of tracing anew, which is meant here.

        def forward(inputs):
            return self.layer(inputs, **self.options)

        def forward_backward(inputs, cotangent):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = forward(inputs)
            sources = [inputs, *self.layer.trainable_weights]
            return outputs, tape.gradient(outputs, sources, output_gradients=cotangent)

        self.function = tf.function(forward if direction == "forward" else forward_backward, jit_compile=FLAGS.jit)
        self.wait = lambda _: tf.test.experimental.sync_devices()

    def _prepare_jax(self, direction):
        import jax

        def forward(weights, state, inputs):
            return self.layer.stateless_call(weights, state, inputs, **self.options)

        def forward_backward(weights, state, inputs, cotangent):
            outputs, pull_back, state = jax.vjp(lambda w, x: forward(w, state, x), weights, inputs, has_aux=True)
            return outputs, pull_back(cotangent), state

        self.function = jax.jit(forward if direction == "forward" else forward_backward)
        variables = self.layer.trainable_variables, self.layer.non_trainable_variables
        self.arguments = [[variable.value for variable in group] for group in variables] + self.arguments
        self.wait = jax.block_until_ready


def attempt(layer, case, use, runs=True):
    """Makes a program and returns `use(program)` and None, or None and why not."""
    if runs and estimated_bytes(layer, case) > FLAGS.memory_limit_gib * 2**30:
        return None, "too large"
    try:
        return use(Program(layer, case)), None
    except Exception as error:  # Whatever a backend raises where it lacks a kernel, or memory.
        logging.warning("%s cannot run %s: %s", layer, " ".join(case), str(error).partition("\n")[0])
        return None, "cannot run"


def estimated_bytes(layer, case):
    """About what a pass takes: the copies that it keeps of its largest tensor, and of the feature map."""
    batch, height, width, channels = case.shape
    positions = height * width
    largest, copies = {
        "self_attention": (positions * (height // 2) * (width // 2), (2, 4)),
        "multi_head_attention": (positions**2, (2, 4)),
        "released": (positions * channels * FLAGS.num_entities, (2, 6)),
    }.get(layer, (0, (2, 4)))
    return 4 * batch * copies[case.direction != "forward"] * (largest + 4 * positions * channels)
