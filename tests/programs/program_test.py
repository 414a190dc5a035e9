"""What a main does when a run stops: one line, and a code that says whether starting again helps."""

import os
import shlex
from contextlib import nullcontext

import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from gan_test_case import contents
from trainers import configs, program
from trainers.training import checkpoints, loop
from trainers.training.run_lock import LOCK_FILE, RunLock
from trainers.training.workers import Workers


class StoppedLoop:
    """A loop that stops for a reason."""

    step = 7
    class_names = None
    failed_evaluations = {}

    def __init__(self, reason, is_chief=True):
        self._reason = reason
        self.workers = Workers(tf.distribute.get_strategy())
        self.workers.is_chief = is_chief
        self.asked = []
        self.lock = RunLock(flags.FLAGS.model_dir)

    def close(self):
        self.lock.release()

    def restore(self):
        return None

    def train(self, validate):
        self.asked.append(validate)
        if self._reason:
            raise self._reason

    def last_scores(self):
        raise AssertionError("Another worker evaluates.")


@pytest.fixture
def model_dir(tmp_path):
    was_parsed, known = flags.FLAGS.is_parsed(), set(flags.FLAGS)
    if "profile_steps" not in known:  # as after a main of another test
        program.define_flags()
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(experiment="gan_digits32", model_dir=str(tmp_path / "run"), mode="train_and_eval"):
        yield tmp_path / "run"
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    if not was_parsed:
        flags.FLAGS.unparse_flags()


@pytest.mark.parametrize(
    "reason, code, words",
    [
        (ValueError("photo.png cannot be read"), 2, "stopped at step 7: photo.png cannot be read"),
        (checkpoints.NotFiniteError("Step 7: a loss is nan"), 3, "Step 7: a loss is nan"),
        (checkpoints.WriteError("No space left on device"), 74, "No space left on device"),
        (tf.errors.ResourceExhaustedError(None, None, "events: No space left"), 74, "events: No space left"),
        (OSError(28, "No space left on device"), 74, "No space left on device"),
        (loop.PreemptedError("Stopped by a signal."), 75, "Stopped by a signal. The same command goes on from "),
    ],
)
def test_reason_decides_the_exit_code(model_dir, caplog, reason, code, words):
    with pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", lambda *unused: StoppedLoop(reason))
    assert caught.value.code == code
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert words in line
    assert (model_dir / "params.yaml").exists()


