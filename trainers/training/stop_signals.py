"""SIGTERM and Ctrl-C, heard between steps."""

import signal
import threading

from absl import logging


class StopSignals:
    """A context in which SIGTERM and Ctrl-C are only noted, the first time, in `received`."""

    def __init__(self):
        self.received = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others may not
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *unused):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        del frame
        logging.info("%s: the run stops after this call.", signal.Signals(number).name)
        self.received = True
        self.__exit__()  # a second one ends at once
