"""The benchmark of inference runs, and counts."""

import re

import numpy as np
import pytest

from gan_test_case import call_main, imported_main, trained_run


@pytest.mark.slow
def test_table_of_a_run(tmp_path_factory, capsys):
    """Takes 20 seconds: exports are made and timed."""
    model_dir, _ = trained_run(tmp_path_factory)
    flags = {"batch_sizes": "2", "num_calls": 2, "formats": "saved_model"}
    call_main("tools.benchmarks.inference", model_dir=model_dir, **flags)
    header, _, row, _, _, apart = capsys.readouterr().out.strip().splitlines()
    assert header == "| batch | Keras | Keras, one graph | SavedModel |"
    rates = re.findall(r"([\d,]+)/s, ([\d.]+) x", row)
    assert row.startswith("| 2 |") and len(rates) == 3 and rates[0][1] == "1.00"
    assert all(int(rate.replace(",", "")) > 0 for rate, _ in rates)
    assert 0.0 <= float(re.fullmatch(r"SavedModel (\S+)", apart).group(1)) < 0.1
    memory = re.findall(r"x, (\S+) MiB", row)
    assert float(memory[0]) > 0 and float(memory[1]) >= 0


def test_table_tells_rates_in_times_of_keras():
    with imported_main("tools.benchmarks.inference") as module:
        text = module.table({8: {"Keras": 100.0, "SavedModel": 250.0}}, {8: {"Keras": 30.0, "SavedModel": 12.0}})
    assert text.splitlines()[-1] == "| 8 | 100/s, 1.00 x, 30 MiB | 250/s, 2.50 x, 12 MiB |"


def test_table_of_pictures_tells_milliseconds_a_megapixel():
    with imported_main("tools.benchmarks.inference") as module:
        text = module.table({4: {"Keras": 2.0, "ONNX Runtime": 4.0}}, {4: {}}, pixels=500_000)
    assert text.splitlines()[-1] == "| 4 | 1,000 ms/MP, 1.00 x | 500 ms/MP, 2.00 x |"


def test_differences_are_in_levels():
    with imported_main("tools.benchmarks.inference") as module:
        bytes_found, floats_found = {"images": np.array([3, 250], np.uint8)}, {"images": np.array([-1.0, 0.5])}
        assert module.levels_apart(bytes_found, {"images": (np.array([3.4, 247.6]), 0.0)}) == 2.0
        assert module.levels_apart(floats_found, {"images": (np.array([-1.0, 0.4]), 0.0)}) == pytest.approx(12.75)


def test_an_export_that_is_no_number_is_not_the_same():
    with imported_main("tools.benchmarks.inference") as module:
        found = {"images": np.array([np.nan, 0.5]), "more": np.array([0.0])}
        assert np.isnan(module.levels_apart(found, {"images": (np.zeros(2), 0.0), "more": (np.zeros(1), 0.0)}))


def test_pictures_are_stretched_to_the_side():
    with imported_main("tools.benchmarks.inference") as module:
        picture = np.arange(6).reshape(1, 2, 3, 1)
        found = module._stretched(picture, 6)
    np.testing.assert_array_equal(found, picture.repeat(3, axis=1).repeat(2, axis=2))


def test_sides_are_of_inpainting_alone(tmp_path_factory, caplog):
    model_dir, _ = trained_run(tmp_path_factory)
    with pytest.raises(SystemExit) as caught:
        call_main("tools.benchmarks.inference", model_dir=model_dir, side=64)
    assert caught.value.code == 2 and "--side is of inpainting alone" in caplog.text


def test_batch_size_of_nothing_is_refused(tmp_path, caplog):
    with pytest.raises(SystemExit) as caught:
        call_main("tools.benchmarks.inference", model_dir=tmp_path, batch_sizes="8,0")
    assert (
        caught.value.code == 2 and "--batch_sizes must be positive integers. Received: --batch_sizes=8,0" in caplog.text
    )
