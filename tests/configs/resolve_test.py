"""Configurations: what goes over what, and what every mistake is told.

The file is long because one test a rule of the configuration.
"""

import dataclasses

import pytest
import yaml

from gan_test_case import call_main
from trainers import configs
from trainers.configs.experiments import EXPERIMENTS

EXPERIMENT = "gan_digits32"


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def message_of(override="", files=(), experiment=EXPERIMENT):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(experiment, files, override)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_resolves_to_itself(name):
    assert configs.resolve(name) == dataclasses.replace(EXPERIMENTS[name](), experiment=name)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_states_its_command(name):
    assert f"--experiment={name} " in EXPERIMENTS[name].__doc__


def test_override_goes_over_files_and_files_over_the_experiment(tmp_path):
    first = write(tmp_path / "1.yaml", {"trainer": {"train_steps": 1, "steps_per_loop": 1, "max_to_keep": 1}})
    second = write(tmp_path / "2.yaml", {"trainer": {"steps_per_loop": 2, "max_to_keep": 3}})
    trainer = configs.resolve(EXPERIMENT, [first, second], "trainer.max_to_keep=4").trainer
    assert (trainer.train_steps, trainer.steps_per_loop, trainer.max_to_keep) == (1, 2, 4)
    assert trainer.checkpoint_interval == EXPERIMENTS[EXPERIMENT]().trainer.checkpoint_interval


def test_config_files_apply_in_their_order(tmp_path):
    one = write(tmp_path / "1.yaml", {"runtime": {"seed": 11}})
    two = write(tmp_path / "2.yaml", {"runtime": {"seed": 22}})
    assert configs.resolve(EXPERIMENT, [one, two]).runtime.seed == 22
    assert configs.resolve(EXPERIMENT, [two, one]).runtime.seed == 11


def test_empty_config_file_changes_nothing(tmp_path):
    assert configs.resolve(EXPERIMENT, [write(tmp_path / "empty.yaml", "")]) == configs.resolve(EXPERIMENT)


def test_override_takes_lists_between_other_pairs():
    model = configs.resolve(
        EXPERIMENT,
        params_override="task.model.generator.attention_blocks=[1,2],task.model.discriminator.attention_blocks=[],"
        "task.model.latent_dim=5",
    ).task.model
    assert model.generator.attention_blocks == [1, 2]
    assert model.discriminator.attention_blocks == []
    assert model.latent_dim == 5


def test_override_takes_every_scalar_type():
    params = configs.resolve(
        EXPERIMENT,
        params_override="trainer.generator_optimizer.learning_rate=3e-4,runtime.enable_xla=true,runtime.seed=7,"
        "task.model.attention=none",
    )
    assert params.trainer.generator_optimizer.learning_rate == 3e-4
    assert params.runtime.enable_xla is True
    assert params.runtime.seed == 7
    assert params.task.model.attention == "none"


def test_off_is_the_strategy_and_no_yaml_boolean(tmp_path):
    path = write(tmp_path / "file.yaml", "runtime:\n  distribution_strategy: off\n")
    assert configs.resolve(EXPERIMENT, [path]).runtime.distribution_strategy == "off"
    override = "runtime.distribution_strategy=off"
    assert configs.resolve(EXPERIMENT, params_override=override).runtime.distribution_strategy == "off"


def test_resolving_twice_shares_nothing():
    first, second = configs.resolve(EXPERIMENT), configs.resolve(EXPERIMENT)
    first.task.model.generator.attention_blocks.append(3)
    assert second == configs.resolve(EXPERIMENT)


def test_dump_and_load_params_give_the_same_configuration(tmp_path):
    params = configs.resolve(
        EXPERIMENT, params_override="trainer.ema_decay=0.25,task.model.generator.attention_blocks=[3]"
    )
    path = write(tmp_path / "params.yaml", configs.dump(params))
    assert configs.load_params(path) == params


def test_dump_keeps_the_order_of_the_dataclasses():
    assert list(yaml.safe_load(configs.dump(configs.resolve(EXPERIMENT)))) == [
        "application",
        "experiment",
        "task",
        "trainer",
        "runtime",
    ]


