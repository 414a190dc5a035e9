"""Losses for `compile`, whose targets are what Keras calls `y_true`."""

import math
from typing import Any

from keras_an.backend import Tensor, keras, ops, register_serializable, wide_dtype, widen
from keras_an.losses.reconstruction import id_mrf_loss


@register_serializable(package="keras_an")
class DiscriminatorHingeLoss(keras.losses.Loss):
    """`discriminator_hinge_loss` of a batch in which real and generated images are mixed.

    Args:
        name: string.
        **kwargs: `reduction` and the other arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: 1 for a real image, 0 or -1 for a generated one; one for each logit.
        y_pred: logits of any shape.

    Raises:
        ValueError: if the numbers of labels and of logits differ.

    Example:

    ```python
    >>> discriminator.compile("adam", keras_an.losses.DiscriminatorHingeLoss())
    >>> discriminator.fit(images, is_real)
    ```
    """

    def __init__(self, name: str = "discriminator_hinge_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        signs, shares = _signs_and_shares(y_true, y_pred)
        return shares * ops.relu(1.0 - signs * widen(y_pred)[0])


@register_serializable(package="keras_an")
class CriticWassersteinLoss(keras.losses.Loss):
    """`critic_wasserstein_loss` of a batch in which real and generated images are mixed.

    Arguments, call arguments and errors are those of `DiscriminatorHingeLoss`; y_pred holds scores in place of logits.
    """

    def __init__(self, name: str = "critic_wasserstein_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        signs, shares = _signs_and_shares(y_true, y_pred)
        return -shares * signs * widen(y_pred)[0]


@register_serializable(package="keras_an")
class IdMrfLoss(keras.losses.Loss):
    """`id_mrf_loss`, with the target's features as y_true and the reconstruction's as y_pred.

    Args:
        bandwidth: positive float h. Defaults to 0.5.
        name: string.
        **kwargs: `reduction` and the other arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: features `(batch, height, width, channels)`, of a network such as VGG-19.
        y_pred: features `(batch, height, width, channels)`.
    """

    def __init__(self, bandwidth: float = 0.5, name: str = "id_mrf_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.bandwidth = bandwidth

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return id_mrf_loss(y_true, y_pred, self.bandwidth)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bandwidth": self.bandwidth}


def _signs_and_shares(y_true, y_pred):
    """1 of real and -1 of generated images; and what each counts, so that the mean of all is the sum of two means."""
    shape = ops.shape(y_pred)
    if None not in (*y_true.shape, *y_pred.shape) and math.prod(y_true.shape) != math.prod(y_pred.shape):
        raise ValueError(
            f"There must be as many labels as logits. Received: shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
        )
    dtype = wide_dtype(y_pred.dtype)
    real = ops.cast(ops.reshape(y_true, shape) > 0, dtype)  # (batch, 1) and (batch,) would make (batch, batch)
    num_all = ops.cast(math.prod(shape), dtype)
    num_real, num_fake = (ops.clip(ops.sum(part), 1.0, math.inf) for part in (real, 1.0 - real))
    shares = real * num_all / num_real + (1.0 - real) * num_all / num_fake
    return 2.0 * real - 1.0, shares
