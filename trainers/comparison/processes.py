"""Runs the cells of a grid, some at a time, each in a process of its own, and goes on where it was stopped."""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from absl import logging

from trainers import cpu
from trainers.comparison import grid
from trainers.training import run_directory
from trainers.training.stop_signals import StopSignals

JUDGE, CELLS, LOGS, RECORDS = "judge", "cells", "logs", "records"  # folders in that of a comparison
_POLL_SECONDS, _LOCK_SECONDS = 0.5, 90.0
_DONE, _NOT_EVALUATED = 0, 4  # exit codes of the mains
_STOPPED = (75, -signal.SIGTERM, -signal.SIGINT)  # saved, or not even begun
_MOST_STARTS = 3  # of a cell that somebody else stops
_STEP = re.compile(rb"step (\d+)/\d+, ")  # what `trainers.training.progress` logs
_TAIL = 1 << 16
_ROOT = str(pathlib.Path(__file__).parents[2])


class ComparisonError(ValueError):
    """The comparison cannot go on; the message says why."""


class Records:
    """What is known of the cells of a comparison: a JSON file each, with what their processes have cost so far.

    Args:
        output_dir: folder of the comparison.
    """

    def __init__(self, output_dir):
        self._folder = os.path.join(output_dir, RECORDS)

    def load(self, name):
        """Values by name: `done_steps`, `wall_seconds`, `peak_memory_mb`, `starts`; {} for a cell that never ran."""
        try:
            with open(os.path.join(self._folder, f"{name}.json"), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}

    def add(self, name, wall_seconds, peak_memory_mb, **values):
        """Adds an ended process to the record of a cell, and sets further values."""
        record = self.load(name)
        record["starts"] = record.get("starts", 0) + 1
        record["wall_seconds"] = record.get("wall_seconds", 0.0) + wall_seconds
        record["peak_memory_mb"] = max(record.get("peak_memory_mb", 0.0), peak_memory_mb)
        record.update(values)
        os.makedirs(self._folder, exist_ok=True)
        run_directory.write(os.path.join(self._folder, f"{name}.json"), json.dumps(record, indent=1) + "\n")

    def is_done(self, cell):
        """Whether a cell has taken all of its steps."""
        return self.load(cell.name).get("done_steps", 0) >= cell.train_steps


class Process:
    """A main in a process of its own, whose output goes to the end of a log.

    Args:
        name: of the log.
        arguments: of Python.
        output_dir: folder of the comparison.
        threads: of TensorFlow.
        lock: open file that must stay open as long as the process lives, or None.
    """

    def __init__(self, name, arguments, output_dir, threads, lock=None):
        os.makedirs(os.path.join(output_dir, LOGS), exist_ok=True)
        self.name, self.log = name, log_of(output_dir, name)
        self.begin = time.monotonic()
        self.exit_code = self.peak_memory_mb = None
        path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **cpu.thread_variables(threads), "PYTHONPATH": path},
                pass_fds=[lock.fileno()] if lock else [],
                start_new_session=True,  # Ctrl-C comes through `stop` alone, once
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def seconds(self):
        """Since the start."""
        return time.monotonic() - self.begin

    def has_ended(self):
        """Whether it has; `exit_code` and `peak_memory_mb` are known then."""
        if self.exit_code is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)
                self.peak_memory_mb = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return self.exit_code is not None

    def stop(self):
        """Asks it to save and to end."""
        if not self.has_ended():
            self._process.send_signal(signal.SIGTERM)

    def last_line(self):
        """The last line of the log, for an error."""
        lines = _tail(self.log).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def log_of(output_dir, name):
    """The path of the log of a cell."""
    return os.path.join(output_dir, LOGS, f"{name}.log")


def model_dir_of(output_dir, cell):
    """The folder of the run of a cell."""
    return os.path.join(output_dir, CELLS, cell.arm.name, str(cell.seed))