def test_nested_differences_name_key_and_both_values():
    old = configs.resolve(EXPERIMENT, params_override="task.model.generator.num_entities=8")
    new = configs.resolve(EXPERIMENT, params_override="task.model.generator.num_entities=5")
    assert configs.nested_differences(old, new) == ["task.model.generator.num_entities: 8 -> 5"]
    assert configs.nested_differences(old.task, new.task, "run") == ["run.model.generator.num_entities: 8 -> 5"]
    assert configs.nested_differences(old, dataclasses.replace(old)) == []


def test_unknown_experiment_names_the_nearest():
    message = message_of(experiment="gan_digit32")
    assert "Did you mean `gan_digits32`?" in message and "'gan_digit32'" in message


def test_unknown_key_of_the_override_names_it_the_nearest_and_the_flag():
    message = message_of("runtime.seed=3,trainer.trian_steps=3")
    assert "`trainer.trian_steps`" in message
    assert "`trainer.train_steps`" in message
    assert "--params_override=trainer.trian_steps=3" in message


def test_unknown_key_of_a_file_names_it_the_nearest_and_the_file(tmp_path):
    good = write(tmp_path / "good.yaml", {"runtime": {"seed": 1}})
    bad = write(tmp_path / "bad.yaml", {"task": {"model": {"latent_dims": 3}}})
    message = message_of(files=[good, bad])
    assert "`task.model.latent_dims`" in message and "`task.model.latent_dim`" in message
    assert bad in message and good not in message


@pytest.mark.parametrize(
    "key, value, wanted",
    [
        ("trainer.train_steps", "many", "int"),
        ("trainer.train_steps", "3.5", "int"),
        ("trainer.generator_optimizer.learning_rate", "fast", "float"),
        ("runtime.enable_xla", "perhaps", "bool"),
    ],
)
def test_wrong_type_names_key_type_and_value(tmp_path, key, value, wanted):
    message = message_of(f"{key}={value}")
    assert f"`{key}`" in message and f"of type {wanted}" in message and f"'{value}'" in message
    assert "--params_override" in message
    content = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        content = {part: content}
    path = write(tmp_path / "file.yaml", content)
    message = message_of(files=[path])
    assert f"`{key}`" in message and f"of type {wanted}" in message and f"'{value}'" in message and path in message


def test_wrong_type_in_a_list_names_the_element():
    message = message_of("task.model.generator.attention_blocks=[1,a]")
    assert "`task.model.generator.attention_blocks[1]`" in message and "list[int]" in message and "'a'" in message


def test_value_in_place_of_a_group_is_an_error(tmp_path):
    path = write(tmp_path / "file.yaml", {"trainer": 3})
    message = message_of(files=[path])
    assert path in message and "`trainer`" in message and "a group of keys" in message and "3" in message


def test_pair_without_equals_sign_is_an_error():
    message = message_of("runtime.seed=3,trainer.train_steps")
    assert "key=value" in message and "'trainer.train_steps'" in message


def test_missing_file_is_an_error(tmp_path):
    path = str(tmp_path / "missing.yaml")
    assert path in message_of(files=[path])
    with pytest.raises(configs.ConfigError, match="missing.yaml"):
        configs.load_params(path)


def test_file_that_is_no_mapping_is_an_error(tmp_path):
    path = write(tmp_path / "list.yaml", ["trainer"])
    message = message_of(files=[path])
    assert path in message and "mapping" in message and "list" in message


def test_file_that_is_no_yaml_is_an_error(tmp_path):
    path = write(tmp_path / "broken.yaml", "trainer: [1")
    assert path in message_of(files=[path])


@pytest.mark.parametrize(
    "key, value, nearest",
    [
        ("runtime.distribution_strategy", "mirorred", "mirrored"),
        ("runtime.mixed_precision_dtype", "bfloat", "bfloat16"),
        ("runtime.cluster", "slrum", "slurm"),
        ("task.train_data.dataset", "digit", "digits"),
        ("task.validation_data.dataset", "digit", "digits"),
        ("task.train_data.split", "tran", "train"),
        ("task.validation_data.split", "tests", "test"),
    ],
)
def test_choice_names_the_nearest_and_the_value(key, value, nearest):
    message = message_of(f"{key}={value}")
    assert f"`{key}`" in message and f"Did you mean `{nearest}`?" in message and f"'{value}'" in message


