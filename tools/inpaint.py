"""Fills the holes of pictures with a SavedModel of `tools.convert_checkpoint` or of `tools.export_saved_model`.

python -m tools.inpaint --image=photo.jpg --mask=mask.png --output_dir=out
python -m tools.inpaint --saved_model=converted/saved_model --image=photos --mask=masks --output_dir=out --layouts
python -m tools.inpaint --saved_model=converted/saved_model --image=photos --mask=rect:64,64,128,128 --output_dir=out

Without `--saved_model` it takes the weights that lie in `pretrained/inpainting_photos`, whose README.md says what they
were trained on.

Writes `photo.png` for `photo.jpg`, and with `--layouts` `photo_layout.png`: the result, the winning entity in colours,
a heat map for each entity. Of an image above 4 megapixels the generator sees so much around the hole, and the layout is
of that; it sees all where the hole is too large. All images and masks are read and checked before the first is filled.

Images: of the kinds that the trainers read, of any size, 8 bits a channel; of a folder, its own files, not those of
folders below. They are processed as RGB, to which grey images, palettes and CMYK are converted, and written as RGB: its
known pixels come back bit for bit. A generator of grey images takes and writes grey ones, to which colour is converted.
The generator sees a transparent image on `--background`, as in training; its alpha is put back unchanged, and an image
that is not converted keeps its colour profile. A turn or flip that EXIF notes is carried out first, so that image and
mask are as one sees them; other notes are dropped. Of an animation, the first frame is taken.

Masks: white is missing, that is grey of 128 and above, or with `--invert_mask` below; alpha is ignored. A mask has the
size of its image. One file is the mask of all images; in a folder, the mask of `photo.jpg` is the file of the same
stem, as `photo.png`.
`rect:TOP,LEFT,HEIGHT,WIDTH` is a hole in all images, in pixels.
"""

import collections
import os
import time
from typing import NamedTuple, Union

import numpy as np
from absl import app, flags, logging

from tools import program
from tools.exported import folders, inpainting
from tools.exported.inpainting import InpaintError
from tools.progress import with_progress
from trainers.data import picture_files

FLAGS = flags.FLAGS

flags.DEFINE_string("saved_model", None, "Folder of the SavedModel; by default that of pretrained/inpainting_photos.")
flags.DEFINE_string("image", None, "Image, or a folder of images.", required=True)
flags.DEFINE_string("mask", None, "Mask, a folder of masks, or rect:TOP,LEFT,HEIGHT,WIDTH.", required=True)
flags.DEFINE_string("output_dir", None, "Folder to write the pictures to.", required=True)
flags.DEFINE_bool("invert_mask", False, "Whether black is missing in masks, and white known.")
flags.DEFINE_list("background", ["255"] * 3, "Red, green and blue under transparent images, from 0 to 255.")
flags.DEFINE_bool("layouts", False, "Whether to write the soft layouts of the images.")
flags.DEFINE_integer("batch_size", 8, "Images of one size filled at once; fewer where they are large.")
flags.DEFINE_bool("overwrite", False, "Whether to write over files that are there.")
program.define_flags()

THRESHOLD = 128  # grey levels from here on are missing
MAX_SIDE = 1024  # of an image that is shown beside its layout at full size
_SHOWN = 8


class Rectangle(NamedTuple):
    top: int
    left: int
    height: int
    width: int


class Job(NamedTuple):
    """One image to fill: its path, the path of its mask or a rectangle, and whether white is known in the mask."""

    image: str
    mask: Union[str, Rectangle]
    is_inverted: bool = False

    def output(self, suffix=""):
        return os.path.join(FLAGS.output_dir, f"{_stem(self.image)}{suffix}.png")


def main(argv):
    program.run(argv, inpaint, InpaintError, folders.FolderError)


def inpaint():
    """Fills what the flags name."""
    if FLAGS.batch_size < 1:
        raise InpaintError(f"--batch_size must be a positive integer. Received: --batch_size={FLAGS.batch_size}")
    if len(FLAGS.background) != 3 or not all(is_level(word) for word in FLAGS.background):
        raise InpaintError(
            f"--background must be three levels from 0 to 255. Received: --background={','.join(FLAGS.background)}"
        )
    jobs = find_jobs(FLAGS.image, FLAGS.mask)
    check_outputs(jobs)
    program.take_device()
    fill, channels = inpainting.load(FLAGS.saved_model or folders.pretrained(folders.INPAINTING), FLAGS.layouts)
    batches = checked_batches(jobs, FLAGS.batch_size, channels)
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    write_all(fill, batches, channels)


