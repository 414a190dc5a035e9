"""SIGTERM, Ctrl-C and a terminal that is closed, heard between steps, and at once in what may be cut off."""

import signal
import threading

from absl import logging

_NUMBERS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class _CutOff(BaseException):
    """Ends what may be cut off; no `except Exception` on the way stops it."""


class StopSignals:
    """A context in which SIGTERM, Ctrl-C and the loss of the terminal are only noted, the first time, in `received`.

    Under `nohup` the loss of the terminal stays without effect.

    Attributes:
        received: whether there was a signal.
        has_cut_off: whether it ended a function before its end.
    """

    def __init__(self):
        self.received = self.has_cut_off = False
        self._may_cut_off = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others may not
            numbers = [number for number in _NUMBERS if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *unused):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def call(self, function, *arguments):
        """Calls a function that a signal ends at once, wherever it is; no more than a call of the system or of a graph
        goes on to its end. Its files must be whole or not there at any time."""
        try:
            try:
                self._may_cut_off = True
                if self.received:  # since the caller looked
                    raise _CutOff
                function(*arguments)
            finally:
                self._may_cut_off = False
        except _CutOff:
            self.has_cut_off = True

    def _note(self, number, frame):
        del frame
        logging.info("%s: the run stops after this call.", signal.Signals(number).name)
        self.received = True
        self.__exit__()  # a second one ends at once
        if number == signal.SIGHUP:  # which the system and the shell send both
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self._may_cut_off:
            raise _CutOff
