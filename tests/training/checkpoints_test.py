"""Checkpoints: finite, whole, bounded in number, and never half written.

The file is long because each way in which a write or a read can fail is tried.
"""

import errno
import logging
import math
import os
import pathlib
import resource
import shutil
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf

from gan_test_case import contents
from keras_an.backend import apply_scaled_gradients, loss_scale
from trainers.configs.schema import OptimizerConfig
from trainers.training import optimizers
from trainers.training.checkpoints import Checkpoints, NotFiniteError, WriteError


@pytest.fixture
def weight():
    return tf.Variable(tf.zeros((1000,)))


def make_checkpoints(folder, weight, **options):
    items = {"weight": weight, "step": tf.Variable(0, dtype=tf.int64)}
    return Checkpoints(items, str(folder), max_to_keep=3, **options)


def save(checkpoints, weight, *steps):
    for step in steps:
        weight.assign(tf.fill((1000,), float(step)))
        checkpoints.save(step)
    checkpoints.wait()


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def test_restores_the_newest_and_keeps_the_last_ones(tmp_path, weight):
    checkpoints = make_checkpoints(tmp_path, weight)
    assert checkpoints.paths == [] and checkpoints.restore() is None
    save(checkpoints, weight, 1, 2, 3, 4)
    assert checkpoints.paths == [str(tmp_path / f"ckpt-{step}") for step in (2, 3, 4)]
    weight.assign(tf.zeros((1000,)))
    for before, step in ((5, 4), (4, 3), (3, 2)):
        assert make_checkpoints(tmp_path, weight).restore(before) == str(tmp_path / f"ckpt-{step}")
        assert set(weight.numpy()) == {step}
    assert make_checkpoints(tmp_path, weight).restore(2) is None


def test_float16_runs_go_on_with_their_loss_scale(tmp_path):
    variable = tf.Variable([1.0])
    made = [optimizers.make(OptimizerConfig(), [variable], 0.9, scales_losses=True) for _ in range(2)]
    scale = float(loss_scale(made[0]))
    apply_scaled_gradients(made[0], [tf.constant([math.inf])], [variable])  # which halves it
    writer = Checkpoints({"optimizer": made[0]}, str(tmp_path), 3)
    writer.save(1)
    writer.wait()
    assert Checkpoints({"optimizer": made[1]}, str(tmp_path), 3).restore() == str(tmp_path / "ckpt-1")
    assert float(loss_scale(made[1])) == scale / 2


@pytest.mark.parametrize("suffix", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("damage", [truncate, os.remove])
def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, weight, caplog, suffix, damage):
    save(make_checkpoints(tmp_path, weight), weight, 1, 2)
    damage(f"{tmp_path}/ckpt-2{suffix}")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert make_checkpoints(tmp_path, weight).restore() == str(tmp_path / "ckpt-1")
    assert set(weight.numpy()) == {1.0}
    if not (suffix == ".index" and damage is os.remove):
        assert "ckpt-2 cannot be read" in caplog.text and "The one before is taken" in caplog.text


@pytest.mark.parametrize("damage", [truncate, os.remove, lambda path: pathlib.Path(path).write_text("{")])
def test_damaged_state_file_loses_no_checkpoint(tmp_path, weight, damage):
    save(make_checkpoints(tmp_path, weight), weight, 8, 9)
    damage(f"{tmp_path}/checkpoint")
    checkpoints = make_checkpoints(tmp_path, weight)
    assert checkpoints.restore() == str(tmp_path / "ckpt-9")
    save(checkpoints, weight, 10, 11)
    assert checkpoints.paths == [str(tmp_path / f"ckpt-{step}") for step in (9, 10, 11)]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-11")


def test_a_new_checkpoint_ends_what_came_after_it(tmp_path, weight):
    save(make_checkpoints(tmp_path, weight), weight, 2, 4, 6)
    checkpoints = make_checkpoints(tmp_path, weight)
    checkpoints.restore(before=4)
    save(checkpoints, weight, 3)
    assert checkpoints.paths == [str(tmp_path / f"ckpt-{step}") for step in (2, 3)]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-3")
    save(checkpoints, weight, 5, 7)
    assert checkpoints.paths == [str(tmp_path / f"ckpt-{step}") for step in (3, 5, 7)]


def test_checkpoint_of_other_things_is_an_error(tmp_path, weight):
    save(make_checkpoints(tmp_path, weight), weight, 1)
    other = Checkpoints({"weight": weight, "more": tf.Variable(0.0)}, str(tmp_path), 3)
    with pytest.raises(ValueError, match="ckpt-1 is not of this configuration: .*float16, and `decay_steps`"):
        other.restore()


