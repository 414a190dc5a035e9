"""The residual classifier: its features, its schedule, and that runs can share it."""

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import small_params
from trainers.evaluation import classifier_features, residual_classifier


def test_the_rate_rises_falls_and_ends_at_zero():
    schedule = residual_classifier.make_schedule(100)
    values = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    assert values == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0], abs=1e-6)


def test_it_learns_digits_and_a_second_run_takes_it(tmp_path, monkeypatch):
    task = small_params(
        task__evaluation__classifier="residual", task__evaluation__classifier_epochs=3, task__model__resolution=16
    ).task
    extractor = classifier_features.ClassifierFeatures(task, str(tmp_path / "shared"))
    extractor.prepare()
    images = tf.random.stateless_uniform((3, 16, 16, 1), (0, 0), -1.0, 1.0)
    features, logits = extractor(images)
    assert features.shape == (3, 128) and logits.shape == (3, 10)
    monkeypatch.setattr(classifier_features.ClassifierFeatures, "_train", lambda *_: pytest.fail("trained again"))
    second = classifier_features.ClassifierFeatures(task, str(tmp_path / "shared"))
    second.prepare()
    np.testing.assert_array_equal(second(images)[0], features)
    assert second.digest == extractor.digest
