"""Makes the pictures of TensorBoard and of the playground in the documentation.

python -m tools.screenshots --runs_dir=runs/monitoring --output_dir=docs/images
python -m tools.screenshots --saved_model=runs/inpainting/saved_model --saved_model=runs/demo/saved_model

The first shows a healthy run in TensorBoard and sick ones made on purpose.

It trains what is not there yet, 1,400 steps of the demo and 600 each of the others, and looks at the runs in Chromium,
for which it needs Playwright. For each run it writes `monitoring_<run>.png`, the page Layouts, and for each sick one
`monitoring_<run>_charts.png`, charts of the page Custom Scalars beside those of the healthy one. `tensorboard.png` is
the README's. The second shows exports in the playground: `playground_inpaint.jpg`, `playground_generate.png`.
"""

import io
import os
import shutil
import subprocess
import sys

from absl import app, flags

from tools import playground  # also for its flag --saved_model

FLAGS = flags.FLAGS

flags.DEFINE_string("runs_dir", "runs/monitoring", "Folder of the runs.")
flags.DEFINE_string("output_dir", "docs/images", "Folder of the pictures.")
flags.DEFINE_string("chromium", None, "Path of the browser; by default the `chromium` of the PATH.")

HEALTHY = "healthy"
_SHORT = "trainer.train_steps=600"


def of_both(setting):
    """Overrides of a setting of both networks."""
    return ",".join(f"task.model.{network}.{setting}" for network in ("generator", "discriminator"))


# Overrides of `gan_digits32`.
RUNS = {
    HEALTHY: "",
    "w_near_zero": f"{_SHORT},{of_both('entity_stddev=0.01')}",
    "rates_times_10": f"{_SHORT},trainer.generator_optimizer.learning_rate=5e-3,"
    "trainer.discriminator_optimizer.learning_rate=1e-2",
    "no_sampling": f"{_SHORT},{of_both('self_sampling=false')}",
    "collapsed": f"{_SHORT},trainer.generator_optimizer.learning_rate=5e-3,"
    "trainer.discriminator_optimizer.learning_rate=1e-4",
}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {argv[1:]}")
    os.makedirs(FLAGS.output_dir, exist_ok=True)
    if FLAGS.saved_model:
        take_pictures_of_playground()
        return
    for name, overrides in RUNS.items():
        train(name, overrides)
    take_pictures()


def train(name, overrides):
    """Trains a run; one that is done says so."""
    command = [sys.executable, "-m", "trainers.train_gan", "--experiment=gan_digits32", "--mode=train_and_eval"]
    folder = os.path.join(FLAGS.runs_dir, name)
    subprocess.run([*command, f"--model_dir={folder}", f"--params_override={overrides}"], check=True)


def launch_tensorboard(*names):
    """The address of a TensorBoard that shows some runs."""
    from tensorboard import default, program

    server = program.TensorBoard(default.get_plugins())
    spec = ",".join(f"{name}:{os.path.join(FLAGS.runs_dir, name)}" for name in names)
    server.configure(argv=["", "--logdir_spec", spec, "--port", "0", "--load_fast", "false"])
    return server.launch()


def take_pictures():
    from playwright import sync_api

    with sync_api.sync_playwright() as engine:
        browser = launch_chromium(engine)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        page.goto(f"{launch_tensorboard(*RUNS)}#keras_an_layouts")
        frame = page.wait_for_selector("iframe").content_frame()
        frame.wait_for_selector("#tiles figure")
        for name in RUNS:
            choose_layer(frame, name, "interactive/generator/block2_attention")
            save(page.locator("iframe:visible").screenshot(), f"monitoring_{name}")
        choose_layer(frame, HEALTHY, "interactive/discriminator/block1_attention")
        frame.locator("#large").hover(position={"x": 270, "y": 120})
        save(page.screenshot(), "tensorboard")
        page.set_viewport_size({"width": 1280, "height": 2250})
        for name in list(RUNS)[1:]:
            page.goto("about:blank")
            page.goto(f"{launch_tensorboard(HEALTHY, name)}#custom_scalars")
            page.get_by_text("Generator against discriminator").wait_for()
            page.wait_for_timeout(8000)
            clip = {"x": 330, "y": 72, "width": 720, "height": 2170}
            save(page.screenshot(clip=clip), f"monitoring_{name}_charts", colors=64)
        browser.close()


def launch_chromium(engine):
    path = FLAGS.chromium or shutil.which("chromium")
    return engine.chromium.launch(executable_path=path, args=["--no-sandbox"])


def take_pictures_of_playground():
    from playwright import sync_api

    from tools.page import server

    tabs = playground.load_tabs(FLAGS.saved_model)
    with server.temporary_folder() as folder, sync_api.sync_playwright() as engine:
        served = server.build(tabs.get("inpainting"), tabs.get("gan"))
        page = launch_chromium(engine).new_page(viewport={"width": 1280, "height": 720})
        page.goto(server.launch(served, "127.0.0.1", 0))
        if "inpainting" in tabs:
            fill_photograph(page, folder)
            save(page.screenshot(full_page=True), "playground_inpaint.jpg")
        if "gan" in tabs:
            page.get_by_role("tab", name="Generate").click()
            page.click("#interpolate")
            page.wait_for_selector("#strip img")
            page.wait_for_timeout(1000)
            save(page.screenshot(full_page=True), "playground_generate")
        page.context.browser.close()
        served.close(verbose=False)


def fill_photograph(page, folder):
    """Drops a photograph of scikit-learn, paints over the lake and the sky, and fills that."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    path = os.path.join(folder, "china.png")
    Image.fromarray(load_sample_image("china.jpg")).save(path)
    page.set_input_files("#photograph input[type=file]", path)
    page.wait_for_selector("#editor button[aria-label=Undo]:enabled")  # the photograph is there
    page.wait_for_timeout(1000)
    box = page.locator("#editor canvas").first.bounding_box()
    for stroke in (((0.6, 0.25), (0.75, 0.3), (0.85, 0.26)), ((0.62, 0.52), (0.7, 0.56), (0.78, 0.5))):
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=10)
        page.mouse.up()
        page.wait_for_timeout(500)
    page.click("#fill")
    page.wait_for_selector("#fill-layouts img")
    page.wait_for_timeout(1000)


def choose_layer(frame, run, tag):
    """Shows a layer of a run at its last step."""
    frame.select_option("#run", f"{run}/train")
    frame.wait_for_timeout(1000)
    frame.select_option("#layer", tag)
    frame.wait_for_timeout(5000)


def save(picture, name, colors=None):
    """Writes the bytes of a picture, as PNG unless its name says otherwise, with as many colours as are told or all."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image = image.quantize(colors) if colors else image
    name = name if "." in name else f"{name}.png"
    image.save(os.path.join(FLAGS.output_dir, name), optimize=True, quality=90)


if __name__ == "__main__":
    app.run(main)
