"""The report: from planted results, and from a run's own files."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from trainers.comparison import events, grid, plots, processes, results, tables

# Distances of seeds 1 to 3: the second arm is clearly lower, the third only on the average.
PLANTED = {"none": (20.0, 24.0, 22.0), "self_attention": (15.0, 19.2, 16.9), "attentive_normalization": (10, 29, 20)}


def point(step, value, seconds=1.0):
    return {"step": step, "images": 32 * step, "seconds": seconds * step, "frechet_distance": value, "recall": 0.5}


def cell(arm, seed, *values, seconds=1.0):
    return {
        "arm": arm,
        "seed": seed,
        "is_done": len(values) == 2,
        "curve": [point(10 * (index + 1), value, seconds) for index, value in enumerate(values)],
        "images_per_second": 32.0 / seconds,
        "parameters": {"generator": 1234, "discriminator": 567},
        "peak_memory_mb": 900.0 + seed,
        "wall_seconds": 3600.0,
        "layers": {},
    }


def planted(**slower):
    cells = [
        cell(arm, seed, 50.0, value, seconds=slower.get(arm, 1.0))
        for arm, values in PLANTED.items()
        for seed, value in enumerate(values, 1)
    ]
    arms = {name: {"group": grid.MAIN, "meaning": name} for name in PLANTED}
    plan = {"images": 640, "ablation_images": 320}
    return {
        "suite": "pairs",
        "seen": "real images",
        "plan": plan,
        "arms": arms,
        "floors": {"frechet_distance_floor": 1.5},
        "cells": cells,
    }


def row(text, *beginning):
    """The first row below the first of some texts, each behind the one before, that begins with the last of them."""
    for part in beginning[:-1]:
        text = text[text.index(part) :]
    return next(line for line in text.splitlines() if line.startswith(f"| {beginning[-1]} |"))


def test_means_and_differences_with_their_intervals():
    text = tables.report(planted())
    assert "9 of 9 cells are done" in text and "step 20, 640 real images" in text
    assert row(text, "equal steps", "none") == "| none | 3 | 22.0 ± 2.000 | 0.500 ± 0.000 |"
    # Differences -5, -4.8, -5.1: mean -4.967, deviation 0.1528, and t of 2 degrees of freedom is 4.303.
    assert row(text, "Difference to `none`", "self_attention").startswith(
        "| self_attention | -4.967 [-5.346, -4.587] **better** | "
    )
    assert " no claim |" in row(text, "Difference to `none`", "attentive_normalization").split(" | ")[1] + " |"
    assert "**worse**" in row(text, "Difference to `self_attention`", "none")
    # Equal differences have no width.
    assert row(text, "Difference to `none`", "self_attention").endswith("| +0.000 [+0.000, +0.000] no claim |")
    assert "| frechet_distance_floor | 1.500 |" in text
    assert "| none | 32.0 ± 0.000 | 1,234 | 567 | 902 ± 1.000 | 1.000 ± 0.000 |" in text


def test_at_equal_seconds_a_slow_arm_is_read_earlier():
    """At 20 s, when the others end, the slow one is at its first evaluation."""
    text = tables.report(planted(self_attention=2.0))
    assert "At equal seconds of training: 20 s" in text
    assert row(text, "equal seconds", "self_attention").startswith("| self_attention | 3 | 50.0 ± 0.000")
    assert row(text, "equal steps", "self_attention").startswith("| self_attention | 3 | 17.0 ±")
    assert "**worse**" in row(text, "equal seconds", "Difference to `none`", "self_attention")


def test_cells_on_their_way_are_left_out_and_one_seed_claims_nothing():
    found = planted()
    for other in found["cells"]:
        if other["seed"] > 1:
            other["curve"] = other["curve"][: 2 - other["seed"] // 2]
    text = tables.report(found)
    assert "step 20" in text and "one seed: no claim" in text and "better" not in text.replace("more is better", "")
    for other in found["cells"]:
        other["curve"] = []
    assert "no step yet" in tables.report(found)


def test_ablations_are_compared_with_the_whole_layer_at_their_own_end():
    found = planted()
    found["arms"]["entities_1"] = {"group": grid.ABLATIONS, "meaning": ""}
    found["cells"] += [cell("entities_1", seed, 60.0) for seed in (1, 2)]
    text = tables.report(found).split("## Ablations")[1]
    assert "step 10, 320" in text
    assert row(text, "Difference to `attentive_normalization`", "entities_1").startswith("| entities_1 | +10.0 [+10.0")


def test_gathers_what_a_run_has_written(tmp_path):
    arm = grid.Arm("none", grid.MAIN, "no attention", {})
    one = grid.Cell(arm, 3, {}, 20, 8)
    folder = tmp_path / "cells/none/3"
    with tf.summary.create_file_writer(str(folder / "train")).as_default():
        for step, speed in ((5, 1.0), (10, 4.0), (15, 2.0), (20, 3.0)):
            tf.summary.scalar("5_speed/images_per_second", speed, step)
            for name, value in (("rho", 0.01 * step), ("layout_entropy", 0.5), ("gain", 1.5)):
                tf.summary.scalar(f"generator/block2_attention/{name}", value, step)
    with tf.summary.create_file_writer(str(folder / "validation")).as_default():
        for step in (10, 20):
            tf.summary.scalar("2_scores/frechet_distance", 0.0 if step == 20 else 7.0, step)
            tf.summary.scalar("frechet_distance_floor", 1.25, step)
            tf.summary.image("samples", np.zeros((1, 4, 4, 3), np.uint8), step)
    processes.Records(str(tmp_path)).add("none-3", 100.0, 512.0, done_steps=20)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/none-3.log").write_text(
        "| network |\n| generator | 12,345 | 0.001 |\n| discriminator | 99 | 0.1 |\n"
    )
    plan = grid.Plan("main", 1, 1, 160, 160, 2, "", {})
    found = json.loads(json.dumps(results.gather("pairs", plan, [one], str(tmp_path))))
    (values,) = found["cells"]
    assert values["is_done"] and values["images_per_second"] == 3.0  # the first period compiles
    assert values["parameters"] == {"generator": 12345, "discriminator": 99} and values["peak_memory_mb"] == 512.0
    assert values["curve"] == [
        {"step": 10, "images": 80, "seconds": pytest.approx(80 / 3), "frechet_distance": 7.0},
        {"step": 20, "images": 160, "seconds": pytest.approx(160 / 3), "frechet_distance": 0.0},
    ]
    assert values["layers"]["generator/block2_attention"]["rho"] == pytest.approx(0.2)
    assert found["floors"] == {"frechet_distance_floor": 1.25}
    assert re.search(
        r"\| none \| generator/block2_attention \| 0.200 \| 0.500 \|  \|  \| 1.500 \|", tables.report(found)
    )


def test_an_event_file_that_is_being_written_is_read_as_far_as_it_goes(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        for step in (1, 2):
            tf.summary.scalar("a", float(step), step)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert events.scalars(str(tmp_path)) == {"a": {1: 1.0}} and events.scalars(str(tmp_path / "none")) == {}


def test_bands_are_means_and_deviations_over_seeds():
    curves = [[point(10, 1.0), point(20, 5.0)], [point(10, 3.0)]]
    np.testing.assert_allclose(plots.band(curves, "frechet_distance", "images"), [[320, 640], [2, 5], [2**0.5, 0]])
    assert plots.band(curves, "precision", "images").shape == (3, 0)


def test_plots_are_drawn_of_what_is_there(tmp_path):
    pytest.importorskip("matplotlib")
    cells = [grid.Cell(grid.Arm(name, grid.MAIN, "", {}), 1, {}, 20, 32) for name in PLANTED]
    folder = tmp_path / "cells/none/1"
    folder.mkdir(parents=True)
    tf.io.write_file(str(folder / "samples.png"), tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)))
    drawn = {path.rsplit("/", 1)[1] for path in plots.draw(planted(), cells, str(tmp_path))}
    scores = [
        f"main_{name}_over_{axis}.png" for name in ("frechet_distance", "recall") for axis in ("images", "seconds")
    ]
    assert drawn == {*scores, "main_samples.png"} == {path.name for path in (tmp_path / "plots").iterdir()}
