"""The tabs of the playground without a browser: what they read, refuse, give and show."""

import base64
import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_an_tensorboard.palette import colors
from tools.exported.generation import draw_latents
from tools.page import inpainting_tab
from tools.page.errors import PageError, told
from tools.page.generation_tab import STEPS, GenerationTab
from tools.page.tiles import Tile, grid, layout_tiles


def pixels(height=20, width=28, channels=3):
    return np.random.default_rng(0).integers(256, size=(height, width, channels), dtype=np.uint8)


def painted(height=20, width=28, place=(slice(4, 12), slice(6, 18)), alpha=255):
    """What `gradio.ImageEditor` gives for a stroke."""
    layer = np.zeros((height, width, 4), np.uint8)
    layer[place] = (230, 60, 160, alpha)
    return {"background": None, "layers": [layer], "composite": None}


def tab(fill=None, channels=3, max_megapixels=1.0):
    return inpainting_tab.InpaintingTab(fill, channels, max_megapixels)


def write(path, array, **options):
    Image.fromarray(array.squeeze()).save(path, **options)
    return str(path)


@pytest.mark.parametrize("alpha", [255, 1])
def test_hole_is_whatever_the_brush_touched(alpha):
    mask = inpainting_tab.hole_of(painted(alpha=alpha), 20, 28)
    assert mask.shape == (20, 28, 1) and mask.dtype == np.uint8 and mask.sum() == 8 * 12
    assert (mask[4:12, 6:18] == 1).all()


def test_hole_painted_on_a_smaller_preview_covers_the_same_part():
    mask = inpainting_tab.hole_of(painted(), 60, 84)
    assert mask.sum() == 9 * 8 * 12 and (mask[12:36, 18:54] == 1).all()


@pytest.mark.parametrize(
    "value, told_of",
    [
        (None, "nothing is painted"),
        ({"layers": []}, "nothing is painted"),
        (painted(alpha=0), "nothing is painted"),
        (painted(place=(slice(None), slice(None))), "everything is painted"),
    ],
)
def test_hole_of_nothing_or_everything_is_refused(value, told_of):
    with pytest.raises(PageError, match=told_of):
        inpainting_tab.hole_of(value, 20, 28)


def test_photograph_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(inpainting_tab, "MAX_MEGAPIXELS", 1.0)
    path = pathlib.Path(write(tmp_path / "large.png", np.zeros((1001, 1000), np.uint8)))
    path.write_bytes(path.read_bytes()[:50])  # its start tells its size; there is nothing to decode
    with pytest.raises(PageError, match=r"at most 1 megapixels. Received: large.png of 1000 x 1001\."):
        tab().preview(str(path))


def test_of_a_large_photograph_the_generator_sees_what_is_around_the_hole(tmp_path):
    image, seen = pixels(600, 800), []

    def fill(images, masks):
        seen.append((images, masks))
        return {"completed": np.ones((*images.shape[:3], 3), np.float32)}

    stroke = painted(600, 800, (slice(500, 520), slice(30, 50)))
    completed, _ = tab(fill, max_megapixels=0.04).fill(write(tmp_path / "a.png", image), stroke)
    ((images, masks),) = seen
    # 126 pixels around it, up to the edges: 226 x 176 are 39,776.
    assert images.shape == (1, 226, 176, 3) and masks.sum() == 20 * 20
    np.testing.assert_array_equal(images[0], image[-226:, :176])
    expected = image.copy()
    expected[500:520, 30:50] = 255
    np.testing.assert_array_equal(np.asarray(completed), expected)


def test_a_hole_too_large_to_see_at_once_is_refused(tmp_path):
    stroke = painted(600, 800, (slice(0, 600, 599), slice(400, 404)))
    with pytest.raises(PageError, match="with 64 pixels around it, must span at most 0.04 megapixels. Paint one"):
        tab(max_megapixels=0.04).fill(write(tmp_path / "a.png", pixels(600, 800)), stroke)


