"""Progress of training: a bar on a terminal, lines in a log."""

import datetime
import shutil
import sys

from absl import logging
from tqdm import tqdm


class Progress:
    """Shows steps, images/s, time left and losses: a bar on a terminal, a line for every report otherwise.

    Args:
        start: steps taken before.
        total: steps at the end.
        is_shown: whether to show anything.
    """

    def __init__(self, start, total, is_shown=True):
        self._step, self._total = start, total
        self._is_shown = is_shown
        self._start_period()
        self._terminal = sys.stderr.isatty()
        # tqdm itself shows nothing on a terminal that does not know its size.
        size = shutil.get_terminal_size()
        self._bar = tqdm(
            initial=start,
            total=total,
            unit="step",
            disable=not (self._terminal and is_shown),
            ncols=size.columns,
            nrows=size.lines,
        )

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._bar.close()

    def advance(self, num_steps, seconds, losses, num_images):
        """Counts steps that took `seconds` and `num_images` over all replicas, with their mean losses."""
        self._step += num_steps
        self._steps += num_steps
        self._seconds += seconds
        self._images += num_images
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, 0.0) + value * num_steps
            self._counts[name] = self._counts.get(name, 0) + num_steps
        shown = {"img/s": f"{num_images / seconds:.0f}"}
        shown.update({_short(name): f"{value:.2f}" for name, value in losses.items() if name.endswith("_loss")})
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(num_steps)

    def rewind(self, step):
        """Goes back to a step, and forgets the period that has begun."""
        self._step = self._bar.n = step
        self._start_period()

    def report(self):
        """Ends a period: returns its mean losses, by name, and images/s; logs them where there is no terminal."""
        # A phase may end within a period: each loss is the mean over the steps that have it.
        means = {name: value / self._counts[name] for name, value in self._losses.items()}
        speed = self._images / self._seconds
        if self._is_shown and not self._terminal:
            left = datetime.timedelta(seconds=round((self._total - self._step) * self._seconds / self._steps))
            shown = {name: value for name, value in means.items() if not name.endswith("_square")}
            losses = ", ".join(f"{_short(name)} {value:.3f}" for name, value in shown.items())
            logging.info("step %d/%d, %.0f images/s, ETA %s, %s", self._step, self._total, speed, left, losses)
        self._start_period()
        return means, speed

    def _start_period(self):
        self._seconds = self._images = self._steps = 0
        self._losses, self._counts = {}, {}


def _short(name):
    return name.replace("discriminator", "D").replace("generator", "G").replace("_loss", "")
