"""Progress of training on a terminal and in a log."""

import logging
import sys

from trainers.training import progress


def test_bar_takes_the_place_of_log_lines_on_a_terminal(caplog, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, logger="absl"), progress.Progress(0, 10) as shown:
        shown.advance(5, 1.0, {"generator_loss": 3.0}, 20)
        shown.report()
    assert not caplog.records
    assert "5/10" in capsys.readouterr().err


def test_progress_counts_images_time_left_and_means():
    shown = progress.Progress(100, 200)
    shown.advance(10, 2.0, {"generator_loss": 1.0}, 80)
    shown.advance(30, 2.0, {"generator_loss": 5.0}, 240)
    assert shown.report() == ({"generator_loss": 4.0}, 80.0)
    shown.advance(10, 0.5, {"generator_loss": 7.0}, 80)
    assert shown.report() == ({"generator_loss": 7.0}, 160.0)


def test_log_line_estimates_the_time_left(caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    shown = progress.Progress(100, 4100)
    shown.advance(10, 20.0, {"generator_loss": 1.0, "discriminator_real_square": 4.0}, 80)
    with caplog.at_level(logging.INFO, logger="absl"):
        shown.report()
    assert caplog.records[0].getMessage().endswith("step 110/4100, 4 images/s, ETA 2:13:00, G 1.000")


def test_a_loss_that_begins_within_a_period_is_the_mean_over_its_own_steps():
    shown = progress.Progress(0, 100)
    shown.advance(10, 1.0, {"generator_loss": 1.0}, 10)
    shown.advance(30, 1.0, {"generator_loss": 5.0, "critic_loss": 2.0}, 90)
    assert shown.report() == ({"generator_loss": 4.0, "critic_loss": 2.0}, 50.0)
