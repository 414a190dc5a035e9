"""The penalty on entities that point the same way, as a function and as a regularizer."""

import numpy as np
import pytest

from attentive_normalization_test_case import penalty
from keras_an.backend import keras
from keras_an.ops import orthogonality
from keras_an.regularizers import OrthogonalEntities
from layer_test_case import dtype_of, gradients, tensors


@pytest.fixture
def entities():
    return 2.0 * np.random.default_rng(0).normal(size=(4, 6))


@pytest.mark.parametrize("mode", ["cosine", "frobenius"])
def test_value_is_the_frobenius_norm(entities, mode):
    value = orthogonality(tensors(entities.astype(np.float32)), mode)
    assert dtype_of(value) == "float32" and tuple(value.shape) == ()
    np.testing.assert_allclose(value, penalty(entities, mode), rtol=1e-5)


@pytest.mark.parametrize("mode", ["cosine", "frobenius"])
@pytest.mark.parametrize("seed", range(5))
def test_value_is_never_negative(mode, seed):
    entities = np.random.default_rng(seed).normal(size=(5, 3)) * 10.0 ** (seed - 2)
    assert float(orthogonality(tensors(entities.astype(np.float32)), mode)) > 0


def test_orthogonal_rows_have_no_penalty(entities):
    rows, _ = np.linalg.qr(entities.T)
    assert float(orthogonality(tensors(rows.T.astype(np.float32)), "frobenius")) < 1e-10
    assert float(orthogonality(tensors((5 * rows.T).astype(np.float32)), "cosine")) < 1e-10
    assert float(orthogonality(tensors((5 * rows.T).astype(np.float32)), "frobenius")) > 1


def test_cosine_ignores_lengths(entities):
    scaled = entities * np.array([[1e-3], [1.0], [7.0], [1e3]])
    one, other = (float(orthogonality(tensors(w.astype(np.float32)))) for w in (entities, scaled))
    assert one == pytest.approx(other, rel=1e-4)


def test_cosine_is_finite_for_a_row_of_zeros(entities):
    entities[1] = 0.0
    entities = entities.astype(np.float32)
    (gradient,) = gradients(orthogonality, [entities], [])
    assert np.isfinite(orthogonality(tensors(entities))) and np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", ["cosine", "frobenius"])
def test_regularizer_weighs_the_penalty(entities, mode):
    regularizer = OrthogonalEntities(weight=0.25, mode=mode)
    value = regularizer(tensors(entities.astype(np.float32)))
    np.testing.assert_allclose(value, 0.25 * penalty(entities, mode), rtol=1e-5)


def test_regularizer_survives_its_configuration():
    regularizer = OrthogonalEntities(weight=0.5, mode="frobenius")
    restored = keras.regularizers.get(keras.regularizers.serialize(regularizer))
    assert isinstance(restored, OrthogonalEntities)
    assert restored.get_config() == regularizer.get_config() == {"weight": 0.5, "mode": "frobenius"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mode": "l2"}, r"`mode` must be one of \('cosine', 'frobenius'\)\. Received: mode='l2'"),
        ({"weight": -0.5}, r"`weight` must not be negative\. Received: weight=-0\.5"),
    ],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        OrthogonalEntities(**arguments)
