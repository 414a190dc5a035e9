"""The file of what is known of the real images: what comes back, and what is refused."""

import os

import numpy as np
import pytest

from trainers.evaluation import real_statistics
from trainers.evaluation.real_statistics import RealStatistics, StatisticsError

DESCRIPTION = {"features": "inception", "weights_sha256": "aa", "num_images": 5, "validation_data.split": "test"}


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "folder" / "statistics.npz")
    features = np.arange(15, dtype=np.float32).reshape(5, 3)
    RealStatistics(features, np.arange(5, dtype=np.int32), {"accuracy": 0.5}).save(path, DESCRIPTION)
    return path


def test_what_was_saved_comes_back(path, tmp_path):
    found = real_statistics.load(path, DESCRIPTION)
    np.testing.assert_array_equal(found.features, np.arange(15, dtype=np.float32).reshape(5, 3))
    np.testing.assert_array_equal(found.labels, np.arange(5, dtype=np.int32))
    assert found.features.dtype == np.float32 and found.labels.dtype == np.int32
    assert found.scores == {"accuracy": 0.5}
    real_statistics.check(path, DESCRIPTION)
    assert [each.name for each in (tmp_path / "folder").iterdir()] == ["statistics.npz"]


@pytest.mark.parametrize(
    "key, value, old",
    [("weights_sha256", "bb", "aa"), ("num_images", 6, 5), ("validation_data.split", "train", "test")],
)
@pytest.mark.parametrize("function", [real_statistics.load, real_statistics.check])
def test_statistics_of_something_else_are_refused_with_both_values(path, function, key, value, old):
    with pytest.raises(StatisticsError) as caught:
        function(path, {**DESCRIPTION, key: value})
    message = str(caught.value)
    assert f"{key}: {old!r} in the file, {value!r} here" in message and path in message
    assert "Delete the file" in message and "task.evaluation.statistics_dir" in message


def test_every_difference_is_named_also_of_a_key_that_one_side_lacks(path):
    with pytest.raises(StatisticsError) as caught:
        real_statistics.load(path, {"features": "classifier", "resizer": "x", "num_images": 5})
    message = str(caught.value)
    assert "resizer: None in the file, 'x' here" in message and "weights_sha256: 'aa' in the file, None here" in message
    assert "num_images" not in message


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"])
def test_broken_file_is_refused(path, damage):
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(damage(data))
    with pytest.raises(StatisticsError, match="cannot be read as statistics of real images") as caught:
        real_statistics.load(path, DESCRIPTION)
    assert path in str(caught.value)


def test_file_of_something_else_is_refused(tmp_path):
    path = str(tmp_path / "other.npz")
    np.savez(path, features=np.zeros(3))
    with pytest.raises(StatisticsError, match=r"\['description', 'labels', 'scores'\] are missing"):
        real_statistics.check(path, DESCRIPTION)


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        RealStatistics(np.zeros((1, 1)), np.zeros(1), {}).save(path, {})
    assert os.listdir(os.path.dirname(path)) == ["statistics.npz"]
    assert real_statistics.load(path, DESCRIPTION).scores == {"accuracy": 0.5}
