"""Training steps of this clone and of another one, or of PyTorch, each in a process of its own, timed in turn."""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from tools import program
from tools.benchmarks import training_steps
from tools.benchmarks.timing import peak_gib

HEADER = (
    "| step | pixels x batch | attention | XLA | precision | before, ms | after, ms | after / before (quartiles) "
    "| of processors' time | first step, s | peak memory, GiB |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(baseline, specification, repeats, in_pytorch=False):
    """A row of the table below `HEADER`.

    Args:
        baseline: path of the other clone, or the Python of an environment with PyTorch.
        specification: what `training_steps.make_call` takes, a dictionary.
        repeats: timed calls of each clone.
        in_pytorch: whether the baseline is PyTorch's, of `pytorch_step`.

    Raises:
        program.ToolError: where one of the clones cannot take such a step.
    """
    before, after, first, peaks = compare(baseline, specification, repeats, in_pytorch)
    steps = specification["steps"] / 1000
    cells = (
        specification["kind"],
        f"{specification['resolution']} x {specification['batch_size']}",
        specification["attention"],
        "on" if specification["xla"] else "off",
        specification["precision"],
        *(f"{statistics.median(wall for wall, _ in seconds) / steps:.1f}" for seconds in (before, after)),
        *(_ratio([mine[kind] / other[kind] for mine, other in zip(after, before)]) for kind in (0, 1)),
        " / ".join(f"{wall:.1f}" for wall, _ in first),
        " / ".join(f"{peak:.2f}" for peak in peaks),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(values):
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def compare(baseline, specification, repeats, in_pytorch=False):
    """Times a step of both clones in pairs, whose order turns from pair to pair.

    Args:
        baseline, specification, repeats, in_pytorch: those of `row`.

    Returns:
        Seconds, of the clock and of the processors, of the calls of the baseline, and of this clone, lists; those of
        their first calls, in which the step is traced; and their peak memory in GiB.
    """
    own = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
    with (_PyTorch if in_pytorch else _Clone)(baseline, specification) as before, _Clone(own, specification) as after:
        clones, seconds = (before, after), ([], [])
        for clone in clones:
            clone.call()  # still warms up
        for number in range(repeats):
            for index in (0, 1) if number % 2 else (1, 0):
                seconds[index].append(clones[index].call())
        return *seconds, [clone.first for clone in clones], [peak_gib(clone.process.pid) for clone in clones]


class _Clone:
    """A process that takes the steps of a clone when it is told to; `first` is the seconds of the first call."""

    flag = "baseline"

    def __init__(self, path, specification):
        self.path = path
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        command = [*self._program(), json.dumps(specification)]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
            )
        except OSError as error:
            raise program.ToolError(f"--{self.flag}: {path} cannot be run: {error}") from error
        self.first = self._answer()

    def call(self):
        """The seconds of one more call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
        raise program.ToolError(f"--{self.flag}: {self.path} cannot take such a step: {''.join(last)}")

    def _program(self):
        return [sys.executable, training_steps.__file__, self.path]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class _PyTorch(_Clone):
    """The same of `pytorch_step`, by another Python."""

    flag = "pytorch"

    def _program(self):
        return [self.path, os.path.join(os.path.dirname(__file__), "pytorch_step.py")]
