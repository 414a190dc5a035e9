"""What may change in a run that goes on: every key of both schemas, by hand."""

import copy
import dataclasses
import functools

import pytest

from trainers import configs
from trainers.configs import resuming, schema
from trainers.configs.explaining import keys_of

ALL = {
    "held": """
        application
        task.model.attention task.model.resolution task.model.num_classes task.model.latent_dim
        task.model.image_channels task.model.generator.attention task.model.generator.statistics
        task.model.generator.first_fill
        task.model.critic.attention task.model.critic.base_channels task.model.critic.num_entities
        trainer.generator_optimizer.type trainer.discriminator_optimizer.type
    """,
    "learned": """
        task.losses.orthogonal_weight task.losses.hole task.losses.known task.losses.coarse task.losses.fine
        task.losses.type task.losses.discount task.losses.adversarial task.losses.gradient_penalty task.losses.id_mrf
        task.train_data.dataset task.train_data.name task.train_data.split task.train_data.label_offset
        task.init_checkpoint task.init_checkpoint_modules
    """,
    "inexact": """
        task.model.fake_labels task.model.synchronized_batch_norm task.losses.vgg_weights task.augmentation
        task.masks.kinds task.masks.size task.masks.max_shrink task.masks.num_strokes task.masks.max_vertices
        task.masks.max_length task.masks.min_width task.masks.max_width task.masks.max_angle task.masks.path
        task.train_data.path task.train_data.global_batch_size task.train_data.random_flip task.train_data.random_crop
        task.train_data.random_crop_area
        task.train_data.skip_corrupt task.train_data.cache task.train_data.shuffle_buffer_size
        task.train_data.background task.masks.invert
        trainer.discriminator_steps trainer.gradient_accumulation_steps trainer.ema_decay trainer.ema_start_step
        trainer.pretrain_steps runtime.distribution_strategy runtime.num_gpus runtime.tpu runtime.all_reduce_alg
        runtime.mixed_precision_dtype runtime.enable_xla runtime.seed runtime.deterministic
    """,
    "free": """
        experiment task.train_data.class_names
        task.evaluation.num_samples task.evaluation.inception_path task.evaluation.classifier_epochs
        task.evaluation.intra_class task.evaluation.statistics_dir task.evaluation.masks task.evaluation.num_images
        task.evaluation.biharmonic task.evaluation.classifier task.evaluation.classifier_dir
        trainer.train_steps trainer.steps_per_loop trainer.checkpoint_interval trainer.summary_interval
        trainer.validation_interval trainer.max_to_keep trainer.loss_upper_bound trainer.max_recoveries
        trainer.best_checkpoint_eval_metric trainer.best_checkpoint_metric_comp trainer.best_checkpoint_export_subdir
        trainer.continuous_eval_timeout
        runtime.cluster runtime.grace_seconds
    """,
}
ALL = {key: kind for kind, keys in ALL.items() for key in keys.split()}
for group, kind in (("task.model.generator", "held"), ("task.model.discriminator", "held")):
    ALL.update({f"{group}.{field.name}": kind for field in dataclasses.fields(schema.NetworkConfig)})
ALL.update({f"task.validation_data.{field.name}": "free" for field in dataclasses.fields(schema.DataConfig)})
for name in configs.OPTIMIZERS:
    fields = [field.name for field in dataclasses.fields(schema.OptimizerConfig) if field.name != "type"]
    ALL.update({f"trainer.{name}.{field}": "inexact" for field in fields})

CONFIGS = {"gan": "gan_digits32", "inpainting": "inpainting_photos64"}


def leaves(application):
    return [
        key for key, kind in keys_of(schema.APPLICATIONS[application]()).items() if not dataclasses.is_dataclass(kind)
    ]


def changed(params, key, value=None):
    """A copy with another value, of the same type, of one key."""
    params = copy.deepcopy(params)
    *groups, name = key.split(".")
    group = functools.reduce(getattr, groups, params)
    old = getattr(group, name)
    other = not old if isinstance(old, bool) else [*old, "x"] if isinstance(old, list) else f"{old}x"
    other = old + 1 if isinstance(old, (int, float)) and not isinstance(old, bool) else other
    setattr(group, name, other if value is None else value)
    return params


@pytest.mark.parametrize("application, key", [(name, key) for name in CONFIGS for key in leaves(name)])
def test_every_key_is_of_one_kind(application, key):
    params = configs.resolve(CONFIGS[application])
    found = configs.changes(params, changed(params, key))
    assert [kind for kind, lines in found.items() if lines] == [ALL[key]]
    ((line,),) = filter(None, found.values())
    assert line.startswith(f"{key}: ")


def test_table_and_list_name_no_key_that_is_not_there():
    known = {key for config in schema.APPLICATIONS.values() for key in keys_of(config())}
    assert set(resuming.TABLE) <= known and set(ALL) <= known


def test_nothing_changes_between_equals():
    for name in CONFIGS.values():
        assert not any(configs.changes(configs.resolve(name), configs.resolve(name)).values())


@pytest.mark.parametrize(
    "old, new, kind",
    [
        ("float32", "float16", "held"),
        ("float16", "bfloat16", "held"),
        ("float32", "bfloat16", "inexact"),
    ],
)
def test_only_float16_has_a_loss_scale(old, new, kind):
    key = "runtime.mixed_precision_dtype"
    params = configs.resolve("gan_digits32", params_override=f"{key}={old}")
    assert configs.changes(params, changed(params, key, new))[kind] == [f"{key}: {old!r} -> {new!r}"]


@pytest.mark.parametrize(
    "old, key, new, kind",
    [
        (["rectangle"], "task.masks.kinds", ["rectangle", "strokes"], "held"),
        (["strokes"], "task.masks.kinds", ["rectangle"], "held"),
        (["strokes"], "task.masks.kinds", ["rectangle", "strokes"], "inexact"),
        (["rectangle"], "task.masks.size", 30, "held"),
        (["strokes"], "task.masks.size", 30, "inexact"),
    ],
)
def test_local_critic_stays(old, key, new, kind):
    params = changed(configs.resolve("inpainting_photos64"), "task.masks.kinds", old)
    assert len(configs.changes(params, changed(params, key, new))[kind]) == 1


def test_runs_of_two_applications_differ_in_that_alone():
    found = configs.changes(*(configs.resolve(name) for name in CONFIGS.values()))
    assert found == {"held": ["application: 'gan' -> 'inpainting'"], "learned": [], "inexact": [], "free": []}
