"""Spectral normalisation by reparametrisation."""

import contextlib
import math
from typing import Any, Optional

from keras_an.backend import (
    Shape,
    Tensor,
    add_replica_state,
    dtype_when_read,
    keras,
    ops,
    register_serializable,
    wide_dtype,
)
from keras_an.checks import check_positive_integer


@register_serializable(package="keras_an")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the kernels of the wrapped layer by their largest singular value, for the length of each call.

    `W_bar = W / sigma(W)`, `sigma(W) = u^T W v`, u and v from power iteration on W reshaped to `(-1, last axis)`. The
    stored kernel is never changed, and the gradient flows through sigma with u and v held constant (SN-GAN, Eq. 8-12
    and Algorithm 1). Keras's own wrapper overwrites the kernel on each training call instead, and gives no gradient
    through sigma.

    Args:
        layer: the layer to wrap. Normalised are its `kernel`, its `embeddings`, and weights whose attribute ends in
            `_kernel`.
        power_iterations: positive integer, iterations in a call. Defaults to 1.
        **kwargs: `name` and the other arguments of a Keras layer.

    Call arguments:
        inputs: the input of the wrapped layer.
        training: boolean; the vector u moves on only where it is True.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Raises:
        ValueError: where `power_iterations` is not positive, or the layer has no kernel to normalise.

    Example:

    >>> layer = keras_an.layers.SpectralNormalization(keras.layers.Conv2D(64, 3, padding="same"))

    References:
        Spectral Normalization for Generative Adversarial Networks (Miyato et al., ICLR 2018).
    """

    def __init__(self, layer: keras.layers.Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        check_positive_integer("power_iterations", power_iterations)
        kwargs.setdefault("name", f"sn_{layer.name}")
        super().__init__(layer, **kwargs)
        self.power_iterations = power_iterations

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        self._kernel_names = [
            name
            for name in ("kernel", "embeddings", *sorted(n for n in vars(self.layer) if n.endswith("_kernel")))
            if not name.startswith("_") and getattr(getattr(self.layer, name, None), "shape", None) is not None
        ]
        if not self._kernel_names:
            raise ValueError(
                "`SpectralNormalization` wraps a layer with a `kernel` or `embeddings`. "
                f"Received: layer={self.layer.name!r} of type {type(self.layer).__name__}"
            )
        for name in self._kernel_names:
            initializer = keras.initializers.RandomNormal(stddev=1.0)
            size = getattr(self.layer, name).shape[-1]
            setattr(self, f"{name}_u", add_replica_state(self, f"{name}_u", (1, size), initializer))
        self.built = True

    def call(self, inputs: Tensor, training: Optional[bool] = None, **kwargs: Any) -> Tensor:
        if self._accepts_training():
            kwargs["training"] = training
        with contextlib.ExitStack() as stack:
            for name in self._kernel_names:
                kernel = self._normalized_kernel(name, training)
                kernel = ops.cast(kernel, dtype_when_read(getattr(self.layer, name), self.layer.compute_dtype))
                stack.enter_context(_substituted(self.layer, name, kernel))
            return self.layer(inputs, **kwargs)

    def fold_into(self, layer: keras.layers.Layer) -> None:
        """Gives an unwrapped layer the weights that this one computes with at inference.

        Args:
            layer: built layer of the wrapped layer's class and configuration. Its kernels become `W / sigma(W)`.
        """
        kernels = {id(getattr(self.layer, name)): self._normalized_kernel(name, False) for name in self._kernel_names}
        for target, weight in zip(layer.weights, self.layer.weights):
            target.assign(kernels.get(id(weight), ops.convert_to_tensor(weight)))

    def _accepts_training(self):
        return "training" in self.layer.call.__code__.co_varnames if hasattr(self.layer.call, "__code__") else False

    def _normalized_kernel(self, name, training):
        """`W / sigma(W)` in float32 at least."""
        kernel = ops.convert_to_tensor(getattr(self.layer, name))
        dtype = wide_dtype(kernel.dtype)
        matrix = ops.reshape(ops.cast(kernel, dtype), (-1, kernel.shape[-1]))  # (rows, columns)
        state = getattr(self, f"{name}_u")
        constant = ops.stop_gradient(matrix)
        u = _unit(ops.cast(ops.convert_to_tensor(state), dtype))  # (1, columns)
        for _ in range(self.power_iterations):
            v = _unit(u @ ops.transpose(constant))  # (1, rows)
            u = _unit(v @ constant)
        if training:
            state.assign(ops.cast(u, state.dtype))
        sigma = ops.sum((v @ matrix) * u)
        return ops.reshape(matrix / sigma, kernel.shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power_iterations": self.power_iterations}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Optional[dict[str, Any]] = None
    ) -> "SpectralNormalization":
        # Keras 2's own reads the wrapped layer in the old format, which does not find this package's layers.
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"), custom_objects=custom_objects)
        return cls(layer, **config)


def _unit(vector):
    return vector * ops.rsqrt(ops.clip(ops.sum(ops.square(vector)), 1e-24, math.inf))


@contextlib.contextmanager
def _substituted(layer, name, tensor):
    """Lets `layer.<name>` be `tensor` inside the context, past the attribute tracking of Keras.

    Some layers keep the weight under another attribute and show it through a property (`Dense.kernel` is `_kernel`
    on Keras 3), so the attribute is found by identity.
    """
    weight = getattr(layer, name)
    holders = [key for key, value in vars(layer).items() if value is weight]
    try:
        vars(layer).update(dict.fromkeys(holders, tensor))
        yield
    finally:
        vars(layer).update(dict.fromkeys(holders, weight))
