"""Reconstruction losses against NumPy loops."""

import numpy as np
import pytest

from keras_an.backend import ops
from keras_an.losses import id_mrf_loss, l1_loss, spatial_discount
from layer_test_case import array, dtype_of, gradients, tensors


def images(seed, shape=(2, 4, 5, 3)):
    return np.random.default_rng(seed).uniform(-1, 1, size=shape).astype(np.float32)


def holes(seed=2, shape=(2, 4, 5, 1)):
    return (np.random.default_rng(seed).uniform(size=shape) > 0.5).astype(np.float32)


@pytest.mark.parametrize("part", ["hole", "known"])
def test_l1_is_the_mean_over_images_of_that_over_the_pixels_of_a_part(part):
    target, prediction, mask = images(0), images(1), holes()
    weights = mask if part == "hole" else 1 - mask
    means = []
    for image in range(2):
        errors = [
            abs(float(target[(image, *index)]) - float(prediction[(image, *index)]))
            for index in np.ndindex(*target.shape[1:])
            if weights[(image, *index[:2], 0)] > 0
        ]
        means.append(np.mean(errors))
    assert np.sum(weights[0]) != np.sum(weights[1])
    np.testing.assert_allclose(l1_loss(*tensors([target, prediction, weights])), np.mean(means), rtol=1e-5)


def test_l1_weighs_pixels_and_counts_them():
    """A weight of half halves a pixel's error, and not the number of pixels."""
    target, prediction, mask = images(0), images(1), holes()
    weights = mask * np.random.default_rng(3).uniform(0.1, 1.0, size=mask.shape).astype(np.float32)
    sums = (weights * np.abs(target - prediction)).sum(axis=(1, 2, 3))
    expected = np.mean(sums / (3 * mask.sum(axis=(1, 2, 3))))
    np.testing.assert_allclose(l1_loss(*tensors([target, prediction, weights])), expected, rtol=1e-5)
    whole = l1_loss(*tensors([target, prediction, mask]))
    np.testing.assert_allclose(l1_loss(*tensors([target, prediction, mask / 2])), whole / 2, rtol=1e-5)


def test_l1_without_a_pixel_is_0_and_has_no_gradient():
    target, prediction, weights = images(0), images(1), np.zeros((2, 4, 5, 1), np.float32)
    assert float(l1_loss(*tensors([target, prediction, weights]))) == 0.0
    (found,) = gradients(
        lambda prediction: l1_loss(*tensors([target]), prediction, *tensors([weights])), [prediction], []
    )
    assert (found == 0).all()


def test_l1_does_not_see_what_does_not_count():
    """Not even where it is not a number, nor do its gradients."""
    target, prediction, weights = images(0), images(1), holes()
    expected = float(l1_loss(*tensors([target, prediction, weights])))
    unseen = np.broadcast_to(weights == 0, target.shape)
    target[unseen] = np.nan
    prediction[unseen] = np.inf
    found = gradients(lambda *pictures: l1_loss(*pictures, *tensors([weights])), [target, prediction], [])
    assert float(l1_loss(*tensors([target, prediction, weights]))) == expected
    assert all(np.isfinite(gradient).all() and (gradient[unseen] == 0).all() for gradient in found)
    assert all((gradient[~unseen] != 0).all() for gradient in found)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, -0.5])
def test_a_discount_that_does_not_fall_is_an_error(gamma):
    with pytest.raises(ValueError, match=rf"`gamma` must lie between 0 and 1\. Received: gamma={gamma}"):
        spatial_discount(tensors(holes()), gamma)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_of_half_precision_are_float32(dtype):
    """Nine thousand errors of 1 have a mean of 1, which half precision cannot add up."""
    ones = np.ones((1, 96, 96, 1), np.float32)
    loss = l1_loss(*(ops.cast(values, dtype) for values in (ones, 0 * ones, ones)))
    assert dtype_of(loss) == "float32" and tuple(loss.shape) == ()
    np.testing.assert_allclose(loss, 1.0, rtol=1e-6)
    features = ops.cast(images(0, (2, 3, 3, 4)), dtype)
    assert dtype_of(id_mrf_loss(features, features)) == "float32"
    assert dtype_of(spatial_discount(ops.cast(holes(), dtype), reach=2)) == "float32"


def chessboard_distances(mask, reach):
    """Steps to the nearest known pixel of an image by way of the eight neighbours, at most `reach`."""
    distances = np.full(mask.shape, reach)
    known = np.argwhere(mask == 0)
    for position in np.argwhere(mask == mask):
        if len(known):
            distances[tuple(position)] = min(reach, np.abs(known - position).max(axis=1).min())
    return distances


