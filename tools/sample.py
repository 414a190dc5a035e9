"""Draws images from a SavedModel of `tools.export_saved_model`; needs neither the run nor its networks.

python -m tools.sample --output_dir=out --grid --layouts
python -m tools.sample --saved_model=runs/demo/saved_model --labels=0,3,5 --num=64 --output_dir=out

Without `--saved_model` it takes the weights that lie in `pretrained/gan_cifar10`, whose README.md says what they were
trained on.

Writes `00000_label0.png`, `00001_label3.png`, ...: `--num` images in all, the labels in turn. Image i has latent i of
`--seed`, whatever `--num` and `--batch_size` are. Beside them, where asked for:

`grid.png` (`--grid`): the first 1,024 images, a column of one label where there are enough.
`interpolation.png` (`--interpolate`): a row for each label, `--steps` images on the arc between two latents, which are
those of the label's first two images.
`00000_label0_layouts.png` (`--layouts`): image, winning entity in colours, a heat map for each entity; with `--grid`,
`layouts.png` has the rows of the images in the grid.
"""

import json
import math
import os

import numpy as np
from absl import app, flags, logging

from tools import program
from tools.exported import folders
from tools.exported.generation import SampleError, draw_latents, interpolated, load
from tools.exporting.exports import METADATA_FILE
from tools.progress import with_progress

FLAGS = flags.FLAGS

flags.DEFINE_string("saved_model", None, "Folder of the SavedModel; by default that of pretrained/gan_cifar10.")
flags.DEFINE_string("output_dir", None, "Folder to write the pictures to.", required=True)
flags.DEFINE_string(
    "labels", None, "Labels or names of classes to draw in turn, as in 0,3 or cat,coffee; all classes by default."
)
flags.DEFINE_integer("num", 64, "Images in all.")
flags.DEFINE_integer("seed", 0, "Of the latents.")
flags.DEFINE_float(
    "truncation",
    1.0,
    "1 draws latents from the normal distribution, as training does; any other value in (0, 2] from the normal "
    "distribution without what lies beyond 2, times this value: lower ones give better but fewer kinds of images.",
)
flags.DEFINE_integer("batch_size", 32, "Images computed at once.")
flags.DEFINE_bool("grid", False, "Whether to write grid.png.")
flags.DEFINE_bool("interpolate", False, "Whether to write interpolation.png.")
flags.DEFINE_integer("steps", 8, "Images in a row of interpolation.png, both ends included.")
flags.DEFINE_bool("layouts", False, "Whether to write the soft layouts of the images.")
flags.DEFINE_bool("overwrite", False, "Whether to write to a folder that is not empty; files of other names stay.")
program.define_flags()

MAX_TILES = 1024


def main(argv):
    program.run(argv, sample, SampleError, folders.FolderError)


def sample():
    """Draws and writes what the flags ask for."""
    check_numbers()
    path = FLAGS.saved_model or folders.pretrained(folders.GENERATION)
    labels = parsed_labels(FLAGS.labels, *classes_of(path))
    check_output_dir(FLAGS.output_dir, FLAGS.overwrite)
    program.take_device()
    serve, latent_dim, has_layouts = load(path, FLAGS.layouts)
    if FLAGS.layouts and not has_layouts:
        raise SampleError(f"--layouts: --saved_model={path} has none; its generator has no Attentive Normalization.")
    os.makedirs(FLAGS.output_dir, exist_ok=True)

    def latents_of(indices):
        return draw_latents(indices, latent_dim, FLAGS.seed, FLAGS.truncation)

    write_samples(serve, latents_of, labels)
    if FLAGS.interpolate:
        write_interpolation(serve, latents_of, labels)


