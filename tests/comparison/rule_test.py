"""The probe of the long-range rule: its pictures, what it counts, and a cell through its main."""

import json

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import call_main
from trainers.comparison import grid, rule
from trainers.evaluation import pair_agreement

PLAN = grid.Plan("main,ablations", 2, 2, 640, 640, 1, "", {})


def test_half_of_the_pictures_agree_and_the_others_differ_in_nothing_else():
    pictures, labels, agree = rule.draw(tf.random.Generator.from_seed(0), 600, 32)
    pixels = np.round((pictures.numpy() + 1.0) * 127.5).astype(np.uint8)
    found = pair_agreement.agreement(pixels)
    np.testing.assert_array_equal(agree, np.arange(600) < 300)
    assert found["found"].mean() > 0.99 and found["agreement"][:300].mean() > 0.99
    assert found["agreement"][300:].mean() < 4 * pair_agreement.CHANCE
    assert set(labels.numpy()) == {0, 1, 2, 3}
    # No edge in the background, of the grey of both halves, tells where they meet.
    grey = pixels.astype(int).max(axis=-1) - pixels.min(axis=-1) < 8
    steps = np.abs(np.diff(pixels.astype(int).mean(axis=-1), axis=2)) * (grey[:, :, 1:] & grey[:, :, :-1])
    middle, around = steps[300:, :, 15].mean(), steps[300:, :, [14, 16]].mean()
    assert middle == pytest.approx(around, rel=0.1)


def test_arms_whose_discriminator_another_has_are_left_out():
    names = list(dict.fromkeys(cell.arm.name for cell in rule.cells(PLAN)))
    assert names[:3] == ["none", "self_attention", "attentive_normalization"]
    assert "entities_1" in names and "other_blocks" in names
    assert "discriminator_only" not in names and "generator_only" not in names


@pytest.mark.parametrize(
    ("shares", "expected"), [([0.5, 0.8, 1.0], 250.0), ([0.95], 100 * 0.4 / 0.45), ([0.5, 0.89], None), ([], None)]
)
def test_pictures_are_counted_to_where_the_curve_first_crosses(shares, expected):
    curve = [{"images": 100 * number, "rule_accuracy": share} for number, share in enumerate(shares, 1)]
    found = rule.pictures_to(curve)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_cell_learns_and_is_not_trained_again(tmp_path, monkeypatch, caplog):
    flags = {
        "only": "attentive_normalization",
        "seeds": 1,
        "train_steps": 4,
        "test_interval": 2,
        "batch_size": 8,
        "params_override": "task.model.discriminator.base_channels=2,task.model.discriminator.num_entities=2",
    }
    monkeypatch.setattr(rule, "TEST_PICTURES", 40)
    call_main("trainers.probe_rule", output_dir=tmp_path, **flags)
    found = json.loads((tmp_path / "results.json").read_text())
    (cell,) = found["cells"]
    assert [(point["step"], point["images"]) for point in cell["curve"]] == [(2, 16), (4, 32)]
    assert all(0 <= point["rule_accuracy"] <= 1 for point in cell["curve"])
    assert cell["layers"]["discriminator/block1_attention"]["rho"] != 0
    assert "| attentive_normalization | 1 |" in (tmp_path / "results.md").read_text()
    monkeypatch.setattr(rule, "_train", lambda *_: pytest.fail("trained again"))
    call_main("trainers.probe_rule", output_dir=tmp_path, **{**flags, "seeds": 2, "report": "true"})
    assert "1 of 2 cells are done" in (tmp_path / "results.md").read_text()
    before = (tmp_path / "results.md").read_text()
    with pytest.raises(SystemExit) as caught:
        call_main("trainers.probe_rule", output_dir=tmp_path, **{**flags, "learning_rate": 0.01})
    assert caught.value.code == 2 and "has a cell of other flags" in caplog.text
    assert (tmp_path / "results.md").read_text() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train_steps": 150}, "--train_steps must be a multiple of --test_interval, 100. Received: 150"),
        ({"batch_size": 3}, "--batch_size must be even. Received: 3"),
        ({"learning_rate": 0.0}, "--learning_rate must be above 0. Received: 0.0"),
        (
            {"params_override": "trainer.discriminator_optimizer.learning_rate=1"},
            "where no GAN is trained. Received: trainer.discriminator_optimizer.learning_rate",
        ),
        ({"only": "nothing"}, "--only must name arms of the suite pairs"),
    ],
)
def test_what_cannot_be_probed_exits_with_2_and_writes_nothing(tmp_path, flags, message, caplog):
    with pytest.raises(SystemExit) as caught:
        call_main("trainers.probe_rule", output_dir=tmp_path / "new", **flags)
    assert caught.value.code == 2 and message in caplog.text and not (tmp_path / "new").exists()


def test_tables_tell_what_seeds_came_to_it():
    curve = [{"step": 1, "images": 64, "seconds": 1.0, "rule_accuracy": 0.7}]
    through = [*curve, {"step": 2, "images": 128, "seconds": 2.0, "rule_accuracy": 0.95}]
    cells = [
        {"arm": name, "seed": seed, "is_done": True, **rule._NOTHING, "curve": points}
        for name, points in (("none", curve), ("attentive_normalization", through))
        for seed in (1, 2)
    ]
    arms = {name: {"group": grid.MAIN, "meaning": name} for name in ("none", "attentive_normalization")}
    text = rule.report(
        {"suite": "x", "seen": "pictures", "plan": vars(PLAN), "arms": arms, "floors": {}, "cells": cells}
    )
    assert "| attentive_normalization | 2 | 115 ± 0.000 |" in text
    assert "| attentive_normalization | 2 | 0.700 ± 0.000 |" in text
