"""Resolves a run's configuration: experiment < config files < override, as in Model Garden.

OmegaConf merges and checks types against the dataclasses of `schema`; this module turns its complaints into errors
that name the key, the nearest valid one, the type wanted and the file or flag at fault.
"""

import dataclasses
import difflib
import importlib
import re
import typing

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from trainers.configs import schema
from trainers.configs.experiments import EXPERIMENTS

OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")


class ConfigError(ValueError):
    """The configuration breaks a rule that the message names."""


def resolve(experiment, config_files=(), params_override=""):
    """The configuration of a run.

    Args:
        experiment: a name in `EXPERIMENTS`.
        config_files: paths of YAML files, each over the ones before.
        params_override: `"a.b=1,c.d=x"`, over all files.

    Returns:
        `schema.ExperimentConfig` or `schema.InpaintingConfig`, checked.

    Raises:
        ConfigError: for an unknown experiment or key, a value of another type or out of range, an unreadable file.
    """
    if experiment not in EXPERIMENTS:
        raise ConfigError(
            f"--experiment must be one of {sorted(EXPERIMENTS)}.{_nearest(experiment, EXPERIMENTS)} "
            f"Received: {experiment!r}"
        )
    params = OmegaConf.structured(EXPERIMENTS[experiment]())
    params.experiment = experiment
    for path in config_files:
        params = _merge(params, lambda path=path: _read_yaml(path), f"config file {path}")
    # Commas inside brackets belong to a list.
    for pair in re.split(r",(?![^\[{]*[\]}])", params_override) if params_override else ():
        if not pair.partition("=")[0] or "=" not in pair:
            raise ConfigError(f"--params_override takes key=value pairs with commas between. Received: {pair!r}")
        params = _merge(params, lambda pair=pair: _from_pair(pair), f"--params_override={pair}")
    params = _checked(OmegaConf.to_object(params))
    _check_addons(params.trainer)
    return params


def load_params(path, overrides=()):
    """Reads the `params.yaml` of a run.

    Args:
        path: of the file.
        overrides: strings `key=value` over it.

    Raises:
        ConfigError: where the file is missing, or is no configuration of this version, or an override does not fit.
    """
    content = _read_yaml(path)
    # Runs of before there was more than one application do not name it.
    application = content.get("application", "gan")
    _check_choice("application", application, tuple(schema.APPLICATIONS))
    params = _merge(OmegaConf.structured(schema.APPLICATIONS[application]()), lambda: content, f"file {path}")
    for pair in overrides:
        params = _merge(params, lambda pair=pair: _from_pair(pair), pair)
    return _checked(OmegaConf.to_object(params))


def dump(params):
    """The configuration as YAML text, in the order of the dataclasses."""
    return yaml.safe_dump(dataclasses.asdict(params), sort_keys=False)


def nested_differences(old, new, prefix=""):
    """Lines `key: old -> new` for every value that differs between two configurations."""
    if not dataclasses.is_dataclass(old):
        return [] if old == new else [f"{prefix}: {old!r} -> {new!r}"]
    lines = []
    for field in dataclasses.fields(old):
        key = f"{prefix}.{field.name}" if prefix else field.name
        lines += nested_differences(getattr(old, field.name), getattr(new, field.name), key)
    return lines