@pytest.mark.parametrize(
    "key",
    [
        "trainer.train_steps",
        "trainer.steps_per_loop",
        "trainer.checkpoint_interval",
        "trainer.summary_interval",
        "trainer.validation_interval",
        "trainer.max_to_keep",
        "trainer.discriminator_steps",
        "task.train_data.global_batch_size",
        "task.validation_data.global_batch_size",
        "task.train_data.shuffle_buffer_size",
        "task.validation_data.shuffle_buffer_size",
        "task.evaluation.classifier_epochs",
        "task.model.latent_dim",
    ],
)
def test_counts_start_at_one(key):
    configs.resolve(EXPERIMENT, params_override=f"{key}=1")
    message = message_of(f"{key}=0")
    assert f"`{key}` must be at least 1" in message and "Received: 0" in message


def test_number_of_classes_may_be_the_data_s_own():
    assert configs.resolve(EXPERIMENT, params_override="task.model.num_classes=0").task.model.num_classes == 0
    assert "`task.model.num_classes` must not be negative. Received: -1" in message_of("task.model.num_classes=-1")


@pytest.mark.parametrize("area", ["[0.1]", "[0.5,0.2]", "[0.0,1.0]", "[0.5,1.5]"])
def test_areas_of_random_squares_are_two_rising_shares(area):
    override = f"task.train_data.random_crop=true,task.train_data.random_crop_area={area}"
    with pytest.raises(configs.ConfigError, match=r"`task.train_data.random_crop_area` must be two rising shares in"):
        configs.resolve("gan_folder", params_override=override)


@pytest.mark.parametrize("experiment, random_crop", [("gan_folder", "false"), ("gan_digits32", "true")])
def test_areas_of_random_squares_need_random_crops_of_files(experiment, random_crop):
    override = f"task.train_data.random_crop={random_crop},task.train_data.random_crop_area=[0.5,1.0]"
    with pytest.raises(configs.ConfigError, match="is of squares that are cut out at random: it needs"):
        configs.resolve(experiment, params_override=override)


@pytest.mark.parametrize("group", ["task.train_data", "task.validation_data"])
def test_class_names_are_one_for_each_class(group):
    for bad in ("[cat,dog,cat]", "[cat,'']"):
        assert f"`{group}.class_names` must be a name of its own" in message_of(f"{group}.class_names={bad}")


@pytest.mark.parametrize("group", ["task.train_data", "task.validation_data"])
def test_background_is_three_levels_or_none(group):
    for good in ("[]", "[0, 128, 255]"):
        configs.resolve(EXPERIMENT, params_override=f"{group}.background={good}")
    for bad in ("[255]", "[0, 0, 256]", "[-1, 0, 0]"):
        assert f"`{group}.background` must be three levels from 0 to 255" in message_of(f"{group}.background={bad}")


@pytest.mark.parametrize("intra_class, least", [("false", 4), ("true", 20)])
def test_samples_are_enough_for_the_scores(intra_class, least):
    override = f"task.evaluation.intra_class={intra_class},task.evaluation.num_samples="
    assert configs.resolve(EXPERIMENT, params_override=f"{override}{least}").task.evaluation.num_samples == least
    message = message_of(f"{override}{least - 1}")
    assert f"`task.evaluation.num_samples` must be at least {least}" in message and f"Received: {least - 1}" in message
    assert ("of 10 classes" in message) == (intra_class == "true")


@pytest.mark.parametrize("dataset, key", [("tfds", "name"), ("folder", "path"), ("tfrecord", "path")])
@pytest.mark.parametrize("group", ["task.train_data", "task.validation_data"])
def test_data_are_named_where_they_must_be(dataset, key, group):
    override = f"{group}.dataset={dataset},{group}.{key}=given,{group}.split="
    configs.resolve(EXPERIMENT, params_override=f"{override}train[:80%]")
    message = message_of(f"{group}.dataset={dataset}")
    assert f"`{group}.{key}` must not be empty" in message and repr(dataset) in message
    message = message_of(f"{override}''")
    assert f"`{group}.split` must not be empty" in message


