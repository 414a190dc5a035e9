"""The tab that fills a hole which a person paints."""

import os

import numpy as np

from tools.exported import inpainting
from tools.page.errors import PageError, told
from tools.page.tiles import grid, layout_tiles
from trainers.data import picture_files

MAX_MEGAPIXELS = 128.0  # of a photograph, which takes 3 bytes a pixel some times over
# Of what the brush paints on: the browser sends it back at each stroke. Larger photographs are shown smaller.
PREVIEW_SIDE = 1024
BACKGROUND = (255, 255, 255)  # under transparent photographs, as `tools.inpaint` has it by default
BRUSH = "rgb(230, 60, 160)"  # rare in photographs, and none of the entities' colours


class InpaintingTab:
    """Takes a photograph and a painted hole, shows the completed picture and its layout.

    The photograph is read from the very file that was dropped, of which known pixels come back bit for bit; what the
    brush paints on is a picture of it, from which the hole alone is taken.

    Args:
        fill, channels: of `tools.exported.inpainting.load`.
        max_megapixels: that the generator sees, around the hole of larger photographs.
    """

    def __init__(self, fill, channels, max_megapixels):
        self._fill = fill
        self._channels = channels
        self._max_megapixels = max_megapixels

    def read(self, path):
        """The `Picture` of a file; raises PageError, which names it, where it is too large or cannot be read."""
        name = picture_files.shown(os.path.basename(path))
        width, height = _size_of(path)
        if width * height > MAX_MEGAPIXELS * 1e6:
            raise PageError(
                f"A photograph must have at most {MAX_MEGAPIXELS:g} megapixels. Received: {name} of {width} x "
                f"{height}. Make it smaller."
            )
        try:
            return inpainting.read_picture(path, self._channels)
        except inpainting.InpaintError as error:
            raise PageError(str(error).replace(path, name)) from error

    def preview(self, path):
        """What the brush paints on: uint8 (height, width, 3), at most PREVIEW_SIDE long."""
        picture = self.read(path)
        seen = picture.seen(BACKGROUND)
        step = max(seen.shape[:2]) / PREVIEW_SIDE
        if step > 1.0:
            seen = seen[_nearest(seen.shape[0], round(seen.shape[0] / step))]
            seen = seen[:, _nearest(seen.shape[1], round(seen.shape[1] / step))]
        return np.broadcast_to(seen, (*seen.shape[:2], 3))

    def fill(self, path, painted):
        """Fills the hole.

        Args:
            path: of the photograph, or None.
            painted: value of the `gradio.ImageEditor`.

        Returns:
            The completed picture, a Pillow image, and the layout of what the generator saw of it as HTML, empty where
            it has none.
        """
        if path is None:
            raise PageError("Drop a photograph first.")
        picture = self.read(path)
        mask = hole_of(painted, *picture.pixels.shape[:2])
        window = self._window(mask)
        outputs = self._fill(picture.seen(BACKGROUND)[window][None], mask[window][None])
        pixels = picture.completed(mask, outputs["completed"][0], window)
        image = picture.as_image(pixels)
        if picture.profile:
            image.info["icc_profile"] = picture.profile  # which Pillow writes
        if "layout" not in outputs:
            return image, ""
        layout = outputs["layout"][0]
        tiles = layout_tiles(inpainting.covered(pixels[window], layout), layout)
        return image, grid(tiles, "Layout: where each entity of Attentive Normalization rules", 90)

    def _window(self, mask):
        window = inpainting.window_around(mask, int(self._max_megapixels * 1e6))
        if window is None:
            raise PageError(
                f"All that is painted, with {inpainting.MARGIN} pixels around it, must span at most "
                f"{self._max_megapixels:g} megapixels. Paint one place at a time, or start the page with a larger "
                "--max_megapixels."
            )
        return window

    def add(self):
        """Adds the tab's components to the `gradio.Blocks` around."""
        import gradio as gr

        with gr.Row():
            with gr.Column():
                photograph = gr.File(
                    label="1. Drop a photograph",
                    file_types=list(picture_files.endings()),
                    height=180,
                    elem_id="photograph",
                )
                with gr.Column(visible=False) as steps:
                    editor = gr.ImageEditor(
                        label="2. Paint over what is to be filled",
                        sources=(),
                        transforms=(),
                        layers=False,
                        brush=gr.Brush(default_size=24, colors=[BRUSH], color_mode="fixed"),
                        format="png",
                        height=460,
                        buttons=[],
                        elem_id="editor",
                    )
                    button = gr.Button("3. Fill", variant="primary", elem_id="fill")
            with gr.Column():
                completed = gr.Image(
                    label="Completed: known pixels are the photograph's own",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="completed",
                )
                layouts = gr.HTML(elem_id="fill-layouts")

        shown = [steps, editor, completed, layouts]

        def clear():
            return gr.update(visible=False), None, None, ""

        @told
        def show(path):
            if path is None:
                return gr.skip(), gr.skip()
            return gr.update(visible=True), {"background": self.preview(path), "layers": [], "composite": None}

        # Before a photograph that may be refused, what was there of another goes.
        photograph.change(clear, None, shown, api_visibility="private").then(
            show, photograph, [steps, editor], api_visibility="private"
        )
        button.click(told(self.fill), [photograph, editor], [completed, layouts], api_visibility="private")


def hole_of(painted, height, width):
    """The mask of what is painted, uint8 (height, width, 1), 1 = missing: whatever the brush touched.

    Raises:
        PageError: where that is nothing or everything.
    """
    mask = np.zeros((height, width), bool)
    for layer in (painted or {}).get("layers") or ():
        alpha = layer[..., 3]
        mask |= alpha[_nearest(alpha.shape[0], height)][:, _nearest(alpha.shape[1], width)] > 0
    if not mask.any():
        raise PageError("Paint over what is to be filled: nothing is painted.")
    if mask.all():
        raise PageError("Leave something unpainted: everything is painted, and nothing is left to fill it from.")
    return mask[..., None].astype(np.uint8)


def _nearest(old, new):
    """The indices at which `old` positions are taken for `new` ones."""
    return ((np.arange(new) + 0.5) * old / new).astype(int)


def _size_of(path):
    """Width and height of a picture, from the start of its file; 0 where it does not tell."""
    from PIL import Image

    try:
        with Image.open(path, formats=picture_files.formats()) as image:
            return image.size
    except Exception:  # Pillow's decoders raise most kinds there are; to read the picture says what is wrong
        return 0, 0
