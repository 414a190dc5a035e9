"""How soon a discriminator sees whether two objects far apart agree: the long-range rule of `pairs`, without a GAN.

A discriminator of the suite `pairs` learns to tell pictures whose objects agree from pictures whose objects are as
right, each for itself, but have colours and directions of their own. No window that holds one object can tell them.
"""

import dataclasses
import json
import os
import time

import numpy as np
import tensorflow as tf

from keras_an import models
from keras_an.backend import keras
from trainers import configs
from trainers.comparison import grid, tables
from trainers.configs.networks import build_networks
from trainers.data import pairs_source
from trainers.training import run_directory

SUITE = "pairs"
ACCURACY, PICTURES_TO_90 = "rule_accuracy", "pictures_to_90"  # names in `results.SCORES`
TEST_PICTURES = 4000
_TEST_SEED = 2**20  # of no cell
_TEST_BATCH_SIZE = 500
_HUE_AND_ANGLE = 2
_WITH_AN_EFFECT = ("task.model.attention", "task.model.discriminator.", "task.losses.orthogonal_weight")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a cell is trained.

    train_steps: steps. batch_size: pictures of a step, an even number. test_interval: steps between two looks at the
    test, which divides `train_steps`. learning_rate: of Adam.
    """

    train_steps: int
    batch_size: int
    test_interval: int
    learning_rate: float


def cells(plan):
    """The cells of `grid.cells`, without arms whose discriminator is that of an earlier arm.

    Raises:
        GridError: where a setting of `plan` changes nothing here.
    """
    for key in plan.settings:
        if not key.startswith(_WITH_AN_EFFECT):
            known = ", ".join(_WITH_AN_EFFECT)
            raise grid.GridError(f"--params_override may change {known} here, where no GAN is trained. Received: {key}")
    found, seen = [], {}
    for cell in grid.cells(SUITE, plan, judge_dir=""):
        task = _params(cell).task
        network, attention = task.model.discriminator, task.model.attention
        has_attention = attention != "none" and network.attention_blocks
        key = str((attention, network, task.losses)) if has_attention else "none"
        if seen.setdefault(key, cell.arm.name) == cell.arm.name:
            found.append(cell)
    return found


def run(cell, recipe, output_dir):
    """Trains a cell's discriminator and writes what came out; where that is there already, nothing is done."""
    if _load(cell, recipe, output_dir) is None:
        path = _path(cell, output_dir)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        start = time.monotonic()
        outcome = _train(cell, recipe)
        outcome.update(made_by=_made_by(cell, recipe), wall_seconds=time.monotonic() - start)
        run_directory.write(path, json.dumps(outcome) + "\n")


def gather(plan, found, recipe, output_dir):
    """What there is, in the form of `results.gather`, for its tables and plots.

    Raises:
        GridError: where a cell of the folder was made by another recipe or other settings.
    """
    rows = []
    for cell in found:
        outcome = _load(cell, recipe, output_dir)
        rows.append({"arm": cell.arm.name, "seed": cell.seed, "is_done": outcome is not None, **(outcome or _NOTHING)})
    return {
        "suite": f"The rule of {SUITE}",
        "seen": "pictures",
        "plan": vars(plan),
        "recipe": dataclasses.asdict(recipe),
        "arms": {cell.arm.name: {"group": cell.arm.group, "meaning": cell.arm.meaning} for cell in found},
        "floors": {},
        "cells": rows,
    }


def _load(cell, recipe, output_dir):
    """What a cell came to, None where it is not done."""
    path = _path(cell, output_dir)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        outcome = json.load(file)
    if outcome.get("made_by") != _made_by(cell, recipe):
        raise grid.GridError(
            f"--output_dir has a cell of other flags, which would be mixed with these: {path} was made by "
            f"{outcome.get('made_by', 'an earlier version')}. Received: {_made_by(cell, recipe)}"
        )
    return outcome


def _made_by(cell, recipe):
    settings = {key: value for key, value in cell.settings.items() if key.startswith(_WITH_AN_EFFECT)}
    return {**dataclasses.asdict(recipe), "settings": settings}


_NOTHING = {
    "curve": [],
    "layers": {},
    "images_per_second": None,
    "parameters": {},
    "peak_memory_mb": None,
    "wall_seconds": None,
}


