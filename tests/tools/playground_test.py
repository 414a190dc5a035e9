"""The playground without a browser: the exports that it takes, how it starts and ends."""

import importlib.util
import json
import logging
import os
import shutil
import signal
import urllib.request

import pytest

from gan_test_case import imported_main
from inpainting_test_case import write_generator
from tools.exported import folders
from tools.page import server

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs Gradio: pip install '.[playground]'"
)


def note(folder, **metadata):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keras_an_export.json").write_text(json.dumps(metadata), encoding="utf-8")


def test_export_is_found_with_its_metadata_in_the_folder_or_beside_it(tmp_path):
    note(tmp_path / "exported", application="inpainting")
    (tmp_path / "exported" / "saved_model.pb").write_bytes(b"")
    assert folders.saved_model_in(str(tmp_path / "exported")) == str(tmp_path / "exported")
    note(tmp_path / "converted", num_classes=3)
    (tmp_path / "converted" / "saved_model").mkdir()
    (tmp_path / "converted" / "saved_model" / "saved_model.pb").write_bytes(b"")
    inner = folders.saved_model_in(str(tmp_path / "converted"))
    assert inner == folders.saved_model_in(inner) == str(tmp_path / "converted" / "saved_model")
    kinds = [folders.application_of(folders.metadata_of(path)) for path in (str(tmp_path / "exported"), inner)]
    assert kinds == ["inpainting", "gan"] and folders.metadata_of(str(tmp_path)) == {}
    assert folders.application_of({}) == "inpainting"


@pytest.fixture(scope="module")
def fills(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("fills") / "saved_model")


def play(*paths, **flag_values):
    """Runs the tool."""
    with imported_main("tools.playground") as module:
        arguments = [f"--saved_model={path}" for path in paths]
        try:
            module.FLAGS(["playground", *arguments, *(f"--{name}={value}" for name, value in flag_values.items())])
            module.main(["playground"])
        finally:
            module.FLAGS.unparse_flags()


def refusal(caplog, *paths, **flag_values):
    """What the tool says where it ends with 2."""
    caplog.clear()
    with pytest.raises(SystemExit) as caught:
        play(*paths, **flag_values)
    assert caught.value.code == 2
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "\n" not in message
    return message


@needs_gradio
def test_what_is_no_export_is_refused(fills, tmp_path, caplog):
    assert f"--saved_model={tmp_path} is no SavedModel" in refusal(caplog, tmp_path)
    damaged = shutil.copytree(fills, tmp_path / "damaged")
    (damaged / "saved_model.pb").write_bytes(b"\xff")
    assert f"--saved_model={damaged} does not load" in refusal(caplog, damaged)
    note(damaged, num_classes=3)
    assert f"--saved_model={damaged} does not load as a generator" in refusal(caplog, damaged)


@needs_gradio
def test_two_exports_of_a_kind_and_none_at_all_are_refused(fills, tmp_path, caplog, monkeypatch):
    message = refusal(caplog, fills, fills)
    assert message == f"--saved_model={fills} is the second that fills holes: name one of each kind."
    monkeypatch.setattr(folders, "PRETRAINED", str(tmp_path))
    assert "Name one: --saved_model=FOLDER." in refusal(caplog)


def test_without_gradio_its_extra_is_named(fills, caplog, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refusal(caplog, fills) == "The page needs Gradio: pip install '.[playground]'."


@pytest.fixture
def handlers():
    """Signals are as they were again, after a test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@needs_gradio
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("handlers")
def test_page_answers_until_a_signal_and_leaves_no_file(fills, tmp_path, monkeypatch, sent):
    launch, seen = server.launch, {}

    def launch_and_note(*arguments):
        seen["address"] = launch(*arguments)
        return seen["address"]

    def look():
        seen["page"] = urllib.request.urlopen(seen["address"]).read().decode()
        seen["files"] = list(tmp_path.iterdir())
        os.kill(os.getpid(), sent)

    monkeypatch.setattr(server, "launch", launch_and_note)
    monkeypatch.setattr(server, "wait", look)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if sent == signal.SIGTERM:
        with pytest.raises(SystemExit) as caught:
            play(fills, port=0)
        assert caught.value.code == 0
    else:
        play(fills, port=0)
    assert seen["address"].startswith("http://127.0.0.1:") and "There is no tab that draws images" in seen["page"]
    assert [path.name[:20] for path in seen["files"]] == ["keras_an_playground_"]
    assert os.environ["GRADIO_TEMP_DIR"] == str(seen["files"][0]) and list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        urllib.request.urlopen(seen["address"])


@needs_gradio
def test_port_that_is_taken_is_told(fills, caplog):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "Cannot find empty port" in refusal(caplog, fills, port=taken.getsockname()[1])