@pytest.mark.parametrize("value", ["-0.1", "1", "1.5", ".nan"])
def test_ema_decay_is_in_zero_to_one(value):
    configs.resolve(EXPERIMENT, params_override="trainer.ema_decay=0")
    message = message_of(f"trainer.ema_decay={value}")
    assert "`trainer.ema_decay` must be in [0, 1)" in message and f"Received: {float(value.strip('.'))}" in message


def test_number_of_gpus_is_not_negative():
    configs.resolve(EXPERIMENT, params_override="runtime.num_gpus=0")
    message = message_of("runtime.num_gpus=-1")
    assert "`runtime.num_gpus` must not be negative" in message and "Received: -1" in message


@pytest.mark.parametrize(
    "override",
    [
        "trainer.trian_steps=3",
        "trainer.train_steps=0",
        "task.model.resolution=20",
        "task.model.attention=other",
        "task.model.discriminator.attention_blocks=[9]",
        "task.model.generator.num_entities=0",
        "task.losses.orthogonal_weight=-1",
    ],
)
def test_nothing_is_written_where_the_configuration_is_wrong(tmp_path, override):
    model_dir = tmp_path / "runs" / "new"
    with pytest.raises(SystemExit) as caught:
        call_main("trainers.train_gan", experiment=EXPERIMENT, model_dir=model_dir, params_override=override)
    assert caught.value.code == 2
    assert not (tmp_path / "runs").exists()


def test_nothing_is_written_where_the_experiment_is_unknown(tmp_path):
    with pytest.raises(SystemExit) as caught:
        call_main("trainers.train_gan", experiment="gan", model_dir=tmp_path / "new")
    assert caught.value.code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override, words",
    [
        ("runtime.distribution_strategy=parameter_server", "must not be 'parameter_server': its workers update"),
        ("runtime.distribution_strategy=tpu", "`runtime.tpu` must be given where .* Received: '' with 'tpu'"),
        ("runtime.tpu=local", "`runtime.tpu` must be given where .* Received: 'local' with"),
        (
            "runtime.distribution_strategy=mirrored,runtime.all_reduce_alg=ring",
            r"`runtime.all_reduce_alg` must be one of \('nccl', 'hierarchical_copy', 'one_device'\)",
        ),
        (
            "runtime.distribution_strategy=multi_worker_mirrored,runtime.all_reduce_alg=one_device",
            r"`runtime.all_reduce_alg` must be one of \('nccl', 'ring'\)",
        ),
        (
            "runtime.distribution_strategy=off,runtime.all_reduce_alg=nccl",
            "`runtime.all_reduce_alg` is of 'mirrored' and 'multi_worker_mirrored' alone. Received: 'nccl'",
        ),
        ("task.model.image_channels=2", r"`task.model.image_channels` must be one of \(1, 3\).* Received: 2"),
        ("runtime.grace_seconds=0", "`runtime.grace_seconds` must be positive. Received: 0.0"),
        ("trainer.loss_upper_bound=0", "`trainer.loss_upper_bound` must be positive. Received: 0.0"),
        ("trainer.max_recoveries=-1", "`trainer.max_recoveries` must not be negative. Received: -1"),
        ("trainer.continuous_eval_timeout=0", "`trainer.continuous_eval_timeout` must be at least 1. Received: 0"),
        ("trainer.best_checkpoint_export_subdir=best", "must be given together. Received: 'best' and ''"),
        ("trainer.best_checkpoint_eval_metric=fid", "must be given together. Received: '' and 'fid'"),
        (
            "trainer.best_checkpoint_metric_comp=min",
            r"`trainer.best_checkpoint_metric_comp` must be one of \('higher', 'lower'\)",
        ),
        *(
            (
                f"trainer.best_checkpoint_eval_metric=fid,trainer.best_checkpoint_export_subdir={folder}",
                f"`trainer.best_checkpoint_export_subdir` must be a folder in the run's. Received: '{folder}'",
            )
            for folder in (".", "../best", "/tmp/best", "a/../..")
        ),
        (
            "trainer.discriminator_optimizer.decay_steps=-1",
            "`trainer.discriminator_optimizer.decay_steps` must not be negative. Received: -1",
        ),
    ],
)
def test_runtime_and_guard_are_checked(override, words):
    with pytest.raises(configs.ConfigError, match=words):
        configs.resolve(EXPERIMENT, params_override=override)


