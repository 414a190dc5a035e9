"""What may change in a run that goes on: one table of all keys."""

import dataclasses
import os

from trainers.configs.schema import ADDONS_OPTIMIZERS

# What a change of a setting means for a run that has checkpoints.
HELD = "held"  # the checkpoints hold weights and slots of this setting: it never changes
LEARNED = "learned"  # what is learned from what: another run. An evaluation, which learns nothing, may change it
INEXACT = "inexact"  # the run goes on, but not to what it would have come to without a change
FREE = "free"

# By key, or by group for all keys below it that have no line of their own.
TABLE = {
    "application": HELD,
    "experiment": FREE,
    "task.model": HELD,
    "task.model.fake_labels": INEXACT,
    "task.model.synchronized_batch_norm": INEXACT,
    "task.losses": LEARNED,
    "task.losses.vgg_weights": INEXACT,
    "task.augmentation": INEXACT,
    "task.masks": INEXACT,  # but where the local critic comes, goes, or sees squares of another size
    "task.train_data.dataset": LEARNED,
    "task.train_data.name": LEARNED,
    "task.train_data.split": LEARNED,
    "task.train_data.label_offset": LEARNED,
    "task.train_data.class_names": FREE,  # the run's folder keeps the first ones, and refuses others
    "task.train_data": INEXACT,
    "task.init_checkpoint": LEARNED,
    "task.init_checkpoint_modules": LEARNED,
    "task.validation_data": FREE,
    "task.evaluation": FREE,
    "trainer.train_steps": FREE,
    "trainer.steps_per_loop": FREE,
    "trainer.checkpoint_interval": FREE,
    "trainer.summary_interval": FREE,
    "trainer.validation_interval": FREE,
    "trainer.max_to_keep": FREE,
    "trainer.best_checkpoint_eval_metric": FREE,
    "trainer.best_checkpoint_metric_comp": FREE,
    "trainer.best_checkpoint_export_subdir": FREE,
    "trainer.continuous_eval_timeout": FREE,
    "trainer.loss_upper_bound": FREE,
    "trainer.max_recoveries": FREE,
    "trainer": INEXACT,  # but a schedule of an optimizer of TensorFlow Addons in place of a constant rate
    "trainer.generator_optimizer.type": HELD,
    "trainer.discriminator_optimizer.type": HELD,
    "runtime": INEXACT,  # but `mixed_precision_dtype` to or from float16, whose optimizers hold a scale
    "runtime.cluster": FREE,
    "runtime.grace_seconds": FREE,
}

_PATHS = ("task.train_data.path", "task.masks.path", "task.losses.vgg_weights", "task.init_checkpoint")


def kind_of(key):
    """The kind of change, of `TABLE`, that the key `a.b.c` has."""
    while key not in TABLE:
        key = key.rpartition(".")[0]
    return TABLE[key]


def changes(old, new):
    """What differs between two configurations of a run.

    Args:
        old: `schema.ExperimentConfig` or `schema.InpaintingConfig`, that of the run.
        new: that of its next start.

    Returns:
        Lists of lines `key: old -> new` by kind of change.
    """
    if old.application != new.application:
        return {HELD: [f"application: {old.application!r} -> {new.application!r}"], LEARNED: [], INEXACT: [], FREE: []}
    found = {HELD: [], LEARNED: [], INEXACT: [], FREE: []}
    for key, before, after in _differences(old, new):
        if key not in _PATHS or not before or not after or _place(before) != _place(after):
            kind = HELD if _changes_checkpoints(key, old, new) else kind_of(key)
            found[kind].append(f"{key}: {before!r} -> {after!r}")
    return found


def _changes_checkpoints(key, old, new):
    """Of keys that only some values make another checkpoint of."""
    if key == "runtime.mixed_precision_dtype":
        return "float16" in (old.runtime.mixed_precision_dtype, new.runtime.mixed_precision_dtype)
    had_local_critic, has_local_critic = (
        params.application == "inpainting" and _is_local(params) for params in (old, new)
    )
    for name in ("generator_optimizer", "discriminator_optimizer"):
        if key.startswith(f"trainer.{name}."):
            one, other = getattr(old.trainer, name), getattr(new.trainer, name)
            return one.type in ADDONS_OPTIMIZERS and one.is_constant != other.is_constant
    if key == "task.masks.kinds":
        return had_local_critic != has_local_critic
    return key == "task.masks.size" and had_local_critic and has_local_critic


def _is_local(params):
    return params.task.masks.kinds == ["rectangle"]


def _place(path):
    return path if "://" in path else os.path.realpath(os.path.expanduser(path))


def nested_differences(old, new, prefix=""):
    """Lines `key: old -> new` for every value that differs between two configurations."""
    return [f"{key}: {before!r} -> {after!r}" for key, before, after in _differences(old, new, prefix)]


def _differences(old, new, prefix=""):
    if not dataclasses.is_dataclass(old):
        return [] if old == new else [(prefix, old, new)]
    found = []
    for field in dataclasses.fields(old):
        key = f"{prefix}.{field.name}" if prefix else field.name
        found += _differences(getattr(old, field.name), getattr(new, field.name), key)
    return found
