"""Attentive Normalization.

The file is long because the layer has many options, each of which its docstring describes.
"""

import math
import operator
from typing import Any, Optional, Union

from keras_an.backend import (
    NO_AUTOCAST,
    Identifier,
    SeedGenerator,
    Shape,
    Tensor,
    keras,
    ops,
    register_serializable,
    take_rows,
    tensor_spec,
    wide_dtype,
)
from keras_an.checks import check_one_of, check_positive, check_positive_integer
from keras_an.ops import (
    center,
    fill_padding,
    normalize_regions,
    regional_normalization,
    released_region_moments,
    sample_positions,
    sample_valid_windows,
    soft_layout,
    window_positions,
)
from keras_an.ops.products import project
from keras_an.regularizers import OrthogonalEntities

_NUM_SAMPLING_WEIGHTS = 5  # kernels and biases of k and q, and t


@register_serializable(package="keras_an")
class AttentiveNormalization(keras.layers.Layer):
    """Learns a soft semantic layout of the feature map and normalises each of its regions separately.

    With X the input, n entities and P positions:

    - layout: `S = softmax_i(temperature * (t_i * F_i + X W_i))`, where W holds the entity filters, and
      `F[p, i] = q(X)[p] . k_i` is the similarity of position p to the i-th of n max-pooled keys, drawn at random (only
      in training);
    - region moments: `mu_i = sum_p S_i v / sum_p S_i`, `var_i = sum_p S_i (v - mu_i)^2 / sum_p S_i`, v = X or v(X);
    - region norm: `Xbar = sum_i S_i * ((v - mu_i) / sqrt(var_i + epsilon) * beta_i + alpha_i)`;
    - output: `X + rho * Xbar`. rho starts at 0, so that a new layer is the identity.

    All sums over regions are matrix products: they take O(n P channels) time and O(P (channels + n)) memory.

    Args:
        num_entities: integer, n. Defaults to 16.
        temperature: positive float that multiplies the logits. Defaults to 0.1.
        key_dim: integer, channels of the keys and queries of self-sampling. None, the default, means
            `channels // 8`, at least 1.
        pool_size: integer, side and stride of the max pooling of the keys; 1 pools nothing. Defaults to 2.
        self_sampling: whether training adds the self-sampling branch to the logits. Defaults to True.
        value_projection: whether the regions are normalised on a 1x1 convolution v(X) in place of X itself.
            Defaults to False.
        statistics: `"weighted"` (the paper's Eq. 4, the default), or `"released"`: the arithmetic of the authors'
            TensorFlow code, for weights trained with it (other moments, an epsilon of 1e-7 outside the root whatever
            `epsilon` is, t clipped to [0, 1]). Those weights also need `pool_size=1`, `value_projection=True` and
            `affine=False`.
        affine: whether every region has a learned scale beta and offset alpha. Defaults to True.
        orthogonality: `"cosine"` (penalty on the angles between entity filters, the default), `"frobenius"` (on the
            filters themselves, the paper's letter) or None.
        orthogonal_weight: float, the penalty's weight lambda_o. Defaults to 1e-3.
        epsilon: positive float under the root. Defaults to 1e-5.
        entity_initializer: initializer of W, `(num_entities, channels)`. The default, None, draws from a normal of
            deviation `1 / (temperature * sqrt(channels))`: on features of unit variance the logits then start at
            deviation 1, whatever the number of channels is. With much smaller filters every entity covers every
            position alike.
        seed: integer seed of self-sampling. None, the default, draws one.
        data_format: `"channels_last"` or `"channels_first"`; None is the value of `keras.config.image_data_format()`.
        residual_initializer: initializer of rho. Defaults to `"zeros"`.
        residual_multiplier: positive float m; rho is m times the weight that is learned, `residual_weight`, so that an
            optimizer like Adam moves rho m times as fast. Defaults to 1.
        entity_regularizer, entity_constraint: of W; the regularizer is added to the orthogonality penalty.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the kernels of k, q and v.
        beta_initializer, beta_regularizer, beta_constraint: of beta, which starts at 1.
        alpha_initializer, alpha_regularizer, alpha_constraint: of alpha, which starts at 0.
        **kwargs: `name`, `dtype` and the other arguments of a Keras layer.

    Call arguments:
        inputs: floating-point tensor with 1, 2 or 3 spatial dimensions.
        training: boolean. Self-sampling draws positions only if it is True. Otherwise the output depends on the input
            alone.
        return_layout: boolean, whether to return `(outputs, layout)`. Defaults to False.
        mask: boolean `(batch, *spatial)` in either data format, or its first axes alone; False marks padding. Padding
            is in no region, is no key, and comes out as it went in; everything else is as if it were not there. None,
            the default, means no padding. Keras passes on the masks of `Masking` and `Embedding(mask_zero=True)`.
            Self-sampling draws only pooling windows without padding. If an image has none, padding in a window counts
            as the mean of the image's valid positions.

    Input shape:
        `(batch, *spatial, channels)`, or `(batch, channels, *spatial)` with `"channels_first"`. Spatial sizes may be
        unknown until run time, and there may be fewer positions than entities: self-sampling then draws some twice.

    Output shape:
        The input's. The layout is `(batch, *spatial, num_entities)` in either data format. It sums to 1 over its last
        axis, at padding to 0. It is float32, or float64 where the layer computes in float64.

    Raises:
        ValueError: if an argument is out of its range, or the input does not have the shape and dtype above.

    Example:

    ```python
    >>> features = keras.random.normal((4, 32, 32, 64))
    >>> outputs, layout = keras_an.AttentiveNormalization(num_entities=8)(features, return_layout=True)
    >>> outputs.shape, layout.shape
    ((4, 32, 32, 64), (4, 32, 32, 8))
    ```

    References:
        Attentive Normalization for Conditional Image Generation (Wang et al., CVPR 2020, arXiv 2004.03828):
        Eq. 1-3 the layout, Eq. 2 the orthogonality, Eq. 4-5 the regional normalisation.
    """

    def __init__(
        self,
        num_entities: int = 16,
        temperature: float = 0.1,
        key_dim: Optional[int] = None,
        pool_size: int = 2,
        self_sampling: bool = True,
        value_projection: bool = False,
        statistics: str = "weighted",
        affine: bool = True,
        orthogonality: Optional[str] = "cosine",
        orthogonal_weight: float = 1e-3,
        epsilon: float = 1e-5,
        entity_initializer: Optional[Identifier] = None,
        seed: Optional[int] = None,
        data_format: Optional[str] = None,
        entity_regularizer: Optional[Identifier] = None,
        entity_constraint: Optional[Identifier] = None,
        kernel_initializer: Identifier = "glorot_uniform",
        kernel_regularizer: Optional[Identifier] = None,
        kernel_constraint: Optional[Identifier] = None,
        beta_initializer: Identifier = "ones",
        beta_regularizer: Optional[Identifier] = None,
        beta_constraint: Optional[Identifier] = None,
        alpha_initializer: Identifier = "zeros",
        alpha_regularizer: Optional[Identifier] = None,
        alpha_constraint: Optional[Identifier] = None,
        residual_initializer: Identifier = "zeros",
        residual_multiplier: float = 1.0,
        **kwargs: Any,
    ) -> None:
        # Cast to float16 before they are normalised, large inputs would be infinite.
        super().__init__(autocast=False, **kwargs)
        check_positive("temperature", temperature)
        check_positive("epsilon", epsilon)
        check_positive("residual_multiplier", residual_multiplier)
        if orthogonal_weight < 0:
            raise ValueError(
                f"`orthogonal_weight` must not be negative. Received: orthogonal_weight={orthogonal_weight!r}"
            )
        check_one_of("statistics", statistics, ("weighted", "released"))
        check_one_of("orthogonality", orthogonality, ("cosine", "frobenius", None))
        check_one_of("data_format", data_format, ("channels_last", "channels_first", None))
        self.num_entities = check_positive_integer("num_entities", num_entities)
        self.temperature = temperature
        self.key_dim = None if key_dim is None else check_positive_integer("key_dim", key_dim)
        self.pool_size = check_positive_integer("pool_size", pool_size)
        self.self_sampling = self_sampling
        self.value_projection = value_projection
        self.statistics = statistics
        self.affine = affine
        self.orthogonality = orthogonality
        self.orthogonal_weight = orthogonal_weight
        self.epsilon = epsilon
        self.entity_initializer = keras.initializers.get(entity_initializer)
        self.entity_regularizer = keras.regularizers.get(entity_regularizer)
        self.entity_constraint = keras.constraints.get(entity_constraint)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.alpha_initializer = keras.initializers.get(alpha_initializer)
        self.alpha_regularizer = keras.regularizers.get(alpha_regularizer)
        self.alpha_constraint = keras.constraints.get(alpha_constraint)
        self.residual_initializer = keras.initializers.get(residual_initializer)
        self.residual_multiplier = residual_multiplier
        self.seed = None if seed is None else operator.index(seed)
        self.data_format = data_format or keras.backend.image_data_format()
        self.supports_masking = True
        if self_sampling:
            self.seed_generator = SeedGenerator(self.seed)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (3, 4, 5):
            raise ValueError(
                "`AttentiveNormalization` takes inputs with 1, 2 or 3 spatial dimensions, (batch, *spatial, channels). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if channels is None:
            raise ValueError(
                "The number of channels of the input to `AttentiveNormalization` must be known. "
                f"Received: input_shape={tuple(input_shape)} with data_format={self.data_format!r}"
            )
        self.entities = self._add_parameter(
            "entities",
            (self.num_entities, channels),
            # Fan-out of (entities, channels) is the number of channels.
            self.entity_initializer
            or keras.initializers.VarianceScaling(
                self.temperature**-2, mode="fan_out", distribution="untruncated_normal", seed=self.seed
            ),
            self._entity_penalty(),
            self.entity_constraint,
        )
        if self.self_sampling:
            key_dim = self.key_dim or max(channels // 8, 1)
            self.query_kernel = self._add_kernel("query_kernel", (channels, key_dim), 0)
            self.query_bias = self._add_parameter("query_bias", (key_dim,), "zeros")
            self.key_kernel = self._add_kernel("key_kernel", (channels, key_dim), 1)
            self.key_bias = self._add_parameter("key_bias", (key_dim,), "zeros")
            self.sampling_weight = self._add_parameter(
                "sampling_weight", (self.num_entities,), keras.initializers.Constant(0.1)
            )
        if self.value_projection:
            self.value_kernel = self._add_kernel("value_kernel", (channels, channels), 2)
            if self.statistics == "released":  # A region's own mean takes the bias out again.
                self.value_bias = self._add_parameter("value_bias", (channels,), "zeros")
        if self.affine:
            shape = (self.num_entities, channels)
            self.beta = self._add_parameter(
                "beta", shape, self.beta_initializer, self.beta_regularizer, self.beta_constraint
            )
            self.alpha = self._add_parameter(
                "alpha", shape, self.alpha_initializer, self.alpha_regularizer, self.alpha_constraint
            )
        self.residual_weight = self._add_parameter("residual_weight", (), self.residual_initializer)
        axis = 1 if self.data_format == "channels_first" else -1
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={axis: channels})
        self.built = True

    @property
    def rho(self) -> Tensor:
        """The weight of the regional normalisation in the output, a scalar tensor."""
        return self.residual_multiplier * ops.convert_to_tensor(self.residual_weight)

    @property
    def sampling_state(self):
        """The random state of self-sampling. It is not in `weights`, but files and checkpoints hold it."""
        return self.seed_generator.state

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        """What `tf.train.Checkpoint` and SavedModel find, which follow attributes and know no `SeedGenerator`."""
        children = super()._trackable_children(save_type, **kwargs)
        return {**children, "sampling_state": self.sampling_state} if self.self_sampling else children

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.self_sampling:
            store[str(len(self.weights))] = self.sampling_state.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what a layer with the same arguments saved; only `self_sampling` may differ."""
        weights, entries = list(self.weights), list(range(len(store.keys())))
        if not self.self_sampling:
            if len(entries) == len(weights) + _NUM_SAMPLING_WEIGHTS + 1:
                entries = _without_sampling(entries[:-1])
        elif len(entries) == len(weights) - _NUM_SAMPLING_WEIGHTS:
            weights = _without_sampling(weights)
        else:
            weights.append(self.sampling_state)
        if len(entries) != len(weights):
            raise ValueError(
                f"The built layer `{self.name}` takes as many weights and states from a file as it has, "
                f"{len(weights)}. Received: a file with {len(entries)} and built={self.built}"
            )
        for weight, entry in zip(weights, entries):
            weight.assign(store[str(entry)])

    def _add_parameter(self, name, shape, initializer, regularizer=None, constraint=None):
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=wide_dtype(self.compute_dtype),
            initializer=initializer,
            regularizer=regularizer,
            constraint=constraint,
            **NO_AUTOCAST,
        )

    def _add_kernel(self, name, shape, index):
        # One initializer, or one seed, gives the same values at each call; query and key must not start equal.
        initializer = self.kernel_initializer
        config = initializer.get_config() if isinstance(initializer, keras.initializers.Initializer) else {}
        seed = config.get("seed")
        if config and (seed is None or isinstance(seed, int)):  # other seeds move on by themselves
            seeds = {} if seed is None else {"seed": seed + index}
            initializer = type(initializer).from_config({**config, **seeds})
        return self._add_parameter(name, shape, initializer, self.kernel_regularizer, self.kernel_constraint)

    def _entity_penalty(self):
        """The regularizer of W: orthogonality, the user's own, both added up, or None."""
        if self.orthogonality is None:
            return self.entity_regularizer
        penalty = OrthogonalEntities(self.orthogonal_weight, self.orthogonality)
        return _Sum(penalty, self.entity_regularizer) if self.entity_regularizer else penalty

    def call(
        self,
        inputs: Tensor,
        training: Optional[bool] = None,
        return_layout: bool = False,
        mask: Optional[Tensor] = None,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        _check_floating(inputs)
        features = ops.cast(inputs, wide_dtype(self.compute_dtype))
        if self.data_format == "channels_first":
            features = ops.moveaxis(features, 1, -1)
        *outer, channels = ops.shape(features)  # outer: batch, *spatial
        flat = ops.reshape(features, (outer[0], math.prod(outer[1:]), channels))  # (batch, positions, channels)
        received, keys, valid = flat, None, None
        if mask is not None:
            valid = _valid_positions(mask, outer)  # (batch, positions, 1)
            flat = fill_padding(flat, valid)
        if training and self.self_sampling and 0 not in tuple(flat.shape):
            flat, keys = self._sampled_keys(flat, outer, valid)
        layout = self._layout(flat, keys)
        if mask is not None:
            layout = ops.where(valid, layout, ops.zeros_like(layout))
        outputs = flat + self._normalize(flat, layout, valid)
        if mask is not None:
            outputs = ops.where(valid, outputs, received)
        outputs = ops.reshape(outputs, (*outer, channels))
        if self.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 1)
        if self.compute_dtype == "float16":
            outputs = ops.clip(outputs, -65504.0, 65504.0)  # finite, as far as the sum is
        outputs = ops.cast(outputs, self.compute_dtype)
        if return_layout:
            return outputs, ops.reshape(layout, (*outer, self.num_entities))
        return outputs

    def compute_output_shape(
        self, input_shape: Shape, return_layout: bool = False
    ) -> Union[Shape, tuple[Shape, Shape]]:
        batch_size, *others = shape = tuple(input_shape)
        spatial = others[1:] if self.data_format == "channels_first" else others[:-1]
        return (shape, (batch_size, *spatial, self.num_entities)) if return_layout else shape

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: Optional[bool] = None,
        return_layout: bool = False,
        mask: Optional[Tensor] = None,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        _check_floating(inputs)
        outputs, layout = self.compute_output_shape(inputs.shape, return_layout=True)
        outputs = tensor_spec(outputs, self.compute_dtype)
        return (outputs, tensor_spec(layout, wide_dtype(self.compute_dtype))) if return_layout else outputs

    def get_layout(self, inputs: Tensor, training: Optional[bool] = None, mask: Optional[Tensor] = None) -> Tensor:
        """The soft layout of `inputs`, `(batch, *spatial, num_entities)`, as `return_layout=True` returns it."""
        return self(inputs, training=training, return_layout=True, mask=mask)[1]

    def _layout(self, flat, keys):
        """The layout `(batch, positions, entities)`; q, k and W are linear, so they fold into one filter per image."""
        filters, bias = self.entities, None  # (entities, channels)
        if keys is not None:
            weight = self.sampling_weight
            if self.statistics == "released":
                weight = ops.clip(weight, 0.0, 1.0)
            keys = keys * weight[:, None]  # (batch, entities, key_dim)
            filters = filters + keys @ ops.transpose(self.query_kernel)  # (batch, entities, channels)
            bias = ops.sum(keys * self.query_bias, axis=-1)[:, None]  # (batch, 1, entities)
            filters = ops.clip(filters, -1e15, 1e15)  # of huge features, whose products would overflow
        return soft_layout(flat, filters, bias, self.temperature)

    def _sampled_keys(self, flat, outer, valid):
        """`flat`, whose gradient takes theirs, and max-pooled keys of windows, `(batch, num_entities, key_dim)`."""
        batch_size, *spatial = outer
        # What is known must stay an integer: under JAX's jit a product of `ops` is not.
        grid = [
            max(size // self.pool_size, 1)
            if isinstance(size, int)
            else ops.maximum(ops.cast(size // self.pool_size, "int32"), 1)
            for size in spatial
        ]
        if valid is None:
            windows = sample_positions(batch_size, math.prod(grid), self.num_entities, self.seed_generator)
        else:
            windows = sample_valid_windows(
                valid[..., 0], grid, spatial, self.pool_size, self.num_entities, self.seed_generator
            )
        indices = window_positions(windows, grid, spatial, self.pool_size)  # (batch, entities, window)
        indices = indices + (ops.arange(batch_size, dtype="int32") * math.prod(spatial))[:, None, None]
        num_rows = batch_size * math.prod(spatial)
        rows, taken = take_rows(ops.reshape(flat, (num_rows, flat.shape[-1])), indices)  # (batch * positions, channels)
        keys = project(taken, self.key_kernel) + self.key_bias
        return ops.reshape(rows, ops.shape(flat)), ops.max(keys, axis=2)

    def _normalize(self, flat, layout, valid):
        """rho times the regional normalisation: `(batch, positions, channels)`."""
        # rho multiplies beta and alpha, (entities, channels), rather than every position.
        shape = (self.num_entities, flat.shape[-1])
        rho = self.rho
        beta = rho * (self.beta if self.affine else ops.ones(shape, dtype=flat.dtype))
        alpha = rho * (self.alpha if self.affine else ops.zeros(shape, dtype=flat.dtype))
        if self.statistics == "released":
            values = project(flat, self.value_kernel) + self.value_bias if self.value_projection else flat
            num_positions = None if valid is None else ops.sum(ops.cast(valid, flat.dtype), axis=1, keepdims=True)
            mean, deviation = released_region_moments(values, layout, num_positions=num_positions)
            return normalize_regions(values, layout, mean, beta / (deviation + 1e-7), alpha)
        # What is subtracted from X adds the same to every v(X), which drops out of them.
        values = project(center(flat), self.value_kernel) if self.value_projection else flat
        return regional_normalization(values, layout, beta, alpha, self.epsilon, is_centered=self.value_projection)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_entities": self.num_entities,
            "temperature": self.temperature,
            "key_dim": self.key_dim,
            "pool_size": self.pool_size,
            "self_sampling": self.self_sampling,
            "value_projection": self.value_projection,
            "statistics": self.statistics,
            "affine": self.affine,
            "orthogonality": self.orthogonality,
            "orthogonal_weight": self.orthogonal_weight,
            "epsilon": self.epsilon,
            "entity_initializer": self.entity_initializer and keras.initializers.serialize(self.entity_initializer),
            "seed": self.seed,
            "data_format": self.data_format,
            "entity_regularizer": keras.regularizers.serialize(self.entity_regularizer),
            "entity_constraint": keras.constraints.serialize(self.entity_constraint),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "alpha_initializer": keras.initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": keras.regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": keras.constraints.serialize(self.alpha_constraint),
            "residual_initializer": keras.initializers.serialize(self.residual_initializer),
            "residual_multiplier": self.residual_multiplier,
        }


class _Sum(keras.regularizers.Regularizer):
    """Several regularizers in one; Keras 3.10 takes no function for it."""

    def __init__(self, *parts):
        self.parts = parts

    def __call__(self, weight):
        return sum(part(weight) for part in self.parts)


def _check_floating(inputs):
    if "float" not in str(inputs.dtype):
        raise ValueError(f"`AttentiveNormalization` takes floating-point inputs. Received: dtype={inputs.dtype}")


def _without_sampling(entries):
    """A list in the order of the weights, without those of self-sampling, which come behind the entities."""
    return entries[:1] + entries[1 + _NUM_SAMPLING_WEIGHTS :]


def _valid_positions(mask, outer):
    """A mask of `outer`, (batch, *spatial), or of its first axes, as boolean `(batch, positions, 1)`."""
    mask = ops.cast(mask, "bool")
    shape = ops.shape(mask)
    if not 1 <= len(shape) <= len(outer):
        raise ValueError(
            "`mask` must be of (batch, *spatial) or of its first axes. "
            f"Received: a mask of {len(shape)} dimensions for {len(outer) - 1} spatial ones"
        )
    mask = ops.broadcast_to(ops.reshape(mask, (*shape, *[1] * (len(outer) - len(shape)))), outer)
    return ops.reshape(mask, (outer[0], math.prod(outer[1:]), 1))