def is_level(word):
    """Whether a word is a level of red, green or blue."""
    return word.isascii() and word.isdigit() and int(word) <= 255


def find_jobs(image, mask):
    """Pairs each image with its mask.

    Args:
        image: value of `--image`.
        mask: value of `--mask`.

    Returns:
        A list of `Job`.

    Raises:
        InpaintError: where there are no images, or one has no mask or two.
    """
    images = files_of("image", image) if os.path.isdir(image) else [image]
    if mask.startswith("rect:"):
        return [Job(path, parsed_rectangle(mask)) for path in images]
    if not os.path.isdir(mask):
        return [Job(path, mask, FLAGS.invert_mask) for path in images]
    masks = collections.defaultdict(list)
    for path in files_of("mask", mask):
        masks[_stem(path)].append(path)
    missing = [path for path in images if not masks[_stem(path)]]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise InpaintError(
            f"--mask={mask} must hold a file of each image's stem. It has none for {len(missing)} of {len(images)} "
            f"images: {', '.join(missing[:_SHOWN])}{more}."
        )
    for path in images:
        if len(masks[_stem(path)]) > 1:
            raise InpaintError(f"--mask={mask} must hold one mask of each stem. Received: {masks[_stem(path)]}")
    return [Job(path, masks[_stem(path)][0], FLAGS.invert_mask) for path in images]