@pytest.mark.parametrize("gamma, reach", [(0.9, 64), (0.5, 3)])
def test_discount_is_a_power_of_the_distance(gamma, reach):
    mask = np.zeros((4, 15, 12, 1), np.float32)
    mask[0, 3:14, 2:11] = 1
    mask[1, 5:] = 1  # to the border of the image, where nothing is known
    mask[2] = holes(4, (15, 12, 1))
    mask[3] = 1
    mask[3, 0, 0] = 0
    expected = np.stack([gamma ** chessboard_distances(part[..., 0], reach)[..., None] for part in mask])
    found = array(spatial_discount(tensors(mask), gamma, reach))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found[mask == 0] == 1).all() and found[0, 3, 2, 0] == pytest.approx(gamma)


def test_discount_has_a_floor():
    found = array(spatial_discount(tensors(np.ones((1, 5, 5, 1), np.float32)), 0.8, 4))
    np.testing.assert_allclose(found, np.full((1, 5, 5, 1), 0.8**4), rtol=1e-5)


def reference_id_mrf(targets, features, bandwidth):
    """Patch by patch in float64."""
    targets, features = np.asarray(targets, np.float64), np.asarray(features, np.float64)
    mean = targets.mean(axis=(0, 1, 2))
    losses = []
    for target, feature in zip(targets, features):
        rows, others = (x.reshape(-1, x.shape[-1]) - mean for x in (feature, target))
        weights = np.empty((len(rows), len(others)))
        for p, row in enumerate(rows):
            distances = np.array(
                [(1 - row @ other / (np.linalg.norm(row) * np.linalg.norm(other))) / 2 for other in others]
            )
            exponentials = np.exp((1 - distances / (distances.min() + 1e-5)) / bandwidth)
            weights[p] = exponentials / exponentials.sum()
        losses.append(-np.log(np.mean([max(weights[:, q]) for q in range(len(others))])))
    return np.mean(losses)


@pytest.mark.parametrize("bandwidth", [0.5, 1.5])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 2, 8)])
def test_id_mrf_is_that_of_the_equations(shape, bandwidth):
    target, features = (np.random.default_rng(seed).normal(1.0, 1.0, shape).astype(np.float32) for seed in (0, 1))
    found = id_mrf_loss(*tensors([target, features]), bandwidth)
    assert tuple(found.shape) == () and float(found) > 0
    np.testing.assert_allclose(found, reference_id_mrf(target, features, bandwidth), rtol=2e-4)


def test_id_mrf_takes_half_as_its_bandwidth():
    target, features = tensors([images(0), images(1)])
    np.testing.assert_allclose(id_mrf_loss(target, features), id_mrf_loss(target, features, 0.5), rtol=1e-6)


@pytest.mark.filterwarnings("error:You are using a softmax")
def test_id_mrf_of_one_patch_warns_of_nothing():
    one = np.ones((2, 1, 1, 3), np.float32)
    np.testing.assert_allclose(id_mrf_loss(*tensors([one, one])), 0.0, atol=1e-6)


def test_id_mrf_asks_for_every_patch_of_the_target():
    """Equal features have next to no loss; one of its patches everywhere leaves the others without any near them."""
    target = np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype(np.float32)
    order = np.random.default_rng(1).permutation(16)
    moved = target.reshape(2, 16, 16)[:, order].reshape(target.shape)
    one_patch = np.broadcast_to(target[:, :1, :1], target.shape).copy()
    other = np.random.default_rng(2).normal(size=target.shape).astype(np.float32)
    equal, moved, one_patch, other = (
        float(id_mrf_loss(*tensors([target, features]))) for features in (target, moved, one_patch, other)
    )
    assert 0 <= equal < 1e-2
    assert moved == pytest.approx(equal, abs=1e-4)
    assert equal < other < one_patch
    assert one_patch > 1.0


def test_id_mrf_gradients_are_finite_and_reach_the_features():
    target, features = (np.random.default_rng(seed).normal(size=(2, 3, 4, 5)).astype(np.float32) for seed in (0, 1))
    for prediction in (features, target, np.broadcast_to(target.mean(axis=(0, 1, 2)), target.shape).copy()):
        (found,) = gradients(lambda features: id_mrf_loss(*tensors([target]), features), [prediction], [])
        assert np.isfinite(found).all()
    (found,) = gradients(lambda features: id_mrf_loss(*tensors([target]), features), [features], [])
    assert np.mean(np.abs(found).max(axis=-1) > 1e-5) > 0.5  # a patch that is the nearest to none has no gradient
