"""The folder of a run: made once, taken up again, never taken over."""

import pytest

from gan_test_case import contents
from trainers import configs
from trainers.training import run_directory


def take(model_dir, params, must_exist=False):
    """What the main does with a folder: check it, then make it the run's unless it only reads."""
    run_directory.check(model_dir, params, must_exist)
    if not must_exist:
        run_directory.prepare(model_dir, params)


def params_of(override=""):
    return configs.resolve("gan_digits32", params_override=override)


def test_new_folder_holds_the_configuration(tmp_path):
    model_dir = tmp_path / "runs" / "new"
    take(str(model_dir), params_of("runtime.seed=5"))
    assert [path.name for path in model_dir.iterdir()] == ["params.yaml"]
    assert configs.load_params(model_dir / "params.yaml") == params_of("runtime.seed=5")


def test_bucket_is_refused():
    with pytest.raises(run_directory.RunDirectoryError, match="--model_dir=gs://bucket/run must be a folder"):
        take("gs://bucket/run", params_of())


def test_empty_folder_is_taken(tmp_path):
    take(str(tmp_path), params_of())
    assert (tmp_path / "params.yaml").exists()


def test_same_run_may_go_on_longer_and_elsewhere(tmp_path):
    take(str(tmp_path), params_of())
    longer = params_of("trainer.train_steps=9000,runtime.distribution_strategy=mirrored,task.evaluation.num_samples=7")
    take(str(tmp_path), longer)
    assert configs.load_params(tmp_path / "params.yaml") == longer


@pytest.mark.parametrize(
    "key, old, new",
    [
        ("task.model.latent_dim", 32, 7),
        ("task.model.generator.num_entities", 8, 3),
        ("task.losses.orthogonal_weight", 0.25, 0.5),
        ("task.train_data.global_batch_size", 32, 16),
    ],
)
def test_run_of_something_else_is_refused(tmp_path, key, old, new):
    take(str(tmp_path), params_of(f"{key}={old}"))
    before = contents(tmp_path)
    with pytest.raises(run_directory.RunDirectoryError) as caught:
        take(str(tmp_path), params_of(f"{key}={new},trainer.train_steps=9"))
    assert f"{key}: {old!r} -> {new!r}" in str(caught.value) and str(tmp_path) in str(caught.value)
    assert contents(tmp_path) == before


def test_all_differences_are_named(tmp_path):
    take(str(tmp_path), params_of())
    with pytest.raises(run_directory.RunDirectoryError, match="latent_dim.*orthogonal_weight.*split"):
        take(
            str(tmp_path),
            params_of("task.model.latent_dim=7,task.losses.orthogonal_weight=0.5,task.train_data.split=test"),
        )


def test_run_with_another_augmentation_is_refused(tmp_path):
    take(str(tmp_path), params_of())
    with pytest.raises(run_directory.RunDirectoryError, match=r"task\.augmentation: \[\] -> \['color'\]"):
        take(str(tmp_path), params_of("task.augmentation=[color]"))


@pytest.mark.parametrize("must_exist", [False, True])
def test_folder_of_something_else_is_refused_and_untouched(tmp_path, must_exist):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(run_directory.RunDirectoryError, match="params.yaml"):
        take(str(tmp_path), params_of(), must_exist=must_exist)
    assert contents(tmp_path) == {str(tmp_path / "thesis.txt"): b"years of work"}


def test_evaluation_of_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(run_directory.RunDirectoryError, match="holds no run"):
        take(str(tmp_path), params_of(), must_exist=True)
    assert not list(tmp_path.iterdir())


def test_evaluation_of_a_missing_folder_makes_none(tmp_path):
    with pytest.raises(run_directory.RunDirectoryError, match="holds no run"):
        take(str(tmp_path / "missing"), params_of(), must_exist=True)
    assert not (tmp_path / "missing").exists()


def test_evaluation_leaves_the_configuration_as_it_was(tmp_path):
    take(str(tmp_path), params_of())
    take(str(tmp_path), params_of("trainer.train_steps=5"), must_exist=True)
    assert configs.load_params(tmp_path / "params.yaml") == params_of()


@pytest.mark.parametrize("below", [".", "below"])
def test_regular_file_is_no_folder(tmp_path, below):
    (tmp_path / "file").write_text("content", encoding="utf-8")
    with pytest.raises(run_directory.RunDirectoryError, match="cannot be written"):
        take(str(tmp_path / "file" / below), params_of())
    assert contents(tmp_path) == {str(tmp_path / "file"): b"content"}


def test_params_file_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "params.yaml").write_text("colour: red\n", encoding="utf-8")
    with pytest.raises(configs.ConfigError, match="colour"):
        take(str(tmp_path), params_of())
    assert contents(tmp_path) == {str(tmp_path / "params.yaml"): b"colour: red\n"}
