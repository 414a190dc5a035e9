"""Pictures as people see them: kinds, turns and transparency, in the trainers' decoding of bytes."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from trainers.configs.schema import DataConfig
from trainers.data import image_batches, input_pipelines, picture_files

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (6, 9, 1), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def decoded(data, *background):
    return image_batches.decode_image(tf.constant(data), *background).numpy()


def on(background, colour=COLOUR, alpha=ALPHA):
    """Composited in float64."""
    share = alpha / 255.0
    return colour * share + np.asarray(background, np.float64) * (1.0 - share)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparent_pictures_lie_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    data = encoded(np.dstack([COLOUR, ALPHA]), kind, **options)
    bands = np.asarray(Image.open(io.BytesIO(data)))  # AVIF loses a little
    seen = on([255, 255, 255], bands[..., :3], bands[..., 3:])
    np.testing.assert_allclose(decoded(data), seen, atol=0.51)


def test_background_is_the_one_that_is_set_and_none_ignores_alpha():
    data = encoded(np.dstack([COLOUR, ALPHA]))
    np.testing.assert_allclose(decoded(data, [10, 20, 200]), on([10, 20, 200]), atol=0.51)
    np.testing.assert_array_equal(decoded(data, []), COLOUR)


@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "L", "GIF"])
def test_every_kind_of_transparency_lies_on_white(mode):
    if mode == "LA":
        data = encoded(np.dstack([COLOUR[..., 0], ALPHA[..., 0]]))
        expected = on([255], COLOUR[..., :1])
    else:
        levels = np.full((6, 9), 90, np.uint8)
        levels[:3] = 0
        image = Image.fromarray(levels)
        image = image.convert({"P": "RGB", "GIF": "RGB"}.get(mode, mode))
        if mode in ("P", "GIF"):
            image = image.quantize(4)
        hidden = {"RGB": (0, 0, 0), "L": 0}.get(mode, int(np.asarray(image)[0, 0].flat[0]))
        data = encoded(image, "GIF" if mode == "GIF" else "PNG", transparency=hidden)
        expected = np.where(levels == 0, 255, 90)[..., None]
    np.testing.assert_allclose(decoded(data), np.broadcast_to(expected, (6, 9, 3)), atol=0.51)


TURNS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turns_of_exif_are_carried_out(kind):
    stored = Image.fromarray(np.kron(COLOUR[:3, :4] // 128 * 200, np.ones((16, 16, 1), np.uint8)))
    for orientation, turn in enumerate([None, *TURNS], start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        seen = np.asarray(stored.transpose(getattr(Image.Transpose, turn)) if turn else stored)
        options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        found = decoded(encoded(stored, kind, exif=exif, **options))
        assert found.shape == seen.shape, orientation
        np.testing.assert_allclose(found, seen, atol=12, err_msg=str(orientation))


def test_picture_with_broken_notes_is_read_as_it_lies():
    data = encoded(COLOUR, "JPEG", quality=100, exif=b"Exif\0\0no notes at all")
    assert decoded(data).shape == COLOUR.shape


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_other_kinds_are_read_as_pillow_reads_them(kind):
    data = encoded(Image.fromarray(COLOUR).quantize(8) if kind in ("BMP", "GIF") else COLOUR, kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decoded(data), expected)


def test_sixteen_bits_become_the_upper_eight():
    levels = RANDOM.integers(0, 65536, (6, 9)).astype(np.uint16)
    expected = np.repeat((levels >> 8)[..., None], 3, axis=-1)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_allclose(decoded(encoded(levels, kind)), expected, atol=1)


def test_values_without_a_known_range_are_refused():
    data = encoded(np.ones((4, 4), np.float32), "TIFF")
    with pytest.raises(ValueError, match="8 or 16 bits a channel. Received: F"):
        picture_files.decode(data, [])
    assert decoded(data).shape == (0, 0, 3)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", ": it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n", ": it is a pointer of Git LFS, which"),
        (b"<html>404</html>", ""),
        (None, ": it has more than 178,956,970 pixels; make it smaller"),
    ],
)
def test_error_says_what_is_wrong_where_it_can_be_seen(tmp_path, content, reason):
    path = tmp_path / "one.png"
    path.write_bytes(content or b"")
    if content is None:
        Image.new("L", (1, 1)).save(path)
        header = struct.pack(">II", 15000, 14000)
        content = bytearray(path.read_bytes())
        content[16:24] = header
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
    with pytest.raises(ValueError, match="PPM" + re.escape(reason) + (r"\." if not reason else "")):
        input_pipelines.load_arrays(DataConfig("folder", path=str(tmp_path), split="."), 4)


def test_what_is_wrong_with_a_record_is_not_known():
    assert picture_files.fault(b"record 3 of train-0").endswith("PPM")
