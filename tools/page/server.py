"""Serves the page on this machine: no request to another, no file that stays.

Gradio keeps what is uploaded and shown as files, which the page asks for. They lie in a temporary folder of their own;
those of an hour ago go while the page runs, the folder at its end.
"""

import contextlib
import os
import tempfile
import threading

from tools.page import tiles

MAX_BYTES = 32 * 2**20  # of an upload
_HOUR = 3600
CSS = "#drawn img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }" + tiles.CSS


@contextlib.contextmanager
def temporary_folder():
    """A context in which Gradio's files lie in a folder that goes with it. Enter it before Gradio makes anything."""
    with tempfile.TemporaryDirectory(prefix="keras_an_playground_") as folder:
        os.environ.update(
            GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1"
        )
        yield folder


def build(inpainting_tab, generation_tab):
    """The page, a `gradio.Blocks`.

    Args:
        inpainting_tab, generation_tab: each of them, or None where there is no such export.
    """
    import gradio as gr

    with gr.Blocks(title="keras_an", analytics_enabled=False, delete_cache=(_HOUR // 6, _HOUR)) as page:
        gr.Markdown("## keras_an: Attentive Normalization")
        with gr.Tabs():
            if inpainting_tab:
                with gr.Tab("Inpaint"):
                    inpainting_tab.add()
            if generation_tab:
                with gr.Tab("Generate"):
                    generation_tab.add(page)
        if not inpainting_tab:
            gr.Markdown(
                "There is no tab that fills holes: start the page with `--saved_model` of an inpainting export."
            )
        if not generation_tab:
            gr.Markdown("There is no tab that draws images: start the page with `--saved_model` of a GAN's export.")
    page.queue(default_concurrency_limit=1, max_size=16)  # one at a time takes the memory of one
    return page


def launch(page, host, port):
    """Serves a page of `build` in threads of its own, and returns its address.

    Args:
        page: the `gradio.Blocks`, which `close()` ends.
        host, port: where it listens. Port 0 is the first free one from 7860 on.

    Raises:
        OSError: where the port is taken.
    """
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no download
    _, address, _ = page.launch(
        server_name=host,
        server_port=port or None,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(primary_hue="orange", **fonts),
        css=CSS,
    )
    return address


def wait():
    """Waits for a signal."""
    threading.Event().wait()
