"""A whole inpainting run through the main: what it leaves, scores, exports, and how it is taken up again."""

import logging
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_sample_images

from gan_test_case import call_main, contents, override_of, summaries_of
from inpainting_test_case import SMALL
from keras_an.backend import IS_KERAS_3
from trainers import configs
from trainers.training import inpainting_trainer

RUN = SMALL + (
    ",trainer.train_steps=4,trainer.pretrain_steps=2,trainer.steps_per_loop=2,trainer.summary_interval=2"
    ",trainer.checkpoint_interval=2,trainer.validation_interval=4,runtime.distribution_strategy=one_device"
)

# Where the data is the point: of all runs the one that takes the least tracing.
PRETRAINING = "trainer.pretrain_steps=4,task.model.generator.attention=none"


def train(model_dir, mode="train_and_eval", override=RUN, experiment="inpainting_photos64"):
    call_main(
        "trainers.train_inpainting", experiment=experiment, mode=mode, model_dir=model_dir, params_override=override
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("inpainting") / "run"
    train(model_dir)
    return model_dir


@pytest.mark.slow
def test_run_leaves_checkpoints_pictures_summaries_and_its_configuration(run):
    names = {path.name for path in run.iterdir()}
    checkpoints = {f"ckpt-{step}.{part}" for step in (2, 4) for part in ("index", "data-00000-of-00001")}
    assert names == {*checkpoints, "checkpoint", "completions.png", "params.yaml", "train", "validation"}
    assert configs.load_params(run / "params.yaml") == configs.resolve("inpainting_photos64", params_override=RUN)
    losses, scores = summaries_of(run / "train"), summaries_of(run / "validation")
    assert set(losses["1_losses/hole_l1"]) == {2, 4} and set(losses["1_losses/critic_loss"]) == {4}
    metrics = inpainting_trainer.ADVERSARIAL_METRICS
    wanted = {f"1_losses/{name}" for name in metrics if not name.endswith(("_norm", "_square"))}
    wanted |= {
        "4_gradients/generator",
        "4_gradients/critic",
        "7_spread/critic_real_low",
        "6_learning_rate/discriminator",
    }
    wanted |= {"3_attention/generator/attentive_attention/layout_entropy", "layouts/generator/attentive_attention"}
    assert wanted <= set(losses)
    wanted = {f"2_scores/{name}" for name in ("center/psnr_hole", "strokes/ssim_hole", "center/l1_hole_biharmonic")}
    assert {"completions", *wanted} <= set(scores)


@pytest.mark.slow
def test_a_finished_run_is_left_alone_and_evaluated_again(run, capsys):
    before = contents(run)
    train(run, mode="eval")
    printed = capsys.readouterr().out
    assert f"Step 4 of 4 in {run}" in printed and "completions.png" in printed
    call_main("trainers.evaluate", model_dir=run)
    assert re.search(r"^center +generator +[\d.]+", capsys.readouterr().out, re.MULTILINE)
    kept = {path: content for path, content in contents(run).items() if "events" not in path}
    assert kept == {path: content for path, content in before.items() if "events" not in path}


@pytest.mark.slow
def test_export_serves_pictures_of_any_size(run, tmp_path):
    call_main("tools.export_saved_model", model_dir=run, output_dir=tmp_path / "saved_model")
    serve = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    image = np.random.default_rng(0).integers(0, 256, (1, 37, 50, 3), dtype=np.uint8)
    mask = np.zeros((1, 37, 50, 1), np.uint8)
    mask[:, 10:20, 10:30] = 255
    completed = serve(image=tf.constant(image), mask=tf.constant(mask))["completed"].numpy()
    np.testing.assert_array_equal(completed[mask[..., 0] == 0], image[mask[..., 0] == 0])
    assert (completed != image).any()


def write_photographs(folder):
    for split, top in (("train", 0), ("test", 220)):
        for name, photograph in zip(("temple", "flower"), load_sample_images().images):
            (folder / split).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                crop = photograph[top : top + 70, 60 * number : 60 * number + 90]
                tf.io.write_file(str(folder / split / f"{name}{number}.png"), tf.io.encode_png(crop))


@pytest.mark.slow
def test_a_folder_of_photographs_and_one_of_masks_train(tmp_path):
    write_photographs(tmp_path / "data")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((32, 32, 1), np.uint8)
    mask[4:20, 6:12] = 255
    tf.io.write_file(str(tmp_path / "masks" / "one.png"), tf.io.encode_png(mask))
    where = (
        f"task.train_data.path={tmp_path / 'data'},task.validation_data.path={tmp_path / 'data'}"
        f",task.masks.kinds=[folder],task.masks.path={tmp_path / 'masks'},task.evaluation.masks=[folder]"
        f",{PRETRAINING}"
    )
    train(tmp_path / "run", override=override_of(RUN, where), experiment="inpainting_folder256")
    coverage = summaries_of(tmp_path / "run" / "train")["1_losses/mask_coverage"][4]
    assert float(coverage) == pytest.approx(16 * 6 / 32**2)


@pytest.mark.parametrize(
    "change, message",
    [
        ("task.masks.size=32", r"`task.masks.size` must be at least 1 and below `task.model.resolution`, 32"),
        ("task.masks.max_shrink=16", r"`task.masks.max_shrink` must be in \[0, `task.masks.size`\), which is 16"),
        ("task.masks.kinds=[circle]", r"`task.masks.kinds` must be one of"),
        ("task.masks.kinds=[]", r"`task.masks.kinds` must not be empty"),
        ("task.masks.kinds=[folder]", r"`task.masks.path` must not be empty where `task.masks.kinds` has 'folder'"),
        ("task.masks.min_width=0", r"`task.masks.min_width` must be positive"),
        ("task.model.resolution=30", r"`task.model.resolution` must be a multiple of 4, at least 16. Received: 30"),
        ("task.losses.discount=0", r"`task.losses.discount` must be in \(0, 1\]"),
        ("task.model.num_classes=3", r"Unknown key `task.model.num_classes`"),
        ("task.evaluation.num_images=0", r"`task.evaluation.num_images` must be at least 1"),
        ("trainer.pretrain_steps=-1", r"`trainer.pretrain_steps` must not be negative"),
        ("application=gan", r"`application` must be one of \('inpainting',\)"),
    ],
)
def test_settings_out_of_range_are_errors(change, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.resolve("inpainting_photos64", params_override=override_of(SMALL, change))


def test_pretraining_is_of_inpainting_alone():
    with pytest.raises(configs.ConfigError, match="`trainer.pretrain_steps` is of inpainting alone"):
        configs.resolve("gan_digits32", params_override="trainer.pretrain_steps=5")


def test_photographs_have_no_classes(tmp_path, caplog):
    with pytest.raises(SystemExit):
        call_main(
            "trainers.train_gan",
            experiment="gan_digits32",
            model_dir=tmp_path / "run",
            params_override="task.train_data.dataset=photos",
        )
    assert "The photographs have no labels" in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    "main, experiment", [("train_gan", "inpainting_photos64"), ("train_inpainting", "gan_digits32")]
)
def test_each_main_names_the_other_for_its_experiments(tmp_path, caplog, main, experiment):
    other = {"train_gan": "train_inpainting", "train_inpainting": "train_gan"}[main]
    with caplog.at_level(logging.ERROR, logger="absl"), pytest.raises(SystemExit) as caught:
        call_main(f"trainers.{main}", experiment=experiment, model_dir=tmp_path / "run")
    assert caught.value.code == 2 and not (tmp_path / "run").exists()
    assert f"is one of python -m trainers.{other}" in caplog.records[-1].getMessage()


@pytest.mark.slow
@pytest.mark.skipif(not IS_KERAS_3, reason="tracing takes minutes; the trainer itself is tested on Keras 2")
def test_a_data_set_of_tensorflow_datasets_trains(tmp_path):
    where = (
        "task.train_data.name=cifar10,task.validation_data.name=cifar10,task.validation_data.split=test"
        f",task.train_data.shuffle_buffer_size=8,{PRETRAINING}"
    )
    with tfds.testing.mock_data(num_examples=12):
        train(tmp_path / "run", override=override_of(RUN, where), experiment="inpainting_tfds256")
    assert tf.train.latest_checkpoint(tmp_path / "run").endswith("ckpt-4")
