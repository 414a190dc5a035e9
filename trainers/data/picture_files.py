"""Which files are pictures, and how one is decoded as people see it: upright, without what transparency hides."""

import io
import os
import stat

import numpy as np
from absl import logging

# What is read, by Pillow's names, and the endings of such files. Any ending may hold any kind.
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
# First bytes of files of other endings that are pictures all the same. TIFF is not among them: the raw files of cameras
# begin alike, and would give their thumbnails.
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ")
# Where one of these stands, a PNG or JPEG may be transparent, or not upright.
_MARKS = (b"tRNS", b"eXIf", b"Exif\0\0", b"Raw profile type exif", b"tiff:Orientation")
_LFS = b"version https://git-lfs.github.com/spec/"
_SHOWN = 8


def formats():
    """What is read here, by Pillow's names: AVIF needs Pillow 11.3."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _ENDINGS if name in Image.OPEN)


def endings():
    """The endings of files that are read whatever they begin with."""
    return tuple(ending for name in formats() for ending in _ENDINGS[name])


def chosen(folder, paths):
    """The pictures among files, by ending or else by first bytes; the others are counted and named in the log.

    Args:
        folder: where they are from, for the log.
        paths: of files.

    Returns:
        Those that are pictures, in their order.
    """
    known = endings()
    pictures = [path for path in paths if path.lower().endswith(known) or _begins_as_picture(path)]
    if len(pictures) < len(paths):
        others = sorted({*paths} - {*pictures})
        logging.warning(
            "Left out of %s: %d of %d files, no pictures of a kind that is read here (%s): %s.",
            folder,
            len(others),
            len(paths),
            ", ".join(formats()),
            _some([os.path.relpath(path, folder) for path in others]),
        )
    return pictures


def shown(name):
    """The name of a file in a line of text: bytes that are not UTF-8, and what does not print, are escaped.

    Args:
        name: bytes, or a string as the system gives it.
    """
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _some(names):
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more


def _begins_as_picture(path):
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for without end
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:  # no right, or a link to nowhere: counted with the others
        return False
    in_box = start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis") and "AVIF" in formats()
    in_riff = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_bmp = start[:2] == b"BM" and start[6:10] == b"\0\0\0\0"
    return start.startswith(_STARTS) or in_box or in_riff or is_bmp


def fault(path):
    """What is wrong with a picture that cannot be decoded, as the end of a sentence.

    Args:
        path: of its file, bytes; of anything else than a file, nothing more is known.

    Returns:
        string.
    """
    from PIL import Image

    reason = ""
    try:
        with open(path, "rb") as file:
            start = file.read(len(_LFS))
            reason = ": it is empty" if not start else reason
            reason = ": it is a pointer of Git LFS, which has not fetched the picture" if start == _LFS else reason
            file.seek(0)
            Image.open(file, formats=formats())
    except Image.DecompressionBombError:
        reason = f": it has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
    except Exception:  # Pillow's, of most kinds; and those of files
        pass
    return f"cannot be read and decoded as {', '.join(formats())}{reason}"


def is_plain(encoded):
    """Whether the bytes are a PNG or JPEG that is neither transparent nor turned: one that TensorFlow decodes alike."""
    if encoded.startswith(b"\x89PNG"):
        is_opaque = encoded[25:26] in (b"\0", b"\2", b"\3")  # its type of colour: grey, RGB, palette
    else:
        is_opaque = encoded.startswith(b"\xff\xd8\xff")
    return is_opaque and not any(mark in encoded for mark in _MARKS)


def open_upright(file):
    """Decodes the first frame with Pillow, and turns and flips it as EXIF says.

    Args:
        file: a path, or an open file.

    Returns:
        A Pillow image. Raises what Pillow's decoders raise, which is of most kinds there are.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=formats()) as image:
        image.load()
        try:
            return ImageOps.exif_transpose(image)
        except Exception:  # the notes are broken; the picture is not
            return image.copy()


def has_alpha(image):
    """Whether a Pillow image has an alpha channel or a transparent colour."""
    return bool({"A", "a"} & {*image.getbands()}) or "transparency" in image.info


def composited(pixels, alpha, background):
    """Lays a picture on a flat background.

    Args:
        pixels: uint8 `(height, width, 3)`.
        alpha: uint8 `(height, width, 1)`.
        background: three levels in [0, 255].

    Returns:
        uint8 `(height, width, 3)`, the nearest levels.
    """
    alpha = alpha.astype(np.int32)
    return ((pixels * alpha + np.asarray(background) * (255 - alpha) + 127) // 255).astype(np.uint8)


def decode(encoded, background):
    """Decodes a picture with Pillow.

    Args:
        encoded: bytes.
        background: three levels in [0, 255] on which a transparent picture is laid; without any, alpha is ignored.

    Returns:
        uint8 `(height, width, 3)`; of 16 bits the upper 8.

    Raises:
        ValueError: where the values have no known range; and what Pillow raises.
    """
    image = open_upright(io.BytesIO(encoded))
    if image.mode.startswith(("I", "F")):
        levels = np.asarray(image)
        if image.mode == "F" or levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"A picture must have 8 or 16 bits a channel. Received: {image.mode}")
        return np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if len(background) == 0 or not has_alpha(image):
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA"))
    return composited(pixels[..., :3], pixels[..., 3:], background)
