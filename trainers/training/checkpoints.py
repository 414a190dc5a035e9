"""The checkpoints of a run: what is saved is finite, and what is restored is whole.

The file is long because what each failure of a write or a read leaves is said where it happens.
"""

import concurrent.futures
import contextlib
import functools
import glob
import hashlib
import math
import os
import re
import shutil
import tempfile

import tensorflow as tf
from absl import logging

from keras_an.backend import is_whole_in_graphs
from trainers.configs import other_keras
from trainers.training.optimizers import variables_of

# What TensorFlow raises where another worker, or a TPU, does not answer.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


class NotFiniteError(ArithmeticError):
    """A weight or a loss is not finite, or a loss is out of bounds."""


class WriteError(OSError):
    """A checkpoint cannot be written; the message says why, and which one is the last."""


class Checkpoints:
    """Saves and restores by step.

    A checkpoint is first written to this machine's temporary directory (the environment's TMPDIR), and a thread moves
    it to the run's folder while training goes on: a slow file system does not hold up the devices. Where the temporary
    directory has not enough room, or others' devices write as well, the run's folder is written to directly.

    Args:
        items: what is saved, by name, for `tf.train.Checkpoint`.
        model_dir: the run's folder.
        max_to_keep: integer, the newest checkpoints that are kept.
        is_chief: whether this process writes.
        is_local: whether all of a checkpoint is written by this machine; that of a TPU is written by its hosts.
        check_lock: function that raises ValueError where the folder is no longer this run's.
    """

    def __init__(self, items, model_dir, max_to_keep, is_chief=True, is_local=True, check_lock=lambda: None):
        self._checkpoint = tf.train.Checkpoint(**items)
        self._model_dir = model_dir
        self._max_to_keep = max_to_keep
        self._is_chief = is_chief
        self._is_local = is_local
        self._check_lock = check_lock
        self._own = set()  # paths that this run wrote, or decided to go back from
        # Graphs, so that hundreds of objects and variables are gone through only once, at the first checkpoint.
        self._are_finite = tf.function(lambda: _are_finite(self._variables), autograph=False)
        is_whole = all(map(is_whole_in_graphs, items.values()))
        self._write = tf.function(self._write_on_host, autograph=False) if is_whole else self._write_on_host
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")  # ends its work before the process ends
        self._moved = None  # future of the last checkpoint

    @functools.cached_property
    def _variables(self):
        """All that are floating."""
        found = {}
        for item in vars(self._checkpoint).values():
            for variable in [item] if isinstance(item, tf.Variable) else variables_of(item):
                if tf.as_dtype(variable.dtype).is_floating:
                    found[id(variable)] = variable
        return list(found.values())

    @property
    def paths(self):
        """Of the checkpoints that there are, by step."""
        # What files there are, not the state file beside them: that may be damaged too.
        matches = (re.fullmatch(r"(ckpt-\d+)\.index", name) for name in _names(self._model_dir))
        return sorted((os.path.join(self._model_dir, match[1]) for match in matches if match), key=_step_of)

    def save(self, step):
        """Saves everything as the checkpoint of a step, in the chief's folder; all workers call this.

        Once `wait` returns it is in the folder, and older ones beyond `max_to_keep` are gone.

        Raises:
            NotFiniteError: where a weight is not finite; nothing is written then.
            WriteError: where the file system does not take it, or did not take the one before; the checkpoints from
                before are whole.
            ValueError: where another run writes to the folder; its checkpoints are left.
        """
        self.wait()
        if not bool(self._are_finite()):
            names = [variable.name for variable in self._variables if not bool(_are_finite([variable]))]
            raise NotFiniteError(f"{len(names)} weights are not finite, {', '.join(names[:4])} among them")
        if not self._is_chief:
            # What replicas hold apart, as Keras 2's batch norm does, is brought together when it is saved.
            with tempfile.TemporaryDirectory(prefix="keras_an-worker-") as folder:
                self._write(tf.constant(os.path.join(folder, "checkpoint")))
            return
        with self._write_errors(step):
            self._check_others(step)
            folder = self._new_folder()
            self._checkpoint.save_counter.assign_add(1)  # is part of a checkpoint since the first ones
            self._write(tf.constant(os.path.join(folder, f"ckpt-{step}")))
        self._moved = self._thread.submit(self._move, folder, step)

    def _check_others(self, step):
        self._check_lock()
        others = [path for path in self.paths if _step_of(path) > step and path not in self._own]
        if others:
            raise ValueError(
                f"{', '.join(others)} came while this run went on to step {step}: another process writes to its "
                "folder. This one stops, and leaves them."
            )

    def _write_on_host(self, path):
        # The host's name in full: under a shorter one, what has no device would have a file of its own.
        with tf.init_scope(), tf.device("CPU:0"):
            host = tf.constant(0).device
        with tf.device(host):
            return self._checkpoint.write(path)

    def wait(self):
        """Waits until the last checkpoint is in the run's folder.

        Raises:
            WriteError: where the file system does not take it.
            ValueError: as `save`.
        """
        if self._moved:
            try:
                self._moved.result()
            finally:
                self._moved = None if self._moved.done() else self._moved  # where Ctrl-C ended the waiting

    @contextlib.contextmanager
    def _write_errors(self, step):
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):  # of other workers
            raise
        except (OSError, tf.errors.OpError) as error:
            with contextlib.suppress(OSError):
                self._remove_parts()
            paths = [path for path in self.paths if _step_of(path) != step]
            raise WriteError(
                f"The checkpoint of step {step} cannot be written: {_reason(error)}. "
                f"{f'{paths[-1]} is whole' if paths else 'There is none from before'}."
            ) from error

    def _new_folder(self):
        """An empty folder to write a checkpoint to, without what an earlier start may have left."""
        os.makedirs(self._model_dir, exist_ok=True)
        self._remove_parts()
        size = sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in self._variables)
        with contextlib.suppress(OSError):  # there may be no such directory, or another user's folder in it
            if self._is_local and shutil.disk_usage(tempfile.gettempdir()).free > 1.1 * size:
                os.mkdir(self._temporary_folder(), mode=0o700)
                return self._temporary_folder()
        os.makedirs(self._folder_beside(), exist_ok=True)  # NFS keeps a file there that is open elsewhere
        return self._folder_beside()

    def _temporary_folder(self):
        # A name that the next start of this run knows, to remove what a killed process left; and no other run, not even
        # one whose folder has the same path in another container.
        place = os.stat(self._model_dir)
        run = f"{os.path.realpath(self._model_dir)} {place.st_dev} {place.st_ino} {os.getuid()}"
        name = f"keras_an-{hashlib.sha256(run.encode()).hexdigest()[:16]}"
        return os.path.join(tempfile.gettempdir(), name)

    def _folder_beside(self):
        return os.path.join(self._model_dir, "ckpt_part")

    def _move(self, folder, step):
        try:
            with self._write_errors(step):
                self._move_whole(folder, step)
        except (WriteError, ValueError) as error:
            logging.error("%s", error)  # training may end by another error before it asks
            raise

    def _move_whole(self, folder, step):
        names = [name for name in os.listdir(folder) if name.startswith(f"ckpt-{step}.")]
        names.sort(key=lambda name: name.endswith(".index"))  # which says that it is whole
        if names[-1:] != [f"ckpt-{step}.index"]:
            raise OSError(f"{folder} was changed by another process")
        for name in names:
            # Without modes and times, which not every mounted file system takes.
            source, target = os.path.join(folder, name), os.path.join(self._model_dir, name + ".part")
            shutil.move(source, target, copy_function=shutil.copyfile)
        self._check_others(step)
        later = [path for path in self.paths if _step_of(path) > step]  # damaged, or of before the run went back
        self._own.add(os.path.join(self._model_dir, f"ckpt-{step}"))
        for name in names:
            os.replace(os.path.join(self._model_dir, name + ".part"), os.path.join(self._model_dir, name))
        kept = [path for path in self.paths if path not in later][-self._max_to_keep :]
        self._tell_state(kept)
        for path in self.paths:
            if path not in kept:
                os.remove(path + ".index")
        self._remove_parts()

    def restore(self, before=math.inf, meet=None):
        """Restores the newest checkpoint that is whole.

        Args:
            before: step; checkpoints of this one and of later ones are passed over.
            meet: function, or None; called after `wait` and before a checkpoint is looked for, where workers meet.

        Returns:
            Its path, or None where there is none.

        Raises:
            ValueError: where there are checkpoints and none can be read, or they are of another configuration.
            WriteError: as `wait`.
        """
        self.wait()
        if meet:
            meet()
        problem = None
        for path in reversed([path for path in self.paths if _step_of(path) < before]):
            try:
                with other_keras.for_this_keras(path, self._checkpoint) as own:
                    self._checkpoint.restore(own).assert_consumed()
            except (tf.errors.OpError, IndexError, RuntimeError) as error:  # the latter two where its graph is cut off
                problem = f"{path} cannot be read: {error}"
                logging.warning("%s. The one before is taken.", problem)
            except AssertionError as error:
                raise ValueError(
                    f"{path} is not of this configuration: `runtime.mixed_precision_dtype` to or from float16, and "
                    f"`decay_steps` of an optimizer to or from 0, cannot change in a run. {str(error).splitlines()[0]}"
                ) from error
            else:
                logging.info("Restored %s", path)
                self._own.update(later for later in self.paths if _step_of(later) > _step_of(path))
                return path
        if problem:
            raise ValueError(f"No checkpoint in {self._model_dir} is whole. {problem}")
        return None

    def copy(self, step, folder):
        """Writes the checkpoint of a step, which is that of the present weights, to another folder too."""
        name, part = f"ckpt-{step}", os.path.join(folder, "part")
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part)
        try:
            for found in glob.glob(f"{glob.escape(os.path.join(self._model_dir, name))}.*"):
                shutil.copyfile(found, os.path.join(part, os.path.basename(found)))
            if not os.path.exists(os.path.join(part, f"{name}.index")):
                raise FileNotFoundError
        except FileNotFoundError:  # where this process only evaluates, the one that trains may have removed it
            self._write(tf.constant(os.path.join(part, name)))
        for found in sorted(os.listdir(part), key=lambda name: name.endswith(".index")):
            os.replace(os.path.join(part, found), os.path.join(folder, found))
        os.rmdir(part)

    def _tell_state(self, paths):
        """Writes the state file, a `CheckpointState` as text, from which TensorFlow's tools know what there is."""
        names = [os.path.basename(path) for path in paths]
        lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
        file = os.path.join(self._model_dir, "checkpoint")
        with open(file + ".part", "w", encoding="utf-8") as part:
            part.write("\n".join(lines) + "\n")
        os.replace(part.name, file)

    def _remove_parts(self):
        """Removes what is left of checkpoints that were never whole, or are too many."""
        known = {os.path.basename(path) for path in self.paths}
        for name in _names(self._model_dir):
            # TensorFlow's own folders, `_temp`, are of runs that wrote here directly.
            match = re.fullmatch(r"(ckpt-\d+)(\.data-.*|\.index\.part|_temp)", name)
            if match and (match[1] not in known or name.endswith((".part", "_temp"))):
                path = os.path.join(self._model_dir, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        shutil.rmtree(self._folder_beside(), ignore_errors=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._temporary_folder(), ignore_errors=True)


def _reason(error):
    """The line that says what went wrong: an error in a graph tells where it was made, and its node, around it."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t [[")]
    return lines[-1] if lines else type(error).__name__


def _step_of(path):
    return int(path.rsplit("-", 1)[1])


def _names(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _are_finite(variables):
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable))) for variable in variables])
