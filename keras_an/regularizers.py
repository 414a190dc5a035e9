"""Regularizers."""

from typing import Any

from keras_an.backend import Tensor, keras, register_serializable
from keras_an.checks import check_one_of
from keras_an.ops import orthogonality


@register_serializable(package="keras_an")
class OrthogonalEntities(keras.regularizers.Regularizer):
    """Penalty `weight * sum((W W^T - I)^2)` on entity filters W, so that each learns a region of its own.

    Args:
        weight: float, lambda_o of the paper. Defaults to 1e-3.
        mode: `"cosine"` (rows of W scaled to unit length first, the default) or `"frobenius"` (W itself).

    Raises:
        ValueError: if `mode` is neither of these, or `weight` is negative.

    References:
        Attentive Normalization for Conditional Image Generation (Wang et al., CVPR 2020), Eq. 2.
    """

    def __init__(self, weight: float = 1e-3, mode: str = "cosine") -> None:
        check_one_of("mode", mode, ("cosine", "frobenius"))
        if weight < 0:
            raise ValueError(f"`weight` must not be negative. Received: weight={weight}")
        self.weight = weight
        self.mode = mode

    def __call__(self, entities: Tensor) -> Tensor:
        return self.weight * orthogonality(entities, self.mode)

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "mode": self.mode}