class Grid:
    """Runs cells, `jobs` at a time, in their order.

    Args:
        suite: a name in `grid.SUITES`.
        cells: list of `grid.Cell`.
        output_dir: folder of the comparison.
        jobs: integer.
        threads: of each process, integer.
        progress: `progress.GridProgress`.
        after_cell: function that is called whenever a cell has ended.
    """

    def __init__(self, suite, cells, output_dir, jobs, threads, progress, after_cell=lambda: None):
        self._suite, self._cells, self._output_dir = suite, cells, output_dir
        self._jobs, self._threads = jobs, threads
        self._progress, self._after_cell = progress, after_cell
        self._records = Records(output_dir)
        self.failures = {}

    def run(self, judge_settings):
        """Runs what is not done, the classifier that scores all first.

        Args:
            judge_settings: settings by key of the classifier and the data.

        Returns:
            Whether it came to its end; else it was stopped by SIGTERM or SIGINT, and all processes have ended.

        Raises:
            ComparisonError: where another one runs in the folder, or the classifier cannot be trained.
        """
        waiting = [cell for cell in self._cells if not self._records.is_done(cell)]
        with locked(self._output_dir) as lock, StopSignals() as signals:
            if waiting and not self._judge(judge_settings, lock, signals):
                return False
            running, starts = [], {}
            while (waiting or running) and not signals.received:
                while waiting and len(running) < self._jobs:
                    cell = waiting.pop(0)
                    starts[cell.name] = starts.get(cell.name, 0) + 1
                    running.append((cell, self._start(cell, lock)))
                time.sleep(_POLL_SECONDS)
                for cell, process in [pair for pair in running if pair[1].has_ended()]:
                    running.remove((cell, process))
                    again = self._finish(cell, process, may_start_again=starts[cell.name] < _MOST_STARTS)
                    waiting[:0] = [cell] if again else []
                self._progress.show(running)
            self._stop(running)
            return not (waiting or running)

    def _start(self, cell, lock):
        folder = model_dir_of(self._output_dir, cell)
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        return Process(cell.name, self._arguments(cell, folder), self._output_dir, self._threads, lock)

    def _arguments(self, cell, folder):
        flags = [f"--experiment={grid.SUITES[self._suite].experiment}", f"--model_dir={folder}", *_flags(cell.settings)]
        return ["-m", "trainers.train_gan", "--mode=train_and_eval", *flags]

    def _finish(self, cell, process, may_start_again=True):
        """Keeps what a process has cost; returns whether the cell must be started again, as somebody stopped it."""
        code, done = process.exit_code, process.exit_code in (_DONE, _NOT_EVALUATED)
        values = {"done_steps": cell.train_steps} if done else {}
        self._records.add(cell.name, process.seconds, process.peak_memory_mb, **values)
        self._progress.end(cell, process)
        if done:
            logging.info("%s is done%s", cell.name, "" if code == _DONE else f": {process.last_line()}")
        elif code not in _STOPPED or not may_start_again:
            self.failures[cell.name] = f"exit code {code}: {process.last_line()}"
            logging.error("%s failed, %s, see %s", cell.name, self.failures[cell.name], process.log)
        self._after_cell()
        return code in _STOPPED and may_start_again

    def _stop(self, running):
        for _, process in running:
            process.stop()
        for cell, process in running:
            while not process.has_ended():
                time.sleep(_POLL_SECONDS)
            self._finish(cell, process)

    def _judge(self, settings, lock, signals):
        """Trains the classifier and measures the real images, with the threads of all jobs; False where stopped."""
        experiment, folder = grid.SUITES[self._suite].experiment, os.path.join(self._output_dir, JUDGE)
        if self._records.load(JUDGE).get("settings") == settings and os.path.isdir(folder):
            return True
        flags = [f"--experiment={experiment}", f"--output_dir={folder}"]
        flags += _flags(settings)
        logging.info("The classifier that scores all cells and what is known of the real images: %s", folder)
        threads = self._threads * self._jobs
        process = Process(JUDGE, ["-m", "trainers.prepare_evaluation", *flags], self._output_dir, threads, lock)
        while not process.has_ended():
            if signals.received:
                process.stop()
            time.sleep(_POLL_SECONDS)
            self._progress.show_line(process.last_line)
        if signals.received:
            return False
        if process.exit_code != _DONE:
            raise ComparisonError(
                f"The classifier that scores the cells must be trained first; exit code {process.exit_code}: "
                f"{process.last_line()}, see {process.log}"
            )
        self._records.add(JUDGE, process.seconds, process.peak_memory_mb, settings=settings)
        return True


def steps_in_log(path):
    """The last step that a run has logged, 0 where there is none."""
    found = _STEP.findall(_tail(path))
    return int(found[-1]) if found else 0


@contextlib.contextmanager
def locked(output_dir):
    """A context with the folder's lock, which the processes of the cells hold with it.

    Raises:
        ComparisonError: where another comparison, or a process that one left behind, does not give it back.
    """
    os.makedirs(output_dir, exist_ok=True)
    with open(os.path.join(output_dir, "lock"), "ab") as file:
        begin, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - begin > _LOCK_SECONDS:
                    raise ComparisonError(
                        f"--output_dir={output_dir} must be of one comparison at a time: another one, or a cell that "
                        "it left behind, is at work there. Stop it, or wait for its end."
                    ) from None
                if not told:
                    logging.info("Waiting for the processes of another comparison in %s", output_dir)
                told = True
                time.sleep(_POLL_SECONDS)
        yield file


def _flags(settings):
    return [f"--params_override={pair}" for pair in grid.pairs(settings)]


def _tail(path):
    try:
        with open(path, "rb") as file:
            file.seek(max(os.path.getsize(path) - _TAIL, 0))
            return file.read()
    except FileNotFoundError:
        return b""


def _end_with_parent():
    """Has Linux send SIGTERM to this process when the one that started it is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
