"""Scores against independent formulas and against sets whose scores are known."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import tensorflow as tf

from trainers.evaluation import score_names, scores

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


def features_of(count, dimensions=6, offset=0.0):
    return (RANDOM.normal(size=(count, dimensions)) + offset).astype(np.float32)


def test_frechet_distance_equals_the_formula_with_a_matrix_root():
    first = RANDOM.normal(size=(300, 6)) @ RANDOM.normal(size=(6, 6))
    second = RANDOM.normal(size=(200, 6)) @ RANDOM.normal(size=(6, 6)) + 1.0
    expected = distance_by_scipy(first, second)
    assert scores.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert scores.frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    first = gaussian_set([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    second = gaussian_set([1.0, 0.0, -2.0], [1.0, 4.0, 0.5])
    expected = 1.0 + 4.0 + (4.0 - 2.0) ** 2 + (3.0 - 0.5) ** 2
    assert scores.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_correlated_gaussians_with_a_common_basis():
    basis, _ = np.linalg.qr(RANDOM.normal(size=(3, 3)))
    first = gaussian_set([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]) @ basis
    second = gaussian_set([0.0, 0.0, 0.0], [2.0, 2.0, 1.0]) @ basis + [0.0, 3.0, 0.0]
    assert scores.frechet_distance(first, second) == pytest.approx(9.0 + 1.0 + 0.0 + 4.0, rel=1e-6)


def test_frechet_distance_to_itself_is_zero_also_with_fewer_images_than_features():
    for features in (features_of(100, 8), features_of(5, 8)):
        assert scores.frechet_distance(features, features) == pytest.approx(0.0, abs=1e-5)


def kernel_distance_by_loops(real, generated):
    def mean_kernel(first, second, same):
        values = [
            (x @ y / len(x) + 1.0) ** 3 for i, x in enumerate(first) for j, y in enumerate(second) if not same or i != j
        ]
        return np.mean(values)

    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    both = mean_kernel(real, real, True) + mean_kernel(generated, generated, True)
    return both - 2.0 * mean_kernel(real, generated, False)


def test_kernel_distance_equals_the_unbiased_formula():
    real, generated = features_of(30, 4), features_of(21, 4, offset=0.7)
    expected = kernel_distance_by_loops(real, generated)
    assert scores.kernel_distance(real, generated) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased():
    """Its mean over pairs of sets from one distribution is 0, within three standard errors."""
    values = [scores.kernel_distance(features_of(40, 3), features_of(40, 3)) for _ in range(30)]
    assert min(values) < 0.0 < max(values)
    assert abs(np.mean(values)) < 3.0 * np.std(values) / np.sqrt(len(values))
    assert scores.kernel_distance(features_of(400, 3), features_of(400, 3, offset=1.0)) > 1.0


def test_kernel_distance_of_sets_in_order_is_that_of_shuffled_ones():
    """More images than a block holds, class after class: blocks of one class each would be far from the other set."""
    classes = np.repeat([0.0, 4.0], 1000)[:, None].astype(np.float32)
    real, generated = features_of(2000, 3) + classes, features_of(2000, 3) + classes[::-1]
    between_classes = scores.kernel_distance(real[:1000], real[1000:])
    assert abs(scores.kernel_distance(real, generated)) < 0.01 * between_classes


def test_kernel_distance_of_a_few_images_to_many_is_finite():
    assert np.isfinite(scores.kernel_distance(features_of(3000, 3), features_of(2, 3)))
    assert np.isfinite(scores.kernel_distance(features_of(40, 3), features_of(3000, 3)))


@pytest.mark.parametrize("sharpness", [50.0, 5000.0])
def test_classifier_score_of_certain_and_varied_predictions_is_the_number_of_classes(sharpness):
    logits = sharpness * np.eye(7)[np.arange(70) % 7]
    assert scores.classifier_score(logits) == pytest.approx(7.0, rel=1e-6)


def test_classifier_score_of_constant_predictions_is_one():
    assert scores.classifier_score(np.tile(RANDOM.normal(size=(1, 5)), (20, 1))) == pytest.approx(1.0, abs=1e-9)
    assert scores.classifier_score(5000.0 * np.eye(4)[np.zeros(9, int)]) == pytest.approx(1.0, abs=1e-9)


def test_classifier_score_equals_the_formula():
    logits = RANDOM.normal(size=(50, 6))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
    assert scores.classifier_score(logits) == pytest.approx(expected, rel=1e-9)


def test_intra_class_distance_is_the_mean_over_the_classes():
    real, real_labels = features_of(60), np.arange(60) % 3
    generated, labels = features_of(90) + np.arange(90)[:, None] % 3, np.arange(90) % 3
    expected = np.mean([distance_by_scipy(real[real_labels == i], generated[labels == i]) for i in range(3)])
    assert scores.intra_class_distance(real, real_labels, generated, labels) == pytest.approx(expected, rel=1e-4)


def test_intra_class_distance_sees_swapped_classes_where_the_whole_set_does_not():
    features, labels = features_of(200) + 9.0 * (np.arange(200)[:, None] % 2), np.arange(200) % 2
    assert scores.intra_class_distance(features, labels, features, labels) == pytest.approx(0.0, abs=1e-4)
    assert scores.intra_class_distance(features, labels, features, 1 - labels) > 100.0
    assert scores.frechet_distance(features, features) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("which", ["real", "generated"])
def test_class_without_two_images_is_an_error(which):
    labels = {"real": np.arange(20) % 2, "generated": np.arange(20) % 2}
    labels[which] = np.where(np.arange(20) == 7, 2, labels[which])
    with pytest.raises(ValueError, match=r"at least 2 \w+ images of each class\. Received: [01] of class 2"):
        scores.intra_class_distance(features_of(20), labels["real"], features_of(20), labels["generated"])


def precision_by_loops(real, generated, neighbours):
    between = scipy.spatial.distance.cdist(real, real)
    radii = np.sort(between, axis=1)[:, neighbours]
    return np.mean([np.any(scipy.spatial.distance.cdist([x], real)[0] <= radii) for x in generated])


@pytest.mark.parametrize("block", [8, 4096])
def test_precision_and_recall_equal_the_definition(monkeypatch, block):
    monkeypatch.setattr(scores, "_NEIGHBOUR_BLOCK", block)
    real, generated = features_of(50, 3, offset=100.0), features_of(37, 3, offset=101.0) * np.float32(1.001)
    expected = precision_by_loops(real, generated, 3), precision_by_loops(generated, real, 3)
    assert 0.0 < expected[0] < 1.0 and 0.0 < expected[1] < 1.0
    assert scores.precision_and_recall(real, generated) == pytest.approx(expected)


def test_precision_and_recall_of_equal_sets_are_one():
    features = features_of(50)
    assert scores.precision_and_recall(features, features[::-1]) == (1.0, 1.0)


def test_precision_and_recall_of_sets_apart_are_zero():
    assert scores.precision_and_recall(features_of(50), features_of(40, offset=100.0)) == (0.0, 0.0)


def test_part_of_the_real_set_has_precision_without_recall():
    real = np.concatenate([features_of(50), features_of(50, offset=100.0)])
    precision, recall = scores.precision_and_recall(real, real[:50])
    assert precision == 1.0 and recall == 0.5


@pytest.mark.parametrize(
    "function, least",
    [(scores.frechet_distance, 2), (scores.kernel_distance, 2), (scores.precision_and_recall, 4)],
)
def test_too_few_images_are_an_error(function, least):
    assert np.isfinite(function(features_of(least), features_of(9))).all()
    for pair in ((least - 1, 9), (9, least - 1)):
        with pytest.raises(ValueError, match=rf"at least {least} images of each set\. Received: {least - 1}"):
            function(*map(features_of, pair))


def test_class_spread_is_the_mean_distance_from_the_mean_of_the_class():
    images, labels = RANDOM.normal(size=(30, 4, 4, 1)).astype(np.float32), np.arange(30) % 3
    spreads = []
    for label in range(3):
        distances = [np.square(image - images[labels == label].mean(axis=0)).sum() for image in images[labels == label]]
        spreads.append(np.sqrt(np.sum(distances) / (len(distances) - 1)))
    assert scores.class_spread(images, labels) == pytest.approx(np.mean(spreads), rel=1e-5)
    by_batches = scores.ClassSpread()
    for start in range(0, 30, 7):
        by_batches.add(images[start : start + 7], labels[start : start + 7])
    assert by_batches.result() == pytest.approx(np.mean(spreads), rel=1e-5)


def test_class_spread_of_equal_images_is_zero():
    images = np.arange(3, dtype=np.float32)[np.arange(12) % 3][:, None, None, None] * np.ones((1, 4, 4, 1))
    assert scores.class_spread(images, np.arange(12) % 3) == 0.0


def test_class_spread_leaves_single_images_out():
    images = np.asarray([0.0, 2.0, 5.0])[:, None, None, None]
    assert scores.class_spread(images, np.array([0, 0, 1])) == pytest.approx(np.sqrt(2.0))
    assert np.isnan(scores.class_spread(images, np.arange(3)))


@pytest.mark.parametrize("intra_class", [False, True])
def test_all_scores_have_the_names_of_the_network(intra_class):
    real, labels = features_of(40), np.arange(40) % 2
    generated = features_of(40, offset=1.0), RANDOM.normal(size=(40, 5)), labels
    by_classifier, by_inception = (
        scores.evaluate(names, (real, labels), generated, intra_class)
        for names in (score_names.CLASSIFIER_NAMES, score_names.INCEPTION_NAMES)
    )
    expected = ["frechet_distance", "kernel_distance", "classifier_score", "precision", "recall"]
    assert list(by_classifier) == expected + ["intra_frechet_distance"] * intra_class
    expected = ["fid", "kid", "inception_score", "precision", "recall"]
    assert list(by_inception) == expected + ["intra_fid"] * intra_class
    assert list(by_inception.values()) == list(by_classifier.values())


def test_scores_that_cannot_be_computed_are_left_out_with_the_reason(caplog):
    few = features_of(3), np.zeros(3, np.int32)
    generated = features_of(40), RANDOM.normal(size=(40, 5)).astype(np.float32), np.arange(40, dtype=np.int32) % 2
    found = scores.evaluate(score_names.INCEPTION_NAMES, few, generated, intra_class=True)
    assert set(found) == {"fid", "kid", "inception_score"}
    assert "Without precision, recall: Precision and recall with 3 neighbours needs at least 4 images" in caplog.text
    assert "Without intra_fid: A distance within classes needs at least 2 real images" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_left_out(caplog, value):
    assert scores.computed(("first", "second"), lambda: (1.5, value)) == {"first": 1.5}
    assert f"Without second: it is {value}" in caplog.text


@pytest.mark.parametrize("generated, real", [(1.0, 0.0), (1.0, 1e-6), (np.nan, 1.0), (1.0, np.nan)])
def test_spread_without_two_images_that_differ_has_no_ratio(generated, real):
    with pytest.raises(ValueError, match=f"Received spreads of {generated} and {real}"):
        scores.spread_ratio(generated, real)


def test_accuracy_of_no_images_is_an_error():
    with pytest.raises(ValueError, match="An accuracy needs at least 1 images"):
        scores.accuracy(np.zeros((0, 3)), np.zeros(0))


def test_slope_is_the_median_norm_of_the_gradient_by_the_image():
    weights = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)

    def discriminator(inputs, training):
        images, labels = inputs
        assert not training
        return tf.cast(labels, tf.float32) * tf.reduce_sum(images * weights, axis=(1, 2, 3))

    images = np.zeros((5, 4, 4, 3), np.float32)
    found = scores.slope(discriminator, images, tf.constant([9, 1, 3, 0, 2]))
    assert found == pytest.approx(2.0 * np.linalg.norm(weights), rel=1e-5)