@pytest.mark.parametrize(
    "reason", [FileNotFoundError("a.png"), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")]
)
def test_what_no_start_can_mend_keeps_its_traceback(model_dir, reason):
    with pytest.raises(type(reason)):
        program.main(["main"], "gan", lambda *unused: StoppedLoop(reason))


@pytest.mark.parametrize("reason", [kind(None, None, "reset by peer") for kind in checkpoints.LOST])
@pytest.mark.parametrize("when", ["build", "train"])
def test_lost_worker_asks_for_a_start_of_all(model_dir, caplog, reason, when):
    def build(*unused):
        if when == "build":
            raise reason
        return StoppedLoop(reason)

    override = "runtime.distribution_strategy=multi_worker_mirrored"
    with flagsaver.flagsaver(params_override=override), pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", build)
    assert caught.value.code == 75
    assert f"does not answer ({type(reason).__name__}: reset by peer). Stop and start all" in caplog.text
    with pytest.raises(type(reason)):  # alone there is nobody to lose
        program.main(["main"], "gan", build)


def test_worker_that_is_not_the_chief_writes_nothing_and_does_not_evaluate(model_dir):
    stopped = StoppedLoop(None, is_chief=False)
    program.main(["main"], "gan", lambda *unused: stopped)
    assert stopped.asked == [True] and not model_dir.exists()


def test_folder_that_cannot_be_written_exits_with_2(model_dir, caplog):
    model_dir.parent.joinpath("run").write_text("a file")
    with pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", lambda *unused: StoppedLoop(None))
    assert caught.value.code == 2 and "cannot be written" in caplog.text


def test_tilde_is_the_home_folder(model_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with flagsaver.flagsaver(model_dir="~/run", mode="train"):
        program.main(["main"], "gan", lambda *unused: StoppedLoop(None))
    assert (tmp_path / "home" / "run" / "params.yaml").exists()


@pytest.mark.parametrize("text", ["5", "5:", "a:b", "9:3", "4:4", "1:2:3"])
def test_profile_takes_two_rising_steps(model_dir, caplog, text):
    with flagsaver.flagsaver(profile_steps=text), pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", lambda *unused: StoppedLoop(None))
    assert caught.value.code == 2
    assert f"--profile_steps takes first:last, two rising numbers. Received: '{text}'" in caplog.text


def test_profile_steps_reach_the_loop(model_dir):
    given = []
    with flagsaver.flagsaver(profile_steps="10:20", mode="train"):
        program.main(["main"], "gan", lambda params, folder, steps: given.append(steps) or StoppedLoop(None))
    assert given == [(10, 20)]


@pytest.mark.parametrize("reason", [None, ValueError("corrupt"), ZeroDivisionError()])
def test_folder_is_locked_while_the_run_lasts(model_dir, reason):
    def train(validate):
        locked.append((model_dir / LOCK_FILE).exists())
        if reason:
            raise reason

    def build(*unused):
        stopped.train = train
        return stopped

    locked, stopped = [], StoppedLoop(None)
    with flagsaver.flagsaver(mode="train"), pytest.raises((SystemExit, ZeroDivisionError)) if reason else nullcontext():
        program.main(["main"], "gan", build)
    assert locked == [True] and not (model_dir / LOCK_FILE).exists()


def test_second_run_in_a_folder_exits_with_2_and_changes_nothing(model_dir, caplog):
    first = RunLock(str(model_dir))
    first.take()
    before = contents(model_dir)
    with pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", lambda *unused: StoppedLoop(AssertionError("trains")))
    assert caught.value.code == 2 and "one run a folder" in caplog.text and contents(model_dir) == before
    first.check()
    first.release()


def test_folder_that_a_killed_run_left_with_a_lock_alone_is_free(model_dir):
    model_dir.mkdir()
    (model_dir / LOCK_FILE).write_text("{}")
    os.utime(model_dir / LOCK_FILE, (1, 1))
    stopped = StoppedLoop(None)
    with flagsaver.flagsaver(mode="train"):
        program.main(["main"], "gan", lambda *unused: stopped)
    assert stopped.asked == [False]


def test_evaluations_that_failed_are_told_at_the_end(model_dir, caplog):
    stopped = StoppedLoop(None)
    stopped.failed_evaluations = {4: "ZeroDivisionError: float\ndivision", 8: "KeyError: 1"}
    with flagsaver.flagsaver(mode="train"), pytest.raises(SystemExit) as caught:
        program.main(["main"], "gan", lambda *unused: stopped)
    assert caught.value.code == 4 and stopped.asked == [False]
    assert "2 evaluations failed: of step 4, ZeroDivisionError: float division; of step 8, KeyError: 1" in caplog.text


def test_continuous_evaluation_neither_trains_nor_locks_nor_writes_a_configuration(model_dir):
    stopped = StoppedLoop(AssertionError("trains"))
    stopped.evaluate_continuously = lambda: stopped.asked.append("continuously")
    with flagsaver.flagsaver(mode="continuous_eval"):
        program.main(["main"], "gan", lambda *unused: stopped)
    assert stopped.asked == ["continuously"] and not model_dir.exists()


def test_command_for_tensorboard_can_be_pasted(tmp_path):
    folder = tmp_path / "my runs"
    folder.mkdir()
    stopped = StoppedLoop.__new__(StoppedLoop)
    stopped.table = str
    text = program.summary(stopped, configs.resolve("gan_digits32"), str(folder), {"step": 5, "fid": 1.0})
    command = text.strip().splitlines()[-1].partition("TensorBoard: ")[2]
    assert shlex.split(command)[-2:] == ["--logdir", str(folder)]
