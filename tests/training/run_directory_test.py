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


def trained(model_dir, params):
    """Makes the folder that of a run which has a checkpoint."""
    take(str(model_dir), params)
    (model_dir / "ckpt-4.index").write_text("checkpoint", encoding="utf-8")


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
    trained(tmp_path, params_of())
    longer = params_of("trainer.train_steps=9000,runtime.distribution_strategy=mirrored,task.evaluation.num_samples=7")
    take(str(tmp_path), longer)
    assert configs.load_params(tmp_path / "params.yaml") == longer


@pytest.mark.parametrize(
    "key, old, new",
    [
        ("task.model.latent_dim", 32, 7),
        ("task.model.generator.num_entities", 8, 3),
        ("task.losses.orthogonal_weight", 0.25, 0.5),
        ("task.train_data.label_offset", 0, -1),
    ],
)
def test_run_of_something_else_is_refused(tmp_path, key, old, new):
    trained(tmp_path, params_of(f"{key}={old}"))
    before = contents(tmp_path)
    with pytest.raises(run_directory.RunDirectoryError) as caught:
        take(str(tmp_path), params_of(f"{key}={new},trainer.train_steps=9"))
    assert f"{key}: {old!r} -> {new!r}" in str(caught.value) and str(tmp_path) in str(caught.value)
    assert contents(tmp_path) == before


def test_all_differences_are_named(tmp_path):
    trained(tmp_path, params_of())
    with pytest.raises(run_directory.RunDirectoryError, match="latent_dim.*orthogonal_weight.*split"):
        take(
            str(tmp_path),
            params_of("task.model.latent_dim=7,task.losses.orthogonal_weight=0.5,task.train_data.split=test"),
        )


@pytest.mark.parametrize(
    "override",
    [
        "task.augmentation=[color]",
        "task.train_data.global_batch_size=16",
        "trainer.generator_optimizer.learning_rate=0.5",
        "trainer.generator_optimizer.decay_steps=7",
        "task.train_data.cache=true",
    ],
)
def test_change_that_is_not_exact_is_taken_with_a_warning(tmp_path, caplog, override):
    trained(tmp_path, params_of())
    take(str(tmp_path), params_of(override))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{tmp_path / 'params.yaml'}: the run goes on with other settings, and so not bit for bit")
    assert override.split("=")[0] + ": " in line
    assert configs.load_params(tmp_path / "params.yaml") == params_of(override)


def test_change_that_is_exact_is_taken_without_a_word(tmp_path, caplog):
    trained(tmp_path, params_of())
    take(str(tmp_path), params_of("trainer.train_steps=9000,task.evaluation.num_samples=7"))
    take(str(tmp_path), params_of("task.augmentation=[color]"), must_exist=True)  # which trains nothing
    assert not caplog.records


@pytest.mark.parametrize("override", ["task.losses.orthogonal_weight=0.5", "task.train_data.split=test"])
def test_evaluation_may_change_what_is_learned(tmp_path, override):
    trained(tmp_path, params_of())
    take(str(tmp_path), params_of(override), must_exist=True)


@pytest.mark.parametrize("override", ["task.model.latent_dim=7", "runtime.mixed_precision_dtype=float16"])
def test_evaluation_may_not_change_what_checkpoints_hold(tmp_path, override):
    trained(tmp_path, params_of())
    with pytest.raises(run_directory.RunDirectoryError, match=override.split("=")[0]):
        take(str(tmp_path), params_of(override), must_exist=True)


def test_run_without_a_checkpoint_may_become_anything(tmp_path):
    """As one that died on its first step of too large a batch, or too large a network."""
    take(str(tmp_path), params_of())
    other = params_of("task.model.latent_dim=7,task.train_data.split=test")
    take(str(tmp_path), other)
    assert configs.load_params(tmp_path / "params.yaml") == other


@pytest.mark.parametrize("old, new", [("data", "./data/"), ("data", "{0}/data"), ("{0}/link", "{0}/data")])
def test_path_may_be_spelled_otherwise(tmp_path, monkeypatch, caplog, old, new):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    override = "task.train_data.dataset=folder,task.train_data.path="
    trained(tmp_path / "run", params_of(override + old.format(tmp_path)))
    take(str(tmp_path / "run"), params_of(override + new.format(tmp_path)))
    assert not caplog.records
    take(str(tmp_path / "run"), params_of(f"{override}{tmp_path}/moved"))
    assert "task.train_data.path: " in caplog.text


LITTER = [
    "lost+found/",
    ".DS_Store",
    "train.log",
    "slurm-17.out",
    ".nfs0001",
    "params.yaml.partial",
    "Thumbs.db",
    ".x/",
]


@pytest.mark.parametrize("name", LITTER)
def test_what_systems_leave_makes_no_folder_anothers(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.write_text("", encoding="utf-8")
    take(str(tmp_path), params_of())
    assert path.exists() or name.startswith("params") and (tmp_path / "params.yaml").exists()


@pytest.mark.parametrize("letter", list("[]*?\\"))
@pytest.mark.parametrize("must_exist", [False, True])
def test_name_that_tensorflow_takes_for_a_pattern_is_refused(tmp_path, letter, must_exist):
    model_dir = tmp_path / f"run {letter}1"
    with pytest.raises(run_directory.RunDirectoryError) as caught:
        take(str(model_dir), params_of(), must_exist)
    assert f"--model_dir={model_dir} must have no {letter} in it" in str(caught.value)
    with pytest.raises(run_directory.RunDirectoryError, match="must have no"):
        run_directory.load(str(model_dir))
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(run_directory.os, "listdir", denied)
    with pytest.raises(run_directory.RunDirectoryError, match=f"--model_dir={tmp_path} cannot be read: .*denied"):
        run_directory.check(str(tmp_path), params_of())


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
