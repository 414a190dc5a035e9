"""Tests of tools/benchmarks/layer.py."""

import json
import math
import subprocess

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from keras_an.backend import keras, ops
from keras_an.layers import AttentiveNormalization
from tools.benchmarks import layer as benchmark_layer
from tools.benchmarks import layer_memory, layer_programs, layer_tables

SIZES = ["4x4x8x2", "8x4x8x2"]


pytestmark = pytest.mark.usefixtures("parsed_flags")


@pytest.mark.parametrize("training", [False, True])
def test_released_formulation_is_the_released_mode_of_the_layer(training):
    random = np.random.default_rng(1)
    inputs = random.normal(size=(2, 6, 5, 16)).astype("float32")
    released = layer_programs.ReleasedFormulation(4, seed=3)
    layer = AttentiveNormalization(
        4, statistics="released", value_projection=True, affine=False, pool_size=1, orthogonality=None, seed=3
    )
    released(inputs), layer(inputs)
    assert [tuple(weight.shape) for weight in released.trainable_weights] == [
        tuple(weight.shape) for weight in layer.trainable_weights
    ]
    for ours, theirs in zip(layer.trainable_weights, released.trainable_weights):
        value = random.normal(size=tuple(ours.shape)).astype("float32")
        ours.assign(value)
        theirs.assign(value)
    expected = ops.convert_to_tensor(layer(inputs, training=training))
    actual = ops.convert_to_tensor(released(inputs, training=training))
    assert np.abs(np.array(expected) - inputs).max() > 0.1
    np.testing.assert_allclose(np.array(actual), np.array(expected), rtol=1e-4, atol=1e-4)


def test_measures_every_layer(tmp_path, capsys):
    report = _run(tmp_path, sizes=SIZES[0], repeats="1", jit=str(keras.backend.backend() == "jax"))
    assert [row["layer"] for row in report["rows"]] == 2 * list(layer_programs.LAYERS)
    for row in report["rows"]:
        assert row["note"] is None
        for name in ("milliseconds", "times_an", "gigabytes_per_second"):
            assert math.isfinite(row[name]) and row[name] > 0
    assert {row["times_an"] for row in report["rows"] if row["layer"] == "an"} == {1.0}
    printed = capsys.readouterr().out
    assert printed.startswith("keras_an ")
    assert "| size | dtype | pass | an | an_value | group_norm |" in printed


@pytest.mark.slow
def test_fits_exponents_and_measures_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_layer, "EXPONENT_SIZES", SIZES)
    report = _run(
        tmp_path, sizes=SIZES[0], layers="an", direction="forward", repeats="2", exponent="true", memory="true"
    )
    assert [row["size"] for row in report["rows"]] == SIZES
    assert [math.isfinite(row["exponent"]) for row in report["exponents"]] == [True]
    assert [row["extra_bytes"] >= 4 * 4 * 4 * 8 * 2 for row in report["memory"]] == [True]  # at least the output


def test_memory_that_cannot_be_measured_has_a_row_that_says_so(tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Killed")
    monkeypatch.setattr(layer_memory.subprocess, "run", lambda *arguments, **options: failed)
    report = _run(tmp_path, sizes=SIZES[0], layers="an", repeats="1", memory="true")
    assert [(row["size"], row["direction"], row["extra_bytes"], row["note"]) for row in report["memory"]] == [
        (SIZES[0], direction, None, "cannot run") for direction in ("forward", "forward_backward")
    ]
    assert f"| {SIZES[0]} | float32 | forward | cannot run |" in capsys.readouterr().out


def test_what_is_too_large_is_not_run(tmp_path):
    report = _run(tmp_path, sizes="1024x1024x32x1", layers="self_attention,multi_head_attention")
    assert {(row["milliseconds"], row["note"]) for row in report["rows"]} == {(None, "too large")}


def test_exponent_of_linear_times_is_one():
    positions = [64**2, 128**2, 256**2, 512**2]
    times = [3e-6 * count for count in positions]
    assert layer_tables.fit_exponent(positions, times) == pytest.approx(1.0, abs=1e-12)
    squares = [count**2 for count in positions]
    assert layer_tables.fit_exponent(positions, squares) == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize(
    "name, value",
    [("sizes", "4x4x8"), ("sizes", "1x4x8x1"), ("sizes", ""), ("layers", "an,batch_norm"), ("dtypes", "float64")],
)
def test_refuses_values(name, value):
    with flagsaver.as_parsed(**{name: value}):
        with pytest.raises(ValueError, match=f"Received: --{name}={value}$"):
            benchmark_layer.checked_cases()
        with pytest.raises(SystemExit) as caught:
            benchmark_layer.main(["layer"])
        assert caught.value.code == 2


@pytest.mark.parametrize("name, value", [("direction", "sideways"), ("repeats", "0"), ("num_entities", "0")])
def test_refuses_values_when_parsed(name, value):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--{name}={value}"), flagsaver.as_parsed(**{name: value}):
        pass


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone refuses")
def test_refuses_jax_without_jit():
    with flagsaver.as_parsed(jit="false"), pytest.raises(ValueError, match="--jit=false"):
        benchmark_layer.checked_cases()


def _run(folder, **values):
    path = folder / "benchmark.json"
    with flagsaver.as_parsed(json=str(path), **values):
        benchmark_layer.main(["layer"])
    return json.loads(path.read_text())
