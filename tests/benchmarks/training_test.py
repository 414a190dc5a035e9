"""Tests of tools/benchmarks/training.py."""

import pathlib
import re

import pytest
import tensorflow as tf
from absl.testing import flagsaver

from gan_test_case import small_params
from tools import program
from tools.benchmarks import timing, training_steps, two_versions
from tools.benchmarks import training as benchmark_training
from trainers import configs

pytestmark = pytest.mark.usefixtures("parsed_flags")


def test_times_a_step_of_each_network(capsys):
    """Takes 20 seconds: two GANs of 32 pixels are traced."""
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


def test_times_one_replica_with_and_without_mirrored_strategy(capsys):
    with flagsaver.as_parsed(
        image_batches="8x2", base_channels="2", timed_calls="1", attention="none", mirrored="true"
    ):
        benchmark_training.main(["training"])
    assert re.findall(r"^\| 8 x 2 \| ([^|]+) \| off", capsys.readouterr().out, re.MULTILINE) == ["1", "1, mirrored"]


def test_exponents_are_those_of_powers(capsys):
    sizes = (32, 64, 128)
    measured = [({"resolution": size, "attention": "none"}, 1e-6 * size**2) for size in sizes]
    measured += [({"resolution": size, "attention": "self_attention"}, 1e-6 * size**2 + size**4) for size in sizes]
    with flagsaver.as_parsed(attention="none,self_attention"):
        benchmark_training.print_exponents("time", measured)
        benchmark_training.print_exponents("time", measured[3:])
    rows = re.findall(r"^\| (none|self_attention) \| (.*) \|$", capsys.readouterr().out, re.MULTILINE)
    assert rows[:2] == [("none", "1.00 |"), ("self_attention", "2.00 | 2.00")]
    assert rows[-1] == ("self_attention", "2.00 |")


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
    assert benchmark_training.peak_gib() > 3.0
    with flagsaver.as_parsed(base_channels="2"):
        peak = benchmark_training.process_peak_gib("8x2", "none")
    assert 0.2 < peak < 3.0


def test_times_both_phases_of_inpainting(capsys):
    with flagsaver.as_parsed(
        kinds="reconstruction,adversarial", image_batches="32x2", base_channels="4", timed_calls="1", attention="none"
    ):
        benchmark_training.main(["training"])
    rows = re.findall(
        r"^\| 32 x 2 \| 1 \| off \| 1 \| none \| [\d.]+ \| 1\.00 \|$", capsys.readouterr().out, re.MULTILINE
    )
    assert len(rows) == 2


def test_compares_with_another_clone(capsys):
    """The clone itself: nothing else is there to compare with. Each of the two processes has its own numbers."""
    clone = str(pathlib.Path(__file__).parents[2])
    with flagsaver.as_parsed(baseline=clone, image_batches="8x2", base_channels="2", timed_calls="3", attention="none"):
        benchmark_training.main(["training"])
    row = capsys.readouterr().out.splitlines()[-1]
    number = r"([\d.]+)"
    ratio = rf"{number} \({number} to {number}\)"
    found = re.fullmatch(
        rf"\| gan \| 8 x 2 \| none \| off \| float32 \| {number} \| {number} \| {ratio} \| {ratio} "
        rf"\| {number} / {number} \| {number} / {number} \|",
        row,
    )
    values = [float(value) for value in found.groups()]
    assert all(value > 0 for value in values)
    assert values[3] <= values[2] <= values[4] and values[6] <= values[5] <= values[7]
    assert all(0.2 < peak < 4 for peak in values[-2:])


class FakeClone:
    """Notes whose turn it is; the other version takes twice as long."""

    calls = []

    def __init__(self, path, specification):
        self.path, self.first, self.process = path, (1.0, 1.0), self
        self.pid = "self"

    def call(self):
        self.calls.append(self.path)
        return (2.0, 4.0) if self.path == "other" else (1.0, 1.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_versions_take_turns_whose_order_turns(monkeypatch):
    monkeypatch.setattr(two_versions, "_Clone", FakeClone)
    FakeClone.calls = []
    before, after, _, _ = two_versions.compare("other", {}, 4)
    assert before == [(2.0, 4.0)] * 4 and after == [(1.0, 1.0)] * 4
    turns = ["other" if path == "other" else "own" for path in FakeClone.calls[2:]]  # behind those that warm up
    assert turns == ["own", "other", "other", "own"] * 2
    specification = {**next_specification(), "steps": 2}
    cells = two_versions.row("other", specification, 4).split(" | ")
    assert cells[5:9] == ["1000.0", "500.0", "0.500 (0.500 to 0.500)", "0.250 (0.250 to 0.250)"]


def next_specification():
    return next(benchmark_training.specifications(["gan"], [(8, 2)], [1], [1]))


def test_refuses_a_baseline_that_is_no_clone(tmp_path):
    with pytest.raises(program.ToolError, match=rf"^--baseline: {tmp_path} cannot take such a step: "):
        two_versions.compare(str(tmp_path), next_specification(), 1)


def test_refuses_a_python_that_is_none(tmp_path):
    with pytest.raises(program.ToolError, match=rf"^--pytorch: {tmp_path}/python cannot be run: "):
        two_versions.compare(f"{tmp_path}/python", next_specification(), 1, in_pytorch=True)


def test_compares_with_another_programs_answers(tmp_path):
    """One that stands for a Python with PyTorch, since this environment has none."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\ncase $1 in *pytorch_step.py) ;; *) exit 1 ;; esac\necho '[9.0, 9.0]'\n"
        "while read line; do echo '[3.0, 2.0]'; done\n"
    )
    python.chmod(0o755)
    before, after, first, _ = two_versions.compare(str(python), next_specification(), 2, in_pytorch=True)
    assert before == [[3.0, 2.0]] * 2 and first[0] == [9.0, 9.0] and all(wall > 0 for wall, _ in after)


@pytest.mark.parametrize("flag, value", [("kinds", "reconstruction"), ("replicas", "2"), ("precision", "bfloat16")])
def test_refuses_what_pytorch_is_not_compared_in(caplog, flag, value):
    with flagsaver.as_parsed(pytorch="python", **{flag: value}), pytest.raises(SystemExit) as caught:
        benchmark_training.main(["training"])
    assert caught.value.code == 2 and "--pytorch compares" in caplog.text


def test_refuses_kinds_of_steps(caplog):
    with flagsaver.as_parsed(kinds="gan,other"), pytest.raises(SystemExit) as caught:
        benchmark_training.main(["training"])
    assert caught.value.code == 2 and "Received: --kinds=gan,other" in caplog.text


def test_steps_of_another_clone_need_nothing_of_this_ones_tools():
    source = pathlib.Path(training_steps.__file__).read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|import) tools", source, re.MULTILINE)