def test_flipped_bit_gives_way_to_the_one_before(tmp_path, weight):
    save(make_checkpoints(tmp_path, weight), weight, 1, 2)
    path = tmp_path / "ckpt-2.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert make_checkpoints(tmp_path, weight).restore() == str(tmp_path / "ckpt-1")


def test_no_whole_checkpoint_is_an_error(tmp_path, weight):
    save(make_checkpoints(tmp_path, weight), weight, 1, 2)
    for step in (1, 2):
        truncate(f"{tmp_path}/ckpt-{step}.data-00000-of-00001")
    with pytest.raises(ValueError, match=r"No checkpoint in .* is whole\. .*ckpt-1 cannot be read"):
        make_checkpoints(tmp_path, weight).restore()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, weight, value):
    checkpoints = make_checkpoints(tmp_path, weight)
    save(checkpoints, weight, 1)
    before = contents(tmp_path)
    weight.assign(np.where(np.arange(1000) == 700, value, 0))
    with pytest.raises(NotFiniteError, match=r"1 weights are not finite, Variable"):
        checkpoints.save(2)
    assert contents(tmp_path) == before


def test_only_the_chief_writes(tmp_path, weight):
    save(make_checkpoints(tmp_path / "run", weight, is_chief=False), weight, 1)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary directory, one for this test."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_parts_that_a_killed_process_left_are_removed(tmp_path, weight, temporary, monkeypatch):
    def stop(source, target, copy_function):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    save(make_checkpoints(run, weight), weight, 1)
    with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
        patches.setattr(shutil, "move", stop)
        save(make_checkpoints(run, weight), weight, 2)
    assert os.listdir(temporary)
    (run / "ckpt-2_temp").mkdir()
    (run / "ckpt_part").mkdir()
    for name in (
        "ckpt-1.index.part",
        "ckpt-2_temp/part-00000-of-00001.data-00000-of-00001",
        "ckpt-3.data-00000-of-00001",
        "ckpt-4.data-00000-of-00001.part",
        "ckpt-best.index",
        "ckpt_part/ckpt-4.index",
    ):
        (run / name).write_bytes(b"half")
    save(make_checkpoints(run, weight), weight, 5)
    whole = {f"ckpt-{step}.{suffix}" for step in (1, 5) for suffix in ("index", "data-00000-of-00001")}
    assert {path.name for path in run.iterdir()} == {*whole, "checkpoint", "ckpt-best.index"}
    assert not os.listdir(temporary)


