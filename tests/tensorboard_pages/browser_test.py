"""TensorBoard's pages in a real browser: Chromium, on the log of a `fit` and on planted layouts.

One TensorBoard and one browser serve them all.
"""

import json
import time
import urllib.request

import numpy as np
import pytest
from tensorboard import default, program

import keras_an
from browser_test_case import needs_chromium, opened_browser, opened_page
from keras_an.backend import keras
from keras_an_tensorboard import palette
from keras_an_tensorboard.names import LAYOUTS_PLUGIN
from tensorboard_pages_test_case import write_planted

pytestmark = [pytest.mark.slow, needs_chromium]
COLORS = palette.colors(3).tolist()
STEPS = (0, 1, 2)
PAGES = {
    "timeseries": "attention/net/layer/gain",
    "custom_scalars": "Entropy over log n",
    "images": "layouts/net/layer",
    "text": "1 layers, none of them dead.",
}


def fit(folder):
    """Writes the log of a real, short run."""
    images = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)
    inputs = keras.Input((8, 8, 3))
    x = keras_an.AttentiveNormalization(3, name="attention")(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="network")
    model.compile("sgd", "mse")
    callback = keras_an.callbacks.LayoutSummaries(folder, images, labels=range(8))
    model.fit(images, np.zeros((8, 3)), epochs=2, verbose=0, callbacks=[callback])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a TensorBoard with two runs, `planted` and `real`."""
    folder = tmp_path_factory.mktemp("logs")
    write_planted(folder / "planted", STEPS)
    fit(folder / "real")
    server = program.TensorBoard(default.get_plugins())
    server.configure(argv=["", "--logdir", str(folder), "--port", "0", "--load_fast", "false"])
    launched = server.launch()
    while set(runs_of(launched)) != {"planted", "real"}:  # TensorBoard reads them one after the other
        time.sleep(0.1)
    return launched


def runs_of(address):
    with urllib.request.urlopen(f"{address}data/plugin/{LAYOUTS_PLUGIN}/layers") as response:
        return json.load(response)


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def tab(browser):
    return opened_page(browser, viewport={"width": 1400, "height": 1000})


@pytest.fixture(scope="module")
def frame(tab, address):
    """The frame of the page "Layouts"."""
    tab.problems.clear()
    tab.goto("about:blank")
    tab.goto(f"{address}#{LAYOUTS_PLUGIN}")
    opened = tab.wait_for_selector("iframe").content_frame()
    opened.wait_for_selector("#tiles figure")
    return opened


@pytest.fixture
def layouts(frame):
    """The page, on the planted run, at its last step, with all entities at full strength and nothing pointed at."""
    frame.select_option("#run", "planted")
    frame.wait_for_function("document.querySelectorAll('#history figure').length === 3")
    frame.locator("#tiles figure").first.click()
    frame.locator("header").hover()
    frame.locator("body").press("Escape")
    go_to(frame, 2)
    frame.evaluate("opacity.value = 100; opacity.dispatchEvent(new Event('input'))")
    return frame


def go_to(frame, at):
    """Moves the slider, and waits until the step is shown."""
    frame.evaluate("at => { step.value = at; step.dispatchEvent(new Event('input')) }", at)
    is_shown(frame, at)


def is_shown(frame, at):
    frame.wait_for_function("at => document.querySelector('#history .chosen')?.innerText == at", arg=at)


def color_at(frame, selector, column, row):
    """The colour in the middle of a position of a layout of 4 x 4 that a canvas shows."""
    script = """([selector, column, row]) => {
      const canvas = document.querySelector(selector);
      const at = [(column + 0.5) * canvas.width / 4, (row + 0.5) * canvas.height / 4].map(Math.floor);
      return [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
    }"""
    return frame.evaluate(script, [selector, column, row])


def colors_of(frame, selector):
    return [[color_at(frame, selector, column, row) for column in range(4)] for row in range(4)]


def planted(step):
    """The colours of the winners of the first planted image."""
    rows = [[COLORS[0], COLORS[0], COLORS[1], COLORS[1]] for _ in range(4)]
    rows[step % 4] = 4 * [COLORS[2]]
    return rows


def tile(number):
    return f"#tiles figure:nth-child({number}) canvas"


def test_pages_load_without_an_error(tab, address):
    tab.problems.clear()
    for page, shown in PAGES.items():
        tab.goto(f"{address}#{page}")
        tab.locator(f"text={shown}").first.wait_for()
    assert tab.problems == []


def test_planted_colours_are_at_their_places(layouts, tab):
    assert layouts.locator("#step-name").inner_text() == "2" and tab.problems == []
    assert colors_of(layouts, tile(1)) == colors_of(layouts, "#large") == planted(2)
    assert colors_of(layouts, tile(2)) == 4 * [4 * [COLORS[1]]]
    assert layouts.locator("#tiles figcaption").all_inner_texts() == ["cat", "dog"]
    assert layouts.locator("#entities button").all_inner_texts() == ["0 19 %", "1 69 %", "2 13 %"]


def test_pointing_shows_the_assignment_and_lights_up_the_entity(layouts):
    canvas = layouts.locator(tile(1))
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 0.6, "y": box["height"] * 0.6})  # column 2, row 2: the planted row
    assert layouts.locator("#place").inner_text() == "Image 0, column 2, row 2: entity 2"
    assert layouts.locator("#bars .value").all_inner_texts() == ["15 %", "10 %", "75 %"]
    widths = [bar.bounding_box()["width"] for bar in layouts.locator("#bars .bar").all()]
    assert widths[2] == pytest.approx(5 * widths[0], rel=0.05)
    assert color_at(layouts, tile(1), 0, 2) == COLORS[2] and color_at(layouts, tile(1), 0, 0) == [0, 0, 0]
    assert color_at(layouts, tile(2), 0, 2) == [0, 0, 0]
    layouts.locator("header").hover()
    assert colors_of(layouts, tile(1)) == planted(2)


def test_slider_and_play_go_through_the_steps(layouts):
    for step in (0, 1):
        go_to(layouts, step)
        assert colors_of(layouts, tile(1)) == planted(step)
    layouts.click("#play")
    layouts.wait_for_function("document.querySelector('#step-name').textContent === '2'")
    layouts.click("#play")
    assert layouts.locator("#play").get_attribute("aria-pressed") == "false"


def test_keys_choose_step_entity_image_and_place(layouts):
    layouts.locator("body").press("ArrowLeft")
    is_shown(layouts, 1)
    assert colors_of(layouts, tile(1)) == planted(1)
    for key in "]]]":
        layouts.locator("body").press(key)
    assert layouts.locator("#entities [aria-pressed=true]").all_inner_texts() == ["2 13 %"]
    layouts.wait_for_function("document.querySelector('#history-name').innerText.startsWith('Entity 2 in image 0')")
    expected = [round(191 / 255 * value) for value in COLORS[2]]  # three quarters of the entity's colour
    np.testing.assert_allclose(color_at(layouts, tile(1), 3, 1), expected, atol=1)
    assert color_at(layouts, tile(1), 3, 0) == [0, 0, 0]
    # Over the steps: the row of the entity moves down.
    for number, row in ((1, 0), (2, 1), (3, 2)):
        found = color_at(layouts, f"#history figure:nth-child({number}) canvas", 0, row)
        np.testing.assert_allclose(found, expected, atol=1)
    layouts.locator("body").press("Escape")
    layouts.locator("body").press("ArrowDown")
    assert colors_of(layouts, "#large") == 4 * [4 * [COLORS[1]]]
    layouts.focus("#large")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):  # the first enters
        layouts.locator("#large").press(key)
    assert layouts.locator("#place").inner_text() == "Image 1, column 1, row 1: entity 1"


def test_dark_theme_follows_tensorboard(layouts, tab):
    def background():
        return layouts.evaluate("getComputedStyle(document.body).backgroundColor")

    assert background() == "rgb(255, 255, 255)"
    tab.evaluate("document.body.classList.add('dark-mode')")
    layouts.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(48, 48, 48)'")
    tab.evaluate("document.body.classList.remove('dark-mode')")
    layouts.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'")


def test_real_run_is_shown_too(layouts, tab):
    layouts.select_option("#run", "real")
    layouts.wait_for_function("document.querySelector('#layer').selectedOptions[0].text === 'network/attention'")
    layouts.wait_for_function("document.querySelectorAll('#tiles figure').length === 8")
    assert layouts.locator("#tiles figcaption").all_inner_texts() == [*"01234567"]
    assert len({str(color_at(layouts, tile(1), x, y)) for x in range(4) for y in range(4)}) > 1 and tab.problems == []
