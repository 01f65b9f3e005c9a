"""The client of a program in the foreground: the user's terminal or pipes on one side, its monitor on the other."""

from __future__ import annotations

import os
import sys

from pycontainer.cli.detach_keys import Detached, DetachKeys
from pycontainer.errors import HostError, printable
from pycontainer.kernel import terminal
from pycontainer.kernel.undo import Undo
from pycontainer.monitor import messages
from pycontainer.runtime.relay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainer.monitor.messages import Message


def window_size() -> tuple[int, int]:
    """Rows and columns of the user's terminal, 0 where there is none."""
    try:
        return terminal.window_size(0 if os.isatty(0) else 1)
    except OSError:
        return 0, 0


class Pipes:
    """The client's pipes to a program: `theirs` goes to the monitor, `ours` to the relay. -1 for what there is not."""

    def __init__(self, *, interactive: bool, tty: bool, undo: Undo) -> None:
        self.theirs: list[int] = []
        self.ours: list[int] = []
        for number, wanted in enumerate((interactive, True, not tty)):
            reader, writer = os.pipe2(os.O_CLOEXEC) if wanted else (-1, -1)
            self.theirs.append(reader if number == 0 else writer)
            self.ours.append(writer if number == 0 else reader)
        # Closed here as soon as the monitor has copies, so that its end is noticed by the end of file.
        undo.push(self.close_theirs)

    @property
    def given(self) -> list[bool]:
        """Which of them there are."""
        return [descriptor >= 0 for descriptor in self.theirs]

    def close_theirs(self) -> None:
        """Leave the monitor's ends to the monitor. May be called twice."""
        for descriptor in self.theirs:
            if descriptor >= 0:
                os.close(descriptor)
        self.theirs = []


class MonitorRelay(Relay):
    """Joins the caller's 0, 1 and 2 to a container that a monitor runs, until it ends or the user types `keys`.

    started  whether the program runs
    """

    def __init__(self, connection: _socket.socket, *, tty: bool, keys: DetachKeys | None, proxy: bool = True) -> None:
        super().__init__(connection.fileno())
        self.started = False
        self._connection = connection
        self._tty = tty
        self._keys = keys
        self._proxy = proxy
        self._pipes_to_join: Pipes | None = None

    def join(self, pipes: Pipes) -> None:
        """Copy from and to these, but not before they can be used.

        Input only when the program runs: it would be lost with one that cannot be started. And the output of a terminal
        only when ours is raw, or it would translate what is translated.
        """
        self._pipes_to_join = pipes
        if not self._tty:
            self._join_output(pipes)

    def _join_output(self, pipes: Pipes) -> None:
        _, stdout, stderr = pipes.ours
        if stdout >= 0:
            self.add_output(stdout, 1)
        if stderr >= 0:
            self.add_output(stderr, 2)

    def notice_end(self) -> None:
        message, passed = messages.receive(self._connection)
        if message is None:
            cause = "the pycontainer process that looked after the program was killed"
            raise HostError("wait for the program", "", cause, "pycontainer ps -a shows what became of the container")
        self.take_message(message, passed)

    def take_message(self, message: Message, passed: list[int]) -> None:
        """Do what the monitor says. Raises the error that it carries."""
        messages.close_all(passed)
        if message["say"] == "notice":
            sys.stderr.write(f"pycontainer: {printable(message['text'])}\n")
        elif message["say"] == "error":
            raise messages.unpack_error(message)
        elif message["say"] == "over":
            self.is_over = True
        elif message["say"] == "exit":
            self.status = message["status"]
        elif message["say"] == "started":
            self.begin()

    def begin(self) -> None:
        """The program runs."""
        self.started = True
        if self._tty:
            self.make_raw()
            self.resize()
        if self._pipes_to_join is not None:
            pipes, self._pipes_to_join = self._pipes_to_join, None
            if pipes.ours[0] >= 0:
                self.add_input(0, pipes.ours[0])
            if self._tty:
                self._join_output(pipes)

    def deliver(self, number: int) -> None:
        if self._proxy:
            self._tell({"do": "signal", "number": number})

    def resize(self) -> None:
        rows, columns = window_size()
        if self._tty and self.started and rows and columns:
            self._tell({"do": "resize", "rows": rows, "columns": columns})

    def take_input(self, typed: bytes) -> bytes:
        return self._keys.take(typed) if self._keys is not None else typed

    def lose_output(self, target: int) -> bool:
        # A program that writes to a pipe learns by SIGPIPE that nobody reads it; one with a terminal does not wait.
        if not self._tty:
            self._tell({"do": "close", "stream": target})
        return self._tty

    def _tell(self, message: Message) -> None:
        try:
            messages.send(self._connection, message)
        except OSError:
            # It has ended: the end of the connection says so in a moment.
            pass

    def serve(self) -> int:
        """Run to the end, with the terminal as it was afterwards; the exit status, 0 after detaching."""
        try:
            return self.run()
        except Detached:
            sys.stderr.write("\r\n")
            return 0
        finally:
            self.close()