def test_temporary_directory_of_another_file_system_is_copied_from(tmp_path, weight, temporary, monkeypatch):
    def rename(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def copymode(*paths, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(shutil, "copystat", copymode)
    save(make_checkpoints(tmp_path / "run", weight), weight, 1)
    assert make_checkpoints(tmp_path / "run", weight).restore() and not os.listdir(temporary)


def test_folder_of_another_user_in_the_temporary_directory_is_left_alone(tmp_path, weight, temporary, monkeypatch):
    """Nobody can hold up a run by it: the run's own folder is written to."""
    real, made = os.mkdir, []

    def mkdir(path, *arguments, **options):
        if str(path).startswith(str(temporary)):
            raise FileExistsError(path)
        made.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", mkdir)
    save(make_checkpoints(tmp_path / "run", weight), weight, 1)
    assert str(tmp_path / "run" / "ckpt_part") in made
    assert make_checkpoints(tmp_path / "run", weight).restore()


def test_what_another_process_put_there_is_not_taken(tmp_path, weight, temporary, monkeypatch):
    move_all = Checkpoints._move

    def others_first(self, folder, step):
        for name in os.listdir(folder):
            os.rename(f"{folder}/{name}", f"{folder}/{name.replace('ckpt-2', 'ckpt-7')}")
        return move_all(self, folder, step)

    checkpoints = make_checkpoints(tmp_path / "run", weight)
    save(checkpoints, weight, 1)
    monkeypatch.setattr(Checkpoints, "_move", others_first)
    with pytest.raises(WriteError, match="was changed by another process.*ckpt-1 is whole"):
        save(checkpoints, weight, 2)
    assert checkpoints.paths == [str(tmp_path / "run" / "ckpt-1")]


def test_slow_file_system_holds_up_the_next_checkpoint_alone(tmp_path, weight, monkeypatch):
    goes_on, move = threading.Event(), shutil.move
    monkeypatch.setattr(shutil, "move", lambda *paths, **options: goes_on.wait(60) and move(*paths, **options))
    checkpoints = make_checkpoints(tmp_path, weight)
    weight.assign(tf.fill((1000,), 1.0))
    checkpoints.save(1)
    weight.assign(tf.fill((1000,), 2.0))  # as training does, which goes on
    assert checkpoints.paths == [] and not goes_on.is_set()
    goes_on.set()
    checkpoints.save(2)
    assert str(tmp_path / "ckpt-1") in checkpoints.paths
    for before, step in ((3, 2), (2, 1)):
        assert checkpoints.restore(before) == str(tmp_path / f"ckpt-{step}") and set(weight.numpy()) == {step}


def test_checkpoint_that_could_not_be_moved_is_an_error_of_the_next(tmp_path, weight, monkeypatch, caplog):
    def fail(source, target, copy_function):
        move(source, target)
        raise OSError(28, "No space left on device")

    checkpoints, move = make_checkpoints(tmp_path, weight), shutil.move
    save(checkpoints, weight, 1)
    before = contents(tmp_path)
    monkeypatch.setattr(shutil, "move", fail)
    checkpoints.save(2)
    with pytest.raises(WriteError, match=r"step 2 cannot be written: .*No space left.*ckpt-1 is whole"):
        checkpoints.save(3)
    assert contents(tmp_path) == before and "No space left" in caplog.text


@pytest.mark.parametrize("free, is_local", [(100, True), (10**9, True), (10**9, False)])
def test_temporary_directory_is_used_where_it_has_room(tmp_path, weight, temporary, monkeypatch, free, is_local):
    def note(source, target, copy_function):
        places.append(source)
        return move(source, target)

    places, move = [], shutil.move
    usage = shutil.disk_usage(temporary)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    monkeypatch.setattr(shutil, "move", note)
    save(make_checkpoints(tmp_path / "run", weight, is_local=is_local), weight, 1)
    assert places[0].startswith(str(temporary if free > 1000 and is_local else tmp_path / "run"))
    files = {"checkpoint", "ckpt-1.index", "ckpt-1.data-00000-of-00001"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files


def test_file_system_that_takes_no_more_leaves_the_last_checkpoint(tmp_path, weight):
    checkpoints = make_checkpoints(tmp_path, weight)
    save(checkpoints, weight, 1)
    before, limits = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal; a write beyond the limit fails as one on a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"step 2 cannot be written: .*ckpt-1 is whole"):
            save(checkpoints, weight, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before
    save(checkpoints, weight, 3)
    assert checkpoints.restore() == str(tmp_path / "ckpt-3")


def test_later_checkpoints_that_another_process_wrote_are_left(tmp_path, weight):
    """A run stood still at step 4 while another one, from the same step, went on."""
    save(make_checkpoints(tmp_path, weight), weight, 2, 4)
    stood_still, other = make_checkpoints(tmp_path, weight), make_checkpoints(tmp_path, weight)
    stood_still.restore()
    other.restore()
    save(other, weight, 12, 16)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="ckpt-12, .*ckpt-16 came while this run went on to step 6: another process"):
        save(stood_still, weight, 6)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("calls_before", [0, 1])
def test_run_that_lost_its_folder_writes_and_removes_nothing(tmp_path, weight, calls_before):
    """Neither where it is lost before the checkpoint is written, nor where it is while the checkpoint is moved."""

    def check_lock():
        calls.append(None)
        if lost and len(calls) > calls_before:
            raise ValueError("another has taken over")

    lost, calls, checkpoints = [], [], make_checkpoints(tmp_path, weight, check_lock=check_lock)
    save(checkpoints, weight, 1)
    before = contents(tmp_path)
    lost.append(True)
    calls.clear()
    with pytest.raises(ValueError, match="taken over"):
        save(checkpoints, weight, 2)
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before and checkpoints.paths == [str(tmp_path / "ckpt-1")]


@pytest.mark.parametrize("place", ["temporary folder", "folder beside"])
def test_file_that_nfs_keeps_is_in_nobodys_way(tmp_path, weight, monkeypatch, place):
    """Of a file that is open elsewhere it leaves `.nfs...` in a folder, which then cannot be removed."""
    if place == "folder beside":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    (tmp_path / "ckpt_part").mkdir()
    (tmp_path / "ckpt_part" / ".nfs0001").write_text("")
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **options: None if str(path).endswith("part") else rmtree(path, **options)
    )
    save(make_checkpoints(tmp_path, weight), weight, 1, 2)
    assert set(os.listdir(tmp_path)) == {
        *(f"ckpt-{step}{suffix}" for step in (1, 2) for suffix in (".index", ".data-00000-of-00001")),
        *("checkpoint", "ckpt_part"),
    }
    assert os.listdir(tmp_path / "ckpt_part") == [".nfs0001"]
