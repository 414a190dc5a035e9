"""The same weights give the same outputs on every Keras: TensorFlow, JAX, PyTorch, Keras 2, tf-keras.

Needs no TensorFlow. `python tests/package/golden_test.py` writes the golden file, on the Keras that runs.
"""

import numpy as np
import pytest

import keras_an
from golden_test_case import CASES, FEATURES, GOLDEN, fill
from keras_an import losses
from layer_test_case import array, tensors


def outputs_of(name):
    layer, inputs, *scale = CASES[name]()
    inputs = tensors(inputs)
    layer(inputs)
    fill(layer, *scale)
    return array(layer(inputs))


@pytest.mark.parametrize("name", sorted(CASES))
def test_outputs_equal_the_golden_file(name):
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(outputs_of(name), golden[name], rtol=1e-5, atol=1e-5)


def test_layout_equals_the_golden_file():
    layer = keras_an.AttentiveNormalization(5)
    layer(tensors(FEATURES))
    fill(layer)
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(array(layer.get_layout(tensors(FEATURES))), golden["layout"], atol=1e-6)


def test_hinge_losses_equal_their_formulas():
    real, fake = np.linspace(-2, 2, 7, dtype="float32"), np.linspace(-1, 3, 7, dtype="float32")
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    found = losses.discriminator_hinge_loss(tensors(real), fake_logits=tensors(fake))
    np.testing.assert_allclose(array(found), expected, rtol=1e-6)
    np.testing.assert_allclose(array(losses.generator_hinge_loss(tensors(fake))), -fake.mean(), rtol=1e-6)


def test_self_sampling_obeys_seed_and_training():
    def runs(seed):
        layer = keras_an.AttentiveNormalization(5, seed=seed)
        layer(tensors(FEATURES))
        fill(layer)
        inference = [array(layer(tensors(FEATURES))) for _ in range(2)]
        return inference, [array(layer(tensors(FEATURES), training=True)) for _ in range(2)]

    inference, training = runs(7)
    _, again = runs(7)
    _, other = runs(8)
    np.testing.assert_array_equal(inference[0], inference[1])
    np.testing.assert_array_equal(training, again)
    assert np.abs(training[0] - training[1]).max() > 1e-4
    assert np.abs(training[0] - other[0]).max() > 1e-4


if __name__ == "__main__":
    layer = keras_an.AttentiveNormalization(5)
    layer(tensors(FEATURES))
    fill(layer)
    layout = array(layer.get_layout(tensors(FEATURES)))
    np.savez_compressed(GOLDEN, layout=layout, **{name: outputs_of(name) for name in CASES})
