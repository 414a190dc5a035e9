"""The command that measures a card: steps, limits, and what it writes."""

import json
import time

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from gan_test_case import imported_main

pytestmark = pytest.mark.usefixtures("parsed_flags")


@pytest.fixture(scope="module")
def card():
    """The module, whose flags are there for these tests alone."""
    with imported_main("tools.benchmarks.card") as module:
        yield module


def python(code):
    return ["-c", code]


@pytest.fixture
def measured(card, tmp_path, monkeypatch):
    """A function that measures some steps and returns the summary."""

    def measure(known, **flag_values):
        monkeypatch.setattr(card, "steps", lambda folder, tiny: known)
        monkeypatch.setattr(card, "card", lambda: ["no card"])
        for name, value in {"output_dir": str(tmp_path / "out"), "steps": [], "budget_s": 60.0, **flag_values}.items():
            monkeypatch.setattr(flags.FLAGS[name], "value", value)
        card.measure()
        return (tmp_path / "out" / "summary.md").read_text()

    return measure


def test_a_step_that_fails_costs_no_other_its_figures(card, measured, tmp_path):
    fails = card.Step([python("import sys; print('| a |'); sys.stderr.write('why\\n'); sys.exit(3)")], 30)
    works = card.Step([python("print('chatter'); print('| b |')")], 30, lambda: "checked")
    summary = measured({"fails": fails, "works": works})
    assert summary.index("\n| a |") < summary.index("Failed with exit code 3") < summary.index("## works")
    assert "\n| b |" in summary and "\nchecked" in summary and "\nchatter" not in summary
    assert (tmp_path / "out" / "fails.log").read_text() == "why\n"


def test_figures_are_written_as_json(card, measured, tmp_path):
    table = "| size | ms |\\n|---|---|\\n| 32 x 16 | 1.5 |\\n| 64 x 4 | |\\n\\n| attention |\\n|:-:|\\n| none |"
    measured({"two": card.Step([python(f"print('{table}')")], 30), "none": card.Step([python("")], 30)})
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == {
        "card": ["no card"],
        "two": [{"size": "32 x 16", "ms": "1.5"}, {"size": "64 x 4", "ms": ""}, {"attention": "none"}],
        "none": [],
    }


def test_a_step_that_hangs_is_ended(card, measured, monkeypatch):
    monkeypatch.setattr(card, "LEAST_S", 0.1)
    begin = time.monotonic()
    summary = measured({"hangs": card.Step([python("import time; print('| a |', flush=True); time.sleep(60)")], 2)})
    assert time.monotonic() - begin < 30 and "| a |" in summary and "Its time was over." in summary


def test_what_the_budget_does_not_hold_is_not_started(card, measured, tmp_path):
    write = python(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "Not run to its end" in measured({"late": card.Step([write], 30)}, budget_s=1.0)
    assert not (tmp_path / "ran").exists()


def test_steps_of_other_names_are_refused(card, measured):
    with pytest.raises(card.program.ToolError, match="--steps must be of one. Received: two"):
        measured({"one": card.Step([], 1)}, steps=["two"])


def test_checkpoints_are_compared_bit_by_bit(card, tmp_path):
    paths = []
    for index, value in enumerate((0.0, -0.0)):
        saved = tf.train.Checkpoint(same=tf.Variable([np.nan]), other=tf.Variable([value]))
        paths.append(saved.write(str(tmp_path / f"ckpt-{index}")))
    assert card.differing_variables(*paths) == (["other/.ATTRIBUTES/VARIABLE_VALUE"], 2)
    assert card.differing_variables(paths[0], paths[0]) == ([], 2)


@pytest.mark.parametrize("tiny", [False, True])
def test_commands_are_those_of_the_tools(card, tiny):
    for name, step in card.steps("out", tiny).items():
        for command in step.commands:
            assert command[0] == "-m" and command[1].split(".")[0] in ("tools", "trainers"), name
            json.dumps(command)
