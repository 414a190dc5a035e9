"""A page to try exports on: paint a hole in a photograph and fill it, draw images of a class; layouts beside them.

python -m tools.playground
python -m tools.playground --saved_model=runs/inpainting/saved_model --saved_model=runs/demo/saved_model

Takes exports of `tools.export_saved_model` and `tools.convert_checkpoint`, at most one that fills holes and one that
draws; by default those in `pretrained`. A kind that is not there has no tab, and the page says so.

The page listens on this machine alone unless `--host` says otherwise: it knows no passwords. It needs no network and
sends nothing anywhere. Uploads have at most 32 MB. Of a photograph above `--max_megapixels` the generator sees so much
around the hole. What is uploaded and shown lies in a temporary folder that goes with the page; nothing else is written.
"""

import importlib.util
import os
import signal
import sys

from absl import app, flags, logging

from tools import program
from tools.exported import folders, generation, inpainting

FLAGS = flags.FLAGS

flags.DEFINE_multi_string("saved_model", [], "Folder of an export; twice for one of each kind.")
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets others in.")
flags.DEFINE_integer("port", 7860, "Port to listen on; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_float(
    "max_megapixels", 4.0, "That the generator sees at once. With 32 base channels each takes 0.8 GB.", lower_bound=0.01
)
program.define_flags()


def main(argv):
    program.run(argv, play, folders.FolderError, inpainting.InpaintError, generation.SampleError)


def play():
    """Serves the page until it is stopped."""
    if importlib.util.find_spec("gradio") is None:
        raise program.ToolError("The page needs Gradio: pip install '.[playground]'.")
    from tools.page import server

    program.take_device()
    tabs = load_tabs(FLAGS.saved_model or shipped())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes
    with server.temporary_folder():
        page = server.build(tabs.get("inpainting"), tabs.get("gan"))
        logging.info("The page is at %s. Ctrl-C ends it.", server.launch(page, FLAGS.host, FLAGS.port))
        try:
            server.wait()
        except KeyboardInterrupt:
            logging.info("The page is closed.")
        finally:
            page.close(verbose=False)


def shipped():
    """The exports that come with the clone; raises ToolError where there is none."""
    paths = [os.path.join(folders.PRETRAINED, name) for name in (folders.INPAINTING, folders.GENERATION)]
    paths = [path for path in paths if folders.is_saved_model(os.path.join(path, "saved_model"))]
    if not paths:
        raise program.ToolError(f"There is no export in {folders.PRETRAINED}. Name one: --saved_model=FOLDER.")
    return paths


def load_tabs(paths):
    """The tabs of exports, by application.

    Args:
        paths: of their folders.

    Raises:
        FolderError, InpaintError, SampleError: where one is no export.
        ToolError: where two are of one kind.
    """
    found = {}
    for path in paths:
        folder = folders.saved_model_in(path)
        metadata = folders.metadata_of(folder)
        kind = folders.application_of(metadata)
        if kind in found:
            what = {"inpainting": "fills holes", "gan": "draws images"}[kind]
            raise program.ToolError(f"--saved_model={path} is the second that {what}: name one of each kind.")
        found[kind] = load_tab(kind, folder, metadata)
    return found


def load_tab(kind, folder, metadata):
    """An `InpaintingTab` or a `GenerationTab`."""
    if kind == "inpainting":
        from tools.page.inpainting_tab import InpaintingTab

        return InpaintingTab(*inpainting.load(folder, False), FLAGS.max_megapixels)
    from tools.page.generation_tab import GenerationTab

    serve, latent_dim, _ = generation.load(folder, True)
    names = metadata.get("class_names") or [f"class {label}" for label in range(metadata["num_classes"])]
    return GenerationTab(serve, latent_dim, names)


if __name__ == "__main__":
    app.run(main)
