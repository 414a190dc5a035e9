"""What the tests with real processes share. Run as a program, it trains one run after the other, all in one process."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

TRAIN_GAN = ("-m", "trainers.train_gan", "--experiment=gan_digits32")


class Process:
    """A Python process and its log.

    Args:
        log: path of the log.
        arguments: of Python.
        environment: variables over this process's own.
    """

    def __init__(self, log, *arguments, environment=None):
        self.log = pathlib.Path(log)
        paths = os.pathsep.join([os.getcwd(), os.path.dirname(os.path.abspath(__file__))])
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": paths, **(environment or {})}
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *map(str, arguments)], env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    def wait(self, seconds=180):
        """The exit code; the process is killed where it does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise AssertionError(f"{self.log} has not ended after {seconds} s:\n{self.text()[-3000:]}") from None

    def wait_until(self, condition, seconds=180):
        """Waits until `condition()`, and fails where the process ends before or takes too long."""
        end = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None and time.monotonic() < end, self.text()[-3000:]
            time.sleep(0.002)

    def send(self, number):
        """Sends a signal."""
        self._process.send_signal(number)

    def text(self):
        """What it has printed."""
        return self.log.read_text(errors="replace")


def start_workers(folder, *arguments, count=2):
    """Starts the workers of a cluster on this machine, which log to `worker-<number>.log` in `folder`."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for number in range(count):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": number}}
        environment = {"TF_CONFIG": json.dumps(config)}
        processes.append(Process(folder / f"worker-{number}.log", *arguments, environment=environment))
    return processes


def fixed_positions(batch_size, num_positions, num_samples, seed_generator):
    """In place of `sample_positions`, which draws alike on all replicas: images of the second would meet others."""
    # Not at the top: a cluster of workers must be told to TensorFlow before anything else.
    import tensorflow as tf

    del seed_generator
    return tf.tile((tf.range(num_samples) * num_positions // num_samples)[None], (batch_size, 1))


def main(runs):
    """Trains runs, each given by the name of a main and its flags, on one strategy.

    Attentive Normalization draws alike on all replicas. For two of them to equal one, its positions are fixed here.
    """
    from gan_test_case import call_main
    from keras_an.layers import attentive_normalization
    from trainers.training import distribution

    attentive_normalization.sample_positions = fixed_positions
    make, made = distribution.get_strategy, []
    distribution.get_strategy = lambda runtime: made[0] if made else made.append(make(runtime)) or made[0]
    for name, flags in runs:
        call_main(name, verbosity=0, **flags)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
