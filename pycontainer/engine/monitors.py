"""A client's way to the monitor of a running container."""

from __future__ import annotations

import time

from pycontainer.engine import containers
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict
from pycontainer.kernel import descriptors
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from pycontainer.monitor.messages import Message

_PATIENCE = 10.0  # seconds that a monitor may take from its start to its socket


def connect(settings: Settings, container_id: str) -> _socket.socket | None:
    """A connection to the monitor, None where none serves. It ends when the container is down for good."""
    try:
        return descriptors.connect(settings.monitors, container_id)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def require(settings: Settings, container: containers.Container, step: str) -> _socket.socket:
    """The same of a container that has to run. Raises Conflict."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        connection = connect(settings, container.id)
        if connection is not None:
            return connection
        owner = containers.try_lock(settings.state, container.id)
        if owner is not None:
            # Nobody runs it: the name that the lock has made goes again.
            containers.unlock(settings.state, container.id, owner)
            raise Conflict(step, container.name, "the container is not running", "pycontainer start starts it")
        if time.monotonic() > deadline:
            raise Conflict(step, container.name, "its monitor does not answer", "pycontainer rm -f ends it anyhow")
        # It is being started or put away.
        time.sleep(0.01)


def ask(connection: _socket.socket, message: Message, passed: Sequence[int] = ()) -> Message | None:
    """Send a request and wait for its answer; None where the container has ended. Raises what the monitor answers."""
    try:
        messages.send(connection, message, passed)
    except BrokenPipeError:
        return None
    while True:
        answer = receive(connection)
        if answer is None or answer["say"] == "done":
            return answer


def samples(settings: Settings, container_id: str) -> list[list[float]]:
    """What the monitor has seen of the memory: [seconds since the start, bytes], the oldest first. [] without one."""
    connection = connect(settings, container_id)
    if connection is None:
        return []
    try:
        answer = ask(connection, {"do": "samples"})
    finally:
        connection.close()
    return answer["samples"] if answer else []


def receive(connection: _socket.socket) -> Message | None:
    """The next message; None at the end. Raises the error that it carries."""
    message, passed = messages.receive(connection)
    messages.close_all(passed)
    if message is not None and message["say"] == "error":
        raise messages.unpack_error(message)
    return message


def wait_for_end(connection: _socket.socket) -> None:
    """Return when the container is down for good."""
    while receive(connection) is not None:
        pass