class _Loader(yaml.SafeLoader):
    """YAML whose booleans are `true` and `false` alone: `off` is a distribution strategy."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _from_pair(pair):
    key, value = pair.split("=", 1)
    config = OmegaConf.create()
    OmegaConf.update(config, key, yaml.load(value, Loader=_Loader))
    return config


def _read_yaml(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader=_Loader)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read the configuration in {path}: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values. Received: {type(content).__name__}")
    return OmegaConf.create(content or {})


def _merge(params, read, source):
    config = OmegaConf.get_type(params)()
    try:
        content = read()
        _check_groups(config, content, source)
        return OmegaConf.merge(params, content)
    except ConfigKeyError as error:
        valid = _keys(config)
        raise ConfigError(f"Unknown key `{error.full_key}` in {source}.{_nearest(error.full_key, valid)}") from error
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        key = getattr(error, "full_key", None)
        wanted = f"`{key}` must be {_type_name(config, key)}. " if key else ""
        raise ConfigError(f"{wanted}{str(error).splitlines()[0]} (in {source})") from error


def _check_groups(config, content, source):
    """OmegaConf does not name the key where a group is given a value of its own."""
    for key, kind in _keys(config).items():
        value = OmegaConf.select(content, key) if dataclasses.is_dataclass(kind) else None
        if value is not None and not OmegaConf.is_dict(value):
            raise ConfigError(f"`{key}` must be a group of keys. Received: {value!r} (in {source})")


def _keys(config, prefix=""):
    keys = {}
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        keys[key] = field.type
        if dataclasses.is_dataclass(value):
            keys.update(_keys(value, f"{key}."))
    return keys


def _type_name(config, key):
    kind = _keys(config).get(re.sub(r"\[.*", "", key))
    if kind is None:
        return "another type"
    is_class = isinstance(kind, type) and not typing.get_origin(kind)  # `list[int]` is a type on Python 3.9 and 3.10
    return f"of type {kind.__name__ if is_class else kind}"


def _nearest(name, valid):
    if not isinstance(name, str):
        return ""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean `{matches[0]}`?" if matches else ""


def _checked(params):
    task, trainer, runtime = params.task, params.trainer, params.runtime
    _check_choice("application", params.application, (type(params).application,))
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
    for name in OPTIMIZERS:
        _check_choice(f"trainer.{name}.type", getattr(trainer, name).type, ("adam", *schema.ADDONS_OPTIMIZERS))
        _check_at_least(0, f"trainer.{name}.decay_steps", getattr(trainer, name).decay_steps)
    if not 0 <= trainer.ema_decay < 1:
        raise ConfigError(f"`trainer.ema_decay` must be in [0, 1). Received: {trainer.ema_decay}")
    _check_at_least(0, "trainer.ema_start_step", trainer.ema_start_step)
    _check_at_least(0, "trainer.pretrain_steps", trainer.pretrain_steps)
    _check_data("task.train_data", task.train_data)
    _check_data("task.validation_data", task.validation_data)
    (_check_gan if params.application == "gan" else _check_inpainting)(params)
    return params


def _check_addons(trainer):
    """Of what trains alone: a run's generator needs no optimizer."""
    for name in OPTIMIZERS:
        kind = getattr(trainer, name).type
        if kind == "adam":
            continue
        try:
            importlib.import_module("tensorflow_addons.optimizers")
        except Exception as error:  # with another TensorFlow it may be any
            raise ConfigError(
                f"`trainer.{name}.type` {kind!r} is of TensorFlow Addons, which runs on TensorFlow 2.15 alone: "
                "pip install '.[train,addons]' with Python 3.9 to 3.11 has both. Importing it here gives "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error


_ALL_REDUCE = {
    "mirrored": ("nccl", "hierarchical_copy", "one_device"),
    "multi_worker_mirrored": ("nccl", "ring"),
}


def _check_runtime(runtime):
    strategy = runtime.distribution_strategy
    if strategy == "parameter_server":
        raise ConfigError(
            "`runtime.distribution_strategy` must not be 'parameter_server': its workers update the weights whenever "
            "they are done, so that generator and discriminator would each follow outdated ones of the other. "
            "'multi_worker_mirrored' trains on several machines."
        )
    _check_choice(
        "runtime.distribution_strategy", strategy, ("off", "one_device", "mirrored", "multi_worker_mirrored", "tpu")
    )
    if runtime.all_reduce_alg is not None:
        if strategy not in _ALL_REDUCE:
            raise ConfigError(
                f"`runtime.all_reduce_alg` is of {' and '.join(map(repr, _ALL_REDUCE))} alone. "
                f"Received: {runtime.all_reduce_alg!r} with `runtime.distribution_strategy` {strategy!r}"
            )
        _check_choice("runtime.all_reduce_alg", runtime.all_reduce_alg, _ALL_REDUCE[strategy])
    if (strategy == "tpu") != bool(runtime.tpu):
        raise ConfigError(
            "`runtime.tpu` must be given where `runtime.distribution_strategy` is 'tpu', and only there. "
            f"Received: {runtime.tpu!r} with {strategy!r}"
        )
    _check_choice("runtime.cluster", runtime.cluster, ("tf_config", "slurm", "kubernetes"))
    _check_choice("runtime.mixed_precision_dtype", runtime.mixed_precision_dtype, ("float32", "bfloat16", "float16"))
    _check_at_least(0, "runtime.num_gpus", runtime.num_gpus)
    if runtime.grace_seconds <= 0:
        raise ConfigError(f"`runtime.grace_seconds` must be positive. Received: {runtime.grace_seconds}")


def _check_gan(params):
    task = params.task
    _check_choice("task.model.fake_labels", task.model.fake_labels, ("balanced", "natural"))
    for name in task.augmentation:
        _check_choice("task.augmentation", name, ("color", "translation", "cutout"))
    _check_at_least(1, "task.evaluation.classifier_epochs", task.evaluation.classifier_epochs)
    _check_choice("task.model.image_channels", task.model.image_channels, (1, 3))
    _check_at_least(1, "task.model.num_classes", task.model.num_classes)
    _check_at_least(1, "task.model.latent_dim", task.model.latent_dim)
    _check_num_samples(task.evaluation, task.model.num_classes)
    if params.trainer.pretrain_steps:
        raise ConfigError(f"`trainer.pretrain_steps` is of inpainting alone. Received: {params.trainer.pretrain_steps}")


def _check_inpainting(params):
    task, masks, resolution = params.task, params.task.masks, params.task.model.resolution
    if resolution < 16 or resolution % 4:
        raise ConfigError(f"`task.model.resolution` must be a multiple of 4, at least 16. Received: {resolution}")
    _check_choice("task.model.image_channels", task.model.image_channels, (1, 3))
    for key, kinds in (("task.masks.kinds", masks.kinds), ("task.evaluation.masks", task.evaluation.masks)):
        if not kinds:
            raise ConfigError(f"`{key}` must not be empty.")
        for kind in kinds:
            _check_choice(key, kind, ("rectangle", "center", "strokes", "folder"))
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
    if not 0 < task.losses.discount <= 1:
        raise ConfigError(f"`task.losses.discount` must be in (0, 1]. Received: {task.losses.discount}")
    _check_at_least(1, "task.evaluation.num_images", task.evaluation.num_images)


def _check_at_least(least, key, value):
    if value < least:
        rule = "must not be negative" if least == 0 else f"must be at least {least}"
        raise ConfigError(f"`{key}` {rule}. Received: {value}")


def _check_choice(key, value, valid):
    if value not in valid:
        raise ConfigError(f"`{key}` must be one of {valid}.{_nearest(value, valid)} Received: {value!r}")


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
    _check_choice(f"{group}.dataset", data.dataset, ("digits", "photos", "tfds", "folder", "tfrecord"))
    if data.dataset in ("digits", "photos"):
        _check_choice(f"{group}.split", data.split, ("train", "test"))
    where = {"tfds": "name", "folder": "path", "tfrecord": "path"}.get(data.dataset)
    for key in (where, "split") if where else ():
        if not getattr(data, key):
            raise ConfigError(f"`{group}.{key}` must not be empty where `{group}.dataset` is {data.dataset!r}.")
    for key in ("global_batch_size", "shuffle_buffer_size"):
        _check_at_least(1, f"{group}.{key}", getattr(data, key))
    if data.cache and data.random_crop and data.dataset != "photos":
        raise ConfigError(f"`{group}.cache` keeps squares that are cut already: it excludes `{group}.random_crop`.")
