"""How far a tool is."""

import shutil
import sys

from absl import logging


def with_progress(batches, done):
    """Yields lists of images and shows how many are `done`: a bar on a terminal, a line every 10 seconds otherwise."""
    from tqdm import tqdm

    total, count, on_terminal = sum(map(len, batches)), 0, sys.stderr.isatty()
    size = shutil.get_terminal_size()  # tqdm itself shows nothing on a terminal that does not know its size
    shape = {"ncols": size.columns, "nrows": size.lines}
    with tqdm(total=total, desc=done, unit="image", disable=not on_terminal, **shape) as progress:
        for batch in batches:
            yield batch
            count += len(batch)
            progress.update(len(batch))
            if not on_terminal:
                logging.log_every_n_seconds(logging.INFO, "%d/%d images %s", 10, count, total, done)
