"""What is compared: suites, arms as settings over an experiment, and the cells of a grid."""

import dataclasses
import math

from trainers import configs

MAIN, ABLATIONS = "main", "ablations"  # groups of arms
BASELINES = ("none", "self_attention")  # what the others are compared with
ATTENTIVE = "attentive_normalization"
_DATA_PATHS = ("task.train_data.path", "task.validation_data.path")
_FOLDERS = ("task.evaluation.classifier_dir", "task.evaluation.statistics_dir")


@dataclasses.dataclass(frozen=True)
class Suite:
    """An experiment, and how long its cells are.

    images: real images that a cell of the main arms sees. ablation_images: the same of an ablation. evaluations: of a
    cell of the main arms, evenly over its images; ablations are scored at the same steps as these. settings: by key,
    over those of the experiment, of all arms.
    """

    experiment: str
    images: int
    ablation_images: int
    evaluations: int
    settings: dict = dataclasses.field(default_factory=dict)


SUITES = {
    "digits": Suite("gan_digits32", 89_600, 89_600, 4),
    "pairs": Suite("gan_pairs32", 640_000, 320_000, 8),
    "pairs64": Suite("gan_pairs64", 640_000, 320_000, 8),
    # The attention of the main arms in both networks, as the paper has it; the experiment's own place is an ablation.
    "cifar10": Suite("gan_cifar10_small", 1_000_000, 500_000, 8, {"task.model.discriminator.attention_blocks": "[1]"}),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the settings that are compared: `settings` by key over those of the suite, equal for all else."""

    name: str
    group: str
    meaning: str
    settings: dict


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of the grid: an arm with a seed, its settings by key, and the steps that it takes."""

    arm: Arm
    seed: int
    settings: dict
    train_steps: int
    images_per_step: int

    @property
    def name(self):
        return f"{self.arm.name}-{self.seed}"


class GridError(ValueError):
    """There is no such grid; the message says why."""


def arms(suite):
    """All arms of a suite: the main ones, whose networks differ in the attention alone, and ablations, most of AN."""
    base = SUITES[suite]
    model = configs.resolve(base.experiment, params_override=pairs(base.settings)).task.model
    own, blocks = model.generator.num_entities, int(math.log2(model.resolution // 4))
    found = [
        _main("none", "no attention"),
        _main("self_attention", "self-attention"),
        _main(ATTENTIVE, "Attentive Normalization in both networks"),
        _ablation("no_self_sampling", "without self-sampling", self_sampling="false"),
        _other("no_orthogonality", "without the orthogonality penalty", {"task.losses.orthogonal_weight": "0"}),
    ]
    found += [
        _ablation(f"entities_{number}", f"{number} entities in place of {own}", num_entities=number)
        for number in (1, 4, 16, 32)
        if number != own
    ]
    other = 1 + model.generator.attention_blocks[0] % blocks
    more = sorted({*model.generator.attention_blocks, other})
    found += [
        _other("generator_only", "AN in the generator alone", {"task.model.discriminator.attention_blocks": "[]"}),
        _other("discriminator_only", "AN in the discriminator alone", {"task.model.generator.attention_blocks": "[]"}),
        _other("epsilon_1", "1 added to the variance of D's regions", {"task.model.discriminator.epsilon": "1.0"}),
        _ablation("value_projection", "with the value projection", value_projection="true"),
        _other("other_blocks", f"in G's block {other} and D's block 2", _blocks([other], [2])),
        _other("more_blocks", f"in G's blocks {' and '.join(map(str, more))}, D's 1 and 2", _blocks(more, [1, 2])),
        _ablation("entities_narrow", "filters that start with deviation 0.3", entity_stddev="0.3"),
        _ablation("entities_wide", "filters that start with deviation 6", entity_stddev="6.0"),
        _ablation("temperature_1", "a temperature of 1 in place of 0.1", temperature="1.0"),
        _ablation("rho_start_01", "rho starts at 0.1", residual_start="0.1"),
        _ablation("rho_start_1", "rho starts at 1", residual_start="1.0"),
        _ablation("rho_rate_10", "rho learns 10 times as fast", residual_multiplier="10.0"),
        _ablation(
            "self_attention_rate_10",
            "self-attention whose gamma learns 10 times as fast",
            attention="self_attention",
            residual_multiplier="10.0",
        ),
    ]
    return found


def _main(name, meaning):
    return Arm(name, MAIN, meaning, {"task.model.attention": name})


def _ablation(name, meaning, attention=ATTENTIVE, **settings):
    """An arm with settings of both networks."""
    networks = ("generator", "discriminator")
    settings = {f"task.model.{n}.{key}": str(value) for key, value in settings.items() for n in networks}
    return _other(name, meaning, {"task.model.attention": attention, **settings})


def _other(name, meaning, settings):
    return Arm(name, ABLATIONS, meaning, {"task.model.attention": ATTENTIVE, **settings})


def _blocks(generator, discriminator):
    blocks = {"generator": generator, "discriminator": discriminator}
    return {f"task.model.{name}.attention_blocks": str(value).replace(" ", "") for name, value in blocks.items()}


def settings_of(overrides):
    """Settings by key of `"a.b=1,c.d=x"`, or of a list of such."""
    return dict(pair.split("=", 1) for pair in configs.split(overrides))


def chosen(suite, only):
    """The arms of a suite that `only`, names and groups with commas between, names, in the order of the suite.

    Raises:
        GridError: where a name is none of them.
    """
    wanted, known = [name.strip() for name in only.split(",") if name.strip()], arms(suite)
    names = [MAIN, ABLATIONS, *(arm.name for arm in known)]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise GridError(f"--only must name arms of the suite {suite}: {', '.join(names)}. Received: {only!r}")
    return [arm for arm in known if arm.group in wanted or arm.name in wanted]


def cells(suite, plan, judge_dir):
    """The cells of a grid, seed after seed and within a seed arm after arm, ablations after all main arms.

    Args:
        suite: a name in `SUITES`.
        plan: `Plan`.
        judge_dir: folder of the classifier and the statistics that all cells share.

    Raises:
        GridError: where there is nothing to run, or a cell has no step.
        ConfigError: where settings do not fit.
    """
    for name in ("seeds", "ablation_seeds", "images", "ablation_images", "evaluations"):
        if getattr(plan, name) < 1:
            raise GridError(f"--{name} must be at least 1. Received: {getattr(plan, name)}")
    found = []
    for group, seeds in ((MAIN, plan.seeds), (ABLATIONS, plan.ablation_seeds)):
        these = [_cell(suite, plan, judge_dir, arm) for arm in chosen(suite, plan.only) if arm.group == group]
        found += [_with_seed(cell, seed) for seed in range(1, seeds + 1) for cell in these]
    return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a suite is run: flags of `trainers.compare`; `settings` by key are of all cells, whatever their arm."""

    only: str
    seeds: int
    ablation_seeds: int
    images: int
    ablation_images: int
    evaluations: int
    data_path: str
    settings: dict


def shared_settings(plan):
    """What all cells and the classifier that scores them have in common, by key."""
    paths = dict.fromkeys(_DATA_PATHS, plan.data_path) if plan.data_path else {}
    return {**paths, **plan.settings}


def _cell(suite, plan, judge_dir, arm):
    """The cell of the first seed, whose settings are looked at here for all."""
    shared = {**dict.fromkeys(_FOLDERS, judge_dir), **shared_settings(plan)}
    settings = {**SUITES[suite].settings, **arm.settings, **shared}
    params = configs.resolve(SUITES[suite].experiment, params_override=pairs(settings))
    trainer = params.trainer
    images_per_step = (
        params.task.train_data.global_batch_size * trainer.discriminator_steps * trainer.gradient_accumulation_steps
    )
    interval = max(plan.images // (plan.evaluations * images_per_step), 1)
    images = plan.images if arm.group == MAIN else plan.ablation_images
    train_steps = max(round(images / (interval * images_per_step)), 1) * interval
    settings["trainer.train_steps"], settings["trainer.validation_interval"] = str(train_steps), str(interval)
    return _with_seed(Cell(arm, 1, settings, train_steps, images_per_step), 1)


def _with_seed(cell, seed):
    return dataclasses.replace(cell, seed=seed, settings={**cell.settings, "runtime.seed": str(seed)})


def pairs(settings):
    """`key=value` texts, as `--params_override` takes them."""
    return [f"{key}={value}" for key, value in settings.items()]
