"""Tests of tools/benchmarks/soak.py, and of the loop by it."""

import os

import pytest
from absl.testing import flagsaver

from gan_test_case import SMALL, imported_main


@pytest.fixture
def soak(parsed_flags):
    """The tool, whose flags have the names of the trainers', for the length of a test."""
    with imported_main("tools.benchmarks.soak") as module:
        yield module


def samples(slope=0.0, **growing):
    """Six samples of each of four checkpoints, ten seconds and 500 steps apart; memory rises by `slope` a step."""
    found = []
    for number in range(24):
        step = 500 * (number // 6 + 1)
        held = {"memory": 900.0 + slope * 500 * number / 6, "threads": 40, "descriptors": 20, "checkpoints": 2}
        held.update({name: held[name] + number for name in growing})
        found.append({"seconds": 10.0 * number / 6, "step": step, **held})
    return found


def test_bounded_holdings_are_no_problem(soak, capsys):
    assert soak.judge(samples(slope=0.01), 20.0) == []
    assert "grows by 10.0 MiB in 1,000 steps" in capsys.readouterr().out


def test_growing_memory_is_told(soak):
    (problem,) = soak.judge(samples(slope=0.03), 20.0)
    assert problem == "Memory grows by more than --most_growth=20 MiB in 1,000 steps."


@pytest.mark.parametrize("name", ["threads", "descriptors", "checkpoints"])
def test_growing_numbers_are_told(soak, name):
    (problem,) = soak.judge(samples(**{name: True}), 20.0)
    assert problem.startswith(f"The number of {name} grew from ")


def test_too_few_steps_are_refused(soak, tmp_path, caplog):
    with flagsaver.flagsaver(model_dir=str(tmp_path / "run"), train_steps=1000), pytest.raises(SystemExit) as caught:
        soak.main(["soak"])
    assert caught.value.code == 2 and "at least 3 times --every. Received: 1000, 500" in caplog.text


def test_holdings_are_this_process_own(soak):
    before = soak.holdings(os.getpid())
    ballast = bytearray(200 * 2**20)
    ballast[::4096] = b"1" * len(ballast[::4096])
    with open(os.devnull, "rb"):
        after = soak.holdings(os.getpid())
    assert 150 < after["memory"] - before["memory"] < 400
    assert after["descriptors"] == before["descriptors"] + 1 and after["threads"] >= 1
    assert soak.holdings(2**22 + 1) is None


def test_folder_that_is_there_is_refused(soak, tmp_path, caplog):
    with flagsaver.flagsaver(model_dir=str(tmp_path)), pytest.raises(SystemExit) as caught:
        soak.main(["soak"])
    assert caught.value.code == 2 and "must be a new folder" in caplog.text


@pytest.mark.slow
def test_a_short_run_is_trained_exported_and_judged(soak, tmp_path, capsys):
    """Takes a minute: it is a whole soak, with its kill, its export and their processes."""
    settings = {
        "model_dir": str(tmp_path / "run"),
        "train_steps": 90,
        "every": 30,
        "params_override": [SMALL],
        "most_growth": 1000.0,
    }
    with flagsaver.flagsaver(**settings), pytest.raises(SystemExit) as caught:
        soak.main(["soak"])
    printed = capsys.readouterr().out
    assert caught.value.code == 0, printed
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:5]] == ["30", "60", "90"]
    assert "Bounded over 90 steps" in printed
    assert (tmp_path / "run" / "saved_model-30" / "saved_model.pb").exists()
