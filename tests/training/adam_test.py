"""Adam by TensorFlow's one kernel against Keras's own."""

import numpy as np
import pytest
import tensorflow as tf

from keras_an.backend import keras
from trainers.configs import schema
from trainers.training import optimizers


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_is_keras_own_in_one_kernel(kind):
    """Of dense gradients and of those of a few rows; a checkpoint of one serves the other."""
    config = schema.OptimizerConfig(type=kind, learning_rate=0.01, beta_1=0.5, beta_2=0.9)
    names = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    random, start = np.random.default_rng(0), np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    found, expected = [[keras.Variable(start) if hasattr(keras, "Variable") else tf.Variable(start)] for _ in range(2)]
    fused = optimizers.make(config, found, 0.0)
    decay = {"weight_decay": config.weight_decay} if kind == "adamw" else {}
    own = names[kind](config.learning_rate, beta_1=0.5, beta_2=0.9, epsilon=config.epsilon, **decay)
    own.build(expected)
    for step in range(6):
        gradient = tf.constant(random.normal(size=(5, 3)).astype("float32"))
        if step % 2:
            gradient = tf.IndexedSlices(gradient[:2], tf.constant([3, 1]), tf.constant([5, 3]))
        for optimizer, variables in ((fused, found), (own, expected)):
            optimizer.apply_gradients([(gradient, variables[0])])
        np.testing.assert_allclose(np.asarray(found[0]), np.asarray(expected[0]), rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(found[0]) - start).max() > 0.02
    slots = [optimizers.variables_of(optimizer) for optimizer in (fused, own)]
    assert [variable.shape for variable in slots[0]] == [variable.shape for variable in slots[1]]
    for one, other in zip(*slots):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-7)
