"""One run a folder: a file that names the process which trains there."""

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid

from absl import logging

LOCK_FILE = "run.lock"
_BEAT_SECONDS = 10.0
_STALE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_SETTLE_SECONDS = 1.0


class RunLockError(ValueError):
    """Another process trains in the folder."""


class RunLock:
    """The right of a process to write the checkpoints of a folder.

    While it is held, `run.lock` in the folder names host and process, and a thread renews the file's time every 10
    seconds. A process that was killed leaves the file, and the next one takes it over: on the same start of the same
    machine once there is no such process; from another machine, or another container, once the file has not been
    renewed for 60 seconds. Times are those that the file system gives, since the clocks of machines differ. A lock in a
    copy of a run's folder is a stale one.

    A process that was frozen for longer, as on a laptop that sleeps, finds another's lock and may write no more.

    Args:
        model_dir: the run's folder.
    """

    def __init__(self, model_dir):
        self._folder = model_dir
        self._path = os.path.join(model_dir, LOCK_FILE)
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        self._thread = None

    def take(self):
        """Takes the lock, after up to 60 seconds where another machine's may be stale; makes the folder.

        Raises:
            RunLockError: where another process holds it, or the folder cannot be written.
        """
        try:
            os.makedirs(self._folder, exist_ok=True)
            is_contended = False
            while not (self._create() or self._is_own()) or (is_contended and not self._is_kept()):
                is_contended = True
                self._remove_stale()
        except OSError as error:
            raise RunLockError(f"--model_dir={self._folder} cannot be written: {error}") from error
        self._thread = threading.Thread(target=self._beat, name="run_lock", daemon=True)
        self._thread.start()

    def release(self):
        """Gives the lock back, where it is held."""
        if not self._thread:
            return
        self._released.set()
        self._thread.join()
        self._thread = None
        with contextlib.suppress(OSError):
            if self._is_own():
                os.remove(self._path)

    def check(self):
        """Raises RunLockError where the lock was taken, and another process has taken it over since."""
        if self._thread and not self._is_own() and not self._create():
            raise RunLockError(
                f"{_who(_read(self._path))} has taken over {self._folder} while this process stood still for a "
                "minute or more. This one writes no more."
            )

    def _create(self):
        """Writes the file where there is none; whether it did."""
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "folder": os.path.realpath(self._folder),
        }
        try:
            with open(self._path, "x", encoding="utf-8") as file:
                json.dump({**owner, "system": _system(), "born": _birth_of(os.getpid()), "token": self._token}, file)
        except FileExistsError:
            return False
        return True

    def _is_kept(self):
        """Whether the file is still there once all that saw a stale one have looked: see `_remove_stale`."""
        time.sleep(_SETTLE_SECONDS)
        return self._is_own()

    def _is_own(self):
        return (_read(self._path) or {}).get("token") == self._token

    def _remove_stale(self):
        """Removes the lock of a process that is gone.

        Raises:
            RunLockError: where it is not gone.
        """
        owner = _read(self._path)
        if owner is None:
            return
        if _system() and owner.get("system") == _system():
            is_live = _birth_of(owner["pid"]) == owner["born"] and not self._came_with_a_copy(owner)
        else:
            is_live = self._is_renewed()
        if is_live:
            raise RunLockError(
                f"{_who(owner)} trains in {self._folder} since {owner.get('since')}: one run a folder. Wait for it, "
                "stop it, or name a new --model_dir."
            )
        # Of several that find a stale lock one alone moves it; what another took meanwhile is put back.
        aside = f"{self._path}.{self._token}"
        if _read(self._path) != owner:
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._path, aside)
            if _read(aside) not in (owner, None):
                os.rename(aside, self._path)
                return
            os.remove(aside)
            logging.warning("%s is gone and left %s, which is taken over.", _who(owner), self._path)

    def _came_with_a_copy(self, owner):
        """Whether the folder is a copy of another, in which the process trains: that one holds the same lock."""
        original = os.path.join(owner.get("folder", self._folder), LOCK_FILE)
        try:
            return _read(original) == owner and not os.path.samefile(original, self._path)
        except OSError:
            return False

    def _is_renewed(self):
        """Watches the file until it is renewed, or was not for 60 seconds; whether it was."""
        try:
            first = os.stat(self._path).st_mtime
            age = min(max(self._now() - first, 0.0), _STALE_SECONDS)
            if age < _STALE_SECONDS:
                logging.info("%s is of another machine: waiting up to %.0f s for it.", self._path, _STALE_SECONDS - age)
            end = time.monotonic() + _STALE_SECONDS - age
            while time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
                with open(self._path, "rb"):  # a file system of several machines asks its server again
                    if os.stat(self._path).st_mtime != first:
                        return True
        except FileNotFoundError:
            pass
        return False

    def _now(self):
        """The time by the file system's clock."""
        path = f"{self._path}.{self._token}"
        with open(path, "w", encoding="utf-8") as file:
            now = os.fstat(file.fileno()).st_mtime
        os.remove(path)
        return now

    def _beat(self):
        while not self._released.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):  # of a server that does not answer; the next one may
                if self._is_own():
                    os.utime(self._path)


def _who(owner):
    owner = owner or {}
    return f"Process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}"


def _read(path):
    """What a lock says: {} where it is not whole, and None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return {}


@functools.lru_cache(maxsize=1)
def _system():
    """What names this start of this machine, and the numbering of its processes; empty where nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _birth_of(pid):
    """When a process began, by the machine's count, or None where it is no more: numbers are given out again."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything.
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in (b"Z", b"X") else int(fields[18])
