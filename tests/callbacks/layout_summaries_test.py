"""The callback of `fit`, on every Keras: what it writes, that it is right, and that it leaves the model alone."""

import builtins
import logging

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

import keras_an
from keras_an.backend import keras, to_numpy
from keras_an_tensorboard import health
from layer_test_case import record_gradients

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(size=(8, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(8) % 2


class Subclassed(keras.Model):
    """A model that is no graph of calls."""

    def __init__(self):
        super().__init__()
        self.attention = keras_an.AttentiveNormalization(3, name="attention", seed=1)
        self.head = keras.layers.Dense(2)

    def call(self, inputs):
        return self.head(keras.layers.GlobalAveragePooling2D()(self.attention(inputs)))


def functional():
    inputs = keras.Input((8, 8, 3))
    x = keras_an.AttentiveNormalization(3, name="attention", seed=1)(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)), name="classifier")


def fit(model, callback, epochs=3):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=loss)
    with record_gradients(True):
        model.fit(IMAGES, LABELS, epochs=epochs, verbose=0, callbacks=[callback])


def written(folder):
    """`{tag: {step: array}}`."""
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: {event.step: tensor_util.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.parametrize("make, name", [(functional, "classifier"), (Subclassed, "subclassed")])
def test_writes_what_the_layers_are_at_each_epoch(tmp_path, make, name):
    model = make()
    fit(model, keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES, LABELS))
    found = written(tmp_path)
    (tag,) = [tag for tag in found if tag.startswith("layouts/")]
    assert tag == f"layouts/{model.name}/attention" and model.name.startswith(name)
    assert set(found[tag]) == set(found[f"interactive/{model.name}/attention"]) == {0, 1, 2}
    layer = next(layer for layer in model.layers if layer.name == "attention")
    scalars = {tag.split("/")[-1]: value[2] for tag, value in found.items() if tag.startswith("attention/")}
    assert scalars["rho"] == pytest.approx(float(to_numpy(layer.residual_weight)), rel=1e-5) != 0.0
    layout = to_numpy(layer.get_layout(IMAGES))
    entropy = -np.mean(np.sum(layout * np.log(layout), axis=-1)) / np.log(3)
    assert scalars["layout_entropy"] == pytest.approx(entropy, rel=1e-4)
    # The layers are as they were: the model runs, and saves.
    assert "call" not in vars(layer) and model.predict(IMAGES, verbose=0).shape == (8, 2)


def test_epochs_between_summaries_and_the_last(tmp_path):
    fit(functional(), keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES, every=2), epochs=5)
    found = written(tmp_path)
    assert set(found["layouts/classifier/attention"]) == {1, 3, 4} and "assignments/classifier/attention" not in found


def test_watches_a_model_within_that_of_fit_and_warns_of_dead_layers(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(health, "_LEAST_STEPS", 1)
    latents, inner = RANDOM.normal(size=(4, 5)).astype(np.float32), keras.Input((5,))
    x = keras.layers.Reshape((4, 4, 3))(keras.layers.Dense(48)(inner))
    x = keras_an.AttentiveNormalization(3, name="an", entity_initializer="zeros")(x)
    generator = keras.Model(inner, keras.layers.Conv2D(3, 1, activation="tanh")(x), name="generator")
    callback = keras_an.callbacks.LayoutSummaries(tmp_path, latents, model=generator)
    with caplog.at_level(logging.WARNING):
        fit(functional(), callback)
    found = written(tmp_path)
    assert {"layouts/generator/an", "health"} <= set(found)  # the generator's outputs are images
    warnings = [record.getMessage() for record in caplog.records if "may be dead" in record.getMessage()]
    assert warnings[0].startswith("Epoch 0: generator/an may be dead: its layout tells nothing")
    assert warnings[1].startswith("Epoch 1: generator/an may be dead: it does nothing: |rho| is") and len(warnings) <= 3


def test_wrong_arguments_are_told(tmp_path):
    with pytest.raises(ValueError, match="`every` must be a positive integer. Received: every=0"):
        keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES, every=0)
    with pytest.raises(ValueError, match="`labels` must be as many as the inputs. Received: 3 labels for 8 inputs"):
        keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES, [1, 2, 3])
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="and the model has none. Received: model=plain"):
        fit(plain, keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES))


def test_tensorboard_that_is_not_there_is_told(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("keras_an_tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs TensorBoard: pip install 'keras-an\[tensorboard\]'. Received: Modu"):
        keras_an.callbacks.LayoutSummaries(tmp_path, IMAGES)
