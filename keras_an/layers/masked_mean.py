"""The mean of a map over the positions that a mask names."""

import math
from collections.abc import Sequence
from typing import Any, Optional

from keras_an.backend import Shape, Tensor, keras, ops, register_serializable, tensor_spec, wide_dtype, widen
from keras_an.checks import are_equal_where_known, check_one_of


@register_serializable(package="keras_an")
class MaskedMean(keras.layers.Layer):
    """The mean of x over the positions of a mask: `sum(x * mask) / sum(mask)`, or 0 where the mask is empty.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        dtype: what the inputs are cast to. Defaults to float32, under any global policy.
        **kwargs: `name` and the other arguments of a Keras layer.

    Call arguments:
        inputs: `[x, mask]`; the mask is at least 0. What x holds where the mask is 0 plays no part, not even NaN.

    Input shape:
        `(batch, height, width, channels)` and `(batch, height, width, 1)`; with `"channels_first"` the channels
        follow the batch.

    Output shape:
        `(batch, channels)`, float32, or float64 if an input is float64 after the cast.

    Raises:
        ValueError: if there are not two inputs of rank 4 and one size, the second of one channel.
    """

    def __init__(self, data_format: Optional[str] = None, dtype: Any = "float32", **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        self.data_format = data_format or keras.backend.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else 3

    def build(self, input_shape: Sequence[Shape]) -> None:
        ranks = [len(shape) if hasattr(shape, "__len__") else 0 for shape in input_shape]
        if ranks != [4, 4] or input_shape[1][self._axis] not in (1, None) or not self._is_of_one_size(*input_shape):
            raise ValueError(
                "`MaskedMean` takes a map (batch, height, width, channels) and a mask (batch, height, width, 1). "
                f"Received: shapes {', '.join(map(str, input_shape))}"
            )
        channels = (input_shape[0][self._axis], 1)
        self.input_spec = [keras.layers.InputSpec(ndim=4, axes={self._axis: number}) for number in channels]
        self.built = True

    def _is_of_one_size(self, *shapes):
        return are_equal_where_known(
            *([size for axis, size in enumerate(shape) if axis != self._axis] for shape in shapes)
        )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        x, mask = widen(*inputs)
        axes = (2, 3) if self.data_format == "channels_first" else (1, 2)
        x = ops.where(mask > 0, x, ops.zeros_like(x))  # NaN times 0 is NaN
        return ops.sum(x * mask, axis=axes) / ops.clip(ops.sum(mask, axis=axes), 1e-6, math.inf)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (input_shape[0][0], input_shape[0][self._axis])

    def compute_output_spec(self, inputs: Sequence[Tensor]) -> Tensor:
        dtype = wide_dtype(*(part.dtype for part in inputs))
        return tensor_spec(self.compute_output_shape([part.shape for part in inputs]), dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
