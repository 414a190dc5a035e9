"""Scores against independent formulas, and the classifier that they rest on."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from gan_test_case import small_params
from trainers import input_pipelines, metrics
from trainers.configs.networks import build_networks

RANDOM = np.random.default_rng(0)


def gaussian_set(mean, deviations, count=400):
    """Samples whose mean and covariance are exactly those given."""
    samples = RANDOM.normal(size=(count, len(deviations)))
    samples -= samples.mean(axis=0)
    samples = samples @ np.linalg.inv(np.linalg.cholesky(np.cov(samples.T)).T)
    return samples * np.asarray(deviations) + np.asarray(mean)


def distance_by_scipy(first, second):
    covariances = np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return means + np.trace(covariances[0] + covariances[1] - 2.0 * np.real(root))


def test_frechet_distance_equals_the_formula_with_a_matrix_root():
    first = RANDOM.normal(size=(300, 6)) @ RANDOM.normal(size=(6, 6))
    second = RANDOM.normal(size=(200, 6)) @ RANDOM.normal(size=(6, 6)) + 1.0
    expected = distance_by_scipy(first, second)
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    first = gaussian_set([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    second = gaussian_set([1.0, 0.0, -2.0], [1.0, 4.0, 0.5])
    expected = 1.0 + 4.0 + (4.0 - 2.0) ** 2 + (3.0 - 0.5) ** 2
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_to_itself_is_zero():
    features = RANDOM.normal(size=(100, 8)).astype(np.float32)
    assert metrics.frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)


def test_class_spread_is_the_mean_distance_from_the_mean_of_the_class():
    images, labels = RANDOM.normal(size=(30, 4, 4, 1)).astype(np.float32), np.arange(30) % 3
    spreads = []
    for label in range(3):
        distances = [np.square(image - images[labels == label].mean(axis=0)).sum() for image in images[labels == label]]
        spreads.append(np.sqrt(np.sum(distances) / (len(distances) - 1)))
    assert metrics.class_spread(images, labels) == pytest.approx(np.mean(spreads), rel=1e-5)


def test_class_spread_of_equal_images_is_zero():
    images = np.arange(3, dtype=np.float32)[np.arange(12) % 3][:, None, None, None] * np.ones((1, 4, 4, 1))
    assert metrics.class_spread(images, np.arange(12) % 3) == 0.0


@pytest.fixture(scope="module")
def networks():
    return build_networks(small_params())


def make_evaluator(model_dir, networks, seed=1):
    params = small_params(task__evaluation__classifier_epochs=4, runtime__seed=seed)
    return metrics.GanEvaluator(params, str(model_dir), *networks)


@pytest.fixture(scope="module")
def evaluated(networks, tmp_path_factory):
    """An evaluator that has trained its classifier, its folder, and the scores."""
    model_dir = tmp_path_factory.mktemp("evaluated")
    evaluator = make_evaluator(model_dir, networks)
    return evaluator, model_dir, evaluator.evaluate()


@pytest.fixture
def evaluator(evaluated):
    return evaluated[0]


def test_scores_are_finite_and_named(evaluated):
    _, _, scores = evaluated
    assert set(scores) == {
        "label_accuracy",
        "classifier_test_accuracy",
        "frechet_distance",
        "frechet_distance_floor",
        "spread_ratio",
    }
    assert all(np.isfinite(value) for value in scores.values())


def test_classifier_knows_real_digits_and_scores_tell_real_from_noise(evaluated):
    _, _, scores = evaluated
    assert scores["classifier_test_accuracy"] > 0.8
    assert scores["label_accuracy"] < 0.4
    assert 0.0 < scores["frechet_distance_floor"] < 0.1 * scores["frechet_distance"]


def test_scores_of_real_digits_in_place_of_generated_ones_are_good(evaluated, monkeypatch):
    evaluator, _, _ = evaluated
    monkeypatch.setattr(evaluator, "sample", lambda count: input_pipelines.load_digits("test", 16))
    scores = evaluator.evaluate()
    assert scores["label_accuracy"] == scores["classifier_test_accuracy"]
    assert scores["frechet_distance"] == pytest.approx(0.0, abs=1e-3)
    assert scores["spread_ratio"] == 1.0


def test_classifier_is_trained_once_a_folder(evaluated, networks):
    evaluator, model_dir, scores = evaluated
    assert [path.name for path in model_dir.iterdir()] == ["classifier.weights.h5"]
    before = (model_dir / "classifier.weights.h5").read_bytes()
    second = make_evaluator(model_dir, networks, seed=2)
    second_scores = second.evaluate()
    assert (model_dir / "classifier.weights.h5").read_bytes() == before
    for name in ("classifier_test_accuracy", "frechet_distance_floor"):
        assert second_scores[name] == pytest.approx(scores[name], rel=1e-6)
    images, _ = input_pipelines.load_digits("test", 16)
    for ours, theirs in zip(evaluator._predict(images), second._predict(images)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("count", [7, 30, 65])  # in batches of 30
def test_sample_takes_labels_in_turn_and_gives_the_same_images_twice(evaluator, count):
    images, labels = evaluator.sample(count)
    assert images.shape == (count, 16, 16, 1) and images.dtype == np.float32
    assert np.abs(images).max() <= 1.0
    np.testing.assert_array_equal(labels, np.arange(count) % 10)
    again, _ = evaluator.sample(count)
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) == count


def test_sample_is_what_the_generator_gives_for_noise_of_the_seed(tmp_path, networks):
    images, labels = make_evaluator(tmp_path, networks, seed=6).sample(35)
    z = tf.random.stateless_normal((35, 8), (6, 0), alg="philox")
    np.testing.assert_allclose(images, networks[0]([z, tf.constant(labels)], training=False), atol=1e-5)


def test_pictures_are_classes_by_samples_and_rows_of_layouts(evaluator):
    pictures = evaluator.pictures()
    assert set(pictures) == {"samples", "layouts"}
    side = 10 * 16 + 9 * 2
    assert pictures["samples"].shape == (side, side, 3)
    assert pictures["layouts"].shape == (side, (2 + 3) * 16 + 4 * 2, 3)
    images, _ = evaluator.sample(100)
    second_of_class_three = np.clip(images[13] * 127.5 + 127.5, 0, 255).round()
    np.testing.assert_array_equal(pictures["samples"][54:70, 18:34, :1], second_of_class_three)


def test_scalars_name_both_networks(evaluator):
    assert {name.rsplit("/", 1)[0] for name in evaluator.scalars()} == {
        "generator/block1_attention",
        "discriminator/block1_attention",
    }