@pytest.mark.parametrize("content", [b"", b"GIF89a, as one says", b"\x89PNG\r\n\x1a\n" + 40 * b"\0"])
def test_what_is_no_photograph_is_refused_by_its_name_alone(tmp_path, content):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(PageError, match="^notes.png cannot be read as PNG, JPEG, ") as caught:
        tab().preview(str(tmp_path / "notes.png"))
    assert str(tmp_path) not in str(caught.value)


def test_a_sentence_on_the_page_is_no_html():
    gradio = pytest.importorskip("gradio")

    def refuses():
        raise PageError("<img src=x> cannot be read")

    with pytest.raises(gradio.Error) as caught:
        told(refuses)()
    assert caught.value.message == "&lt;img src=x&gt; cannot be read"


def test_preview_is_upright_on_white_and_at_most_1024_long(tmp_path):
    image = pixels(1500, 600, 4)
    image[..., 3] = np.where(np.arange(600) < 300, 255, 0)
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn to the right
    found = tab().preview(write(tmp_path / "a.png", image, exif=exif))
    assert found.shape == (round(600 * 1024 / 1500), 1024, 3)
    assert (found[300:] == 255).all() and not (found[:200] == 255).all()
    small = tab(channels=1).preview(write(tmp_path / "b.png", pixels(channels=1)))
    np.testing.assert_array_equal(small, pixels(channels=1).repeat(3, axis=-1))


def test_fill_keeps_known_pixels_alpha_and_profile_and_sees_white_beneath(tmp_path):
    image, seen = pixels(channels=4), []
    image[0] = (1, 2, 3, 0)

    def fill(images, masks):
        seen.extend(images)
        return {"completed": np.ones((*images.shape[:3], 3), np.float32), "layout": np.full((1, 5, 7, 2), 0.5)}

    path = write(tmp_path / "a.png", image, icc_profile=b"a profile")
    completed, layouts = tab(fill).fill(path, painted())
    expected = image.copy()
    expected[4:12, 6:18, :3] = 255
    np.testing.assert_array_equal(np.asarray(completed), expected)
    assert completed.info["icc_profile"] == b"a profile" and layouts.count("<figure>") == 4
    assert (seen[0][0] == 255).all()
    with pytest.raises(PageError, match="Drop a photograph first"):
        tab(fill).fill(None, painted())


def test_grey_generator_gives_a_grey_picture_and_one_without_layouts_no_tiles(tmp_path):
    def fill(images, masks):
        return {"completed": -np.ones((*images.shape[:3], 1), np.float32)}

    path = write(tmp_path / "a.png", pixels(channels=1))
    completed, layouts = tab(fill, channels=1).fill(path, painted())
    expected = pixels(channels=1)[..., 0]
    expected[4:12, 6:18] = 0
    np.testing.assert_array_equal(np.asarray(completed), expected)
    assert layouts == ""


