"""The tab that draws images of a class."""

import numpy as np

from tools.exported.generation import draw_latents, interpolated
from tools.page.errors import PageError, told
from tools.page.tiles import Tile, grid, layout_tiles

STEPS = 8  # images from one seed to the other
MAX_SEED = 2**31 - 1


class GenerationTab:
    """Draws the image of a class and a seed with its layouts, and what lies between two seeds.

    The image is the first that `tools.sample` draws with this `--labels`, `--seed` and `--truncation`.

    Args:
        serve, latent_dim: of `tools.exported.generation.load`.
        names: of the classes, strings.
    """

    def __init__(self, serve, latent_dim, names):
        self._serve = serve
        self._latent_dim = latent_dim
        self._names = names

    def draw(self, label, seed, truncation):
        """The image, uint8 (height, width, 3), and its layouts as HTML, empty where the generator has none."""
        pixels, outputs = self._images(self._latent(seed, truncation)[None], [label])
        names = sorted((name for name in outputs if name.startswith("layouts")), key=lambda name: (len(name), name))
        layouts = ""
        for number, name in enumerate(names, 1):
            of = f" of layer {number}" if len(names) > 1 else ""
            title = f"Layout{of}: where each entity of Attentive Normalization rules"
            layouts += grid(layout_tiles(pixels[0], outputs[name][0]), title, 90)
        return pixels[0], layouts

    def interpolate(self, label, seed, last_label, last_seed, truncation):
        """STEPS images from one seed to the other, as HTML.

        A class is a whole number and cannot be halfway: of two classes, each has a row.
        """
        latents = interpolated(self._latent(seed, truncation), self._latent(last_seed, truncation), STEPS)
        rows = []
        for row in [label] if label == last_label else [label, last_label]:
            pixels, _ = self._images(latents, [row] * STEPS)
            captions = [f"seed {seed}", *(f"{at} / {STEPS - 1}" for at in range(1, STEPS - 1)), f"seed {last_seed}"]
            rows.append(grid(map(Tile, pixels, captions), self._names[row], 95))
        return "".join(rows)

    def _latent(self, seed, truncation):
        if seed is None or not 0 <= seed <= MAX_SEED:
            raise PageError(f"A seed must be an integer from 0 to {MAX_SEED}. Received: {seed}")
        return draw_latents([0], self._latent_dim, int(seed), float(truncation))[0]

    def _images(self, latents, labels):
        """uint8 (images, height, width, 3), and all outputs."""
        from trainers.monitoring.pictures import to_uint8

        if any(label is None for label in labels):
            raise PageError("Choose a class.")
        outputs = self._serve(latents, np.array(labels, np.int32))
        return to_uint8(outputs["images"]), outputs

    def add(self, page):
        """Adds the tab's components to `page`, the `gradio.Blocks` around; a first image is drawn when it opens."""
        import gradio as gr

        classes = [(name, label) for label, name in enumerate(self._names)]
        seeds = {"precision": 0, "minimum": 0, "maximum": MAX_SEED, "min_width": 80}
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                label = gr.Dropdown(classes, value=0, label="Class", elem_id="class")
                seed = gr.Number(0, label="Seed", elem_id="seed", **seeds)
                truncation = gr.Slider(
                    0.1, 2.0, 1.0, step=0.05, label="Truncation", info="Below 1: better, less varied."
                )
                with gr.Row():
                    another = gr.Button("New seed", min_width=80)
                    button = gr.Button("Draw", variant="primary", min_width=80, elem_id="draw")
            image = gr.Image(
                label="Image",
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                scale=1,
                min_width=260,
                height=360,
                elem_id="drawn",
            )
            with gr.Column(scale=2):
                layouts = gr.HTML(elem_id="draw-layouts")
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                last_label = gr.Dropdown(
                    classes, value=min(1, len(classes) - 1), label="And class", elem_id="last-class"
                )
                last_seed = gr.Number(1, label="To seed", elem_id="last-seed", **seeds)
                between = gr.Button("Interpolate", elem_id="interpolate")
            with gr.Column(scale=3):
                strip = gr.HTML(elem_id="strip")
        one, drawn = [label, seed, truncation], [image, layouts]
        two = [label, seed, last_label, last_seed, truncation]
        button.click(told(self.draw), one, drawn, api_visibility="private")
        another.click(
            lambda: int(np.random.default_rng().integers(MAX_SEED)), None, seed, api_visibility="private"
        ).then(told(self.draw), one, drawn, api_visibility="private")
        between.click(told(self.interpolate), two, strip, api_visibility="private")
        page.load(told(self.draw), one, drawn, api_visibility="private")
