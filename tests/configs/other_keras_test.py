"""What one Keras wrote the other reads: checkpoints of runs, which go on, and files of weights.

`python tests/configs/other_keras_test.py` writes the archive of the Keras that runs, Keras 2 on TensorFlow 2.15.
"""

import json
import pathlib
import shutil
import tempfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
import golden_test_case
import inpainting_test_case
from keras_an.backend import IS_KERAS_3
from layer_test_case import array, tensors
from trainer_test_case import ONE, batches_from, state, train
from trainers import configs
from trainers.configs import networks, other_keras
from trainers.training import checkpoints, distribution, gan_trainer, inpainting_trainer, optimizers

TESTDATA = pathlib.Path(__file__).parents[1] / "testdata"
ARCHIVES = ("keras_2.zip", "keras_3.zip")
# Trainers and configurations of runs that stopped after two steps.
RUNS = {
    "gan": (
        gan_trainer.GanTrainer,
        gan_test_case.small_params(
            task__model__resolution=8,
            trainer__generator_optimizer__decay_steps=100,
            trainer__generator_optimizer__learning_rate=1e-3,
            trainer__discriminator_optimizer__learning_rate=1e-3,
        ),
    ),
    "inpainting": (
        inpainting_trainer.InpaintingTrainer,
        inpainting_test_case.small_params(
            task__model__generator__base_channels=2, task__model__critic__base_channels=1, trainer__pretrain_steps=1
        ),
    ),
}
WEIGHTS = ("attentive_normalization", "projection_discriminator", "inpainting_generator")


def make(name, strategy=ONE):
    trainer_class, params = RUNS[name]
    distribution.set_up_runtime(params.runtime)
    trainer = trainer_class(params, strategy)
    return trainer, trainer.checkpoint_items()


def model_of(name):
    """The model of a golden case and its inputs; a layer is put into a model, as files of weights are of models."""
    layer, inputs, *scale = golden_test_case.CASES[name]()
    if not hasattr(layer, "layers"):
        layer = golden_test_case.keras.Sequential([golden_test_case.keras.Input(inputs.shape[1:]), layer])
    return layer, tensors(inputs), scale


@pytest.fixture(scope="module", params=ARCHIVES)
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    with zipfile.ZipFile(TESTDATA / request.param) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", sorted(RUNS))
def test_runs_go_on_with_either_keras(written, tmp_path, eager, name):
    """All that the next step depends on is there: networks, slots, counts, the states of the draws."""
    shutil.copytree(written / name, tmp_path / name)
    trainer, items = make(name)
    saved = checkpoints.Checkpoints(items, str(tmp_path / name), max_to_keep=3)
    assert saved.restore() == str(tmp_path / name / "ckpt-2")
    losses = train(trainer, batches_from(trainer.params, start_batch=trainer.batches_before(2)), 1)
    expected = json.loads((written / f"{name}.json").read_text())
    assert {metric: losses[metric] for metric in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    saved.save(3)
    saved.wait()
    again, items = make(name)
    assert checkpoints.Checkpoints(items, str(tmp_path / name), 3).restore() == str(tmp_path / name / "ckpt-3")
    for key, value in state(trainer).items():
        np.testing.assert_array_equal(state(again)[key], value, err_msg=key)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_generators_of_either_keras_are_restored_alone(written, name):
    params = RUNS[name][1]
    trainer, items = make(name)
    checkpoints.Checkpoints(items, str(written / name), 3).restore()
    for use_ema, expected in ((True, trainer.ema_generator), (False, trainer.generator)):
        generator = networks.restore_generator(params, str(written / name / "ckpt-2"), use_ema)
        for found, value in zip(generator.variables, expected.variables):
            np.testing.assert_array_equal(array(found), array(value))
    assert not np.array_equal(array(trainer.generator.variables[0]), array(trainer.ema_generator.variables[0]))


def test_replicas_take_them_as_one_does(written, mirrored):
    (one, one_items), (two, two_items) = make("gan"), make("gan", mirrored)
    for items in (one_items, two_items):
        checkpoints.Checkpoints(items, str(written / "gan"), 3).restore()
    expected, found = state(one), state(two)
    assert set(expected) == set(found)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize("name", WEIGHTS)
def test_files_of_weights_serve_either_keras(written, name):
    model, inputs, _ = model_of(name)
    model.load_weights(written / f"{name}.weights.h5")
    with np.load(golden_test_case.GOLDEN) as golden:
        np.testing.assert_allclose(array(model(inputs)), golden[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["decay_steps=0", "mixed_precision_dtype=float16"])
def test_what_the_other_keras_does_not_know_is_an_error(written, change):
    group = "trainer.generator_optimizer" if change.startswith("decay") else "runtime"
    params = configs.resolve("gan_digits32", params_override=f"{gan_test_case.SMALL},{group}.{change}")
    distribution.set_up_runtime(params.runtime)
    variable, config = tf.Variable(0.0), params.trainer.generator_optimizer
    optimizer = optimizers.make(config, [variable], 0.0, scales_losses=group == "runtime")
    checkpoint = tf.train.Checkpoint(generator_optimizer=optimizer, step=variable)
    path = str(written / "gan" / "ckpt-2")
    if other_keras._is_of(tf.train.load_checkpoint(path), IS_KERAS_3):
        with other_keras.for_this_keras(path, checkpoint) as found:
            assert (found == path) == (group == "runtime"), "a rate in place of a schedule needs a copy"
        return
    with pytest.raises(other_keras.OtherKerasError) as caught, other_keras.for_this_keras(path, checkpoint):
        pass
    message = str(caught.value)
    assert f"ckpt-2 was written with Keras {2 if IS_KERAS_3 else 3} and has no generator_optimizer/" in message
    if change.startswith("decay"):
        assert "generator_optimizer/_learning_rate/" in message and "nor 0 more" in message


def write(path):
    with tempfile.TemporaryDirectory() as folder:
        for name in RUNS:
            trainer, items = make(name)
            iterator = batches_from(trainer.params)
            train(trainer, iterator, 1)
            train(trainer, iterator, 1)
            saved = checkpoints.Checkpoints(items, f"{folder}/{name}", max_to_keep=1)
            saved.save(2)
            saved.wait()
            losses = json.dumps(train(trainer, iterator, 1), indent=1)
            pathlib.Path(folder, f"{name}.json").write_text(losses, encoding="utf-8")
        for name in WEIGHTS:
            model, _, scale = model_of(name)
            golden_test_case.fill(model, *scale)
            model.save_weights(f"{folder}/{name}.weights.h5")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(pathlib.Path(folder).rglob("*")):
                archive.write(file, file.relative_to(folder))


if __name__ == "__main__":
    write(TESTDATA / ARCHIVES[IS_KERAS_3])
