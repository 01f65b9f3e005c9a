"""The socket at which a container's monitor serves its clients: messages.py says what is spoken."""

from __future__ import annotations

import _socket
import os

from pycontainer.errors import PycontainerError
from pycontainer.kernel import descriptors
from pycontainer.kernel.event_loop import READ, EventLoop
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.monitor.messages import Message

    Handler = Callable[["Server", _socket.socket, Message, list[int]], None]

_MOST_CLIENTS = 200


class Server:
    """Accepts clients, reads their messages, and hands each to `handler(server, client, message, descriptors)`.

    What the handler raises is the client's answer. A client that does not read is dropped.
    """

    def __init__(self, loop: EventLoop, handler: Handler) -> None:
        self._loop = loop
        self._handler = handler
        self._listener: _socket.socket | None = None
        self._directory = ""
        self._name = ""
        self._clients: list[_socket.socket] = []

    def listen(self, directory: str, name: str) -> None:
        """Serve at `directory`/`name`, in place of a monitor that was killed. Raises OSError."""
        os.makedirs(directory, 0o700, exist_ok=True)
        _unlink(f"{directory}/{name}")
        self._listener = descriptors.listen(directory, name)
        self._directory, self._name = directory, name
        self._loop.watch(self._listener.fileno(), READ, self._accept)

    def stop_listening(self) -> None:
        """Take the name away: whoever comes from now on finds no monitor."""
        if self._listener is not None:
            _unlink(f"{self._directory}/{self._name}")
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client = descriptors.accept(self._listener)
        except OSError:
            # It has gone again, or there are too many open files: the others are served all the same.
            return
        if descriptors.peer(client)[1] != 0 or len(self._clients) >= _MOST_CLIENTS:
            client.close()
            return
        self.adopt(client)

    def adopt(self, client: _socket.socket) -> None:
        """Serve a connection that is there already."""
        self._clients.append(client)
        self._loop.watch(client.fileno(), READ, lambda: self._read(client))

    def _read(self, client: _socket.socket) -> None:
        try:
            message, passed = messages.receive(client)
        except OSError:
            message, passed = None, []
        if message is None:
            self.drop(client)
            return
        try:
            self._handler(self, client, message, passed)
        except (PycontainerError, OSError) as error:
            self.send(client, messages.pack_error(error))

    def send(self, client: _socket.socket, message: Message) -> None:
        """Send, or drop a client that has gone or does not read."""
        if client in self._clients:
            try:
                messages.send(client, message)
            except OSError:
                self.drop(client)

    def broadcast(self, message: Message, but: _socket.socket | None = None) -> None:
        """Send to every client; not to `but`."""
        for client in list(self._clients):
            if client is not but:
                self.send(client, message)

    def drop(self, client: _socket.socket) -> None:
        """End a connection."""
        if client in self._clients:
            self._clients.remove(client)
            self._loop.forget(client.fileno())
            client.close()

    def close(self, but: _socket.socket) -> None:
        """End every connection but this one."""
        for client in list(self._clients):
            if client is not but:
                self.drop(client)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
