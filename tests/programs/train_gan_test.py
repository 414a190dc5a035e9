"""A whole run through the main: what it leaves, what it says, and how it is taken up again."""

import logging
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import app

from gan_test_case import RUN, SCORES, call_main, contents, override_of, summaries_of, train_gan, trained_run
from keras_an_tensorboard import summaries
from trainers import configs
from trainers.data import input_pipelines
from trainers.training import gan_trainer

LAYERS = ("generator/block1_attention", "discriminator/block1_attention")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture
def copy_of_run(run, tmp_path):
    return shutil.copytree(run[0], tmp_path / "copy")


def checkpoints(model_dir):
    """Bytes of the checkpoints, and of the list of them, by name."""
    return {path.name: path.read_bytes() for path in model_dir.glob("*c*kp*t*") if path.is_file()}


@pytest.mark.slow
def test_run_leaves_checkpoints_pictures_and_its_configuration(run):
    model_dir, _ = run
    names = {path.name for path in model_dir.iterdir()}
    assert names == {
        *(f"ckpt-{step}.{part}" for step in (4, 8) for part in ("index", "data-00000-of-00001")),
        "checkpoint",
        "class_names.json",
        "classifier.weights.h5",
        "layouts.png",
        "params.yaml",
        "real_statistics_classifier.npz",
        "samples.png",
        "train",
        "validation",
    }
    assert configs.load_params(model_dir / "params.yaml") == configs.resolve("gan_digits32", params_override=RUN)
    assert tf.train.latest_checkpoint(str(model_dir)) == str(model_dir / "ckpt-8")


def test_pictures_are_rows_of_classes_and_of_layouts(run):
    model_dir, _ = run
    side = 10 * 8 + 9 * 2
    shapes = {"samples": (side, side, 3), "layouts": (22 + 8 * 98 - 2, (3 + 3) * 98 - 2, 3)}
    found = summaries_of(model_dir / "validation")
    for name, shape in shapes.items():
        picture = tf.io.decode_png((model_dir / f"{name}.png").read_bytes()).numpy()
        assert picture.shape == shape and picture.std() > 0
        width, height, image = found[name][8]
        assert (int(height), int(width)) == shape[:2]
        np.testing.assert_array_equal(tf.io.decode_png(image), picture)


def test_training_summaries_are_in_few_groups(run):
    model_dir, _ = run
    found = summaries_of(model_dir / "train")
    layers = [f"3_attention/{layer}" for layer in LAYERS]
    networks = ("generator", "discriminator")
    scalars = {
        *(f"1_losses/{name}" for name in gan_trainer.METRICS if not name.endswith(("_norm", "_square"))),
        *(f"{layer}/{name}" for layer in layers for name in summaries.STATISTICS),
        *(f"{group}/{name}" for group in ("4_gradients", "6_learning_rate") for name in networks),
        *(f"5_speed/{name}" for name in ("images_per_second", "share_outside_steps", "memory_gib")),
        *(f"7_spread/discriminator_{name}" for name in ("real_low", "real_high", "fake_low", "fake_high")),
    }
    pictured = {f"{group}/{layer}" for layer in LAYERS for group in ("assignments", "interactive", "layouts")}
    pictured |= {f"{layer}/{name}" for layer in layers for name in ("cosines", "shares")}
    texts = {f"run/{name}" for name in ("1_command", "2_configuration", "3_networks", "4_devices", "5_versions")}
    once = {*texts, "custom_scalars__config__", "_hparams_/session_start_info"}
    assert set(found) - {"health"} == scalars | pictured | once
    assert all(set(found[tag]) == {4, 8} for tag in pictured) and all(set(found[tag]) == {0} for tag in once)
    for tag in scalars:
        assert set(found[tag]) == {4, 8}, tag
        assert all(np.isfinite(value) for value in found[tag].values()), tag
    for layer in layers:
        assert found[f"{layer}/rho"][8] != 0.0
        assert 0.0 < found[f"{layer}/layout_entropy"][8] <= 1.0
        assert found[f"{layer}/entities_in_use"][8] in np.float32([1 / 3, 2 / 3, 1.0])
        assert 0.0 < found[f"{layer}/region_deviation"][8] <= 1.0 + 1e-5
    for name in ("real", "fake"):
        low, mean, high = (
            found[tag][8]
            for tag in (
                f"7_spread/discriminator_{name}_low",
                f"1_losses/discriminator_{name}",
                f"7_spread/discriminator_{name}_high",
            )
        )
        assert low < mean < high and mean - low == pytest.approx(high - mean, rel=1e-3)


def test_configuration_is_a_text_of_tensorboard(run):
    model_dir, _ = run
    (text,) = summaries_of(model_dir / "train")["run/2_configuration"].values()
    indented = text.item().decode("utf-8").splitlines()
    assert all(line.startswith("    ") for line in indented)
    assert "\n".join(line[4:] for line in indented) + "\n" == (model_dir / "params.yaml").read_text(encoding="utf-8")


def test_cost_of_the_networks_is_a_text_of_tensorboard(run):
    model_dir, _ = run
    (text,) = summaries_of(model_dir / "train")["run/3_networks"].values()
    rows = [line.split("|")[1].strip() for line in text.item().decode("utf-8").splitlines()[2:]]
    assert rows == ["generator", "discriminator"]


