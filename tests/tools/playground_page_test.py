"""The playground in a real browser, on real exports: paint, fill, draw; it asks no other host.

One page serves all tests. What it gives is compared with what `tools.inpaint` and `tools.sample` write.
"""

import io
import re
import socket

import numpy as np
import pytest
from PIL import Image

from browser_test_case import needs_chromium, opened_browser, opened_page
from gan_test_case import call_main, exported_run
from inpainting_test_case import write_generator
from tools.exported import folders, generation, inpainting
from tools.page import generation_tab, inpainting_tab, server

pytest.importorskip("gradio", reason="needs Gradio: pip install '.[playground]'")
pytestmark = [pytest.mark.slow, needs_chromium]
HEIGHT, WIDTH = 90, 121


@pytest.fixture(scope="module")
def fills(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("fills") / "saved_model")


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    return exported_run(tmp_path_factory)


@pytest.fixture(scope="module")
def asked():
    """The hosts that this process looks up while the page is there."""
    hosts, resolve = set(), socket.getaddrinfo

    def resolve_and_note(host, *arguments, **options):
        hosts.add(host)
        return resolve(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolve_and_note)
        yield hosts


@pytest.fixture(scope="module")
def masks():
    """What the page had filled: masks uint8 (height, width, 1)."""
    return []


@pytest.fixture(scope="module")
def address(fills, draws, asked, masks):
    fill, channels = inpainting.load(str(fills), False)
    serve, latent_dim, _ = generation.load(str(draws), True)
    names = folders.metadata_of(str(draws))["class_names"]

    def fill_and_note(images, holes):
        masks.extend(holes)
        return fill(images, holes)

    with server.temporary_folder(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "MAX_BYTES", 100_000)
        patched.setattr(inpainting_tab, "MAX_MEGAPIXELS", 0.1)
        page = server.build(
            inpainting_tab.InpaintingTab(fill_and_note, channels, max_megapixels=0.1),
            generation_tab.GenerationTab(serve, latent_dim, names),
        )
        yield server.launch(page, "127.0.0.1", 0)
        page.close(verbose=False)


@pytest.fixture(scope="module")
def page(address):
    with opened_browser() as browser:
        opened = opened_page(browser, viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(60_000)
        opened.goto(address)
        yield opened


@pytest.fixture
def inpaint_tab(page):
    page.get_by_role("tab", name="Inpaint").click()
    return page


@pytest.fixture
def generate_tab(page):
    page.get_by_role("tab", name="Generate").click()
    return page


def drop(page, path):
    """Drops a photograph in place of the one that is there."""
    if page.get_by_label("Clear").count():
        page.get_by_label("Clear").first.click()
    page.set_input_files("#photograph input[type=file]", path)


def paint(page):
    """Draws a stroke from the middle of the photograph to the right."""
    page.wait_for_selector("#editor button[aria-label=Undo]:enabled")  # the photograph is there
    page.wait_for_timeout(300)
    box = page.locator("#editor canvas").first.bounding_box()
    left, middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left + 40, middle, steps=4)
    page.mouse.up()
    page.wait_for_timeout(300)


def shown_in(page, selector):
    """The picture that a component shows, as a download gets it: its file's kind and pixels."""
    page.wait_for_selector(f"{selector} img")
    image = Image.open(io.BytesIO(page.request.get(page.locator(f"{selector} img").get_attribute("src")).body()))
    return image.format, np.asarray(image)


def captions(page, selector):
    return page.locator(f"{selector} figcaption").all_inner_texts()


