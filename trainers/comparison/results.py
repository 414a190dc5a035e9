"""What the cells of a comparison have come to, as JSON values."""

import json
import os
import re
import statistics

from trainers.comparison import events, processes
from trainers.training import run_directory

# Scores that are compared, in the order of the tables, and which is better.
SCORES = {
    "pair_agreement": "higher",
    "pair_objects_found": "higher",
    "pair_colour_agreement": "higher",
    "pair_orientation_agreement": "higher",
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "intra_frechet_distance": "lower",
    "precision": "higher",
    "recall": "higher",
    "label_accuracy": "higher",
    "spread_ratio": None,  # of neither is more better
    "discriminator_slope": None,
    "rule_accuracy": "higher",
    "pictures_to_90": "lower",
}
FLOORS = ("classifier_test_accuracy", "frechet_distance_floor", "pair_agreement_real", "pair_agreement_shuffled")
LAYER_STATISTICS = ("rho", "layout_entropy", "entities_in_use", "region_deviation", "gain", "t", "orthogonality")
_NETWORK = re.compile(r"^\| (generator|discriminator) \| ([\d,]+) \|", re.MULTILINE)  # of `monitoring.cost.describe`


def gather(suite, plan, cells, output_dir):
    """What is there of a comparison, whether or not it has come to its end.

    Args:
        suite: name of the suite.
        plan: `grid.Plan`.
        cells: list of `grid.Cell`.
        output_dir: folder of the comparison.

    Returns:
        JSON values by name: `suite`, `plan`, `arms` with their meaning, `floors` of the real images, and `cells`.
    """
    found = [_cell(cell, output_dir) for cell in cells]
    floors = [cell.pop("floors") for cell in found]
    return {
        "suite": suite,
        "seen": "real images",
        "plan": vars(plan),
        "arms": {cell.arm.name: {"group": cell.arm.group, "meaning": cell.arm.meaning} for cell in cells},
        "floors": next((values for values in floors if values), {}),
        "cells": found,
    }


def write(found, report, output_dir):
    """Writes what was gathered as `results.json` and its tables as `results.md`."""
    os.makedirs(output_dir, exist_ok=True)
    run_directory.write(os.path.join(output_dir, "results.json"), json.dumps(found, indent=1) + "\n")
    run_directory.write(os.path.join(output_dir, "results.md"), report)


def _cell(cell, output_dir):
    folder = processes.model_dir_of(output_dir, cell)
    records = processes.Records(output_dir)
    record, train = records.load(cell.name), events.scalars(f"{folder}/train")
    scores = events.scalars(f"{folder}/validation")
    # Of a shared machine some periods are slow: their median is the cell's own speed.
    speeds = list(_last_part(train, "images_per_second").values())
    speed = statistics.median(speeds[len(speeds) > 1 :]) if speeds else None
    steps = sorted({step for name in SCORES for step in scores.get(name, {})})
    curve = [
        {
            "step": step,
            "images": step * cell.images_per_step,
            **({"seconds": step * cell.images_per_step / speed} if speed else {}),
            **{name: scores[name][step] for name in SCORES if step in scores.get(name, {})},
        }
        for step in steps
    ]
    return {
        "arm": cell.arm.name,
        "seed": cell.seed,
        "is_done": records.is_done(cell),
        "train_steps": cell.train_steps,
        "images_per_step": cell.images_per_step,
        "settings": cell.settings,
        "images_per_second": speed,
        "parameters": _parameters(processes.log_of(output_dir, cell.name)),
        "peak_memory_mb": record.get("peak_memory_mb"),
        "wall_seconds": record.get("wall_seconds"),
        "starts": record.get("starts", 0),
        "curve": curve,
        "layers": _layers(train),
        "floors": {name: list(scores[name].values())[-1] for name in FLOORS if name in scores},
    }


def _layers(train):
    """`{network/layer: {statistic: last value}}`, and how rho went, `rho_by_step`."""
    found = {}
    for tag, values in sorted(train.items()):
        parts = tag.split("/")
        network = next((name for name in ("generator", "discriminator") if name in parts), None)
        if network and parts[-1] in LAYER_STATISTICS and len(parts) >= 3:
            layer = found.setdefault(f"{network}/{parts[-2]}", {})
            layer[parts[-1]] = values[max(values)]
            if parts[-1] == "rho":
                layer["rho_by_step"] = {str(step): value for step, value in sorted(values.items())}
    return found


def _last_part(scalars, name):
    return next((values for tag, values in scalars.items() if tag.split("/")[-1] == name), {})


def _parameters(log):
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            return {name: int(count.replace(",", "")) for name, count in _NETWORK.findall(file.read())}
    except FileNotFoundError:
        return {}
