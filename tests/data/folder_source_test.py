"""Folders of images: which files are taken, links, names of any bytes, and classes or none."""

import json
import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from trainers.configs.schema import DataConfig
from trainers.data import classes, folder_source, input_pipelines


def write(path, level=0, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(file, kind)


def opened(folder, num_classes=None):
    return input_pipelines.open_source(DataConfig("folder", path=str(folder), split="."), 4, num_classes)


def names_of(source, folder):
    names = [os.fsdecode(source.name_of(index).numpy()) for index in range(source.num_images)]
    return [os.path.relpath(name, folder) for name in names]


def test_links_to_folders_above_and_to_each_other_end(tmp_path):
    data = tmp_path / "above" / "data"
    write(data / "a" / "one.png")
    write(data / "b" / "two.png")
    write(tmp_path / "above" / "other" / "no.png")
    for place, target in (("a/up", ".."), ("a/top", "../.."), ("a/self", "."), ("b/to_a", "../a"), ("loop", ".")):
        (data / place).symlink_to(target, target_is_directory=True)
    found = opened(data, 2)
    assert names_of(found, data) == ["a/one.png", "b/two.png"] and found.class_names == ("a", "b")
    assert names_of(opened(data), data) == ["a/one.png", "b/two.png"]


def test_links_to_folders_elsewhere_are_followed_once(tmp_path):
    write(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name in ("first", "second"):
        (tmp_path / "data" / "a" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names_of(opened(tmp_path / "data"), tmp_path / "data") == ["a/first/one.png"]


def test_all_kinds_are_taken_and_the_rest_is_counted_and_named_once(tmp_path, caplog):
    kinds = {"a.bmp": "BMP", "b.GIF": "GIF", "c.tif": "TIFF", "d.avif": "AVIF", "e.jfif": "JPEG", "f.jpe": "JPEG"}
    other_names = {"g.dat": "PNG", "h": "JPEG", "i.jpg": "TIFF", "j.png": "BMP", "k.x": "WEBP", "l.y": "AVIF"}
    for level, (name, kind) in enumerate({**kinds, **other_names}.items()):
        write(tmp_path / "some" / name, level * 20, kind)
    for name in ("notes.txt", "clip.mp4", ".hidden"):
        (tmp_path / "some" / name).write_bytes(b"no picture at all")
    folder_source.open_folder.cache_clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        source = opened(tmp_path)
        opened(tmp_path)
    assert names_of(source, tmp_path) == [f"some/{name}" for name in sorted({**kinds, **other_names})]
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"Left out of {tmp_path}: 2 of 14 files" in message and message.endswith("some/clip.mp4, some/notes.txt.")
    images, _ = input_pipelines.load_arrays(DataConfig("folder", path=str(tmp_path), split="."), 4)
    np.testing.assert_allclose((images[:, 0, 0, 0] + 1) * 127.5, 20 * np.arange(12), atol=4)


def test_images_beside_the_class_folders_are_counted(tmp_path, caplog):
    write(tmp_path / "a" / "one.png")
    write(tmp_path / "loose.png")
    folder_source.open_folder.cache_clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert names_of(opened(tmp_path, 1), tmp_path) == ["a/one.png"]
    assert f"Left out of {tmp_path}: 1 images that lie in no class folder" in caplog.text


def test_broken_files_are_told_as_they_are_called(tmp_path, capfd):
    write(tmp_path / "a" / "one.png")
    path = tmp_path / "a" / "größe [1], 'x'.webp"
    path.write_bytes(b"RIFF    WEBP and nothing more")
    with pytest.raises(ValueError, match="^" + re.escape(f"{path} cannot be read and decoded as PNG")):
        input_pipelines.load_arrays(DataConfig("folder", path=str(tmp_path), split="."), 4)
    assert "Traceback" not in capfd.readouterr().err


def test_names_that_are_not_utf_8_are_read_and_told(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.makedirs(folder)
    with open(folder + b"/\xfcber.png", "wb") as file:
        Image.fromarray(np.full((4, 4, 3), 255, np.uint8)).save(file, "PNG")
    data = DataConfig("folder", path=str(tmp_path), split=".")
    images, labels = input_pipelines.load_arrays(data, 4, num_classes=1)
    assert images.min() == 1.0 and list(labels) == [0]
    with open(folder + b"/\xfcber.png", "wb") as file:
        file.write(b"no picture")
    with pytest.raises(ValueError, match=r"caf\\xe9/\\xfcber.png cannot be read and decoded"):
        input_pipelines.load_arrays(data, 4, num_classes=1)


@pytest.mark.parametrize("num_classes", [0, 1])
def test_folder_without_classes_is_one_class_where_wanted(tmp_path, num_classes):
    write(tmp_path / "one.png")
    write(tmp_path / "two.png")
    source = opened(tmp_path, num_classes)
    assert source.num_images == 2 and source.num_classes == 1 and source.class_names is None
    with pytest.raises(ValueError, match="must hold a folder for each class.*num_classes=1"):
        opened(tmp_path, 2)


@pytest.mark.parametrize("dataset", ["folder", "tfrecord"])
def test_bucket_is_named_as_it_was_given(dataset):
    with pytest.raises(ValueError, match="mount the bucket. Received: gs://bucket/images"):
        input_pipelines.open_source(DataConfig(dataset, path="gs://bucket/images"), 4, 2)


def refusing(folder):
    """`os.scandir` of a user who must not read a folder."""

    def scandir(path="."):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(path)

    real = os.scandir
    return scandir


@pytest.mark.parametrize("place", [".", "a", "a/deeper"])
def test_folder_that_must_not_be_read_is_named(tmp_path, monkeypatch, place):
    """Its images would be left out without a word."""
    write(tmp_path / "a" / "one.png")
    write(tmp_path / "a" / "deeper" / "two.png")
    monkeypatch.setattr(os, "scandir", refusing(tmp_path / place))
    with pytest.raises(ValueError, match=f"^The folder {tmp_path / place} cannot be read: Permission denied.$"):
        opened(tmp_path, 1)


def test_place_above_a_missing_folder_may_be_closed(tmp_path, monkeypatch):
    def listdir(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(ValueError, match=f"no folder {tmp_path}/none. {tmp_path} cannot be read: Permission denied."):
        opened(tmp_path / "none")


def test_folders_that_systems_make_are_no_classes_and_hold_no_images(tmp_path):
    write(tmp_path / "a" / "one.png")
    write(tmp_path / "b" / "two.png")
    write(tmp_path / "a" / "@eaDir" / "one.png" / "SYNOPHOTO_THUMB_M.jpg", kind="JPEG")
    write(tmp_path / "__MACOSX" / "a" / "one.png")
    (tmp_path / "lost+found").mkdir()
    found = opened(tmp_path, 0)
    assert found.class_names == ("a", "b") and names_of(found, tmp_path) == ["a/one.png", "b/two.png"]
    assert found.num_images == opened(tmp_path).num_images


def test_names_of_classes_are_the_same_however_a_system_writes_them(tmp_path):
    """A Mac takes an accent for a letter of its own, which changes the order: fa\u0301 is before fb, f\xe1 is not."""
    for folder, accent in (("linux", "\xe1"), ("mac", "a\u0301")):
        for name in ("fb", f"f{accent}"):
            write(tmp_path / folder / name / "one.png")
    linux, mac = (opened(tmp_path / folder, 2) for folder in ("linux", "mac"))
    assert linux.class_names == mac.class_names == ("fb", "f\xe1")
    assert names_of(mac, tmp_path / "mac") == ["fb/one.png", "fa\u0301/one.png"]
    (tmp_path / "class_names.json").write_text(json.dumps(["fb", "fa\u0301"]))
    classes.check_names(str(tmp_path), linux.class_names, "data")


def test_pipe_among_the_images_is_not_waited_for(tmp_path):
    write(tmp_path / "one.png")
    os.mkfifo(tmp_path / "pipe")
    code = "import sys; from trainers.data import picture_files; print(picture_files.chosen('.', sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(tmp_path / "one.png"), str(tmp_path / "pipe")]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert found.stdout.strip() == f"['{tmp_path}/one.png']"


def test_name_of_a_file_stays_on_its_line(tmp_path, caplog):
    write(tmp_path / "one.png")
    (tmp_path / "a\nb\x1b[31m.png").write_bytes(b"no picture")
    (tmp_path / "c\nd.txt").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, logger="absl"):
        opened(tmp_path)
    assert r"c\nd.txt" in caplog.records[-1].getMessage()
    with pytest.raises(ValueError, match=re.escape(rf"{tmp_path}/a\nb\x1b[31m.png cannot be read and decoded")):
        input_pipelines.load_arrays(DataConfig("folder", path=str(tmp_path), split="."), 4)


def test_image_that_is_left_out_is_told_once_however_often_it_is_read(tmp_path, caplog):
    write(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"no picture")
    data = DataConfig("folder", path=str(tmp_path), split=".", skip_corrupt=True)
    for _ in range(2):  # by training, and by the classifier that scores
        assert len(input_pipelines.load_arrays(data, 4)[1]) == 1
    assert [record.getMessage()[:20] for record in caplog.records] == ["Left out, 1 so far: "]


def test_names_of_classes_stay_on_their_line(tmp_path):
    write(tmp_path / "a\nb" / "one.png")
    with pytest.raises(ValueError, match=r"1 \(a\\nb\). Received: 5"):
        opened(tmp_path, 5)
    with pytest.raises(ValueError, match=r"there are: a\\nb"):
        opened(tmp_path / "none")
    (tmp_path / "class_names.json").write_text('["a\\nc"]')
    with pytest.raises(ValueError, match=r"place: a\\nc. Received: a\\nb. Name"):
        classes.check_names(str(tmp_path), ("a\nb",), "data")
