"""The grid: its cells, their order, their lengths, and settings that differ in the arm alone."""

import dataclasses

import pytest

from trainers import configs
from trainers.comparison import grid

PLAN = grid.Plan("main,ablations", 3, 2, 64_000, 16_000, 4, "", {})


def cells(suite="pairs", **changes):
    return grid.cells(suite, dataclasses.replace(PLAN, **changes), "/judge")


def test_seed_comes_after_seed_and_ablations_last():
    names = [cell.name for cell in cells(only="no_orthogonality,main")]
    main = ("none", "self_attention", "attentive_normalization")
    assert names == [
        *(f"{arm}-{seed}" for seed in (1, 2, 3) for arm in main),
        *(f"no_orthogonality-{seed}" for seed in (1, 2)),
    ]
    assert cells(only="none, self_attention")[-1].name == "self_attention-3"


def test_ablations_end_at_a_step_at_which_the_others_are_scored():
    found = cells()
    interval = int(found[0].settings["trainer.validation_interval"])
    assert found[0].train_steps == 500 and found[0].images_per_step == 128 and interval == 125
    assert {cell.train_steps for cell in found if cell.arm.group == grid.ABLATIONS} == {interval}
    assert {cell.settings["trainer.validation_interval"] for cell in found} == {"125"}


@pytest.mark.parametrize("suite", grid.SUITES)
def test_arms_of_every_suite_have_names_and_settings_of_their_own(suite):
    found = grid.arms(suite)
    assert len({arm.name for arm in found}) == len({str(arm.settings) for arm in found}) == len(found) >= 17


def test_every_arm_makes_other_networks_or_losses():
    """Resolved, so that every key is one of the schema."""
    seen = {}
    for cell in cells("digits", seeds=1, ablation_seeds=1):
        params = configs.resolve("gan_digits32", params_override=grid.pairs(cell.settings))
        assert params.task.evaluation.classifier_dir == params.task.evaluation.statistics_dir == "/judge"
        assert params.runtime.seed == 1
        seen[cell.arm.name] = repr((params.task.model, params.task.losses))
    assert len(set(seen.values())) == len(seen) >= 17


def test_main_arms_differ_in_the_attention_alone():
    found = cells("cifar10", only="main", seeds=1, data_path="/data")
    resolved = [configs.resolve("gan_cifar10_small", params_override=grid.pairs(cell.settings)) for cell in found]
    assert [params.task.model.attention for params in resolved] == ["none", "self_attention", grid.ATTENTIVE]
    assert {params.task.train_data.path for params in resolved} == {"/data"}
    assert {str(params.task.model.discriminator.attention_blocks) for params in resolved} == {"[1]"}
    for params in resolved:
        params.task.model.attention = "same"
    assert resolved[0] == resolved[1] == resolved[2]


def test_place_of_the_experiment_is_an_arm_beside_that_of_the_paper():
    (cell,) = cells("cifar10", only="generator_only", ablation_seeds=1)
    params = configs.resolve("gan_cifar10_small", params_override=grid.pairs(cell.settings))
    assert params.task.model == configs.resolve("gan_cifar10_small").task.model


def test_settings_of_all_cells_are_over_those_of_arms():
    (cell,) = cells(only="entities_4", ablation_seeds=1, settings={"task.model.generator.num_entities": "2"})
    assert cell.settings["task.model.generator.num_entities"] == "2"
    assert cell.settings["task.model.discriminator.num_entities"] == "4"


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"only": "nothing"},
            "--only must name arms of the suite pairs: main, ablations, none, .* Received: 'nothing'",
        ),
        ({"only": ""}, "--only must name"),
        ({"seeds": 0}, "--seeds must be at least 1. Received: 0"),
        ({"evaluations": 0}, "--evaluations must be at least 1"),
        ({"settings": {"task.model.entities": "1"}}, "task.model.entities"),
    ],
)
def test_what_makes_no_grid_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cells(**changes)
