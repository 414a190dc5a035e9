"""The comparison through its main, with the real mains below it."""

import json

import pytest

from gan_test_case import RUN, call_main, override_of
from trainers.comparison import processes

SETTINGS = override_of(RUN, runtime__distribution_strategy="one_device", trainer__summary_interval="2")
# The grid sets these itself.
SETTINGS = ",".join(
    pair for pair in SETTINGS.split(",") if not pair.startswith(("trainer.train_steps", "trainer.validation_interval"))
)


def compare(output_dir, **flags):
    given = {"suite": "digits", "only": "none", "seeds": 1, "images": 64, "evaluations": 2, "params_override": SETTINGS}
    with pytest.raises(SystemExit) as caught:
        call_main("trainers.compare", output_dir=output_dir, **{**given, **flags})
    return caught.value.code


@pytest.mark.slow
def test_a_cell_is_trained_scored_by_the_shared_classifier_and_reported(tmp_path, monkeypatch):
    """Takes 45 seconds: a classifier and a run, in a process each."""
    assert compare(tmp_path) == 0, (tmp_path / "logs/none-1.log").read_text(errors="replace")[-3000:]
    found = json.loads((tmp_path / "results.json").read_text())
    (cell,) = found["cells"]
    assert cell["is_done"] and [point["step"] for point in cell["curve"]] == [4, 8]
    assert cell["curve"][-1]["frechet_distance"] > 0 and cell["images_per_second"] > 0
    assert set(cell["parameters"]) == {"generator", "discriminator"} and cell["peak_memory_mb"] > 100
    assert 0 < found["floors"]["classifier_test_accuracy"] <= 1
    assert {path.name for path in (tmp_path / "judge").iterdir()} == {
        "classifier.weights.h5",
        "real_statistics_classifier.npz",
    }
    assert not (tmp_path / "cells/none/1/classifier.weights.h5").exists()
    assert "| none | 1 |" in (tmp_path / "results.md").read_text()
    # What is done is not started again, and a report starts nothing.
    monkeypatch.setattr(processes, "Process", lambda *_, **__: pytest.fail("started a process"))
    (tmp_path / "results.md").unlink()
    assert compare(tmp_path) == 0 and compare(tmp_path, report="true", seeds=2) == 0
    assert "1 of 2 cells are done" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"only": "nonsense"}, "--only must name arms of the suite digits"),
        ({"jobs": 0}, "--jobs must be at least 1. Received: 0"),
        ({"params_override": "task.model.resolutoin=8"}, "resolutoin"),
    ],
)
def test_what_cannot_be_compared_exits_with_2_and_writes_nothing(tmp_path, flags, message, caplog):
    assert compare(tmp_path / "new", **flags) == 2
    assert message in caplog.text and not (tmp_path / "new").exists()
