"""The reduction that the losses share."""

import math
from typing import Optional

from keras_an.backend import Tensor, ops


def mean(values: Tensor, axis: Optional[tuple[int, ...]] = None, keepdims: bool = False) -> Tensor:
    """The mean over some axes; 0 of no values, as Keras's own losses are, so that no gradient is NaN.

    Keras's `mean` of float64 is one of float32 on JAX and PyTorch.
    """
    shape = ops.shape(values)
    count = ops.cast(math.prod(shape if axis is None else [shape[i] for i in axis]), values.dtype)
    return ops.sum(values, axis=axis, keepdims=keepdims) / ops.clip(count, 1.0, math.inf)
