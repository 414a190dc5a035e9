"""Losses for `compile` against the functions whose names they have."""

import numpy as np
import pytest

from keras_an import losses
from keras_an.backend import keras
from layer_test_case import array, gradients, record_gradients, tensors

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(7, 1)).astype(np.float32)
REAL = np.array([1, 0, 0, 1, 0, 0, 0], np.float32)
PAIRS = [
    (losses.DiscriminatorHingeLoss, lambda real, fake: losses.discriminator_hinge_loss(real, fake_logits=fake)),
    (losses.CriticWassersteinLoss, lambda real, fake: losses.critic_wasserstein_loss(real, fake_scores=fake)),
]


@pytest.mark.parametrize("loss_class, function", PAIRS)
@pytest.mark.parametrize("labels", [REAL, REAL[:, None], 2 * REAL - 1, REAL.astype(np.int32)], ids=str)
def test_a_mixed_batch_is_the_function_of_its_parts(loss_class, function, labels):
    expected = array(function(tensors(LOGITS[REAL > 0]), tensors(LOGITS[REAL == 0])))
    np.testing.assert_allclose(array(loss_class()(tensors(labels), tensors(LOGITS))), expected, rtol=1e-5)


@pytest.mark.parametrize("loss_class, function", PAIRS)
def test_a_batch_of_one_kind_has_one_part(loss_class, function):
    for labels, arguments in ((np.ones(7), (LOGITS, [-1e9])), (np.zeros(7), ([1e9], LOGITS))):
        if loss_class is losses.DiscriminatorHingeLoss:  # the other part of the hinge loss is 0 there
            real, fake = (tensors(np.asarray(part, np.float32)) for part in arguments)
            np.testing.assert_allclose(
                array(loss_class()(tensors(labels), tensors(LOGITS))), array(function(real, fake))
            )
        else:
            expected = LOGITS.mean() * (-1 if labels[0] else 1)
            np.testing.assert_allclose(array(loss_class()(tensors(labels), tensors(LOGITS))), expected, rtol=1e-5)


@pytest.mark.parametrize("loss_class, function", PAIRS)
def test_gradients_are_the_functions(loss_class, function):
    (found,) = gradients(lambda logits: loss_class()(tensors(REAL), logits), [LOGITS], [])
    real, fake = gradients(function, [LOGITS[REAL > 0], LOGITS[REAL == 0]], [])
    np.testing.assert_allclose(found[REAL > 0], real, rtol=1e-5)
    np.testing.assert_allclose(found[REAL == 0], fake, rtol=1e-5)


@pytest.mark.parametrize("loss_class", [pair[0] for pair in PAIRS])
def test_other_numbers_of_labels_are_errors(loss_class):
    with pytest.raises(ValueError, match=r"as many labels as logits\. Received: shapes \(6,\) and \(7, 1\)"):
        loss_class()(tensors(REAL[:6]), tensors(LOGITS))


@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_id_mrf_is_the_function(bandwidth):
    target, features = (RANDOM.normal(size=(2, 3, 4, 5)).astype(np.float32) for _ in range(2))
    expected = array(losses.id_mrf_loss(tensors(target), tensors(features), bandwidth))
    np.testing.assert_allclose(
        array(losses.IdMrfLoss(bandwidth)(tensors(target), tensors(features))), expected, rtol=1e-6
    )


@pytest.mark.parametrize(
    "loss", [losses.DiscriminatorHingeLoss(), losses.CriticWassersteinLoss(), losses.IdMrfLoss(2.0)]
)
def test_losses_are_saved_with_a_model(loss, tmp_path):
    model = keras.Sequential([keras.Input((3, 4, 5)), keras.layers.Dense(5)])
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").loss
    assert type(loaded) is type(loss) and loaded.get_config() == loss.get_config()


def test_fit_tells_real_from_generated():
    images = np.concatenate([RANDOM.normal(1, 1, size=(32, 4)), RANDOM.normal(-1, 1, size=(32, 4))]).astype(np.float32)
    labels = np.repeat([1, 0], 32)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), losses.DiscriminatorHingeLoss())
    with record_gradients(True):
        model.fit(images, labels, batch_size=16, epochs=20, verbose=0)
    logits = array(model(tensors(images)))[:, 0]
    assert np.mean((logits > 0) == labels) > 0.9


@pytest.mark.parametrize("name", ["discriminator_hinge_loss", "critic_wasserstein_loss", "gradient_penalty"])
def test_functions_that_would_take_labels_for_logits_are_refused(name):
    images = np.zeros((4, 2, 2, 1), np.float32)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Dense(1)])
    model.compile("sgd", getattr(losses, name))
    with pytest.raises(TypeError, match=f"{name}.. takes 1 positional argument but 2"):
        model.fit(images, images, verbose=0)
