"""Loads an inpainting generator, and reads the pictures that it fills; `tools.inpaint` tells which it takes."""

import math
import os
from typing import NamedTuple, Union

import numpy as np

from trainers import cpu
from trainers.data import picture_files

CELL = 4  # pixels to a side of a layout's position
# Filled at once: of several images, or around a hole. With 32 base channels a million pixels take 0.8 GB, and larger
# batches are not faster.
MAX_PIXELS = 2**22
MARGIN = 64  # pixels around a hole, at least, that a generator sees of an image that it does not see whole
ALL = (slice(None), slice(None))  # rows and columns
LUMA = (0.299, 0.587, 0.114)  # what red, green and blue are worth in grey, by ITU-R 601


class InpaintError(ValueError):
    """The images cannot be filled; the message names the flag or the file."""


class Picture(NamedTuple):
    """RGB or grey uint8 (height, width, 3 or 1); alpha uint8 (height, width, 1), and a profile as bytes, or None."""

    pixels: np.ndarray
    alpha: Union[np.ndarray, None]
    profile: Union[bytes, None]

    def seen(self, background):
        """The pixels, on the background, three levels, where they are transparent."""
        if self.alpha is None:
            return self.pixels
        if self.pixels.shape[-1] == 1:
            background = [round(sum(np.multiply(background, LUMA)))]
        return picture_files.composited(self.pixels, self.alpha, background)

    def completed(self, mask, completed, window=ALL):
        """The pixels with a hole filled, uint8 as they are.

        Args:
            mask: uint8 (height, width, 1), above 0 = missing.
            completed: float32 (rows, columns, 3 or 1) in [-1, 1], of a generator that saw the window.
            window: slices of rows and columns that hold the hole; by default all.
        """
        from trainers.monitoring.pictures import to_uint8

        shown = to_uint8(completed[None])[0][..., : completed.shape[-1]]  # which is colour in any case
        pixels = self.pixels.copy()
        pixels[window] = np.where(mask[window] > 0, shown, pixels[window])
        return pixels

    def as_image(self, pixels):
        """Pixels of this picture as a Pillow image, with its alpha."""
        from PIL import Image

        bands = pixels if self.alpha is None else np.concatenate([pixels, self.alpha], axis=-1)
        return Image.fromarray(bands[..., 0] if bands.shape[-1] == 1 else bands)


def load(path, needs_layouts):
    """Loads a SavedModel.

    Args:
        path: its folder.
        needs_layouts: whether it must have layouts.

    Returns:
        A function from images uint8 (images, height, width, channels) and masks uint8 (images, height, width, 1) to a
        dictionary of float32 arrays: `completed` and, where there is one, `layout`; and the channels, 3 or 1.

    Raises:
        InpaintError: where it cannot be loaded, has no such signature, or no layout though one is needed.
    """
    cpu.choose_kernels()
    import tensorflow as tf

    if not tf.config.get_visible_devices("GPU"):
        cpu.keep_freed_memory()
    if not os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise InpaintError(f"--saved_model={path} is no SavedModel: there is no saved_model.pb in it.")
    try:
        signatures = tf.saved_model.load(path).signatures
    except (OSError, ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        raise InpaintError(f"--saved_model={path} does not load: {type(error).__name__} {error}") from error
    # Picture and layout in one pass.
    signature = signatures.get("raw")
    inputs = signature.structured_input_signature[1] if signature else {}
    if {name: spec.dtype for name, spec in inputs.items()} != {"image": tf.uint8, "mask": tf.uint8}:
        raise InpaintError(
            f"--saved_model={path} is no inpainting generator: it has no signature `raw` of image and mask, uint8. "
            "Make one with tools.convert_checkpoint, or of an inpainting run with tools.export_saved_model."
        )
    channels = inputs["image"].shape[-1]
    if channels not in (1, 3):
        raise InpaintError(
            f"--saved_model={path} must take RGB or grey images. Received: one that takes {channels} channels"
        )
    if needs_layouts and "layout" not in signature.structured_outputs:
        raise InpaintError(f"--layouts: --saved_model={path} has none; its generator has no Attentive Normalization.")

    def fill(images, masks):
        try:
            outputs = signature(image=tf.constant(images), mask=tf.constant(masks))
        except tf.errors.ResourceExhaustedError as error:
            raise InpaintError(f"The memory does not suffice for images {images.shape}.") from error
        return {name: outputs[name].numpy() for name in ("completed", "layout") if name in outputs}

    return fill, channels


def read_picture(path, channels=3):
    """Decodes an image as one sees it, to RGB or, of 1 channel, grey.

    Raises:
        InpaintError: where that cannot be done without loss.
    """
    image = decode(path)
    has_alpha = picture_files.has_alpha(image)
    mode, kept = {3: ("RGB", ("RGB", "RGBA", "P")), 1: ("L", ("L", "LA"))}[channels]
    # A profile of grey, colour or CMYK does not fit what these are converted to.
    profile = image.info.get("icc_profile") if image.mode in kept else None
    alpha = np.asarray(image.convert("RGBA"))[..., 3:] if has_alpha else None
    # Under alpha Pillow keeps the colours as they are.
    pixels = np.asarray((image.convert("RGBA") if has_alpha else image).convert(mode))
    return Picture(pixels.reshape(*pixels.shape[:2], channels), alpha, profile)


def decode(path):
    """A Pillow image, turned as EXIF says."""
    try:
        with open(path, "rb") as file:
            start = file.read(25)
        decoded = picture_files.open_upright(path)
    except Exception as error:  # Pillow's decoders raise most kinds there are
        raise InpaintError(f"{path} cannot be read as {', '.join(picture_files.formats())}: {error}") from error
    # Pillow would cut 16 bits to 8 without a word.
    if (start.startswith(b"\x89PNG") and start[24] == 16) or decoded.mode.startswith(("I", "F")):
        raise InpaintError(f"{path} must have 8 bits a channel. Received: 16 bits. Convert it first.")
    return decoded


def window_around(mask, most_pixels=None):
    """What a generator sees of a large image: as much around its hole, evenly, as may be.

    Args:
        mask: uint8 (height, width, 1), above 0 = missing somewhere.
        most_pixels: integer, of the window; None takes MAX_PIXELS.

    Returns:
        Two slices, of rows and columns: all of an image of so many pixels; or None, where the hole with MARGIN around
        it is too large.
    """
    most_pixels, sides = most_pixels or MAX_PIXELS, mask.shape[:2]
    missing = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2))]

    def grown(margin):
        return tuple(
            slice(max(places[0] - margin, 0), min(places[-1] + 1 + margin, side))
            for places, side in zip(missing, sides)
        )

    def fits(margin):
        return math.prod(part.stop - part.start for part in grown(margin)) <= most_pixels

    margins = range(MARGIN, max(MARGIN, *sides) + 1)
    # The first that is too large; bisect takes keys from Python 3.10 on alone.
    low, high = 0, len(margins)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(margins[middle]) else (low, middle)
    return grown(margins[low - 1]) if low else None


def covered(pixels, layout):
    """Pixels of which each position of a layout has CELL x CELL: the last row and column are repeated.

    Args:
        pixels: uint8 (height, width, 3 or 1).
        layout: float32 (height / CELL, width / CELL, entities), sides rounded up.
    """
    sides = [(0, CELL * cells - side) for cells, side in zip(layout.shape, pixels.shape[:2])]
    return np.pad(pixels, [*sides, (0, 0)], mode="edge")
