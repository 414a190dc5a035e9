"""Cells in processes: in order, some at a time, stopped, killed, gone on with; a script stands for the main."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from trainers.comparison import grid, processes, progress

# Takes its steps from where its folder says, as the mains do; SIGTERM saves and ends with 75.
CELL = textwrap.dedent(
    """
    import os, pathlib, signal, sys, time
    folder, steps, seconds, code = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "step"
    step = int(file.read_text()) if file.exists() else 0
    stopped = []
    signal.signal(signal.SIGTERM, lambda *unused: stopped.append(1))
    with open(folder.parents[2] / "order", "a") as order:
        print(folder.parent.name + "-" + folder.name, step, file=order)
    while step < steps and not stopped:
        step += 1
        file.write_text(str(step))
        print(f"step {step}/{steps}, 5 images/s, ETA 0", flush=True)
        time.sleep(seconds)
    print("the last word", flush=True)
    sys.exit(75 if step < steps else code)
    """
)


class Cells(processes.Grid):
    """A grid of scripts, without a classifier."""

    seconds, codes = 0.0, {}

    def _arguments(self, cell, folder):
        return ["-c", CELL, folder, str(cell.train_steps), str(self.seconds), str(self.codes.get(cell.name, 0))]

    def _judge(self, settings, lock, signals):
        return True


def cells(steps=4, seeds=(1, 2)):
    arms = [grid.Arm(name, grid.MAIN, "", {}) for name in ("none", "self_attention")]
    return [grid.Cell(arm, seed, {}, steps, 8) for seed in seeds for arm in arms]


def make(output_dir, these, jobs=2, log_seconds=60.0, **attributes):
    shown = progress.GridProgress(these, processes.Records(str(output_dir)), jobs, log_seconds)
    runner = Cells("digits", these, str(output_dir), jobs, 1, shown)
    vars(runner).update(attributes)
    return runner


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(processes, "_POLL_SECONDS", 0.02)


def order(output_dir):
    return (output_dir / "order").read_text().splitlines()


def test_all_cells_run_in_order_and_are_skipped_then(tmp_path):
    these = cells()
    assert make(tmp_path, these, jobs=1).run({})
    assert order(tmp_path) == [f"{cell.name} 0" for cell in these]
    record = processes.Records(str(tmp_path)).load("none-1")
    assert record["done_steps"] == 4 and record["starts"] == 1 and record["peak_memory_mb"] > 1.0
    assert make(tmp_path, these).run({}) and len(order(tmp_path)) == 4
    # More steps go on from those that were taken.
    assert make(tmp_path, cells(steps=6)[:1]).run({}) and order(tmp_path)[4:] == ["none-1 4"]


def test_a_cell_that_fails_is_told_and_the_others_run(tmp_path, caplog):
    runner = make(tmp_path, cells(), codes={"self_attention-1": 2, "none-2": 4})
    assert runner.run({})
    assert runner.failures == {"self_attention-1": "exit code 2: the last word"}
    assert str(tmp_path / "logs/self_attention-1.log") in caplog.text
    done = [cell.name for cell in cells() if processes.Records(str(tmp_path)).is_done(cell)]
    assert done == ["none-1", "none-2", "self_attention-2"]  # 4: the run is done, an evaluation failed
    assert make(tmp_path, cells()).run({}) and order(tmp_path)[4:] == ["self_attention-1 4"]


def test_a_cell_that_somebody_else_stops_is_started_again_but_not_for_ever(tmp_path):
    runner = make(tmp_path, cells()[:1], codes={"none-1": 75})
    assert runner.run({})
    assert order(tmp_path) == ["none-1 0", "none-1 4", "none-1 4"]
    assert runner.failures == {"none-1": "exit code 75: the last word"}


def test_the_classifier_is_trained_once_and_what_fails_there_is_told(tmp_path, monkeypatch):
    calls = []

    class Judge:
        log, seconds, peak_memory_mb, exit_code = "judge.log", 1.0, 2.0, 0

        def __init__(self, name, arguments, output_dir, threads, lock):
            calls.append((name, arguments, threads))
            (tmp_path / "judge").mkdir(exist_ok=True)

        def has_ended(self):
            return True

        def last_line(self):
            return "no such data"

    monkeypatch.setattr(processes, "Process", Judge)
    these = cells()[:1]
    runner = make(tmp_path, these)
    with processes.StopSignals() as signals:
        for settings in ({"a.b": "1"}, {"a.b": "1"}, {"a.b": "2"}):
            assert processes.Grid._judge(runner, settings, None, signals)
        assert [(call[0], call[1][-1], call[2]) for call in calls] == [
            ("judge", "--params_override=a.b=1", 2),
            ("judge", "--params_override=a.b=2", 2),
        ]
        Judge.exit_code = 2
        with pytest.raises(processes.ComparisonError, match="exit code 2: no such data, see judge.log"):
            processes.Grid._judge(runner, {}, None, signals)


def test_progress_is_a_line_a_period_with_the_time_left(tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        make(tmp_path, cells(steps=20), log_seconds=0.1, seconds=0.02).run({})
    lines = [record.getMessage() for record in caplog.records if "of the images" in record.getMessage()]
    assert any("ETA 0:00:0" in line and "now: none-1 " in line and "/4 cells" in line for line in lines)


SUITE = """
import sys
sys.path[:0] = sys.argv[2].split(":")
import pathlib, processes_test
processes_test.processes._POLL_SECONDS = 0.02
runner = processes_test.make(pathlib.Path(sys.argv[1]), processes_test.cells(steps=200), seconds=0.05)
print(runner.run({}))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_suite_that_is_stopped_or_killed_stops_its_cells_and_goes_on(tmp_path, number):
    paths = ":".join(path for path in [os.path.dirname(__file__), *sys.path] if path)
    suite = subprocess.Popen([sys.executable, "-c", SUITE, tmp_path, paths], stdout=subprocess.PIPE, text=True)
    files = [tmp_path / "cells" / arm / "1" / "step" for arm in ("none", "self_attention")]
    begin = time.monotonic()
    while not all(file.exists() and int(file.read_text() or 0) > 2 for file in files):
        assert time.monotonic() - begin < 30.0
        time.sleep(0.02)
    suite.send_signal(number)
    told, _ = suite.communicate(timeout=30)
    assert told.strip() == ("False" if number == signal.SIGTERM else "")
    with processes.locked(str(tmp_path)):  # which the cells hold until they have ended
        steps = [int(file.read_text()) for file in files]
    time.sleep(0.2)
    assert [int(file.read_text()) for file in files] == steps and max(steps) < 200
    assert make(tmp_path, cells(steps=200, seeds=(1,)), seconds=0.0).run({})
    assert sorted(order(tmp_path)[2:]) == sorted(f"{f.parts[-3]}-1 {step}" for f, step in zip(files, steps))


def test_a_second_comparison_in_the_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_LOCK_SECONDS", 0.1)
    refused = pytest.raises(processes.ComparisonError, match="one comparison at a time")
    with processes.locked(str(tmp_path)), refused:
        make(tmp_path, cells()).run({})
    assert not (tmp_path / "order").exists()