def files_of(flag, folder):
    """The pictures in a folder, sorted; raises InpaintError where there are none."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    paths = picture_files.chosen(folder, [path for path in paths if os.path.isfile(path)])
    if not paths:
        known = ", ".join(picture_files.endings())
        raise InpaintError(f"--{flag}={folder} must hold files that end in {known}. It holds none.")
    return paths


def parsed_rectangle(text):
    """The `Rectangle` of `rect:TOP,LEFT,HEIGHT,WIDTH`."""
    words = [word.strip() for word in text[len("rect:") :].split(",")]
    if len(words) != 4 or not all(word.isascii() and word.isdigit() for word in words) or not all(map(int, words[2:])):
        raise InpaintError(
            "--mask must be rect:TOP,LEFT,HEIGHT,WIDTH in whole numbers, the last two positive. Received: "
            f"--mask={text}"
        )
    return Rectangle(*map(int, words))


def check_outputs(jobs):
    """Raises InpaintError where two pictures would have one name, or a file that is there would be lost."""
    inputs = {os.path.realpath(path) for job in jobs for path in job if isinstance(path, str)}
    written = {}
    for job in jobs:
        for path in [job.output(), job.output("_layout")] if FLAGS.layouts else [job.output()]:
            if path in written:
                raise InpaintError(f"{written[path]} and {job.image} would both become {path}. Rename one.")
            written[path] = job.image
            if os.path.realpath(path) in inputs:
                raise InpaintError(f"--output_dir={FLAGS.output_dir} would lose an input: {path}. Name another folder.")
            if os.path.lexists(path) and not FLAGS.overwrite:
                raise InpaintError(f"{path} is there already. Name another --output_dir, or add --overwrite.")


def checked_batches(jobs, batch_size, channels=3):
    """Reads and checks all images and masks, and puts those of one size together.

    Args:
        jobs: list of `Job`.
        batch_size: largest number of images in a batch; of large images there are fewer.
        channels: 3 or 1, of the images that the generator takes.

    Returns:
        A list of lists of `Job`.

    Raises:
        InpaintError: for the first that cannot be used.
    """
    sizes = collections.defaultdict(list)
    for (job,) in with_progress([[job] for job in jobs], "checked"):
        picture = inpainting.read_picture(job.image, channels)
        read_mask(job, picture)
        sizes[picture.pixels.shape[:2]].append(job)
    batches = []
    for (height, width), same in sizes.items():
        step = max(min(batch_size, inpainting.MAX_PIXELS // (height * width)), 1)
        batches += [same[start : start + step] for start in range(0, len(same), step)]
    return batches


def read_mask(job, picture):
    """The mask of a picture, uint8 (height, width, 1), 1 = missing.

    Raises:
        InpaintError: where it cannot be decoded, has another size, or hides nothing or everything.
    """
    height, width = picture.pixels.shape[:2]
    if isinstance(job.mask, Rectangle):
        name = "--mask=rect:" + ",".join(map(str, job.mask))
        bottom, right = job.mask.top + job.mask.height, job.mask.left + job.mask.width
        if bottom > height or right > width:
            raise InpaintError(
                f"{name} must lie inside each image: it ends at row {bottom} and column {right}, and {job.image} has "
                f"{height} rows and {width} columns."
            )
        grey, bright = np.zeros((height, width), np.uint8), "missing"
        grey[job.mask.top : bottom, job.mask.left : right] = 255
    else:
        name, grey = job.mask, np.asarray(inpainting.decode(job.mask).convert("RGB").convert("L"))
        bright = "known" if job.is_inverted else "missing"
        if grey.shape != (height, width):
            raise InpaintError(
                f"A mask must have the size of its image. Received: {name} of {grey.shape[1]} x {grey.shape[0]}, "
                f"{job.image} of {width} x {height}"
            )
    mask = ((grey >= THRESHOLD) == (bright == "missing")).astype(np.uint8)[..., None]
    if mask.all() or not mask.any():
        raise InpaintError(
            f"{name} hides {'everything' if mask.all() else 'nothing'} of {job.image}: its grey levels are "
            f"{grey.min()} to {grey.max()}, and {THRESHOLD} and above is {bright}. Is it inverted? --invert_mask turns "
            "it round."
        )
    return mask


def write_all(fill, batches, channels):
    """Fills and writes all images; says in the end how long it took."""
    start, pixels, background = time.perf_counter(), 0, [int(level) for level in FLAGS.background]
    for batch in with_progress(batches, "filled"):
        pictures = [inpainting.read_picture(job.image, channels) for job in batch]
        masks = np.stack([read_mask(job, picture) for job, picture in zip(batch, pictures)])
        # A large image is a batch of its own.
        window = (len(batch) == 1 and inpainting.window_around(masks[0])) or inpainting.ALL
        seen = np.stack([picture.seen(background)[window] for picture in pictures])
        outputs = fill(seen, np.stack([mask[window] for mask in masks]))
        for i, (job, picture) in enumerate(zip(batch, pictures)):
            completed = write_completed(job.output(), picture, masks[i], outputs["completed"][i], window)
            if FLAGS.layouts:
                write_layout(job.output("_layout"), completed[window], outputs["layout"][i])
        pixels += masks.size
    seconds, count = time.perf_counter() - start, sum(map(len, batches))
    text = "Wrote %d images to %s in %.1f seconds, %.2f megapixels/s."
    logging.info(text, count, FLAGS.output_dir, seconds, pixels / 1e6 / seconds)


def write_completed(path, picture, mask, completed, window=inpainting.ALL):
    """Writes a result, whole or not at all, and returns it without alpha, uint8 (height, width, 3 or 1)."""
    pixels = picture.completed(mask, completed, window)
    picture.as_image(pixels).save(path + ".partial", format="PNG", icc_profile=picture.profile)
    os.replace(path + ".partial", path)
    return pixels


def write_layout(path, pixels, layout):
    """Writes result, winning entity and heat maps side by side; large ones at the layout's own size.

    Args:
        path: of the PNG file.
        pixels: uint8 (height, width, 3 or 1).
        layout: float32 (height / 4, width / 4, entities), sides rounded up.
    """
    from trainers.monitoring.pictures import layout_grid, write_png

    height, width = layout.shape[:2]
    image = inpainting.covered(pixels, layout) / 127.5 - 1.0
    if max(image.shape) > MAX_SIDE:
        image = image.reshape(height, inpainting.CELL, width, inpainting.CELL, -1).mean(axis=(1, 3))
    write_png(path, layout_grid(image[None], layout[None]))


def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]


if __name__ == "__main__":
    app.run(main)
