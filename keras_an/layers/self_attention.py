"""Self-attention over positions: the baseline that Attentive Normalization replaces."""

from typing import Any, Optional

from keras_an.backend import NO_AUTOCAST, Shape, Tensor, keras, ops, register_serializable, wide_dtype
from keras_an.checks import check_positive_integer


@register_serializable(package="keras_an")
class SelfAttention(keras.layers.Layer):
    """The attention block of SAGAN: `x + gamma * W_o(softmax(q(x) k(x)^T) v(x))`, gamma a learned scalar from 0.

    q, k, v and W_o are 1x1 convolutions without bias; keys and values are max-pooled 2 x 2, as the authors' code does.
    Its cost grows with the square of the number of positions.

    Args:
        key_dim: integer, channels of queries and keys. None, the default, is `channels // 8`, at least 1.
        value_dim: integer, channels of the values. None, the default, is `channels // 2`, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: floating-point tensor.

    Input shape:
        `(batch, height, width, channels)`, height and width at least 2.

    Output shape:
        The input's.

    Raises:
        ValueError: where the input is not of rank 4, its channels are unknown, or a dimension is no positive integer.

    References:
        Self-Attention Generative Adversarial Networks (Zhang et al., ICML 2019), Eq. 1-3.
    """

    def __init__(self, key_dim: Optional[int] = None, value_dim: Optional[int] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("key_dim", key_dim), ("value_dim", value_dim)):
            if value is not None:
                check_positive_integer(name, value)
        self.key_dim = key_dim
        self.value_dim = value_dim

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1] if len(input_shape) == 4 else None
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
        self.residual_weight = self.add_weight(name="residual_weight", shape=(), initializer="zeros", **NO_AUTOCAST)
        self.built = True

    def _add_kernel(self, name, shape):
        return self.add_weight(name=name, shape=shape, initializer="glorot_uniform")

    def call(self, inputs: Tensor) -> Tensor:
        shape = ops.shape(inputs)
        batch_size, height, width, channels = shape
        if 0 in tuple(inputs.shape):  # no position to attend to
            return inputs
        queries = inputs @ ops.convert_to_tensor(self.query_kernel)
        queries = ops.reshape(queries, (batch_size, height * width, self.query_kernel.shape[-1]))
        keys = _pooled_rows(inputs @ ops.convert_to_tensor(self.key_kernel))  # (batch, positions / 4, key_dim)
        values = _pooled_rows(inputs @ ops.convert_to_tensor(self.value_kernel))  # (batch, positions / 4, value_dim)
        # (batch, positions, positions / 4)
        logits = ops.cast(queries @ ops.transpose(keys, (0, 2, 1)), wide_dtype(self.compute_dtype))
        attention = ops.softmax(logits, axis=-1)
        attended = ops.cast(attention, values.dtype) @ values @ ops.convert_to_tensor(self.output_kernel)
        attended = ops.reshape(attended, shape)
        return inputs + ops.cast(self.residual_weight, inputs.dtype) * attended

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "key_dim": self.key_dim, "value_dim": self.value_dim}


def _pooled_rows(features):
    pooled = ops.max_pool(features, 2, 2, "valid", "channels_last")
    batch_size, height, width, channels = ops.shape(pooled)
    return ops.reshape(pooled, (batch_size, height * width, channels))
