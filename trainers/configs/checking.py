"""The rules that a configuration keeps beyond the types of `schema`, each with its error."""

import dataclasses
import importlib
import math
import os

from trainers.configs import schema
from trainers.configs.explaining import ConfigError, nearest

OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
_INFINITE = ("loss_upper_bound",)  # where infinity means no bound
MASKS = ("rectangle", "center", "strokes", "box", "blob", "border", "text", "folder")
ATTENTION = ("none", "self_attention", "attentive_normalization")


def checked(params):
    """A configuration, once it keeps all rules.

    Args:
        params: `schema.ExperimentConfig`.

    Returns:
        `params`.

    Raises:
        ConfigError: for the first setting that breaks a rule, with its key, the rule and its value.
    """
    task, trainer, runtime = params.task, params.trainer, params.runtime
    check_choice("application", params.application, (type(params).application,))
    _check_runtime(runtime)
    for key in (
        "train_steps",
        "steps_per_loop",
        "checkpoint_interval",
        "summary_interval",
        "validation_interval",
        "max_to_keep",
        "discriminator_steps",
        "gradient_accumulation_steps",
    ):
        _check_at_least(1, f"trainer.{key}", getattr(trainer, key))
    if trainer.loss_upper_bound <= 0:
        raise ConfigError(f"`trainer.loss_upper_bound` must be positive. Received: {trainer.loss_upper_bound}")
    _check_at_least(0, "trainer.max_recoveries", trainer.max_recoveries)
    _check_best_checkpoint(trainer)
    _check_at_least(1, "trainer.continuous_eval_timeout", trainer.continuous_eval_timeout)
    for name in OPTIMIZERS:
        _check_optimizer(f"trainer.{name}", getattr(trainer, name))
    if not 0 <= trainer.ema_decay < 1:
        raise ConfigError(f"`trainer.ema_decay` must be in [0, 1). Received: {trainer.ema_decay}")
    _check_at_least(0, "trainer.ema_start_step", trainer.ema_start_step)
    _check_at_least(0, "trainer.pretrain_steps", trainer.pretrain_steps)
    _check_data("task.train_data", task.train_data)
    _check_data("task.validation_data", task.validation_data)
    modules = {"gan": ("all", "generator", "discriminator"), "inpainting": ("all", "generator", "critics")}
    for name in task.init_checkpoint_modules:
        check_choice("task.init_checkpoint_modules", name, modules[params.application])
    if not task.init_checkpoint_modules:
        raise ConfigError("`task.init_checkpoint_modules` must not be empty: 'all' takes what there is.")
    (_check_gan if params.application == "gan" else _check_inpainting)(params)
    _check_finite(params)
    return params


def _check_best_checkpoint(trainer):
    check_choice("trainer.best_checkpoint_metric_comp", trainer.best_checkpoint_metric_comp, ("higher", "lower"))
    folder, metric = trainer.best_checkpoint_export_subdir, trainer.best_checkpoint_eval_metric
    if bool(folder) != bool(metric):
        raise ConfigError(
            "`trainer.best_checkpoint_export_subdir` and `trainer.best_checkpoint_eval_metric` must be given together. "
            f"Received: {folder!r} and {metric!r}"
        )
    if folder and (os.path.isabs(folder) or os.path.normpath(folder).split(os.sep)[0] in (".", "..")):
        raise ConfigError(
            f"`trainer.best_checkpoint_export_subdir` must be a folder in the run's. Received: {folder!r}"
        )


def check_addons(trainer):
    """Of what trains alone: a run's generator needs no optimizer."""
    for name in OPTIMIZERS:
        kind = getattr(trainer, name).type
        if kind in schema.KERAS_OPTIMIZERS:
            continue
        try:
            importlib.import_module("tensorflow_addons.optimizers")
        except Exception as error:  # with another TensorFlow it may be any
            raise ConfigError(
                f"`trainer.{name}.type` {kind!r} is of TensorFlow Addons, which runs on TensorFlow 2.15 alone: "
                "pip install '.[train,addons]' with Python 3.9 to 3.11 has both. Importing it here gives "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error


def _check_optimizer(group, config):
    check_choice(f"{group}.type", config.type, (*schema.KERAS_OPTIMIZERS, *schema.ADDONS_OPTIMIZERS))
    check_choice(f"{group}.schedule", config.schedule, ("constant", "cosine", "polynomial"))
    for name in (
        *("learning_rate", "end_learning_rate", "warmup_learning_rate", "alpha", "weight_decay"),
        *("decay_steps", "warmup_steps"),
    ):
        _check_at_least(0, f"{group}.{name}", getattr(config, name))
    if not config.power > 0:
        raise ConfigError(f"`{group}.power` must be positive. Received: {config.power}")
    for name in ("beta_1", "beta_2", "momentum", "rho"):
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"`{group}.{name}` must be in [0, 1). Received: {value}")
    if not config.epsilon > 0:
        raise ConfigError(f"`{group}.epsilon` must be positive. Received: {config.epsilon}")


