"""The named experiments start, train, evaluate and resume, on small networks and data of the same form."""

import dataclasses
import logging

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_sample_images

from gan_test_case import call_main
from keras_an.backend import IS_KERAS_3
from trainers import configs
from trainers.configs.experiments import EXPERIMENTS

NARROW = ",".join(
    [
        "task.model.resolution=8",
        "task.model.latent_dim=4",
        "task.model.generator.base_channels=4",
        "task.model.generator.attention_blocks=[1]",
        "task.model.generator.num_entities=3",
        "task.model.discriminator.base_channels=4",
        "task.model.discriminator.num_entities=3",
        "task.train_data.global_batch_size=4",
        "task.train_data.shuffle_buffer_size=16",
        "task.validation_data.global_batch_size=20",
        "task.evaluation.num_samples=20",
        "task.evaluation.classifier_epochs=1",
        "trainer.discriminator_steps=1",
        "trainer.steps_per_loop=2",
        "trainer.summary_interval=2",
        "trainer.checkpoint_interval=2",
        "trainer.validation_interval=4",
        "runtime.distribution_strategy=one_device",
    ]
)


def train(experiment, model_dir, train_steps, **overrides):
    pairs = [NARROW, f"trainer.train_steps={train_steps}", *(f"{key}={value}" for key, value in overrides.items())]
    call_main(
        "trainers.train_gan",
        experiment=experiment,
        mode="train_and_eval",
        model_dir=model_dir,
        params_override=",".join(pairs),
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_valid_and_says_how_it_is_run(name):
    params = configs.resolve(name)
    assert params == configs.resolve(name), "an experiment must give the same at each call"
    assert EXPERIMENTS[name].__doc__
    if name in ("gan_digits32", "gan_cifar10", "gan_imagenet128", "gan_folder"):
        assert f"--experiment={name} --mode=train_and_eval --model_dir=" in EXPERIMENTS[name].__doc__


def test_variants_differ_in_the_attention_alone():
    variants = [configs.resolve(f"gan_imagenet128{suffix}") for suffix in ("", "_sagan", "_sngan")]
    words = [params.task.model.attention for params in variants]
    assert words == ["attentive_normalization", "self_attention", "none"]
    for params in variants:
        params.task.model.attention = params.experiment = "same"
    assert dataclasses.asdict(variants[0]) == dataclasses.asdict(variants[1]) == dataclasses.asdict(variants[2])


@pytest.mark.slow
@pytest.mark.skipif(not IS_KERAS_3, reason="tracing takes minutes; the trainer itself is tested on Keras 2")
@pytest.mark.parametrize("name, steps", [("gan_cifar10", (4, 6)), ("gan_imagenet128", (4, 6))])
def test_trains_evaluates_and_resumes_on_tfds(tmp_path, name, steps, caplog):
    """Takes 30 seconds: the experiment with its own networks trains, scores, and starts anew."""
    with tfds.testing.mock_data(num_examples=24):
        for train_steps in steps:
            with caplog.at_level(logging.INFO, logger="absl"):  # parsed flags set it back
                train(name, tmp_path / "run", train_steps)
            assert tf.train.latest_checkpoint(tmp_path / "run").endswith(f"ckpt-{train_steps}")
    assert f"Restored {tmp_path / 'run' / 'ckpt-4'}" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(not IS_KERAS_3, reason="tracing takes minutes; the trainer itself is tested on Keras 2")
def test_trains_and_evaluates_on_crops_of_photographs(tmp_path):
    for split, top in (("train", 0), ("test", 220)):  # upper halves, lower halves
        for name, photograph in zip(("temple", "flower"), load_sample_images().images):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                crop = photograph[top : top + 200, 40 * number : 40 * number + 180]
                tf.io.write_file(str(folder / f"{number}.png"), tf.io.encode_png(crop))
    where = {"task.train_data.path": tmp_path / "data", "task.validation_data.path": tmp_path / "data"}
    train("gan_folder", tmp_path / "run", 4, **where)
    assert tf.train.latest_checkpoint(tmp_path / "run").endswith("ckpt-4")


@pytest.mark.slow
@pytest.mark.skipif(not IS_KERAS_3, reason="tracing takes minutes; the trainer itself is tested on Keras 2")
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_corrupt_image_exits_with_2_and_is_named(tmp_path, split, caplog):
    for part in ("train", "test"):
        for name, photograph in zip(("temple", "flower"), load_sample_images().images):
            for number in range(4):
                encoded = tf.io.encode_png(photograph[:60, 60 * number : 60 * number + 60])
                tf.io.write_file(str(tmp_path / "data" / part / name / f"{number}.png"), encoded)
    broken = tmp_path / "data" / split / "flower" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    where = {"task.train_data.path": tmp_path / "data", "task.validation_data.path": tmp_path / "data"}
    with pytest.raises(SystemExit) as caught:
        train("gan_folder", tmp_path / "run", 4, **where)
    assert caught.value.code == 2
    assert caplog.records[-1].levelname == "ERROR" and str(broken) in caplog.records[-1].getMessage()
