"""A run that starts from the weights of another: what is taken, what stays, and what is refused."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import gan_test_case
import inpainting_test_case
from keras_an.backend import keras
from keras_an.layers import SpectralNormalization
from tools.exporting import exports
from tools.exporting.inpainting_serving import InpaintingServing
from trainer_test_case import ONE, values
from trainers import configs
from trainers.training import checkpoints, distribution, gan_trainer, inpainting_trainer, run_directory, warm_start


def inpainting(model_dir, **overrides):
    params = inpainting_test_case.small_params(**overrides)
    distribution.set_up_runtime(params.runtime)
    trainer = inpainting_trainer.InpaintingTrainer(params, ONE)
    trainer.start_from_another(str(model_dir))
    return trainer


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a run, whose average differs from its generator, and its trainer."""
    folder = tmp_path_factory.mktemp("source") / "run"
    trainer = inpainting(folder)
    random = np.random.default_rng(0)
    for network in (trainer.generator, trainer.ema_generator, *trainer.critics.values()):
        for variable in network.trainable_variables:
            variable.assign(random.normal(size=variable.shape))
    run_directory.prepare(str(folder), trainer.params)
    save(trainer, folder, 7)
    return folder, trainer


def save(trainer, folder, step):
    """As the loop does."""
    saved = checkpoints.Checkpoints(trainer.checkpoint_items(), str(folder), 1)
    saved.save(step)
    saved.wait()


def same(network, other):
    return all(np.array_equal(*pair) for pair in zip(values(network.variables), values(other.variables)))


