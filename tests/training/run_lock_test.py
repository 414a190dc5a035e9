"""One run a folder: who may take the lock, when a stale one is taken over, and what a frozen process finds."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from trainers.training import run_lock
from trainers.training.run_lock import LOCK_FILE, RunLock, RunLockError


@pytest.fixture
def lock(tmp_path):
    lock = RunLock(str(tmp_path / "run"))
    yield lock
    lock.release()


@pytest.fixture
def short_times(monkeypatch):
    """A lock is stale after 0.3 seconds, not 60."""
    for name, seconds in (("BEAT", 0.02), ("STALE", 0.3), ("POLL", 0.01), ("SETTLE", 0.3)):
        monkeypatch.setattr(run_lock, f"_{name}_SECONDS", seconds)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def foreign(tmp_path, short_times):
    """The path of the lock of another machine."""
    holder = RunLock(str(tmp_path / "run"))
    holder.take()
    holder.release()
    holder._create()
    path = tmp_path / "run" / LOCK_FILE
    change(path, system="another", host="node7", token="another", pid=12)
    return path


def test_lock_names_host_process_and_start_and_goes_at_the_end(lock, tmp_path):
    lock.take()
    found = json.loads((tmp_path / "run" / LOCK_FILE).read_text())
    assert found["host"] == os.uname().nodename and found["pid"] == os.getpid() and found["since"]
    lock.check()
    lock.release()
    assert os.listdir(tmp_path / "run") == []
    lock.release()


def test_second_process_is_refused_by_name(lock, tmp_path):
    lock.take()
    words = rf"Process {os.getpid()} on {os.uname().nodename} trains in .*one run a folder.*new --model_dir"
    with pytest.raises(RunLockError, match=words):
        RunLock(str(tmp_path / "run")).take()
    lock.check()


@pytest.mark.parametrize("state", ["gone", "zombie", "number taken by another"])
def test_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, state, monkeypatch):
    code = (
        "import sys, os; from trainers.training.run_lock import RunLock; lock = RunLock(sys.argv[1]); lock.take();"
        "os.kill(os.getpid(), 9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # is dead, and has a number yet
    assert (tmp_path / LOCK_FILE).exists()
    if state != "zombie":
        process.wait()
    if state == "number taken by another":
        change(tmp_path / LOCK_FILE, pid=os.getpid())
    monkeypatch.setattr(RunLock, "_is_renewed", lambda self: pytest.fail("waited"))
    lock = RunLock(str(tmp_path))
    lock.take()
    lock.check()
    lock.release()
    process.wait()


def test_frozen_process_of_this_machine_is_live(tmp_path, lock, monkeypatch):
    """However long it stands still."""
    lock.take()
    os.utime(tmp_path / "run" / LOCK_FILE, (1, 1))
    with pytest.raises(RunLockError, match="one run a folder"):
        RunLock(str(tmp_path / "run")).take()


def test_other_machine_that_renews_its_lock_is_live(foreign, lock):
    def renew():
        while not ended.wait(0.02):
            os.utime(foreign)

    ended = threading.Event()
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(RunLockError, match="Process 12 on node7 trains in"):
            lock.take()
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("age", [0.0, 0.15, 500.0, -500.0])
def test_other_machine_that_does_not_renew_its_lock_is_gone(foreign, lock, age):
    """Also where its clock, or ours, is wrong: times in the future are those of now."""
    begin = time.time()
    os.utime(foreign, (begin - age, begin - age))
    lock.take()
    lock.check()
    assert time.time() - begin > min(max(0.3 - age, 0.0), 0.3) - 0.05


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_half_written_lock_is_one_of_an_unknown_process(foreign, lock, text):
    foreign.write_text(text)
    lock.take()
    lock.check()


def test_lock_is_renewed_while_it_is_held(short_times, lock, tmp_path):
    lock.take()
    path = tmp_path / "run" / LOCK_FILE
    os.utime(path, (1, 1))
    end = time.monotonic() + 60
    while os.stat(path).st_mtime == 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert os.stat(path).st_mtime > 1


def test_process_that_woke_up_too_late_writes_no_more_and_leaves_the_new_lock(lock, tmp_path):
    lock.take()
    change(tmp_path / "run" / LOCK_FILE, token="another", host="node7", pid=12)
    with pytest.raises(RunLockError, match="Process 12 on node7 has taken over .*This one writes no more"):
        lock.check()
    lock.release()
    assert (tmp_path / "run" / LOCK_FILE).exists()


def test_lock_that_was_removed_by_hand_is_written_again(lock, tmp_path):
    lock.take()
    (tmp_path / "run" / LOCK_FILE).unlink()
    lock.check()
    assert (tmp_path / "run" / LOCK_FILE).exists()


def test_of_several_that_find_a_stale_lock_one_alone_takes_it(foreign, tmp_path, monkeypatch):
    def is_renewed(self):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(timeout=0.2)  # until all have found it
        return False

    def take(number):
        try:
            locks[number].take()
            taken.append(number)
        except RunLockError:
            pass

    barrier = threading.Barrier(8)
    monkeypatch.setattr(RunLock, "_is_renewed", is_renewed)
    locks, taken = [RunLock(str(tmp_path / "run")) for _ in range(8)], []
    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1 and os.listdir(tmp_path / "run") == [LOCK_FILE]
    locks[taken[0]].check()
    locks[taken[0]].release()


def test_what_another_took_meanwhile_is_put_back(foreign, lock, monkeypatch):
    def others_first(path, aside):
        if str(path) == str(foreign):
            monkeypatch.setattr(os, "rename", rename)
            change(foreign, token="a third", host="node9")
        rename(path, aside)

    rename = os.rename
    os.utime(foreign, (1, 1))
    monkeypatch.setattr(os, "rename", others_first)
    monkeypatch.setattr(RunLock, "_is_renewed", lambda self: json.loads(foreign.read_text())["token"] == "a third")
    with pytest.raises(RunLockError, match="on node9 trains in"):
        lock.take()
    assert json.loads(foreign.read_text())["token"] == "a third"


def test_lock_that_nobody_took_forbids_nothing(lock, tmp_path):
    lock.check()
    lock.release()
    assert not (tmp_path / "run").exists()


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(RunLockError, match="cannot be written"):
        RunLock(str(tmp_path / "file")).take()


def test_copy_of_a_folder_in_which_a_process_trains_is_free(lock, tmp_path):
    lock.take()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(RunLockError, match="one run a folder"):
        RunLock(str(tmp_path / "link")).take()
    second = RunLock(str(tmp_path / "copy"))
    second.take()
    second.release()
    lock.check()
    shutil.copytree(tmp_path / "run", tmp_path / "copy", dirs_exist_ok=True)
    (tmp_path / "run" / LOCK_FILE).rename(tmp_path / "run" / "elsewhere")  # whose run is it then?
    with pytest.raises(RunLockError, match="one run a folder"):
        RunLock(str(tmp_path / "copy")).take()
