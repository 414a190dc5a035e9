"""What a trainer says of data that cannot be used: one line with the file and what to do."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gan_test_case import ALONE, call_main, train_gan
from inpainting_test_case import SMALL


def write_images(folder):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            image = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(folder / name / f"{number}.png")


def last_error(caplog, run):
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "\n" not in message and "Traceback" not in message
    return message


def settings_of(folder):
    return f"{ALONE},task.model.num_classes=2," + ",".join(
        f"task.{data}.dataset=folder,task.{data}.path={folder}" for data in ("train_data", "validation_data")
    )


def test_corrupt_validation_image_is_one_line_whose_advice_works(tmp_path, caplog):
    for name in ("train", "test"):
        write_images(tmp_path / name)
    path = tmp_path / "test" / "a" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    override = settings_of(tmp_path)
    message = last_error(caplog, lambda: train_gan(tmp_path / "run", override=override))
    assert f"{path} cannot be read and decoded" in message
    assert message.endswith("To leave such images out, set task.validation_data.skip_corrupt=true.")
    train_gan(tmp_path / "run", override=f"{override},task.validation_data.skip_corrupt=true")


def test_flipped_bit_is_one_line(tmp_path, caplog):
    paths = [tmp_path / f"{split}-0" for split in ("train", "test")]
    for path in paths:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(16):
                image = tf.io.encode_png(tf.fill((8, 8, 1), tf.constant(number, tf.uint8))).numpy()
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    content = bytearray(paths[0].read_bytes())
    content[30] ^= 1
    paths[0].write_bytes(content)
    override = settings_of(tmp_path).replace("dataset=folder", "dataset=tfrecord")
    message = last_error(caplog, lambda: train_gan(tmp_path / "run", override=override))
    assert f"record 0 of {paths[0]}, whose data do not fit their checksum" in message
    assert message.endswith("To leave such images out, set task.train_data.skip_corrupt=true.")


def test_configuration_in_utf_16_is_named(tmp_path, caplog):
    path = tmp_path / "config.yaml"
    path.write_text("task: {model: {resolution: 8}}", encoding="utf-16")
    flags = {"experiment": "gan_digits32", "model_dir": tmp_path / "run", "config_file": path}
    assert f"{path} must be text in UTF-8" in last_error(caplog, lambda: call_main("trainers.train_gan", **flags))


def test_corrupt_mask_and_validation_image_of_inpainting_are_one_line(tmp_path, caplog):
    for name in ("train", "test"):
        write_images(tmp_path / name)
    path = tmp_path / "test" / "b" / "1.png"
    path.write_bytes(b"no image")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "broken.png").write_bytes(b"no mask")
    override = f"{SMALL},trainer.train_steps=2,trainer.steps_per_loop=1," + ",".join(
        f"task.{data}.dataset=folder,task.{data}.path={tmp_path}" for data in ("train_data", "validation_data")
    )
    flags = {"experiment": "inpainting_photos64", "model_dir": tmp_path / "run"}

    def run(more=""):
        call_main("trainers.train_inpainting", **flags, params_override=override + more)

    message = last_error(caplog, run)
    assert f"{path} cannot be read" in message and "set task.validation_data.skip_corrupt=true." in message
    caplog.clear()
    message = last_error(caplog, lambda: run(f",task.masks.kinds=[folder],task.masks.path={tmp_path / 'masks'}"))
    assert f"{tmp_path}/masks/broken.png cannot be read" in message and "take it out of `task.masks.path`" in message