def draw(generator, count, resolution):
    """Draws pictures; in the first `count / 2` of them the two objects agree.

    Args:
        generator: `tf.random.Generator`.
        count: even integer.
        resolution: integer.

    Returns:
        float32 `(count, resolution, resolution, 3)` in [-1, 1], labels int32 `(count,)`, and 1 where the objects agree,
        float32 `(count,)`.
    """
    numbers = generator.uniform((count, pairs_source.NUMBERS))
    labels = generator.uniform((count,), 0, len(pairs_source.CLASS_NAMES), dtype=tf.int32)
    others = tf.concat([generator.uniform((count, _HUE_AND_ANGLE)), numbers[:, _HUE_AND_ANGLE:]], axis=1)
    pictures, with_others = (pairs_source.draw_pairs(each, labels, resolution) for each in (numbers, others))
    # The background goes on across the middle, so that no edge there tells.
    middle = resolution // 2
    mixed = tf.concat([pictures[:, :, :middle], with_others[:, :, middle:]], axis=2)
    agree = tf.range(count) < count // 2
    pictures = tf.where(agree[:, None, None, None], pictures, mixed)
    return tf.cast(pictures, tf.float32) / 127.5 - 1.0, labels, tf.cast(agree, tf.float32)


def report(found):
    """The tables of `tables.report`, and how many pictures it took to see the rule, in Markdown."""
    names = list(found["arms"])
    took = {name: {} for name in names}
    for cell in found["cells"]:
        pictures = pictures_to(cell["curve"])
        if pictures is not None:
            took[cell["arm"]][cell["seed"]] = pictures
    bases = [name for name in grid.BASELINES if name in names]
    title = "Pictures seen until 90 % of the test are right, of the seeds that come to it"
    parts = tables.compared({PICTURES_TO_90: took}, names, bases, title) if any(took.values()) else []
    return "\n\n".join([tables.report(found), *parts]) + "\n"


def pictures_to(curve, share=0.9):
    """Pictures seen when the accuracy first was `share`, in a line between looks; None where it never was."""
    before = {"images": 0, ACCURACY: 0.5}
    for point in curve:
        if point[ACCURACY] >= share:
            part = (share - before[ACCURACY]) / (point[ACCURACY] - before[ACCURACY])
            return before["images"] + part * (point["images"] - before["images"])
        before = point
    return None


def _params(cell):
    return configs.resolve(grid.SUITES[SUITE].experiment, params_override=grid.pairs(cell.settings))


def _path(cell, output_dir):
    return os.path.join(output_dir, "cells", f"{cell.name}.json")


def _train(cell, recipe):
    params = _params(cell)
    resolution = params.task.model.resolution
    keras.backend.clear_session()
    keras.utils.set_random_seed(cell.seed)
    _, network = build_networks(params)
    optimizer = keras.optimizers.Adam(recipe.learning_rate)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    generator = tf.random.Generator.from_seed(cell.seed)
    test = [part.numpy() for part in draw(tf.random.Generator.from_seed(_TEST_SEED), TEST_PICTURES, resolution)]

    @tf.function
    def steps():
        for _ in tf.range(recipe.test_interval):
            pictures, labels, agree = draw(generator, recipe.batch_size, resolution)
            with tf.GradientTape() as tape:
                logits = tf.reshape(network([pictures, labels], training=True), (-1, 1))
                total = tf.add_n([loss(agree[:, None], logits), *network.losses])
            variables = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))

    @tf.function(autograph=False)
    def is_right(pictures, labels, agree):
        logits = tf.reshape(network([pictures, labels], training=False), (-1,))
        return tf.cast((logits > 0.0) == (agree > 0.5), tf.float32)

    optimizer.build(network.trainable_variables)
    curve, seconds = [], []
    for step in range(recipe.test_interval, recipe.train_steps + 1, recipe.test_interval):
        start = time.monotonic()
        steps()
        seconds.append(time.monotonic() - start)
        right = [
            is_right(*(part[i : i + _TEST_BATCH_SIZE] for part in test))
            for i in range(0, TEST_PICTURES, _TEST_BATCH_SIZE)
        ]
        curve.append({"step": step, "images": step * recipe.batch_size, ACCURACY: float(np.mean(right))})
    speed = recipe.test_interval * recipe.batch_size / float(np.median(seconds))
    for point in curve:
        point["seconds"] = point["images"] / speed
    layers = {f"discriminator/{layer.name}": {"rho": float(layer.rho)} for layer in models.attentive_layers(network)}
    return {
        **_NOTHING,
        "curve": curve,
        "images_per_second": speed,
        "parameters": {"discriminator": sum(int(np.prod(v.shape)) for v in network.trainable_variables)},
        "layers": layers,
    }