@pytest.mark.parametrize(
    "experiment, override, words",
    [
        *(
            ("gan_digits32", f"{group}.{pair}", f"`{group}.{words}")
            for group in ("trainer.generator_optimizer", "trainer.discriminator_optimizer")
            for pair, words in (
                ("learning_rate=-1e-4", "learning_rate` must not be negative. Received: -0.0001"),
                ("learning_rate=nan", "learning_rate` must not be negative. Received: nan"),
                ("learning_rate=.inf", "learning_rate` must be a finite number. Received: inf"),
                ("beta_1=1.5", "beta_1` must be in [0, 1). Received: 1.5"),
                ("beta_2=-0.1", "beta_2` must be in [0, 1). Received: -0.1"),
                ("beta_2=1", "beta_2` must be in [0, 1). Received: 1.0"),
                ("epsilon=0", "epsilon` must be positive. Received: 0.0"),
            )
        ),
        ("gan_digits32", "task.losses.orthogonal_weight=-1", "`task.losses.orthogonal_weight` must not be negative."),
        ("gan_digits32", "trainer.loss_upper_bound=nan", "`trainer.loss_upper_bound` must be a finite number."),
        ("gan_digits32", "runtime.grace_seconds=nan", "`runtime.grace_seconds` must be a finite number."),
        (
            "gan_digits32",
            "task.model.attention=self_atention",
            "Did you mean `self_attention`? Received: 'self_atention'",
        ),
        (
            "gan_digits32",
            "task.model.generator.num_entities=0",
            "`task.model.generator.num_entities` must be at least 1.",
        ),
        (
            "gan_digits32",
            "task.model.discriminator.base_channels=0",
            "discriminator.base_channels` must be at least 1.",
        ),
        ("gan_digits32", "task.model.generator.entity_stddev=-1", "entity_stddev` must not be negative."),
        ("gan_digits32", "task.model.discriminator.epsilon=0", "epsilon` must be positive."),
        ("gan_digits32", "task.model.generator.residual_multiplier=0", "residual_multiplier` must be positive."),
        ("gan_digits32", "task.model.discriminator.temperature=-1", "temperature` must be positive."),
        ("gan_digits32", "task.evaluation.classifier=big", "classifier` must be one of ('small', 'residual')"),
        ("gan_pairs32", "task.train_data.split=val", "split` must be one of ('train', 'test')"),
        ("inpainting_photos64", "task.model.generator.attention=self_attn", "Did you mean `self_attention`?"),
        ("inpainting_photos64", "task.model.critic.attention=non", "Did you mean `none`?"),
        ("inpainting_photos64", "task.model.generator.statistics=weigthed", "Did you mean `weighted`?"),
        ("inpainting_photos64", "task.losses.hole=-1", "`task.losses.hole` must not be negative. Received: -1.0"),
        ("inpainting_photos64", "task.masks.max_length=-1", "`task.masks.max_length` must not be negative."),
        ("inpainting_photos64", "task.masks.max_width=.inf", "`task.masks.max_width` must be a finite number."),
        ("inpainting_photos64", "task.masks.max_angle=nan", "`task.masks.max_angle` must be a finite number."),
    ],
)
def test_value_out_of_range_is_refused_by_name(experiment, override, words):
    message = message_of(override, experiment=experiment)
    assert words in message and "\n" not in message


def test_bound_may_be_infinite_and_rates_zero():
    override = "trainer.loss_upper_bound=inf,trainer.generator_optimizer.learning_rate=0"
    configs.resolve(EXPERIMENT, params_override=override)