def test_validation_scalars_are_the_scores(run):
    model_dir, _ = run
    found = summaries_of(model_dir / "validation")
    scores = {f"2_scores/{name}" for name in SCORES}
    assert set(found) == {*scores, "samples", "layouts", "_hparams_/session_start_info"}
    for tag in scores:
        assert set(found[tag]) == {8} and np.isfinite(found[tag][8])


def test_run_prints_its_scores_and_where_to_look(run):
    model_dir, printed = run
    assert f"Step 8 of 8 in {model_dir}" in printed
    scores = summaries_of(model_dir / "validation")
    for name in ("label_accuracy", "frechet_distance", "precision"):
        value = scores[f"2_scores/{name}"][8]
        assert re.search(rf"^{name} +{value:.4f} +50 +1\b", printed, re.MULTILINE), name
    assert "not an FID" in printed
    assert f"-m tensorboard.main --logdir {model_dir}" in printed
    assert f"{model_dir}/samples.png" in printed and f"{model_dir}/layouts.png" in printed


def test_second_run_says_that_it_is_done_and_leaves_the_checkpoints(copy_of_run, run, caplog, capsys):
    before = checkpoints(copy_of_run)
    with caplog.at_level(logging.INFO, logger="absl"):
        train_gan(copy_of_run)
    assert f"{copy_of_run} is done: step 8." in caplog.text and "trainer.train_steps" in caplog.text
    assert checkpoints(copy_of_run) == before and len(before) == 5
    # The scores are those of the first run: samples, classifier and weights are the same.
    assert capsys.readouterr().out == run[1].replace(str(run[0]), str(copy_of_run))


@pytest.mark.slow
def test_more_train_steps_go_on_from_the_checkpoint_also_on_other_devices(copy_of_run, caplog):
    override = RUN.replace("train_steps=8", "train_steps=10").replace("mirrored", "one_device")
    with caplog.at_level(logging.INFO, logger="absl"):
        train_gan(copy_of_run, mode="train", override=override)
    assert f"Restored {copy_of_run}/ckpt-8" in caplog.text
    assert tf.train.latest_checkpoint(str(copy_of_run)) == str(copy_of_run / "ckpt-10")
    found = summaries_of(copy_of_run / "train")
    assert set(found["1_losses/generator_loss"]) == {4, 8, 10} and set(found["run/2_configuration"]) == {0, 8}
    assert configs.load_params(copy_of_run / "params.yaml").trainer.train_steps == 10


def test_resumed_run_takes_up_the_data_where_it_was_left(copy_of_run, monkeypatch):
    def stop(strategy, data, resolution, seed, start_batch, **kwargs):
        raise InterruptedError(f"start at batch {start_batch}")

    monkeypatch.setattr(input_pipelines, "training_dataset", stop)
    override = override_of(RUN, trainer__discriminator_steps=3, trainer__train_steps=9)
    with pytest.raises(InterruptedError, match="start at batch 24"):
        train_gan(copy_of_run, override=override)


def test_evaluation_of_a_run_changes_neither_its_configuration_nor_its_checkpoints(copy_of_run, run, capsys):
    before = checkpoints(copy_of_run), (copy_of_run / "params.yaml").read_bytes()
    for picture in copy_of_run.glob("*.png"):
        picture.unlink()
    train_gan(copy_of_run, mode="eval")
    assert (checkpoints(copy_of_run), (copy_of_run / "params.yaml").read_bytes()) == before
    assert capsys.readouterr().out == run[1].replace(str(run[0]), str(copy_of_run))
    for name in ("samples.png", "layouts.png"):
        assert (copy_of_run / name).read_bytes() == (run[0] / name).read_bytes()


def exit_code_of(*args, **kwargs):
    with pytest.raises(SystemExit) as caught:
        train_gan(*args, **kwargs)
    return caught.value.code


def test_evaluation_without_a_run_exits_with_2_and_writes_nothing(tmp_path, caplog):
    assert exit_code_of(tmp_path / "new", mode="eval") == 2
    assert "holds no run" in caplog.text and not list(tmp_path.iterdir())


def test_evaluation_without_a_checkpoint_exits_with_2(run, tmp_path, caplog):
    shutil.copy(run[0] / "params.yaml", tmp_path)
    before = contents(tmp_path)
    assert exit_code_of(tmp_path, mode="eval") == 2
    assert "holds no checkpoint" in caplog.text and contents(tmp_path) == before


def test_run_of_other_networks_in_the_same_folder_exits_with_2(run, caplog):
    before = contents(run[0])
    override = RUN.replace("generator.num_entities=3", "generator.num_entities=4")
    assert exit_code_of(run[0], override=override) == 2
    assert "task.model.generator.num_entities: 3 -> 4" in caplog.text and contents(run[0]) == before


def test_batch_that_does_not_divide_exits_with_2_and_writes_nothing(tmp_path, caplog):
    override = RUN.replace("train_data.global_batch_size=8", "train_data.global_batch_size=7")
    assert exit_code_of(tmp_path / "new", override=override) == 2
    assert "task.train_data.global_batch_size" in caplog.text and not list(tmp_path.iterdir())


def test_arguments_that_are_no_flags_are_refused(tmp_path):
    with pytest.raises(app.UsageError, match="train"):
        call_main("trainers.train_gan", "train", experiment="gan_digits32", model_dir=tmp_path / "new")
    assert not list(tmp_path.iterdir())
