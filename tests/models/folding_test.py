"""A folded network says what its original says, without a wrapper."""

import numpy as np
import pytest

from keras_an import models
from keras_an.backend import keras
from keras_an.layers import SpectralNormalization
from layer_test_case import array, randomize_weights, tensors

COMMON = {"resolution": 16, "num_classes": 3, "base_channels": 4, "attention_blocks": (1,), "image_channels": 1}


def trained_generator(attention):
    """A generator whose weights and vectors u are none of a start's."""
    generator = models.residual_generator(latent_dim=5, attention=attention, num_entities=3, **COMMON)
    randomize_weights(generator)
    generator(inputs_of(4, 1), training=True)
    return generator


def inputs_of(size, seed=0):
    random = np.random.default_rng(seed)
    return tensors([random.normal(size=(size, 5)).astype(np.float32), np.arange(size, dtype=np.int32) % 3])


@pytest.mark.parametrize("attention", ["none", "self_attention", "attentive_normalization"])
def test_folded_generator_gives_the_same_images(attention):
    generator = trained_generator(attention)
    folded = models.fold_spectral_normalization(generator)
    assert not any(isinstance(layer, SpectralNormalization) for layer in folded.layers)
    inputs = inputs_of(3)
    expected = array(generator(inputs, training=False))
    assert expected.std() > 0.01
    np.testing.assert_allclose(array(folded(inputs, training=False)), expected, atol=2e-6)


def test_vectors_of_the_power_iteration_are_gone_and_nothing_else():
    generator = trained_generator("attentive_normalization")
    folded = models.fold_spectral_normalization(generator)
    wrapped = sum(isinstance(layer, SpectralNormalization) for layer in generator.layers)
    assert wrapped > 0 and len(folded.weights) == len(generator.weights) - wrapped


def test_the_original_is_left_as_it_was_and_shares_nothing():
    generator = trained_generator("attentive_normalization")
    before = generator.get_weights()
    folded = models.fold_spectral_normalization(generator)
    for weight in folded.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    for weight, old in zip(generator.get_weights(), before):
        np.testing.assert_array_equal(weight, old)


def test_discriminator_is_folded_with_its_embedding():
    discriminator = models.projection_discriminator(num_entities=3, **COMMON)
    randomize_weights(discriminator)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype(np.float32)
    labels = np.array([0, 1, 2], np.int32)
    expected = array(discriminator([images, labels], training=False))
    folded = models.fold_spectral_normalization(discriminator)
    np.testing.assert_allclose(array(folded([images, labels], training=False)), expected, rtol=1e-5, atol=1e-5)


def test_model_without_spectral_normalization_is_copied():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(array(models.fold_spectral_normalization(model)(x)), array(model(x)))


def assert_folds(model, inputs):
    """The model's folded copy has no wrapper in it and gives the same; returns it."""
    randomize_weights(model)
    model(inputs, training=True)
    folded = models.fold_spectral_normalization(model)
    assert not any(isinstance(layer, SpectralNormalization) for layer in folded._flatten_layers())
    expected = array(model(inputs, training=False))
    assert expected.std() > 0.01
    np.testing.assert_allclose(array(folded(inputs, training=False)), expected, rtol=1e-5, atol=1e-5)
    return folded


def dense(units=4, name="dense"):
    return SpectralNormalization(keras.layers.Dense(units, name=name))


def features_of(*shape):
    return tensors(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32))


def test_nested_models_are_folded_with_what_they_share():
    shared = dense(name="shared")
    first = keras.Sequential([keras.Input((4,)), dense(), shared], name="first")
    inputs = keras.Input((4,))
    second = keras.Model(inputs, first(shared(dense()(inputs))), name="second")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, second(first(dense()(inputs))))
    folded = assert_folds(model, features_of(4))
    assert [layer.name for layer in folded.layers[1:]] == ["sn_dense", "first", "second"]
    nested = folded.get_layer("second")
    assert nested.get_layer("first") is folded.get_layer("first")
    assert nested.get_layer("shared") is folded.get_layer("first").get_layer("shared")
    assert len(folded.trainable_weights) == len(model.trainable_weights)


def test_wrapped_layers_whose_names_are_taken_have_their_wrappers():
    inputs = keras.Input((4,))
    layers = [
        SpectralNormalization(keras.layers.Dense(4, name="same"), name="first"),
        SpectralNormalization(keras.layers.Dense(4, name="same"), name="second"),
        SpectralNormalization(keras.layers.Dense(4, name="plain"), name="third"),
        keras.layers.Dense(4, name="plain"),
        SpectralNormalization(keras.layers.Dense(4, name="free"), name="fourth"),
        SpectralNormalization(keras.layers.Dense(4, name="first"), name="fifth"),
    ]
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    folded = assert_folds(keras.Model(inputs, outputs), features_of(4))
    names = [layer.name for layer in folded.layers[1:]]
    assert names == ["first", "second", "third", "plain", "free", "fifth"]


def test_models_without_wrappers_are_copied_in_their_own_way():
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(4)

        def call(self, inputs):
            return self.dense(inputs)

        def get_config(self):
            return {"name": self.name}

    inputs = keras.Input((4,))
    assert_folds(keras.Model(inputs, Subclassed()(dense()(inputs))), features_of(4))


def test_operations_between_layers_stay():
    inputs = keras.Input((4,))
    hidden = dense()(inputs)
    assert_folds(keras.Model(inputs, hidden * 2.0 + inputs), features_of(4))


def test_layers_inside_of_other_wrappers_are_folded():
    inputs = keras.Input((2, 4))
    model = keras.Model(inputs, keras.layers.TimeDistributed(dense(), name="frames")(inputs))
    folded = assert_folds(model, features_of(2, 4))
    assert isinstance(folded.get_layer("frames").layer, keras.layers.Dense)


def test_models_built_by_a_call_are_folded():
    model = keras.Sequential([dense(), keras.layers.ReLU(), dense(5, "last")])
    model(features_of(4))
    assert_folds(model, features_of(4))


def test_a_layer_that_makes_its_own_wrappers_is_an_error():
    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = dense()

        def build(self, input_shape):
            self.dense.build(input_shape)
            self.built = True

        def call(self, inputs):
            return self.dense(inputs)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    with pytest.raises(ValueError, match=r"Received: layer='block' of type Block"):
        models.fold_spectral_normalization(model)


def test_folded_models_can_be_quantized():
    if not hasattr(keras.Model, "quantize"):
        pytest.skip("Keras 2 quantises no models")
    model = keras.Sequential([keras.Input((4,)), dense(8, "first"), dense(3, "last")])
    folded = assert_folds(model, features_of(4))
    folded.quantize("int8")
    assert folded.get_layer("first").quantization_mode == "int8"
    np.testing.assert_allclose(array(folded(features_of(4))), array(model(features_of(4))), atol=0.1)
