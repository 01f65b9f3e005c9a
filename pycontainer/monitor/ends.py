"""The two ends of a container's standard streams: one for the program, and the other for its monitor."""

from __future__ import annotations

import os

from pycontainer.errors import HostError
from pycontainer.kernel import descriptors, terminal
from pycontainer.kernel.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainer.runtime.spec import Spec


class Ends:
    """Made before the program is: `stdio` for its 0, 1 and 2, or `console`, at which it sends its terminal.

    spec         what will be run
    interactive  whether it has an input at all; /dev/null is, otherwise
    undo         closes the program's ends, and ours until `take`

    Raises OSError.
    """

    def __init__(self, spec: Spec, *, interactive: bool, undo: Undo) -> None:
        self.stdio = (0, 1, 2)
        self.console: _socket.socket | None = None
        self._receiver: _socket.socket | None = None
        self._ours: list[int] = []
        if spec.process.terminal:
            self._receiver, self.console = descriptors.pair()
            undo.push(self._receiver.close)
            undo.push(self.console.close)
            return
        owner = spec.host_uid(spec.process.uid)
        stdio = []
        for number in (0, 1, 2):
            if number == 0 and not interactive:
                end = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            else:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                end, ours = (reader, writer) if number == 0 else (writer, reader)
                self._ours.append(ours)
                # It belongs to the program's user, so that /dev/stdout can be opened.
                os.fchown(end, owner, -1)
            undo.push(os.close, end)
            stdio.append(end)
        self.stdio = (stdio[0], stdio[1], stdio[2])

    def take(self, rows: int, columns: int) -> list[int]:
        """Our ends, when the program is made: its input if it has one, output and errors; or its terminal's master.

        rows, columns: the size that the terminal gets, 0 for none. Raises HostError, OSError.
        """
        if self._receiver is None:
            return self._ours
        master = descriptors.receive_descriptor(self._receiver)
        if master is None:
            raise HostError("take the container's terminal", "/dev/ptmx", "its first process did not send it")
        if rows and columns:
            terminal.set_window_size(master, rows, columns)
        return [master]