def test_tiles_show_winners_heat_maps_and_shares():
    layout = np.zeros((4, 8, 3), np.float32)
    layout[:, :6, 2], layout[:, 6:, 0] = 0.75, 1.0
    layout[:, :6, 1] = 0.25
    tiles = layout_tiles(np.zeros((8, 16, 1), np.uint8), layout)
    assert [tile.caption for tile in tiles[:2]] == ["Blend", "Winner"]
    shares = [f"Entity {entity}: {share}\u202f%" for entity, share in enumerate((25, 0, 75))]
    assert [tile.caption for tile in tiles[2:]] == shares
    blend, winners, first, second, third = (tile.pixels for tile in tiles)
    palette = colors(3)
    np.testing.assert_array_equal([tile.color for tile in tiles[2:]], palette)
    assert blend.shape == winners.shape == (8, 16, 3) and third.shape == (4, 8, 3) and third.dtype == np.uint8
    assert (winners[:, :12] == palette[2]).all() and (winners[:, 12:] == palette[0]).all()
    assert (blend[:, :12] == palette[2] // 2).all()
    assert (first[:, :6] == 0).all() and (first[:, 6:] == 255).all()
    assert (second[:, :6] == (191, 0, 0)).all() and (third[:, :6] == (255, 255, 63)).all()


def test_tiles_of_a_large_picture_are_bounded():
    tiles = layout_tiles(np.zeros((1600, 800, 3), np.uint8), np.full((400, 200, 2), 0.5, np.float32))
    assert {tile.pixels.shape for tile in tiles} == {(320, 160, 3)}


def tiles_in(page):
    """Captions and pictures of HTML of the page."""
    sources = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">', page)
    return {caption: np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for caption, source in sources}


def test_grid_is_html_of_its_tiles():
    page = grid([Tile(pixels(), "<b>", np.array([1, 2, 3], np.uint8)), Tile(pixels(8, 8), "c")], "a & b", 90)
    np.testing.assert_array_equal(tiles_in(page)["&lt;b&gt;"], pixels())
    assert "a &amp; b" in page and '<i style="background: rgb(1,2,3)"></i>&lt;b&gt;' in page
    assert page.count("<i ") == 1 and page.count("<figure>") == 2 and "--least: 90px" in page


def shows_latents(z, label):
    """A generator whose picture is its latent, and whose layouts are of its label."""
    layout = np.eye(5, dtype=np.float32)[label][:, None, None].repeat(2, axis=1).repeat(2, axis=2)
    return {"images": z.reshape(-1, 4, 4, 1) / 8.0, "layouts_2": layout[..., ::-1], "layouts": layout}


def shown(picture):
    """The latent in a picture of `shows_latents`."""
    return (picture[..., 0].ravel() / 127.5 - 1.0) * 8.0


LEVEL = 8 / 127.5
DRAWER = GenerationTab(shows_latents, 16, ["tea", "cat", "coffee", "milk", "water"])


def test_drawn_image_is_that_of_class_seed_and_truncation():
    for seed, truncation in ((3, 1.0), (4, 0.5)):
        image, page = DRAWER.draw(1, seed, truncation)
        np.testing.assert_allclose(shown(image), draw_latents([0], 16, seed, truncation)[0], atol=LEVEL)
    first, second = page.split("Layout of layer 2")
    assert "Layout of layer 1" in first and len(tiles_in(first)) == len(tiles_in(second)) == 7
    assert (tiles_in(first)["Entity 1: 100\u202f%"] == 255).all()
    assert (tiles_in(second)["Entity 1: 0\u202f%"] == 0).all() and "Entity 3: 100\u202f%" in second


def test_interpolation_goes_from_seed_to_seed_in_a_row_for_each_class():
    captions = ["seed 3", *(f"{at} / 7" for at in range(1, 7)), "seed 4"]
    same, other = (DRAWER.interpolate(2, 3, last, 4, 1.0) for last in (2, 0))
    assert same.count("<figure>") == STEPS and other.startswith(same) and "<b>tea</b>" in other[len(same) :]
    for row in (same, other[len(same) :]):
        tiles = tiles_in(row)
        assert list(tiles) == captions
        for seed in (3, 4):
            latent = draw_latents([0], 16, seed, 1.0)[0]
            np.testing.assert_allclose(shown(tiles[f"seed {seed}"]), latent, atol=LEVEL)
        assert np.abs(shown(tiles["3 / 7"]) - shown(tiles["seed 3"])).max() > 4 * LEVEL


@pytest.mark.parametrize(
    "label, seed, told_of", [(0, None, "Received: None"), (0, -1, "Received: -1"), (None, 0, "class")]
)
def test_seed_and_class_must_be_there(label, seed, told_of):
    with pytest.raises(PageError, match=told_of):
        DRAWER.draw(label, seed, 1.0)
