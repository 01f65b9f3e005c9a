"""What a container has written, and what it writes now."""

from __future__ import annotations

import select
import time

from pycontainer.kernel.inotify import Watch
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator

    from pycontainer.monitor.log_reader import LogReader, Record


class Follower:
    """Reads a log while a container runs.

    directory   of the log
    connection  to the container's monitor, which says when the program ends; the caller closes it
    deadline    seconds since the epoch at which to stop, None for never
    status      of the program's last end, None before
    is_down     the container has ended for good, or its monitor was killed, or the deadline has come
    """

    def __init__(
        self, directory: str, reader: LogReader, connection: _socket.socket, deadline: float | None = None
    ) -> None:
        self.status: int | None = None
        self.is_down = False
        self._directory = directory
        self._reader = reader
        self._connection = connection
        self._deadline = deadline

    def records(self) -> Iterator[Record]:
        """Every record from the reader's position on, up to the program's next end, or for good. Raises OSError."""
        watch = Watch(self._directory)
        poll = select.poll()
        poll.register(watch.fileno(), select.POLLIN)
        poll.register(self._connection.fileno(), select.POLLIN)
        ended = False
        try:
            while True:
                yield from self._reader.records()
                if ended:
                    return
                ready = dict(poll.poll(self._patience()))
                watch.clear()
                if self._connection.fileno() in ready:
                    # Everything that the program wrote is in the log by now; it is read once more.
                    ended = self._take_message()
                elif not ready:
                    self.is_down = ended = True
        finally:
            watch.close()

    def _patience(self) -> float | None:
        return None if self._deadline is None else max(0.0, min(self._deadline - time.time(), 3600.0)) * 1000

    def _take_message(self) -> bool:
        """Whether it says that the program has ended."""
        message, passed = messages.receive(self._connection)
        messages.close_all(passed)
        if message is None:
            self.is_down = True
        elif message["say"] == "exit":
            self.status = message["status"]
        return message is None or message["say"] == "exit"
