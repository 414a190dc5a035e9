"""What networks cost, against counts by hand."""

from gan_test_case import small_params
from keras_an import AttentiveNormalization
from keras_an.backend import keras
from trainers.configs.networks import build_networks
from trainers.monitoring import cost


def network():
    image = keras.Input((8, 8, 3))
    label = keras.Input((5,))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(image))
    return keras.Model([image, label], keras.layers.Concatenate()([features, keras.layers.Dense(2)(label)]))


def test_parameters_are_those_of_the_kernels_and_biases():
    assert cost.count_parameters(network()) == 3 * 3 * 3 * 4 + 5 * 2 + 2


def test_operations_are_twice_the_multiplications_and_little_more():
    multiplications = 8 * 8 * 9 * 3 * 4 + 5 * 2
    assert 2 * multiplications <= cost.count_flops(network()) < 2.1 * multiplications


def test_operations_of_attentive_normalization_are_those_of_its_five_products():
    features = keras.Input((16, 16, 8))
    flops = cost.count_flops(keras.Model(features, AttentiveNormalization(4)(features)))
    products = 5 * 2 * 256 * 8 * 4  # layout, two moments, two mixtures
    elementwise = 256 * (8 * 12 + 4 * 12)
    assert products <= flops < products + elementwise


def test_description_names_every_network_with_its_numbers():
    generator, discriminator = build_networks(small_params())
    text = cost.describe({"generator": generator, "discriminator": discriminator})
    assert f"| generator | {cost.count_parameters(generator):,} | " in text
    assert f"| discriminator | {cost.count_parameters(discriminator):,} | " in text