def _check_weights(losses):
    for field in dataclasses.fields(losses):
        if field.type is float:
            _check_at_least(0, f"task.losses.{field.name}", getattr(losses, field.name))


def _check_network(group, config):
    _check_at_least(1, f"{group}.base_channels", config.base_channels)
    _check_at_least(1, f"{group}.num_entities", config.num_entities)
    if getattr(config, "entity_stddev", None) is not None:
        _check_at_least(0, f"{group}.entity_stddev", config.entity_stddev)
    for name in ("temperature", "epsilon", "residual_multiplier"):
        if not getattr(config, name, 1.0) > 0:
            raise ConfigError(f"`{group}.{name}` must be positive. Received: {getattr(config, name)}")


def _check_finite(config, prefix=""):
    """What is not a number passes every comparison."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            _check_finite(value, f"{key}.")
        elif isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and field.name not in _INFINITE)):
            raise ConfigError(f"`{key}` must be a finite number. Received: {value}")


def _check_runtime(runtime):
    strategy = runtime.distribution_strategy
    if strategy == "parameter_server":
        raise ConfigError(
            "`runtime.distribution_strategy` must not be 'parameter_server': its workers update the weights whenever "
            "they are done, so that generator and discriminator would each follow outdated ones of the other. "
            "'multi_worker_mirrored' trains on several machines."
        )
    check_choice(
        "runtime.distribution_strategy", strategy, ("off", "one_device", "mirrored", "multi_worker_mirrored", "tpu")
    )
    if runtime.all_reduce_alg is not None:
        if strategy not in schema.ALL_REDUCE:
            raise ConfigError(
                f"`runtime.all_reduce_alg` is of {' and '.join(map(repr, schema.ALL_REDUCE))} alone. "
                f"Received: {runtime.all_reduce_alg!r} with `runtime.distribution_strategy` {strategy!r}"
            )
        check_choice("runtime.all_reduce_alg", runtime.all_reduce_alg, tuple(schema.ALL_REDUCE[strategy]))
    if (strategy == "tpu") != bool(runtime.tpu):
        raise ConfigError(
            "`runtime.tpu` must be given where `runtime.distribution_strategy` is 'tpu', and only there. "
            f"Received: {runtime.tpu!r} with {strategy!r}"
        )
    check_choice("runtime.cluster", runtime.cluster, ("tf_config", "slurm", "kubernetes"))
    check_choice("runtime.mixed_precision_dtype", runtime.mixed_precision_dtype, ("float32", "bfloat16", "float16"))
    if runtime.num_gpus is not None:
        _check_at_least(0, "runtime.num_gpus", runtime.num_gpus)
    if runtime.grace_seconds <= 0:
        raise ConfigError(f"`runtime.grace_seconds` must be positive. Received: {runtime.grace_seconds}")


def _check_gan(params):
    task = params.task
    check_choice("task.model.attention", task.model.attention, ATTENTION)
    for name in ("generator", "discriminator"):
        _check_network(f"task.model.{name}", getattr(task.model, name))
    _check_weights(task.losses)
    check_choice("task.losses.type", task.losses.type, ("hinge", "non_saturating", "wasserstein"))
    check_choice("task.model.fake_labels", task.model.fake_labels, ("balanced", "natural"))
    for name in task.augmentation:
        check_choice("task.augmentation", name, ("color", "translation", "cutout"))
    check_choice("task.evaluation.classifier", task.evaluation.classifier, ("small", "residual"))
    _check_at_least(1, "task.evaluation.classifier_epochs", task.evaluation.classifier_epochs)
    check_choice("task.model.image_channels", task.model.image_channels, (1, 3))
    _check_at_least(0, "task.model.num_classes", task.model.num_classes)
    _check_at_least(1, "task.model.latent_dim", task.model.latent_dim)
    _check_num_samples(task.evaluation, task.model.num_classes)
    if params.trainer.pretrain_steps:
        raise ConfigError(f"`trainer.pretrain_steps` is of inpainting alone. Received: {params.trainer.pretrain_steps}")


def _check_inpainting(params):
    task, masks, resolution = params.task, params.task.masks, params.task.model.resolution
    if resolution < 16 or resolution % 4:
        raise ConfigError(f"`task.model.resolution` must be a multiple of 4, at least 16. Received: {resolution}")
    check_choice("task.model.image_channels", task.model.image_channels, (1, 3))
    for name in ("generator", "critic"):
        check_choice(f"task.model.{name}.attention", getattr(task.model, name).attention, ATTENTION)
        _check_network(f"task.model.{name}", getattr(task.model, name))
    check_choice("task.model.generator.statistics", task.model.generator.statistics, ("weighted", "released"))
    check_choice("task.model.generator.first_fill", task.model.generator.first_fill, ("zeros", "diffusion"))
    _check_weights(task.losses)
    for key, kinds in (("task.masks.kinds", masks.kinds), ("task.evaluation.masks", task.evaluation.masks)):
        if not kinds:
            raise ConfigError(f"`{key}` must not be empty.")
        for kind in kinds:
            check_choice(key, kind, MASKS)
        if "folder" in kinds and not masks.path:
            raise ConfigError(f"`task.masks.path` must not be empty where `{key}` has 'folder'.")
    if not 1 <= masks.size < resolution:
        raise ConfigError(
            f"`task.masks.size` must be at least 1 and below `task.model.resolution`, {resolution}. "
            f"Received: {masks.size}"
        )
    if not 0 <= masks.max_shrink < masks.size:
        raise ConfigError(
            f"`task.masks.max_shrink` must be in [0, `task.masks.size`), which is {masks.size}. "
            f"Received: {masks.max_shrink}"
        )
    _check_at_least(1, "task.masks.num_strokes", masks.num_strokes)
    _check_at_least(1, "task.masks.max_vertices", masks.max_vertices)
    if not 0 < masks.min_width <= masks.max_width:
        raise ConfigError(
            "`task.masks.min_width` must be positive and at most `task.masks.max_width`. "
            f"Received: {masks.min_width} and {masks.max_width}"
        )
    _check_at_least(0, "task.masks.max_length", masks.max_length)
    if not 0 < task.losses.discount <= 1:
        raise ConfigError(f"`task.losses.discount` must be in (0, 1]. Received: {task.losses.discount}")
    _check_at_least(1, "task.evaluation.num_images", task.evaluation.num_images)


def _check_at_least(least, key, value):
    if not value >= least:
        rule = "must not be negative" if least == 0 else f"must be at least {least}"
        raise ConfigError(f"`{key}` {rule}. Received: {value}")


def check_choice(key, value, valid):
    if value not in valid:
        raise ConfigError(f"`{key}` must be one of {valid}.{nearest(value, valid)} Received: {value!r}")


def _check_num_samples(evaluation, num_classes):
    """Precision and recall look at the third neighbour; a distance within classes needs a variance in each."""
    least, where = 4, ""
    if evaluation.intra_class and num_classes > 2:
        least, where = 2 * num_classes, f" for `task.evaluation.intra_class` of {num_classes} classes"
    if evaluation.num_samples < least:
        raise ConfigError(
            f"`task.evaluation.num_samples` must be at least {least}{where}. Received: {evaluation.num_samples}"
        )


def _check_data(group, data):
    check_choice(f"{group}.dataset", data.dataset, ("digits", "pairs", "photos", "tfds", "folder", "tfrecord"))
    if data.dataset in ("digits", "pairs", "photos"):
        check_choice(f"{group}.split", data.split, ("train", "test"))
    where = {"tfds": "name", "folder": "path", "tfrecord": "path"}.get(data.dataset)
    for key in (where, "split") if where else ():
        if not getattr(data, key):
            raise ConfigError(f"`{group}.{key}` must not be empty where `{group}.dataset` is {data.dataset!r}.")
    for key in ("global_batch_size", "shuffle_buffer_size"):
        _check_at_least(1, f"{group}.{key}", getattr(data, key))
    if len(set(data.class_names)) < len(data.class_names) or "" in data.class_names:
        raise ConfigError(
            f"`{group}.class_names` must be a name of its own for each class, or []. Received: {data.class_names}"
        )
    if len(data.background) not in (0, 3) or not all(0 <= level <= 255 for level in data.background):
        raise ConfigError(
            f"`{group}.background` must be three levels from 0 to 255, or [] to ignore alpha. "
            f"Received: {data.background}"
        )
    area = data.random_crop_area
    if area and not (len(area) == 2 and 0 < area[0] <= area[1] <= 1):
        raise ConfigError(
            f"`{group}.random_crop_area` must be two rising shares in (0, 1], or [] for the largest squares. "
            f"Received: {area}"
        )
    if area and (not data.random_crop or data.dataset in ("digits", "pairs")):
        raise ConfigError(
            f"`{group}.random_crop_area` is of squares that are cut out at random: it needs `{group}.random_crop`, and "
            f"images that are not drawn at `task.model.resolution`. Received: {data.random_crop} and {data.dataset!r}"
        )
