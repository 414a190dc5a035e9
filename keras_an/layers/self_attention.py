"""Self-attention over positions: the baseline that Attentive Normalization replaces."""

import math
from typing import Any, Optional

from keras_an.backend import (
    NO_AUTOCAST,
    Identifier,
    Shape,
    Tensor,
    keras,
    ops,
    register_serializable,
    softmax,
    wide_dtype,
    widen,
)
from keras_an.checks import check_one_of, check_positive, check_positive_integer
from keras_an.ops.products import project


@register_serializable(package="keras_an")
class SelfAttention(keras.layers.Layer):
    """The attention block of SAGAN: `x + gamma * W_o(softmax(q(x) k(x)^T) v(x))`, gamma a learned scalar from 0.

    q, k, v and W_o are 1x1 convolutions without bias; keys and values are max-pooled 2 x 2, as in the authors' code.
    The cost of the layer grows with the square of the number of positions. Queries and keys are held within 10,000 over
    the root of `key_dim`, far beyond what is learned, so that huge features give no NaN.

    Args:
        key_dim: integer, channels of queries and keys. None, the default, means `channels // 8`, at least 1.
        value_dim: integer, channels of the values. None, the default, means `channels // 2`, at least 1.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        residual_initializer: of the weight that is learned. Defaults to zeros: the layer starts as the identity.
        residual_multiplier: positive float m; gamma is m times the weight that is learned, so that an optimizer with
            steps of a fixed size moves gamma m times as fast. Defaults to 1, as in the paper.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: floating-point tensor.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with `"channels_first"`. Height and
        width are at least 2.

    Output shape:
        The input's.

    Raises:
        ValueError: if the input is not of rank 4, its channels are unknown, or `key_dim` or `value_dim` is not a
            positive integer, or `residual_multiplier` not a positive number.

    References:
        Self-Attention Generative Adversarial Networks (Zhang et al., ICML 2019), Eq. 1-3.
    """

    def __init__(
        self,
        key_dim: Optional[int] = None,
        value_dim: Optional[int] = None,
        data_format: Optional[str] = None,
        residual_initializer: Identifier = "zeros",
        residual_multiplier: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        check_positive("residual_multiplier", residual_multiplier)
        self.key_dim = None if key_dim is None else check_positive_integer("key_dim", key_dim)
        self.value_dim = None if value_dim is None else check_positive_integer("value_dim", value_dim)
        self.data_format = data_format or keras.backend.image_data_format()
        self.residual_initializer = keras.initializers.get(residual_initializer)
        self.residual_multiplier = residual_multiplier

    def build(self, input_shape: Shape) -> None:
        axis = 1 if self.data_format == "channels_first" else -1
        channels = input_shape[axis] if len(input_shape) == 4 else None
        if channels is None:
            raise ValueError(
                "`SelfAttention` takes inputs of (batch, height, width, channels), channels known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        key_dim = self.key_dim or max(channels // 8, 1)
        value_dim = self.value_dim or max(channels // 2, 1)
        self.query_kernel = self._add_kernel("query_kernel", (channels, key_dim))
        self.key_kernel = self._add_kernel("key_kernel", (channels, key_dim))
        self.value_kernel = self._add_kernel("value_kernel", (channels, value_dim))
        self.output_kernel = self._add_kernel("output_kernel", (value_dim, channels))
        self.residual_weight = self.add_weight(
            name="residual_weight", shape=(), initializer=self.residual_initializer, **NO_AUTOCAST
        )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})
        self.built = True

    def _add_kernel(self, name, shape):
        return self.add_weight(name=name, shape=shape, initializer="glorot_uniform")

    def call(self, inputs: Tensor) -> Tensor:
        inputs = self._bounded(inputs)
        if self.data_format == "channels_first":
            return ops.moveaxis(self._attend(ops.moveaxis(inputs, 1, -1)), -1, 1)
        return self._attend(inputs)

    def _attend(self, inputs):
        shape = ops.shape(inputs)
        batch_size, height, width, channels = shape
        if 0 in tuple(inputs.shape):  # no position to attend to
            return inputs
        queries = self._project(inputs, self.query_kernel)
        queries = ops.reshape(queries, (batch_size, height * width, self.query_kernel.shape[-1]))
        keys = _pooled_rows(self._project(inputs, self.key_kernel))  # (batch, positions / 4, key_dim)
        values = _pooled_rows(self._project(inputs, self.value_kernel))  # (batch, positions / 4, value_dim)
        if self.compute_dtype == "float16":
            queries, keys = widen(queries, keys)
        # Of huge features logits would be infinite, or so large that XLA, which computes them twice, is hundreds off.
        bound = 1e4 / math.sqrt(self.query_kernel.shape[-1])
        queries, keys = ops.clip(queries, -bound, bound), ops.clip(keys, -bound, bound)
        logits = ops.cast(queries @ ops.transpose(keys, (0, 2, 1)), wide_dtype(self.compute_dtype))
        attention = softmax(logits)  # (batch, positions, positions / 4)
        attended = ops.cast(attention, values.dtype) @ self._bounded(values)
        attended = ops.reshape(self._bounded(self._project(attended, self.output_kernel)), shape)
        gamma = self.residual_multiplier * ops.convert_to_tensor(self.residual_weight)
        return self._bounded(inputs + ops.cast(gamma, inputs.dtype) * attended)

    def _project(self, features, kernel):
        return project(features, ops.cast(kernel, features.dtype))

    def _bounded(self, values):
        """The values in the layer's dtype, where that is float16 within its range."""
        if self.compute_dtype == "float16":
            values = ops.clip(values, -65504.0, 65504.0)
        return ops.cast(values, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "data_format": self.data_format,
            "residual_initializer": keras.initializers.serialize(self.residual_initializer),
            "residual_multiplier": self.residual_multiplier,
        }


def _pooled_rows(features):
    pooled = ops.max_pool(features, 2, 2, "valid", "channels_last")
    batch_size, height, width, channels = ops.shape(pooled)
    return ops.reshape(pooled, (batch_size, height * width, channels))
