"""Plots of a comparison, by matplotlib, which is in the extra `plots`."""

import os

import numpy as np
from absl import logging

from trainers.comparison import grid, processes, results

FOLDER = "plots"


def draw(found, cells, output_dir):
    """Draws curves over images and over seconds, and samples side by side, as PNG files in `plots`.

    Args:
        found: what `results.gather` gives.
        cells: list of `grid.Cell`.
        output_dir: folder of the comparison.

    Returns:
        Paths of the files, none where matplotlib is not there.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        logging.warning("Without plots: they need matplotlib, pip install '.[plots]'")
        return []
    os.makedirs(os.path.join(output_dir, FOLDER), exist_ok=True)
    paths = []
    for group in (grid.MAIN, grid.ABLATIONS):
        names = [name for name, arm in found["arms"].items() if arm["group"] == group]
        for score in results.SCORES:
            for axis in ("images", "seconds"):
                figure = _curves(pyplot, found, names, score, axis)
                if figure:
                    paths.append(_save(pyplot, figure, output_dir, f"{group}_{score}_over_{axis}.png"))
        figure = _samples(pyplot, [cell for cell in cells if cell.arm.group == group], output_dir)
        if figure:
            paths.append(_save(pyplot, figure, output_dir, f"{group}_samples.png"))
    return paths


def band(curves, score, axis):
    """Places, means and deviations over seeds of a score.

    Args:
        curves: lists of points of cells of one arm.
        score: name.
        axis: "images" or "seconds"; of the latter, which differ between seeds, the means.

    Returns:
        Three float arrays `(evaluations,)`; a deviation is 0 where there is one seed.
    """
    points = {}
    for curve in curves:
        for point in curve:
            if score in point and axis in point:
                points.setdefault(point["step"], []).append((point[axis], point[score]))
    rows = [(*np.mean(these, axis=0), np.std([v for _, v in these], ddof=len(these) > 1)) for these in points.values()]
    return np.array([rows[i] for i in np.argsort(list(points))]).reshape(-1, 3).T


def _curves(pyplot, found, names, score, axis):
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in names:
        places, means, deviations = band([c["curve"] for c in found["cells"] if c["arm"] == name], score, axis)
        if len(places):
            (line,) = axes.plot(places, means, marker="o", markersize=3, label=name)
            axes.fill_between(places, means - deviations, means + deviations, color=line.get_color(), alpha=0.2)
    if not axes.lines:
        pyplot.close(figure)
        return None
    for floor in results.FLOORS:
        if floor.startswith(score) and floor in found["floors"]:
            axes.axhline(found["floors"][floor], color="black", linestyle=":", linewidth=1, label=floor)
    axes.set_xlabel({"images": f"{found['seen']} seen", "seconds": "seconds of training"}[axis])
    axes.set_ylabel(score)
    if score.endswith("frechet_distance"):  # of orders of magnitude between beginning and end
        axes.set_yscale("log")
    axes.set_title("mean over seeds, band: one standard deviation", fontsize=9)
    axes.legend(fontsize=7)
    return figure


def _samples(pyplot, cells, output_dir):
    """The samples of the first seed of each arm, side by side."""
    pictures = {}
    for cell in cells:
        path = os.path.join(processes.model_dir_of(output_dir, cell), "samples.png")
        if cell.arm.name not in pictures and os.path.exists(path):
            pictures[cell.arm.name] = cell.seed, pyplot.imread(path)
    if not pictures:
        return None
    columns = min(len(pictures), 3)
    rows = -(-len(pictures) // columns)
    height = max(picture.shape[0] / picture.shape[1] for _, picture in pictures.values())
    size = 4.5 * columns, (4.5 * height + 0.4) * rows
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, (name, (seed, picture)) in zip(axes.flat, pictures.items()):
        place.imshow(picture)
        place.set_title(f"{name}, seed {seed}", fontsize=9)
    return figure


def _save(pyplot, figure, output_dir, name):
    path = os.path.join(output_dir, FOLDER, name)
    figure.tight_layout()
    figure.savefig(path + ".partial", dpi=110, format="png")
    pyplot.close(figure)
    os.replace(path + ".partial", path)
    return path
