"""The relay of a program that is a child of this process: relay.py."""

from __future__ import annotations

import os

from pycontainer.kernel import descriptors, signals, terminal
from pycontainer.runtime.deliver import deliver, is_handled, wait
from pycontainer.runtime.relay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


class ProcessRelay(Relay):
    """For a container whose first process is a child of this process, and whose terminal's master comes here."""

    def __init__(self, pidfd: int) -> None:
        super().__init__(pidfd)
        self._pidfd = pidfd
        self._master = -1
        self._fatal = 0

    def adopt_terminal(self, console: _socket.socket) -> None:
        """Take the terminal's master that the container sent, if it sent one, and join it to descriptors 0 and 1."""
        master = descriptors.receive_descriptor(console)
        if master is None:
            return
        self._master = master
        self.add_output(master, 1)
        self.add_input(0, os.dup(master))
        self.make_raw()
        self.resize()

    def notice_end(self) -> None:
        self.status = wait(self._pidfd, self._fatal)

    def deliver(self, number: int) -> None:
        if deliver(self._pidfd, number):
            self._fatal = number

    def resize(self) -> None:
        if self._master >= 0:
            try:
                terminal.set_window_size(self._master, *terminal.window_size(0 if os.isatty(0) else 1))
            except OSError:
                pass

    def take_input(self, typed: bytes) -> bytes:
        # Ctrl-C ends a first process without a handler too, to which the kernel sends nothing.
        for number, character in terminal.signal_characters(self._master) if self._master >= 0 else ():
            if character in typed and not is_handled(self._pidfd, number):
                self.deliver(number)
        return typed

    def lose_output(self, target: int) -> bool:
        # Read on, because a program would wait for ever to write to a terminal that nobody reads.
        return self._master >= 0


class JoinedRelay(ProcessRelay):
    """For one more program in a container: it is not PID 1, so that a signal does what it does anywhere."""

    def deliver(self, number: int) -> None:
        signals.send(self._pidfd, number)