def check_numbers():
    """Raises SampleError for a number out of its range."""
    rules = {
        "num": (FLAGS.num >= 1, "a positive integer"),
        "batch_size": (FLAGS.batch_size >= 1, "a positive integer"),
        "steps": (FLAGS.steps >= 2, "an integer above 1"),
        "seed": (-(2**63) <= FLAGS.seed < 2**63, "an integer of 64 bits"),
        "truncation": (0.0 < FLAGS.truncation <= 2.0, "in (0, 2]"),
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise SampleError(f"--{name} must be {rule}. Received: --{name}={FLAGS[name].value}")


def parsed_labels(text, num_classes, names=()):
    """The integers of `--labels`, all classes where it is None; raises SampleError for what is no class.

    A number is a label, also where a class is called by another number.
    """
    if text is None:
        return list(range(num_classes))
    labels = []
    for word in (word.strip() for word in text.split(",")):
        if word.isascii() and word.isdigit() and int(word) < num_classes:
            labels.append(int(word))
        elif word in names:
            labels.append(names.index(word))
        else:
            known = f" or names of classes, {_some(names)}," if names else ""
            raise SampleError(
                f"--labels must be integers in [0, {num_classes}){known} with commas between. Received: {word!r} in "
                f"--labels={text}"
            )
    return labels


def _some(names):
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def classes_of(path):
    """The number of classes, and their names where there are any, that `tools.export_saved_model` noted.

    Raises:
        SampleError: where the folder is missing, or is no SavedModel of that tool.
    """
    if not os.path.isdir(path):
        raise SampleError(f"--saved_model={path} is not a folder.")
    if not folders.is_saved_model(path):
        raise SampleError(f"--saved_model={path} is no SavedModel: there is no saved_model.pb in it.")
    try:
        with open(os.path.join(path, METADATA_FILE), encoding="utf-8") as file:
            metadata = dict(json.load(file))
        if metadata.get("application") != "inpainting":
            return int(metadata["num_classes"]), list(metadata.get("class_names") or ())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SampleError(
            f"--saved_model={path} has no {METADATA_FILE} that tells its number of classes. Export the run again with "
            "tools.export_saved_model."
        ) from error
    raise SampleError(f"--saved_model={path} fills holes in pictures: use tools.inpaint.")


def check_output_dir(path, overwrite):
    """Raises SampleError where a file has its place or its parent's, or the folder holds something and must not."""
    existing = os.path.abspath(path)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise SampleError(f"--output_dir={path} cannot be a folder: {existing} is a file.")
    if os.path.isdir(path) and os.listdir(path) and not overwrite:
        raise SampleError(f"--output_dir={path} is not empty. Name another folder, or add --overwrite.")


def generate(serve, latents_of, labels):
    """Computes images in batches and shows how far it is: a bar on a terminal, a line every 10 seconds otherwise.

    Args:
        serve: function of `load`.
        latents_of: function from a range of indices to their latents.
        labels: list of a label for each image.

    Yields:
        A range of indices, and the outputs for them, arrays by name.
    """
    num = len(labels)
    batches = [range(start, min(start + FLAGS.batch_size, num)) for start in range(0, num, FLAGS.batch_size)]
    for indices in with_progress(batches, "drawn"):
        yield indices, serve(latents_of(indices), labels[indices.start : indices.stop])


def write_samples(serve, latents_of, labels):
    """Writes the images, their layouts and the grids of both."""
    from trainers.monitoring.pictures import image_grid, layout_grid, to_uint8, write_png

    labels_in_turn = [labels[index % len(labels)] for index in range(FLAGS.num)]
    tiles = {"grid": [], "layouts": []}
    for indices, outputs in generate(serve, latents_of, labels_in_turn):
        pictures = {"grid": to_uint8(outputs["images"]), "layouts": []}
        if FLAGS.layouts:
            pairs = zip(outputs["images"], outputs["layouts"])
            pictures["layouts"] = [layout_grid(image[None], layout[None]) for image, layout in pairs]
        for name, suffix in (("grid", ""), ("layouts", "_layouts")):
            for index, picture in zip(indices, pictures[name]):
                write_png(_path(f"{index:05d}_label{labels_in_turn[index]}{suffix}"), picture)
                if FLAGS.grid and index < MAX_TILES:
                    tiles[name].append(picture)
    for name, columns in (("grid", num_columns(len(tiles["grid"]), len(labels))), ("layouts", 1)):
        if tiles[name]:
            write_png(_path(name), image_grid(np.stack(tiles[name]), columns))
    logging.info("Wrote %d images to %s.", FLAGS.num, FLAGS.output_dir)


def num_columns(num, num_labels):
    """Columns of a grid about as wide as high, a multiple of the labels unless the images are too few for it."""
    side = math.ceil(math.sqrt(num))
    columns = -(-side // num_labels) * num_labels
    return columns if columns <= num else side


def write_interpolation(serve, latents_of, labels):
    """Writes a row for each label: the images between its first two latents."""
    from trainers.monitoring.pictures import image_grid, to_uint8, write_png

    ends = latents_of(range(2 * len(labels)))
    pairs = zip(ends, ends[len(labels) :])
    latents = np.concatenate([interpolated(first, last, FLAGS.steps) for first, last in pairs])
    batches = generate(serve, lambda indices: latents[indices.start : indices.stop], np.repeat(labels, FLAGS.steps))
    images = np.concatenate([to_uint8(outputs["images"]) for _, outputs in batches])
    write_png(_path("interpolation"), image_grid(images, FLAGS.steps))
    logging.info("Wrote %s.", _path("interpolation"))


def _path(name):
    return os.path.join(FLAGS.output_dir, f"{name}.png")


if __name__ == "__main__":
    app.run(main)
