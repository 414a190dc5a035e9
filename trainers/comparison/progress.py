"""Progress of a grid: a bar on a terminal, a line a period in a log."""

import datetime
import shutil
import sys
import time

from absl import logging
from tqdm import tqdm

from trainers.comparison import processes


class GridProgress:
    """Shows real images over all cells, what runs, and the time left.

    Args:
        cells: list of `grid.Cell`.
        records: `processes.Records`.
        jobs: processes at a time.
        log_seconds: between lines of a log.
    """

    def __init__(self, cells, records, jobs, log_seconds):
        self._cells, self._records, self._jobs, self._log_seconds = cells, records, jobs, log_seconds
        self._told = self._told_line = time.monotonic()
        self._first_steps = {}  # of running cells, by name
        self._rates = {}  # seconds and images of this start, by arm
        self._terminal = sys.stderr.isatty()
        size = shutil.get_terminal_size()
        total = sum(_images(cell) for cell in cells)
        self._bar = tqdm(
            total=total,
            unit="image",
            unit_scale=True,
            disable=not self._terminal,
            ncols=size.columns,
            nrows=size.lines,
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} images {postfix}",
        )

    def show(self, running):
        """Shows where the grid is; `running`: pairs of `grid.Cell` and `processes.Process`."""
        steps = {cell.name: processes.steps_in_log(process.log) for cell, process in running}
        for name, step in steps.items():
            self._first_steps.setdefault(name, step)
        is_time = time.monotonic() - self._told >= self._log_seconds
        if not (self._terminal or is_time):
            return
        self._told = time.monotonic()
        done = [cell for cell in self._cells if self._records.is_done(cell)]
        images = sum(_images(cell) for cell in done)
        images += sum(steps[cell.name] * cell.images_per_step for cell, _ in running)
        left = self.seconds_left(running, steps)
        eta = "unknown" if left is None else datetime.timedelta(seconds=round(left))
        now = ", ".join(f"{cell.name} {100 * steps[cell.name] / cell.train_steps:.0f} %" for cell, _ in running)
        text = f"{len(done)}/{len(self._cells)} cells, ETA {eta}, now: {now or 'nothing'}"
        self._bar.n = images
        self._bar.set_postfix_str(text)
        if not self._terminal:
            logging.info("%.1f %% of the images, %s", 100.0 * images / self._bar_total, text)

    @property
    def _bar_total(self):
        return max(sum(_images(cell) for cell in self._cells), 1)

    def show_line(self, line):
        """Passes on what the classifier's training says; `line` is a function, called once a period."""
        if not self._terminal and time.monotonic() - self._told_line >= self._log_seconds:
            self._told_line = time.monotonic()
            logging.info("%s", line())

    def end(self, cell, process):
        """Notes how fast the cell of an ended process was."""
        images = self._images_since(cell, processes.steps_in_log(process.log))
        seconds, before = self._rates.get(cell.arm.name, (0.0, 0))
        if images:
            self._rates[cell.arm.name] = seconds + process.seconds, before + images
        self._first_steps.pop(cell.name, None)

    def seconds_left(self, running, steps):
        """An estimate from the speed of each arm in this start, of other arms where it has none; None without any."""
        rates = dict(self._rates)
        for cell, process in running:
            images = self._images_since(cell, steps[cell.name])
            if images:
                seconds, before = rates.get(cell.arm.name, (0.0, 0))
                rates[cell.arm.name] = seconds + process.seconds, before + images
        if not rates:
            return None
        mean = sum(seconds for seconds, _ in rates.values()) / sum(images for _, images in rates.values())
        left = 0.0
        for cell in self._cells:
            if not self._records.is_done(cell):
                seconds, images = rates.get(cell.arm.name, (mean, 1))
                left += (cell.train_steps - steps.get(cell.name, 0)) * cell.images_per_step * seconds / images
        return left / self._jobs

    def close(self):
        self._bar.close()

    def _images_since(self, cell, step):
        return (step - self._first_steps.get(cell.name, step)) * cell.images_per_step


def _images(cell):
    return cell.train_steps * cell.images_per_step
