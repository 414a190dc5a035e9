"""Inpainting of files: known pixels come back bit for bit; what does not fit is refused before anything is written.

The file is long because all tests share one exported generator.
"""

import functools
import logging
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms

from gan_test_case import call_main, contents
from inpainting_test_case import write_generator
from tools.exported import folders as exported_folders

ENTITIES = 3
GAP = 2
HOLE = (slice(4, 20), slice(6, 25))


# Most of the tool's time in a test.
load_once = functools.lru_cache(tf.saved_model.load)


@pytest.fixture(autouse=True)
def _loads_each_saved_model_once(monkeypatch):
    monkeypatch.setattr(tf.saved_model, "load", load_once)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator") / "saved_model")


@pytest.fixture(scope="module")
def raw(generator):
    return load_once(str(generator)).signatures["raw"]


def pixels(height=32, width=40, channels=3, seed=0):
    """A random picture, uint8; grey without a last axis."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def hole(height=32, width=40, place=HOLE):
    """A mask, uint8, 255 = missing."""
    mask = np.zeros((height, width), np.uint8)
    mask[place] = 255
    return mask


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def photo(tmp_path):
    return write(tmp_path / "photo.png", pixels())


@pytest.fixture
def mask(tmp_path):
    return write(tmp_path / "mask.png", hole())


def inpaint(saved_model, image, mask, output_dir, **flag_values):
    """Runs the tool and returns its pictures by name."""
    call_main(
        "tools.inpaint", saved_model=str(saved_model), image=image, mask=mask, output_dir=output_dir, **flag_values
    )
    return {path.name: np.asarray(Image.open(path)) for path in sorted(pathlib.Path(output_dir).iterdir())}


def refusal(caplog, *args, **flag_values):
    """What the tool says where it ends with 2."""
    with pytest.raises(SystemExit) as caught:
        inpaint(*args, **flag_values)
    assert caught.value.code == 2
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "\n" not in message
    return message


def expected_of(raw, image, mask):
    """What the SavedModel says of one picture, in levels."""
    outputs = raw(image=image[None], mask=mask[None, ..., None])
    return np.where(mask[..., None] > 0, outputs["fine"].numpy()[0] * 127.5 + 127.5, image)


def check_completed(found, raw, image, mask):
    """Known pixels are the image's, and those of the hole what the SavedModel says, but for rounding."""
    assert found.dtype == np.uint8 and found.shape == image.shape
    np.testing.assert_array_equal(found[mask == 0], image[mask == 0])
    expected = expected_of(raw, image, mask)
    np.testing.assert_allclose(found, expected, atol=0.52)
    assert np.abs(expected - image)[mask > 0].max() > 8