def test_all_networks_take_the_weights_also_at_another_resolution(source, tmp_path, caplog):
    folder, trained = source
    with caplog.at_level(logging.INFO, logger="absl"):
        trainer = inpainting(
            tmp_path / "new",
            task__init_checkpoint=folder / "ckpt-7",
            task__model__resolution=64,
            task__train_data__random_crop_area="[0.25,1.0]",
        )
    assert same(trainer.generator, trained.ema_generator) and same(trainer.ema_generator, trained.ema_generator)
    assert same(trainer.critics["patch"], trained.critics["patch"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"task.init_checkpoint={folder / 'ckpt-7'}: " in caplog.text
    assert int(trainer.step) == 0


@pytest.mark.parametrize("modules, taken", [("[generator]", (True, False)), ("[critics]", (False, True))])
def test_modules_choose_what_is_taken(source, tmp_path, modules, taken):
    folder, trained = source
    trainer = inpainting(tmp_path / "new", task__init_checkpoint=folder, task__init_checkpoint_modules=modules)
    pairs = (trainer.generator, trained.ema_generator), (trainer.critics["global"], trained.critics["global"])
    assert tuple(same(*pair) for pair in pairs) == taken


def test_a_run_with_a_checkpoint_of_its_own_does_not_read_the_other(source, tmp_path):
    tf.train.Checkpoint().write(str(tmp_path / "ckpt-3"))
    trainer = inpainting(tmp_path, task__init_checkpoint="/gone")
    assert not same(trainer.generator, source[1].ema_generator)
    with pytest.raises(ValueError, match="`task.init_checkpoint` must be a run, .* Received: /gone"):
        inpainting(tmp_path / "new", task__init_checkpoint="/gone")


@pytest.mark.parametrize("form", ["keras", "weights", "saved_model"])
def test_a_file_gives_a_generator(source, tmp_path, form):
    folder, trained = source
    path = tmp_path / exports.FORMATS[form][0]
    if form == "keras":
        trained.ema_generator.save(path)
    elif form == "saved_model":
        exports.write(form, str(path), trained.ema_generator, InpaintingServing(trained.ema_generator))
    else:
        trained.ema_generator.save_weights(path)
        (tmp_path / "generator.json").write_text(trained.ema_generator.to_json(), encoding="utf-8")
    trainer = inpainting(tmp_path / "new", task__init_checkpoint=path)
    assert same(trainer.generator, trained.ema_generator) and same(trainer.ema_generator, trained.ema_generator)
    assert not same(trainer.critics["patch"], trained.critics["patch"])


def test_layers_that_do_not_fit_stay_and_are_named(source, tmp_path, caplog):
    folder, trained = source
    with caplog.at_level(logging.WARNING, logger="absl"):
        trainer = inpainting(
            tmp_path / "new",
            task__init_checkpoint=folder,
            task__init_checkpoint_modules="[generator]",
            task__model__generator__attention="self_attention",
        )
    (message,) = (record.getMessage() for record in caplog.records)
    assert "attentive_attention is [" in message and "of no use: none" in message
    mine, theirs = (network.get_layer("fused_conv12") for network in (trainer.generator, trained.ema_generator))
    np.testing.assert_array_equal(*(np.asarray(layer.kernel) for layer in (mine, theirs)))
    fresh = trainer.generator.get_layer("attentive_attention")
    assert all(np.isfinite(value).all() for value in values(fresh.weights))


def told(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_weights_of_another_first_fill_are_taken_and_told(source, tmp_path, caplog):
    folder, trained = source
    trainer = inpainting(
        tmp_path / "new",
        task__init_checkpoint=folder,
        task__init_checkpoint_modules="[generator]",
        task__model__generator__first_fill="diffusion",
    )
    assert same(trainer.ema_generator, trained.ema_generator)
    (warning,) = told(caplog)
    assert "not the settings that they were learned with" in warning and "it has a DiffusionFill" in warning


def test_where_no_layer_fits_it_is_an_error(source, tmp_path):
    with pytest.raises(ValueError, match=r"no layer of the ema_generator fits .*: coarse_conv1 is .*, not "):
        inpainting(tmp_path / "new", task__init_checkpoint=source[0], task__model__generator__base_channels=6)


def test_a_gan_takes_its_discriminator_too_and_refuses_the_other_trainer(source, tmp_path, caplog):
    params = gan_test_case.small_params()
    trained = gan_trainer.GanTrainer(params, ONE)
    run_directory.prepare(str(tmp_path / "old"), params)
    save(trained, tmp_path / "old", 1)
    trainer = gan_trainer.GanTrainer(gan_test_case.small_params(task__init_checkpoint=tmp_path / "old"), ONE)
    assert not same(trainer.discriminator, trained.discriminator)
    trainer.start_from_another(str(tmp_path / "new"))
    assert same(trainer.discriminator, trained.discriminator) and same(trainer.generator, trained.ema_generator)
    assert not told(caplog)
    trainer = gan_trainer.GanTrainer(
        gan_test_case.small_params(
            task__init_checkpoint=tmp_path / "old", task__model__discriminator__temperature=0.5, runtime__seed=3
        ),
        ONE,
    )
    trainer.start_from_another(str(tmp_path / "new"))
    (warning,) = told(caplog)
    assert "the discriminator has the weights, but not the settings that they were learned with: " in warning
    assert "block1_attention has temperature=0.5, not 0.1" in warning
    wrong = gan_trainer.GanTrainer(gan_test_case.small_params(task__init_checkpoint=source[0]), ONE)
    with pytest.raises(ValueError, match="must be of the same trainer. .* is of 'inpainting'"):
        wrong.start_from_another(str(tmp_path / "new"))


def test_unknown_modules_are_refused():
    with pytest.raises(
        configs.ConfigError, match=r"`task.init_checkpoint_modules` must be one of .* Received: 'critic'"
    ):
        inpainting_test_case.small_params(task__init_checkpoint_modules="[critic]")
    with pytest.raises(configs.ConfigError, match="must not be empty"):
        gan_test_case.small_params(task__init_checkpoint_modules="[]")


def test_without_a_source_nothing_is_read():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = values(model.variables)
    warm_start.start(gan_test_case.small_params(), {"generator": model, "ema_generator": model}, "/nowhere")
    assert all(np.array_equal(*pair) for pair in zip(values(model.variables), before))


def test_settings_of_a_layer_within_a_layer_are_not_taken_for_its_own():
    inner = keras.layers.Conv2D(3, 1, strides=2, dtype="float64", name="inner")
    settings = dict(warm_start._settings(SpectralNormalization(inner, power_iterations=2).get_config()))
    assert settings["power_iterations"] == 2 and tuple(settings["layer.strides"]) == (2, 2)
    assert "strides" not in settings