def test_a_painted_hole_is_filled_as_the_tool_does_and_known_pixels_come_back(inpaint_tab, fills, masks, tmp_path):
    image = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    photo, mask_file, out = (str(tmp_path / name) for name in ("photo.png", "mask.png", "out"))
    Image.fromarray(image).save(photo)
    drop(inpaint_tab, photo)
    paint(inpaint_tab)
    inpaint_tab.click("#fill")
    kind, completed = shown_in(inpaint_tab, "#completed")
    (mask,) = masks
    assert kind == "PNG" and completed.shape == image.shape and mask.shape == (HEIGHT, WIDTH, 1)
    # The brush went from the middle to the right.
    assert mask[HEIGHT // 2, WIDTH // 2] and not mask[:, : WIDTH // 4].any() and 100 < mask.sum() < mask.size / 2
    rows, columns = np.nonzero(mask[..., 0])
    assert columns.mean() > WIDTH / 2 and abs(rows.mean() - HEIGHT / 2) < 3
    np.testing.assert_array_equal(completed[mask[..., 0] == 0], image[mask[..., 0] == 0])
    assert (completed[mask[..., 0] > 0] != image[mask[..., 0] > 0]).any()
    Image.fromarray(mask[..., 0] * 255).save(mask_file)
    call_main("tools.inpaint", saved_model=fills, image=photo, mask=mask_file, output_dir=out)
    np.testing.assert_array_equal(completed, np.asarray(Image.open(f"{out}/photo.png")))
    texts = captions(inpaint_tab, "#fill-layouts")
    assert texts[:2] == ["Blend", "Winner"] and len(texts) == 5
    assert sum(int(re.search(r"(\d+)\u202f%", text)[1]) for text in texts[2:]) in range(99, 102)
    assert inpaint_tab.problems == []


def test_a_class_is_drawn_as_the_tool_does_with_layouts_and_what_lies_between(generate_tab, draws, tmp_path):
    generate_tab.wait_for_selector("#drawn img")  # the first one, unasked
    first = generate_tab.locator("#drawn img").get_attribute("src")
    generate_tab.get_by_label("Class", exact=True).click()
    generate_tab.get_by_role("option", name="3", exact=True).click()
    generate_tab.locator("#seed input").fill("5")
    generate_tab.get_by_label("number input for Truncation").fill("0.7")
    generate_tab.get_by_label("number input for Truncation").press("Tab")
    generate_tab.click("#draw")
    generate_tab.wait_for_function(
        "first => document.querySelector('#drawn img').getAttribute('src') !== first", arg=first
    )
    _, image = shown_in(generate_tab, "#drawn")
    flag_values = {"labels": 3, "seed": 5, "truncation": 0.7, "num": 1, "output_dir": tmp_path / "out"}
    call_main("tools.sample", saved_model=draws, **flag_values)
    np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / "out" / "00000_label3.png")))
    assert len(captions(generate_tab, "#draw-layouts")) == 5
    generate_tab.click("#interpolate")
    generate_tab.wait_for_selector("#strip img")
    assert captions(generate_tab, "#strip") == 2 * ["seed 5", *(f"{at} / 7" for at in range(1, 7)), "seed 1"]
    assert generate_tab.locator("#strip b").all_inner_texts() == ["3", "1"]
    assert generate_tab.problems == []


def test_a_bad_upload_is_answered_with_a_sentence(inpaint_tab, tmp_path):
    (tmp_path / "notes.png").write_bytes(b"nothing to see")
    Image.fromarray(np.zeros((317, 316), np.uint8)).save(tmp_path / "large.png")
    (tmp_path / "heavy.png").write_bytes(bytes(100_001))
    for name, told in {
        "notes.png": "notes.png cannot be read as PNG, JPEG",
        "large.png": "at most 0.1 megapixels. Received: large.png of 316 x 317.",
        "heavy.png": "maximum allowed size of",
    }.items():
        drop(inpaint_tab, str(tmp_path / name))
        toast = inpaint_tab.get_by_test_id("toast-body").filter(has_text=told)
        toast.wait_for()
        assert toast.count() == 1 and not inpaint_tab.locator("#editor").is_visible()


def test_no_other_host_is_asked_by_the_page_or_by_the_program(page, asked, address):
    assert page.hosts == {address.split("/")[2]} and asked <= {"127.0.0.1", "localhost", None}