@pytest.mark.parametrize("height, width", [(32, 40), (33, 41), (27, 70), (5, 7), (1, 3)])
def test_any_size_comes_back_with_its_known_pixels(generator, raw, tmp_path, height, width):
    image = pixels(height, width)
    mask = hole(height, width, (slice(0, height), slice(width // 2, width)))
    found = inpaint(generator, write(tmp_path / "a.png", image), write(tmp_path / "m.png", mask), tmp_path / "out")
    assert list(found) == ["a.png"]
    check_completed(found["a.png"], raw, image, mask)


@pytest.mark.parametrize("extension", ["jpg", "JPEG", "webp", "png", "bmp", "tif", "avif", "jfif", "ppm"])
def test_kinds_of_files(generator, raw, mask, tmp_path, extension):
    path = write(tmp_path / f"photo.x.{extension}", pixels())
    found = inpaint(generator, path, mask, tmp_path / "out")
    assert list(found) == ["photo.x.png"]
    check_completed(found["photo.x.png"], raw, np.asarray(Image.open(path)), hole())


def test_grey_is_filled_as_colour(generator, raw, mask, tmp_path):
    grey = pixels(channels=1)
    found = inpaint(generator, write(tmp_path / "a.png", grey), mask, tmp_path / "out")
    check_completed(found["a.png"], raw, np.stack([grey] * 3, axis=-1), hole())


def test_palette_is_filled_as_colour(generator, raw, mask, tmp_path):
    Image.fromarray(pixels()).quantize(16).save(tmp_path / "a.png")
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    found = inpaint(generator, tmp_path / "a.png", mask, tmp_path / "out")
    check_completed(found["a.png"], raw, image, hole())


@pytest.mark.parametrize("kind", ["rgba", "grey", "transparent colour"])
def test_alpha_is_put_back_unchanged(generator, raw, mask, tmp_path, kind):
    image, alpha = pixels(), pixels(channels=1, seed=1)
    if kind == "rgba":
        write(tmp_path / "a.png", np.dstack([image, alpha]))
    elif kind == "grey":
        image = np.stack([image[..., 0]] * 3, axis=-1)
        Image.merge("LA", [Image.fromarray(image[..., 0]), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    else:
        image[:5], alpha[:] = (1, 2, 3), 255
        alpha[:5] = 0
        write(tmp_path / "a.png", image, transparency=(1, 2, 3))
    for name, background in (("white", [255, 255, 255]), ("blue", [0, 10, 250])):
        settings = {"background": ",".join(map(str, background))} if name == "blue" else {}
        found = inpaint(generator, tmp_path / "a.png", mask, tmp_path / name, **settings)["a.png"]
        np.testing.assert_array_equal(found[..., 3], alpha)
        known = hole() == 0
        np.testing.assert_array_equal(found[known, :3], image[known])
        share = alpha[..., None] / 255.0
        seen = np.round(image * share + np.float64(background) * (1.0 - share)).astype(np.uint8)
        check_completed(np.where(known[..., None], seen, found[..., :3]), raw, seen, hole())


def test_turns_of_exif_are_carried_out_before_the_masks_are_applied(generator, raw, tmp_path):
    seen = {}
    turns = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE"]
    for orientation, turn in enumerate([*turns, "ROTATE_90"], start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010E] = "a description"
        stored = Image.fromarray(pixels(24, 36, seed=orientation))
        name = f"{orientation}.png"
        (tmp_path / "images").mkdir(exist_ok=True)
        stored.save(tmp_path / "images" / name, exif=exif)
        seen[name] = np.asarray(stored.transpose(getattr(Image.Transpose, turn)) if turn else stored)
        write(tmp_path / "masks" / name, hole(*seen[name].shape[:2]))
    found = inpaint(generator, tmp_path / "images", tmp_path / "masks", tmp_path / "out")
    assert set(found) == set(seen)
    for name, image in seen.items():
        check_completed(found[name], raw, image, hole(*image.shape[:2]))
        assert not Image.open(tmp_path / "out" / name).getexif()


@pytest.mark.parametrize("mode, kept", [("RGB", True), ("L", False)])
def test_colour_profile_stays_where_it_fits(generator, mask, tmp_path, mode, kept):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels()).convert(mode).save(tmp_path / "a.png", icc_profile=profile)
    inpaint(generator, tmp_path / "a.png", mask, tmp_path / "out")
    assert Image.open(tmp_path / "out" / "a.png").info.get("icc_profile") == (profile if kept else None)


def test_inverted_masks_are_turned_round_but_no_rectangle(generator, photo, tmp_path):
    mask, inverted = write(tmp_path / "mask.png", hole()), write(tmp_path / "inverted.png", 255 - hole())
    found = [
        inpaint(generator, photo, mask, tmp_path / "first"),
        inpaint(generator, photo, inverted, tmp_path / "second", invert_mask=True),
        inpaint(generator, photo, "rect:4,6,16,19", tmp_path / "third", invert_mask=True),
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other["photo.png"], found[0]["photo.png"])


@pytest.mark.parametrize("text", ["255", "0,0,256", "0,0,-1", "white,0,0"])
def test_what_is_no_background_is_refused(generator, photo, mask, tmp_path, caplog, text):
    message = refusal(caplog, generator, photo, mask, tmp_path / "out", background=text)
    assert f"--background must be three levels from 0 to 255. Received: --background={text}" in message


def test_files_of_a_folder_that_are_no_pictures_are_counted_and_named(generator, folders, tmp_path, caplog):
    images, masks = folders
    (images / "clip.mp4").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert len(inpaint(generator, images, masks, tmp_path / "out")) == 5
    (message,) = (record.getMessage() for record in caplog.records if "Left out" in record.getMessage())
    assert f"Left out of {images}: 2 of 7 files" in message and message.endswith("clip.mp4, notes.txt.")


def test_16_bits_of_other_kinds_are_refused(generator, mask, tmp_path, caplog):
    path = write(tmp_path / "a.tif", np.full((32, 40), 40000, np.uint16))
    message = refusal(caplog, generator, path, mask, tmp_path / "out")
    assert message.startswith(f"{path} must have 8 bits a channel. Received: 16 bits")


def test_mask_is_white_whatever_its_kind(generator, photo, tmp_path):
    grey = np.where(hole() > 0, 128, 127).astype(np.uint8)
    alpha = pixels(channels=1, seed=3)
    kinds = {"half": Image.fromarray(grey), "black and white": Image.fromarray(hole()).convert("1")}
    kinds["colour with alpha"] = Image.fromarray(np.dstack([grey, grey, grey, alpha]))
    kinds["grey with alpha"] = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    found = []
    for name, image in kinds.items():
        image.save(tmp_path / f"{name}.png")
        found.append(inpaint(generator, photo, tmp_path / f"{name}.png", tmp_path / name)["photo.png"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    assert (found[0] == pixels())[hole() == 0].all() and (found[0] != pixels())[hole() > 0].mean() > 0.5


@pytest.fixture
def folders(tmp_path):
    """Images of two sizes with masks of their own, and what is not to be looked at."""
    for index, (name, height, width) in enumerate(
        [("a.jpg", 32, 40), ("b.png", 28, 30), ("c.webp", 32, 40), ("d.JPG", 32, 40), ("e.png", 28, 30)]
    ):
        write(tmp_path / "images" / name, pixels(height, width, seed=index))
        mask = hole(height, width, (slice(index, index + 12), slice(3, 20)))
        write(tmp_path / "masks" / f"{name[0]}.png", mask)
    write(tmp_path / "images" / "below" / "f.png", pixels())
    write(tmp_path / "masks" / "of_no_image.png", hole())
    (tmp_path / "images" / "notes.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "images" / "._a.jpg").write_bytes(b"of another system")
    return tmp_path / "images", tmp_path / "masks"


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_folder_is_filled_each_with_its_mask(generator, raw, folders, tmp_path, batch_size):
    images, masks = folders
    found = inpaint(generator, images, masks, tmp_path / "out", batch_size=batch_size)
    assert list(found) == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    for path in images.glob("[a-e].*"):
        image = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(masks / f"{path.stem}.png"))
        check_completed(found[f"{path.stem}.png"], raw, image, mask)


def test_images_of_one_size_are_filled_together_but_few_large_ones(generator, folders, tmp_path, monkeypatch):
    inpaint(generator, *folders, tmp_path / "out")
    tool = sys.modules["tools.inpaint"]
    images, masks = folders
    jobs = [tool.Job(str(path), str(masks / f"{path.stem}.png")) for path in sorted(images.glob("[a-e].*"))]

    def sizes_of(batch_size):
        return sorted(len(batch) for batch in tool.checked_batches(jobs, batch_size))

    assert sizes_of(8) == [2, 3] and sizes_of(2) == [1, 2, 2] and sizes_of(1) == [1] * 5
    monkeypatch.setattr("tools.exported.inpainting.MAX_PIXELS", 2 * 32 * 40)
    assert sizes_of(8) == [1, 2, 2]
    monkeypatch.setattr("tools.exported.inpainting.MAX_PIXELS", 1)
    assert sizes_of(8) == [1] * 5


def test_of_a_large_image_the_generator_sees_what_is_around_the_hole(generator, tmp_path, monkeypatch):
    image, (top, left) = pixels(180, 260), (82, 52)
    photo = write(tmp_path / "a.png", image)
    cut = write(tmp_path / "cut" / "a.png", image[top:, left : left + 144])
    of_cut = inpaint(generator, cut, "rect:68,68,8,8", tmp_path / "of_cut", layouts=True)
    # Of 68 pixels around the hole, but for the lower edge.
    monkeypatch.setattr("tools.exported.inpainting.MAX_PIXELS", 98 * 145)
    found = inpaint(generator, photo, "rect:150,120,8,8", tmp_path / "out", layouts=True)
    expected = image.copy()
    expected[top:, left : left + 144] = of_cut["a.png"]
    np.testing.assert_array_equal(found["a.png"], expected)
    assert (expected != image).any()
    np.testing.assert_array_equal(found["a_layout.png"], of_cut["a_layout.png"])
    # All is seen where the hole is too large.
    wide = inpaint(generator, photo, "rect:0,0,1,260", tmp_path / "wide", layouts=True)
    assert wide["a_layout.png"].shape[0] == 180


def test_one_mask_and_a_rectangle_for_all_images(generator, tmp_path):
    for index in range(3):
        write(tmp_path / "images" / f"{index}.png", pixels(seed=index))
    mask = write(tmp_path / "mask.png", hole(place=(slice(4, 20), slice(6, 25))))
    by_file = inpaint(generator, tmp_path / "images", mask, tmp_path / "first")
    by_rectangle = inpaint(generator, tmp_path / "images", "rect:4, 6, 16, 19", tmp_path / "second")
    assert list(by_file) == list(by_rectangle) == ["0.png", "1.png", "2.png"]
    for name, found in by_file.items():
        np.testing.assert_array_equal(found, by_rectangle[name])


@pytest.mark.parametrize("height, width", [(32, 40), (30, 37)])
def test_layouts_show_result_winner_and_heat_maps(generator, raw, tmp_path, height, width):
    image, mask = pixels(height, width), hole(height, width)
    paths = write(tmp_path / "a.png", image), write(tmp_path / "m.png", mask)
    found = inpaint(generator, *paths, tmp_path / "out", layouts=True)
    assert list(found) == ["a.png", "a_layout.png"]
    sheet, (full_height, full_width) = found["a_layout.png"], (-(-height // 4) * 4, -(-width // 4) * 4)
    assert sheet.shape == (full_height, (ENTITIES + 2) * (full_width + GAP) - GAP, 3)
    np.testing.assert_array_equal(sheet[:height, :width], found["a.png"])
    np.testing.assert_array_equal(sheet[height:, :width], found["a.png"][-1:].repeat(full_height - height, axis=0))
    layout = raw(image=image[None], mask=mask[None, ..., None])["layout"].numpy()[0]
    tiles = [sheet[:, left : left + full_width] for left in range(0, sheet.shape[1], full_width + GAP)]
    for entity in range(ENTITIES):
        # The first third of the heat is the red.
        red = np.clip(3.0 * layout[..., entity], 0.0, 1.0).repeat(4, axis=0).repeat(4, axis=1) * 255
        np.testing.assert_allclose(tiles[2 + entity][..., 0], red, atol=1.5)


def test_layouts_of_a_large_image_are_shown_at_their_own_size(generator, photo, mask, tmp_path, monkeypatch):
    inpaint(generator, photo, mask, tmp_path / "first", layouts=True)
    tool = sys.modules["tools.inpaint"]
    monkeypatch.setattr(tool, "MAX_SIDE", 39)
    path, image = str(tmp_path / "sheet.png"), np.full((32, 40, 3), 200, np.uint8)
    tool.write_layout(path, image, np.full((8, 10, ENTITIES), 1 / ENTITIES, np.float32))
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (8, (ENTITIES + 2) * (10 + GAP) - GAP, 3) and (sheet[:, :10] == 200).all()


def test_nothing_is_written_over_unless_asked_for(generator, photo, mask, tmp_path, caplog):
    write(tmp_path / "out" / "photo.png", pixels(seed=9))
    write(tmp_path / "out" / "other.png", pixels(seed=8))
    before = contents(tmp_path / "out")
    message = refusal(caplog, generator, photo, mask, tmp_path / "out")
    assert f"{tmp_path / 'out' / 'photo.png'} is there already" in message and "--overwrite" in message
    assert contents(tmp_path / "out") == before
    found = inpaint(generator, photo, mask, tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(found["other.png"], pixels(seed=8))
    np.testing.assert_array_equal(found["photo.png"][0], pixels()[0])


def test_layout_that_is_there_is_not_written_over(generator, photo, mask, tmp_path, caplog):
    write(tmp_path / "out" / "photo_layout.png", pixels(seed=9))
    assert "photo_layout.png is there already" in refusal(
        caplog, generator, photo, mask, tmp_path / "out", layouts=True
    )
    assert len(inpaint(generator, photo, mask, tmp_path / "out")) == 2


@pytest.mark.parametrize("lost", ["image", "mask"])
def test_inputs_are_never_written_over(generator, tmp_path, caplog, lost):
    image = write(tmp_path / "images" / "a.png", pixels())
    mask = write(tmp_path / "masks" / "a.png", hole())
    before = contents(tmp_path)
    place = {"image": image, "mask": mask}[lost].parent
    assert "would lose an input" in refusal(caplog, generator, image, mask, place, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "names, layouts, both", [(["a.jpg", "a.png"], False, "a.png"), (["a.png", "a_layout.png"], True, "a_layout.png")]
)
def test_two_images_of_one_name_are_refused(generator, tmp_path, caplog, names, layouts, both):
    for name in names:
        write(tmp_path / "images" / name, pixels())
    place = tmp_path / "out"
    message = refusal(caplog, generator, tmp_path / "images", "rect:0,0,9,9", place, layouts=layouts)
    assert f"would both become {place / both}" in message
    assert all(str(tmp_path / "images" / name) in message for name in names)


def test_images_without_a_mask_are_all_named_before_anything_is_written(generator, folders, tmp_path, caplog):
    images, masks = folders
    (masks / "b.png").unlink()
    (masks / "e.png").unlink()
    message = refusal(caplog, generator, images, masks, tmp_path / "out")
    assert f"none for 2 of 5 images: {images / 'b.png'}, {images / 'e.png'}." in message
    assert not (tmp_path / "out").exists()


def test_two_masks_of_one_stem_are_refused(generator, folders, tmp_path, caplog):
    images, masks = folders
    write(masks / "b.jpg", hole())
    message = refusal(caplog, generator, images, masks, tmp_path / "out")
    assert "one mask of each stem" in message and str(masks / "b.jpg") in message and str(masks / "b.png") in message


def test_mask_of_another_size_is_refused_with_both_sizes(generator, folders, tmp_path, caplog):
    images, masks = folders
    write(masks / "e.png", hole(30, 28))
    message = refusal(caplog, generator, images, masks, tmp_path / "out")
    assert f"{masks / 'e.png'} of 28 x 30, {images / 'e.png'} of 30 x 28" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level, hides", [(0, "nothing"), (127, "nothing"), (128, "everything"), (255, "everything")])
def test_mask_that_hides_everything_or_nothing_is_refused(generator, photo, tmp_path, caplog, level, hides):
    mask = write(tmp_path / "mask.png", np.full((32, 40), level, np.uint8))
    message = refusal(caplog, generator, photo, mask, tmp_path / "out")
    assert f"{mask} hides {hides} of {photo}: its grey levels are {level} to {level}" in message
    assert "inverted" in message and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "rect:",
        "rect:1,2,3",
        "rect:1,2,3,4,5",
        "rect:-1,2,3,4",
        "rect:1,2,3.5,4",
        "rect:0,0,0,5",
        "rect:0,0,5,0",
        "rect:²,0,1,1",
    ],
)
def test_what_is_no_rectangle_is_refused(generator, photo, tmp_path, caplog, text):
    assert f"Received: --mask={text}" in refusal(caplog, generator, photo, text, tmp_path / "out")


@pytest.mark.parametrize("text", ["rect:0,0,33,5", "rect:30,0,3,5", "rect:0,36,5,5"])
def test_rectangle_that_does_not_lie_inside_is_refused(generator, photo, tmp_path, caplog, text):
    message = refusal(caplog, generator, photo, text, tmp_path / "out")
    assert f"--mask={text} must lie inside each image" in message
    assert f"{photo} has 32 rows and 40 columns" in message


def test_rectangle_over_everything_is_refused(generator, photo, tmp_path, caplog):
    message = refusal(caplog, generator, photo, "rect:0,0,32,40", tmp_path / "out")
    assert f"--mask=rect:0,0,32,40 hides everything of {photo}" in message


@pytest.mark.parametrize("fault", ["cut off", "text", "empty", "missing"])
@pytest.mark.parametrize("which", ["image", "mask"])
def test_file_that_cannot_be_decoded_is_named(generator, photo, mask, tmp_path, caplog, fault, which):
    path = {"image": photo, "mask": mask}[which]
    whole = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut off": whole[: len(whole) // 2], "text": b"no image", "empty": b""}[fault])
    assert f"{path} cannot be read as PNG, JPEG, WEBP, GIF, BMP, TIFF" in refusal(
        caplog, generator, photo, mask, tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_last_corrupt_image_of_a_folder_leaves_nothing_written(generator, folders, tmp_path, caplog):
    images, masks = folders
    path = images / "e.png"
    path.write_bytes(path.read_bytes()[:300])
    assert f"{path} cannot be read" in refusal(caplog, generator, images, masks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_refused(generator, mask, tmp_path, caplog, channels):
    image = np.random.default_rng(0).integers(2**16, size=(32, 40, channels), dtype=np.uint16)
    path = tmp_path / "a.png"
    tf.io.write_file(str(path), tf.io.encode_png(image))
    message = refusal(caplog, generator, path, mask, tmp_path / "out")
    assert message.startswith(f"{path} must have 8 bits a channel. Received: 16 bits")


@pytest.mark.parametrize("flag", ["image", "mask"])
def test_folder_without_pictures_is_refused(generator, photo, mask, tmp_path, caplog, flag):
    (tmp_path / "empty").mkdir()
    paths = {"image": photo, "mask": mask, flag: tmp_path / "empty"}
    message = refusal(caplog, generator, paths["image"], paths["mask"], tmp_path / "out")
    assert (
        f"--{flag}={tmp_path / 'empty'} must hold files that end in .png, .jpg, .jpeg, .jpe, .jfif, .webp, .gif"
        in message
    )


def test_without_a_saved_model_the_weights_of_the_project_are_taken(
    generator, photo, mask, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(exported_folders, "PRETRAINED", str(tmp_path))
    message = refusal(caplog, "", photo, mask, tmp_path / "out")
    assert f"{tmp_path}/inpainting_photos/saved_model holds none: get that folder back" in message
    shutil.copytree(generator, tmp_path / "inpainting_photos" / "saved_model")
    found = inpaint("", photo, mask, tmp_path / "out")
    np.testing.assert_array_equal(found["photo.png"], inpaint(generator, photo, mask, tmp_path / "other")["photo.png"])


def test_batch_size_below_one_is_refused(generator, photo, mask, tmp_path, caplog):
    assert "--batch_size=0" in refusal(caplog, generator, photo, mask, tmp_path / "out", batch_size=0)


def test_file_in_place_of_the_folder_is_refused(generator, photo, mask, tmp_path, caplog):
    (tmp_path / "file").write_text("content", encoding="utf-8")
    assert str(tmp_path / "file") in refusal(caplog, generator, photo, mask, tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "content"


@pytest.mark.parametrize("fault", ["missing", "damaged", "other signature", "other inputs", "no signature"])
def test_what_is_no_inpainting_generator_is_refused(generator, photo, mask, tmp_path, caplog, fault):
    path = tmp_path / "saved_model"
    if fault == "damaged":
        shutil.copytree(generator, path)
        (path / "saved_model.pb").write_bytes((path / "saved_model.pb").read_bytes()[:1000])
    elif fault != "missing":
        module = tf.Module()
        module.serve = tf.function(lambda z: {"completed": z + 1.0}, [tf.TensorSpec((None, 8), name="z")])
        name = {"other signature": "serving_default", "other inputs": "raw"}.get(fault)
        tf.saved_model.save(module, str(path), {name: module.serve.get_concrete_function()} if name else None)
    message = refusal(caplog, path, photo, mask, tmp_path / "out")
    expected = {"missing": "is no SavedModel", "damaged": "does not load"}.get(fault, "has no signature `raw`")
    assert f"--saved_model={path} " in message and expected in message
    assert not (tmp_path / "out").exists()


def test_layouts_of_a_model_without_are_refused_and_its_pictures_are_not(photo, mask, tmp_path, caplog):
    path = write_generator(tmp_path / "saved_model", attention="none")
    message = refusal(caplog, path, photo, mask, tmp_path / "out", layouts=True)
    assert f"--layouts: --saved_model={path} has none" in message and not (tmp_path / "out").exists()
    assert len(inpaint(path, photo, mask, tmp_path / "out")) == 1


@pytest.mark.parametrize("channels", [2, 4])
def test_model_of_other_channels_is_refused(photo, mask, tmp_path, caplog, channels):
    path = tmp_path / "saved_model"
    sizes = {"image": channels, "mask": 1}
    specs = [tf.TensorSpec((None, None, None, last), tf.uint8, name) for name, last in sizes.items()]
    module = tf.Module()
    module.raw = tf.function(lambda image, mask: {"completed": image * mask}, specs)
    tf.saved_model.save(module, str(path), {"raw": module.raw.get_concrete_function()})
    assert f"must take RGB or grey images. Received: one that takes {channels} channels" in refusal(
        caplog, path, photo, mask, tmp_path / "out"
    )


@pytest.fixture(scope="module")
def grey_generator(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("grey") / "saved_model", image_channels=1)


@pytest.mark.parametrize("kind", ["grey", "colour", "grey with alpha", "colour with alpha"])
def test_model_of_grey_images_takes_and_gives_grey_ones(grey_generator, mask, tmp_path, kind):
    image = pixels(channels=1) if "grey" in kind else pixels()
    parts = [image.reshape(32, 40, -1)] + ([pixels(channels=1, seed=1)[..., None]] if "alpha" in kind else [])
    path = write(tmp_path / "photo.png", np.concatenate(parts, axis=-1).squeeze())
    found = inpaint(grey_generator, path, mask, tmp_path / "out", layouts=True)
    raw = load_once(str(grey_generator)).signatures["raw"]
    # ITU-R 601, as a formula.
    grey = image if image.ndim == 2 else np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    picture = found["photo.png"].reshape(32, 40, -1)
    assert picture.shape[-1] == len(parts)
    if "alpha" in kind:
        np.testing.assert_array_equal(picture[..., 1:], parts[1])
    known = hole() == 0
    off = 0 if image.ndim == 2 else 1
    np.testing.assert_allclose(picture[known, 0].astype(int), grey[known].astype(int), atol=off)
    share = parts[1] / 255.0 if "alpha" in kind else 1.0
    seen = np.round(picture[..., :1] * share + 255.0 * (1.0 - share)).astype(np.uint8)  # on white
    expected = expected_of(raw, seen, hole())
    np.testing.assert_allclose(picture[~known, 0], expected[~known, 0], atol=0.52 + off)
    assert np.abs(expected[~known, 0] - grey[~known]).max() > 8 and "photo_layout.png" in found


def test_picture_that_is_cut_off_in_writing_has_not_the_final_name(
    generator, photo, mask, tmp_path, caplog, monkeypatch
):
    def dies(self, path, **options):
        pathlib.Path(path).write_bytes(b"\x89PNG")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", dies)
    assert "disk full" in refusal(caplog, generator, photo, mask, tmp_path / "out")
    assert not (tmp_path / "out" / "photo.png").exists()


def test_bars_on_a_terminal(generator, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    inpaint(generator, *folders, tmp_path / "out", batch_size=2)
    shown = capsys.readouterr().err
    assert "checked: 100%" in shown and "filled: 100%" in shown and "5/5 [" in shown


@pytest.mark.slow
def test_command_needs_not_the_networks(generator, folders, tmp_path):
    program = """
import sys
from absl import app
from tools import inpaint

def main(argv):
    inpaint.main(argv)
    assert not [name for name in sys.modules if name.split(".")[0] == "keras_an"]

app.run(main)
"""
    images, masks = folders
    flag_values = [
        f"--saved_model={generator}",
        f"--image={images}",
        f"--mask={masks}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program, *flag_values], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "1/5 images checked" in result.stderr and f"Wrote 5 images to {tmp_path / 'out'} in" in result.stderr
    assert "megapixels/s" in result.stderr and len(list((tmp_path / "out").iterdir())) == 5
