"""`trainers.evaluate` on a run: what it prints and writes, what it leaves alone, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest

from gan_test_case import call_main, contents, fake_inception, summaries_of, trained_run
from trainers import configs
from trainers.evaluation import inception_features
from trainers.training import distribution


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)[0]


@pytest.fixture
def copy_of_run(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def inception(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(inception_features, "NUM_FEATURES", 6)
    return fake_inception(tmp_path_factory.mktemp("inception") / "model")


def evaluate(model_dir, **flag_values):
    call_main("trainers.evaluate", model_dir=model_dir, **flag_values)


def exit_code_of(*args, **kwargs):
    with pytest.raises(SystemExit) as caught:
        evaluate(*args, **kwargs)
    return caught.value.code


def test_scores_of_the_newest_checkpoint_are_those_of_the_run(copy_of_run, tmp_path, capsys):
    before = contents(copy_of_run)
    evaluate(copy_of_run, output=tmp_path / "scores.json")
    assert contents(copy_of_run) == before
    result = json.loads((tmp_path / "scores.json").read_text())
    assert result["checkpoint"] == str(copy_of_run / "ckpt-8")
    assert result["num_samples"] == 50 and result["seed"] == 1 and result["features"] == "classifier"
    in_training = summaries_of(copy_of_run / "validation")
    of_generator = {tag for tag in in_training if tag[0] == "2"} - {"2_scores/discriminator_slope"}
    assert {f"2_scores/{name}" for name in result["scores"]} == of_generator
    for name, value in result["scores"].items():
        assert value == pytest.approx(in_training[f"2_scores/{name}"][8], rel=1e-4, abs=1e-5), name
    printed = capsys.readouterr().out
    assert "fid" not in printed.lower().replace("not an fid", "") and result["weights_sha256"][:12] in printed


def test_samples_and_seed_stand_beside_every_score(copy_of_run, tmp_path, capsys):
    evaluate(copy_of_run, num_samples=40, seed=9, output=tmp_path / "scores.json")
    result = json.loads((tmp_path / "scores.json").read_text())
    assert result["num_samples"] == 40 and result["seed"] == 9
    printed = capsys.readouterr().out
    for name, value in result["scores"].items():
        made_of = "- +-" if name in ("classifier_test_accuracy", "frechet_distance_floor") else "40 +9"
        assert re.search(rf"^{name} +{value:.4f} +{made_of}( |$)", printed, re.M), name


def test_other_checkpoint_and_other_noise_have_other_scores(copy_of_run, tmp_path):
    """Takes 25 seconds: four evaluations."""
    results = []
    for number, flags in enumerate([{}, {"checkpoint": copy_of_run / "ckpt-4"}, {"seed": 2}, {}]):
        evaluate(copy_of_run, output=tmp_path / f"{number}.json", **flags)
        results.append(json.loads((tmp_path / f"{number}.json").read_text()))
    assert results[1]["checkpoint"].endswith("ckpt-4")
    distances = [result["scores"]["frechet_distance"] for result in results]
    assert len({round(distance, 6) for distance in distances}) == 3
    assert distances[0] == pytest.approx(distances[3], rel=1e-6)


def test_inception_gives_fid_and_adds_only_its_statistics_to_the_run(copy_of_run, inception, tmp_path, capsys):
    before = contents(copy_of_run)
    evaluate(copy_of_run, inception_path=inception, intra_class="true", output=tmp_path / "scores.json")
    after = contents(copy_of_run)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {str(copy_of_run / "real_statistics_inception.npz")}
    result = json.loads((tmp_path / "scores.json").read_text())
    assert set(result["scores"]) == {"fid", "kid", "inception_score", "intra_fid", "precision", "recall"}
    assert all(np.isfinite(value) for value in result["scores"].values())
    assert re.search(r"^fid +[\d.]+ +50 +1\b", capsys.readouterr().out, re.M)
    evaluate(copy_of_run, inception_path=inception, intra_class="true")
    assert contents(copy_of_run) == after


def test_statistics_may_be_shared(copy_of_run, inception, tmp_path):
    before = contents(copy_of_run)
    evaluate(copy_of_run, inception_path=inception, statistics_dir=tmp_path / "shared")
    assert contents(copy_of_run) == before and (tmp_path / "shared" / "real_statistics_inception.npz").exists()


def test_statistics_by_another_inception_exit_with_2(copy_of_run, inception, tmp_path, caplog, capsys):
    evaluate(copy_of_run, inception_path=inception)
    before = contents(copy_of_run)
    capsys.readouterr()
    assert exit_code_of(copy_of_run, inception_path=fake_inception(tmp_path / "other", seed=1)) == 2
    assert "weights_sha256" in caplog.text and "real_statistics_inception.npz" in caplog.text
    assert contents(copy_of_run) == before and not capsys.readouterr().out


@pytest.mark.parametrize(
    "flag_values, message",
    [
        ({"checkpoint": "none/ckpt-3"}, "There is no checkpoint none/ckpt-3"),
        ({"num_samples": 3}, "`task.evaluation.num_samples` must be at least 4"),
        ({"num_samples": 19, "intra_class": "true"}, "`task.evaluation.num_samples` must be at least 20"),
        ({"inception_path": "/none"}, "--inception_path must be the folder of a SavedModel"),
        ({"params_override": "runtime.num_gpus=99"}, "`runtime.num_gpus` must not exceed"),
    ],
)
def test_wrong_flags_exit_with_2_and_one_line(run, caplog, flag_values, message):
    before = contents(run)
    assert exit_code_of(run, **flag_values) == 2
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message in error and "\n" not in error
    assert contents(run) == before


@pytest.mark.parametrize("device, num_gpus", [("auto", None), ("cpu", 0)])
def test_device_is_of_the_evaluation_not_of_the_run(run, monkeypatch, device, num_gpus):
    found = []

    def set_up(runtime):
        found.append(runtime.num_gpus)
        raise ValueError("It would run now.")

    monkeypatch.setattr(distribution, "set_up_runtime", set_up)
    assert exit_code_of(run, device=device) == 2 and found == [num_gpus]


def test_settings_of_the_run_are_overridden(copy_of_run, tmp_path):
    """The way of a data set that has moved, or of a batch that is too large for this machine."""
    evaluate(copy_of_run, params_override="task.evaluation.num_samples=40, runtime.seed=9", output=tmp_path / "1.json")
    evaluate(copy_of_run, num_samples=40, seed=9, output=tmp_path / "2.json")
    assert json.loads((tmp_path / "1.json").read_text()) == json.loads((tmp_path / "2.json").read_text())


@pytest.mark.parametrize(
    "override, message",
    [
        ("task.model.latent_dim=9", "does not hold the networks of its run's params.yaml"),
        ("task.evaluation.num_sample=5", "Did you mean `task.evaluation.num_samples`?"),
        ("task.evaluation.num_samples=41", "`task.evaluation.num_samples` is given twice"),
    ],
)
def test_override_that_does_not_fit_exits_with_2(run, caplog, override, message):
    assert exit_code_of(run, num_samples=40, params_override=override) == 2
    assert message in caplog.text


@pytest.mark.parametrize("flag, value", [("num_samples", 5), ("intra_class", "true"), ("statistics_dir", "x")])
def test_flag_of_a_gan_is_refused_for_inpainting(tmp_path, caplog, flag, value):
    text = configs.dump(configs.resolve("inpainting_photos64"))
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert exit_code_of(tmp_path, **{flag: value}) == 2
    expected = (
        f"--{flag} is of class-conditional GANs, and {tmp_path} is an inpainting run: how many images it scores is "
        "set by --params_override=task.evaluation.num_images=..."
    )
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [expected]


def test_folder_without_a_run_exits_with_2(tmp_path, caplog):
    assert exit_code_of(tmp_path / "none") == 2
    assert f"--model_dir={tmp_path / 'none'} holds no run" in caplog.text and not list(tmp_path.iterdir())


def test_run_without_a_checkpoint_exits_with_2(run, tmp_path, caplog):
    shutil.copy(run / "params.yaml", tmp_path)
    assert exit_code_of(tmp_path) == 2
    assert f"There is no checkpoint in --model_dir={tmp_path}" in caplog.text


def test_checkpoint_of_other_networks_exits_with_2(copy_of_run, caplog):
    path = copy_of_run / "params.yaml"
    path.write_text(path.read_text().replace("base_channels: 4", "base_channels: 8"))
    assert exit_code_of(copy_of_run) == 2
    assert "does not hold the networks of its run's params.yaml" in caplog.text


def test_arguments_that_are_no_flags_are_refused(run):
    from absl import app

    with pytest.raises(app.UsageError, match="all"):
        call_main("trainers.evaluate", "all", model_dir=run)
