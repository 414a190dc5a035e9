"""Tests of tools/benchmarks/training.py."""

import re

import pytest
import tensorflow as tf
from absl.testing import flagsaver

from gan_test_case import small_params
from tools.benchmarks import timing
from tools.benchmarks import training as benchmark_training
from trainers import configs

pytestmark = pytest.mark.usefixtures("parsed_flags")


def test_times_a_step_of_each_network(capsys):
    with flagsaver.as_parsed(
        image_batches="32x2", base_channels="2", timed_calls="1", attention="none,attentive_normalization"
    ):
        benchmark_training.main(["training"])
    rows = re.findall(
        r"^\| 32 x 2 \| 1 \| off \| 1 \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["none", "attentive_normalization"]
    assert rows[0][2] == "1.00" and all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows)


def test_times_replicas_that_share_a_batch(capsys):
    with flagsaver.as_parsed(
        image_batches="8x2", base_channels="2", timed_calls="1", attention="none", replicas="2", steps_per_loop="2"
    ):
        benchmark_training.main(["training"])
    assert re.search(
        r"^\| 8 x 2 \| 2 \| off \| 2 \| none \| [\d.]+ \| 1\.00 \|$", capsys.readouterr().out, re.MULTILINE
    )


def test_times_steps_with_and_without_summaries(capsys, monkeypatch):
    params = small_params(trainer__summary_interval=2)
    monkeypatch.setattr(configs, "resolve", lambda *args, **kwargs: params)
    with flagsaver.as_parsed(image_batches="", summaries="gan_digits32", timed_calls="1"):
        benchmark_training.main(["training"])
    (row,) = re.findall(r"^\| gan_digits32 \| 2 \|(.*)\|$", capsys.readouterr().out, re.MULTILINE)
    without, with_summary, own, share, full, scalars, a_day = (float(cell) for cell in row.split("|"))
    assert without > 0 and 0 < own < with_summary and share == pytest.approx(100 * own / without, rel=0.5)
    assert full > scalars > 1 and a_day > 1


@pytest.mark.parametrize("name, value", [("steps_per_loop", "x"), ("replicas", "0"), ("replicas", "1,-2")])
def test_refuses_what_is_no_positive_integer(name, value, caplog):
    with flagsaver.as_parsed(**{name: value}), pytest.raises(SystemExit) as caught:
        benchmark_training.main(["training"])
    assert caught.value.code == 2
    assert f"--{name} must be positive integers. Received: --{name}={value}" in caplog.text


@pytest.mark.parametrize("replicas, batches", [("1,64", "8x64"), ("2", "8x3")])
def test_refuses_replicas_without_devices_or_a_share(replicas, batches, caplog):
    with flagsaver.as_parsed(replicas=replicas, image_batches=batches), pytest.raises(SystemExit) as caught:
        benchmark_training.main(["training"])
    assert caught.value.code == 2 and f"Received: --replicas={replicas}" in caplog.text


def test_times_the_input_pipeline_on_photographs(tmp_path):
    assert benchmark_training.pipeline_speed(16, 4, num_images=8) > 0
    benchmark_training.write_photographs(str(tmp_path / "train"), 3)
    paths = sorted(tmp_path.glob("train/*/*.jpg"))
    assert [str(path.relative_to(tmp_path)) for path in paths][::3] == ["train/0/0000.jpg", "train/1/0000.jpg"]
    pictures = [tf.io.decode_jpeg(path.read_bytes()).numpy() for path in paths]
    assert {picture.shape for picture in pictures} == {(375, 500, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 6


@pytest.mark.parametrize("size", ["32", "32x", "0x4", "32x4x4", "axb"])
def test_refuses_sizes(size):
    with pytest.raises(ValueError, match=f"RESOLUTIONxBATCH, as 32x16. Received: --image_batches={size}$"):
        benchmark_training.parsed_size(size)
    with flagsaver.as_parsed(image_batches=size), pytest.raises(SystemExit) as caught:
        benchmark_training.main(["training"])
    assert caught.value.code == 2


def test_times_in_turn():
    calls = []
    programs = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert set(timing.interleaved_medians(programs, 3)) == {"a", "b"}
    assert calls == ["a", "b"] * 3


def test_peak_memory_is_that_of_a_process_of_its_own():
    ballast = bytearray(3 * 2**30)  # which the other process must not count
    ballast[::4096] = b"1" * len(ballast[::4096])
    assert benchmark_training.own_peak_gib() > 3.0
    with flagsaver.as_parsed(base_channels="2"):
        peak = benchmark_training.peak_gib("8x2", "none")
    assert 0.2 < peak < 3.0
