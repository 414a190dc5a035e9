"""Spectral normalisation by reparametrisation."""

import functools
import inspect
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

# A kernel whose norm is below this counts as zeros: float32 holds the squares of its numbers no longer.
_SMALLEST_NORM = 1e-15


@register_serializable(package="keras_an")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the kernels of the wrapped layer by their largest singular value, for the length of each call.

    It computes with `W / sigma(W)`, `sigma(W) = u^T W v`, where u and v come from power iteration on W, reshaped to
    `(-1, last axis)`. The stored kernel never changes, and the gradient flows through sigma with u and v held constant
    (SN-GAN, Eq. 8-12 and Algorithm 1). Keras's own wrapper overwrites the kernel on each training call, and gives no
    gradient through sigma. A kernel of zeros gives zeros, and trains.

    A wrapped layer can neither be quantised nor take LoRA; `model.quantize` warns and leaves it as it is. You can
    quantise what `keras_an.models.fold_spectral_normalization` returns.

    Args:
        layer: the layer to wrap. Its `kernel`, its `embeddings` and all weights whose attribute ends in `_kernel` are
            normalised.
        power_iterations: positive integer, iterations in a call. Defaults to 1.
        **kwargs: `name` and the other arguments of a Keras layer.

    Call arguments:
        inputs: the input of the wrapped layer.
        training: boolean. The vector u moves on only if it is True.

    Input shape:
        The wrapped layer's.

    Output shape:
        The wrapped layer's.

    Raises:
        ValueError: if `power_iterations` is not a positive integer, or the layer has no kernel to normalise, is
            quantised or has LoRA enabled.
        NotImplementedError: if `quantize` or `enable_lora` of the wrapped layer is called.

    Example:

    ```python
    >>> layer = keras_an.layers.SpectralNormalization(keras.layers.Conv2D(64, 3, padding="same"))
    ```

    References:
        Spectral Normalization for Generative Adversarial Networks (Miyato et al., ICLR 2018).
    """

    def __init__(self, layer: keras.layers.Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        kwargs.setdefault("name", f"sn_{layer.name}")
        super().__init__(layer, autocast=False, **kwargs)  # the wrapped layer casts, or does not
        self.power_iterations = check_positive_integer("power_iterations", power_iterations)
        self.input_spec = layer.input_spec
        self.supports_masking = layer.supports_masking
        self._not_taken = frozenset(("training", "mask")) - set(inspect.signature(layer.call).parameters)
        if hasattr(keras.layers.Layer, "quantize"):
            layer.quantize = functools.partial(_refuse, layer.name, "quantize")
        if hasattr(layer, "enable_lora"):
            layer.enable_lora = functools.partial(_refuse, layer.name, "enable_lora")

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        if getattr(self.layer, "quantization_mode", None) or getattr(self.layer, "lora_enabled", False):
            raise ValueError(
                "`SpectralNormalization` wraps a layer that is not quantised and has no LoRA enabled. "
                f"Received: layer={self.layer.name!r}"
            )
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
        self.input_spec = self.layer.input_spec
        self.built = True

    def call(self, inputs: Tensor, training: Optional[bool] = None, **kwargs: Any) -> Tensor:
        kernels: dict[str, Tensor] = {}
        for name in self._kernel_names:
            weight = getattr(self.layer, name)
            kernel = ops.cast(
                self._normalized_kernel(name, training), dtype_when_read(weight, self.layer.compute_dtype)
            )
            # Some layers keep the weight under another attribute and show it through a property (`Dense.kernel` is
            # `_kernel` on Keras 3), so the attribute is found by identity, in a list as other threads may add some.
            kernels.update((key, kernel) for key, value in list(vars(self.layer).items()) if value is weight)
        return _with_attributes(self.layer, kernels)(inputs, **self._arguments(training, kwargs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs: Tensor, training: Optional[bool] = None, **kwargs: Any) -> Any:
        return self.layer.compute_output_spec(inputs, **self._arguments(training, kwargs))

    def compute_mask(self, inputs: Tensor, mask: Optional[Tensor] = None) -> Optional[Tensor]:
        return self.layer.compute_mask(inputs, mask)

    def fold_into(self, layer: keras.layers.Layer) -> None:
        """Gives an unwrapped layer the weights with which this one computes at inference.

        Args:
            layer: built layer of the wrapped layer's class and configuration. Its kernels become `W / sigma(W)`.
        """
        kernels = {id(getattr(self.layer, name)): self._normalized_kernel(name, False) for name in self._kernel_names}
        for target, weight in zip(layer.weights, self.layer.weights):
            target.assign(kernels.get(id(weight), ops.convert_to_tensor(weight)))

    def _arguments(self, training, others):
        """What the wrapped layer is called with beside its inputs; Keras 2 hands over a mask to whoever takes any."""
        arguments = {**others, "training": training}
        return {name: value for name, value in arguments.items() if name not in self._not_taken}

    def _normalized_kernel(self, name, training):
        """`W / sigma(W)` in float32 at least."""
        kernel = ops.convert_to_tensor(getattr(self.layer, name))
        dtype = wide_dtype(kernel.dtype)
        matrix = ops.reshape(ops.cast(kernel, dtype), (-1, kernel.shape[-1]))  # (rows, columns)
        state = getattr(self, f"{name}_u")
        constant = ops.stop_gradient(matrix)
        before = u = ops.cast(ops.convert_to_tensor(state), dtype)  # (1, columns)
        for _ in range(self.power_iterations):
            v = _unit(u @ ops.transpose(constant))  # (1, rows)
            u = _unit(v @ constant)
        sigma = ops.sum((v @ matrix) * u)
        is_zero = sigma < _SMALLEST_NORM
        if training:
            # The iteration could not leave a u of zeros.
            state.assign(ops.cast(ops.where(is_zero, before, u), state.dtype))
        # A product by one number: the gradient of a quotient would pass over the kernel five times more.
        return ops.reshape(matrix * (1.0 / (sigma + ops.cast(is_zero, dtype))), kernel.shape)

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
    return vector * ops.rsqrt(ops.clip(ops.sum(ops.square(vector)), 0.1 * _SMALLEST_NORM**2, math.inf))


def _refuse(layer_name, method, *args, **kwargs):
    raise NotImplementedError(
        f"`{method}` would change the kernel that `SpectralNormalization` normalises: call it on what "
        f"`keras_an.models.fold_spectral_normalization` returns. Received: layer={layer_name!r}"
    )


def _with_attributes(layer, attributes):
    """`layer` with a few other attributes: an object of its own that shares all the others with it.

    The layer is not touched, since other threads may be calling it.
    """
    view = object.__new__(_view_class(type(layer), tuple(attributes)))
    object.__setattr__(view, "__dict__", vars(layer))
    for name, value in attributes.items():
        object.__setattr__(view, name, value)
    return view


@functools.cache
def _view_class(layer_class, names):
    """A subclass whose objects keep the attributes `names` in slots, which Python looks up before `__dict__`."""
    members = {"__slots__": names, "__module__": layer_class.__module__}
    return type(layer_class)(layer_class.__name__, (layer_class,), members)
