"""The mean of a map over the positions that a mask names."""

import math
from collections.abc import Sequence
from typing import Any

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable, widen


@register_serializable(package="keras_an")
class MaskedMean(keras.layers.Layer):
    """`sum(x * mask) / sum(mask)` over positions, in float32 at least; 0 where the mask is empty.

    Args:
        dtype: of the inputs' cast; float32 under any global policy unless told otherwise.
        **kwargs: `name` and the other arguments of a Keras layer.

    Call arguments:
        inputs: `[x, mask]`; mask at least 0.

    Input shape:
        `(batch, height, width, channels)` and `(batch, height, width, 1)`

    Output shape:
        `(batch, channels)`, float32, or float64 of float64 inputs.

    Raises:
        ValueError: unless there are two inputs of rank 4.
    """

    def __init__(self, dtype: Any = "float32", **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: Sequence[Shape]) -> None:
        if [len(shape) if hasattr(shape, "__len__") else 0 for shape in input_shape] != [4, 4]:
            raise ValueError(
                "`MaskedMean` takes a map (batch, height, width, channels) and a mask (batch, height, width, 1). "
                f"Received: shapes {', '.join(map(str, input_shape))}"
            )
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        x, mask = widen(*inputs)
        return ops.sum(x * mask, axis=(1, 2)) / ops.clip(ops.sum(mask, axis=(1, 2)), 1e-6, math.inf)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (input_shape[0][0], input_shape[0][-1])
