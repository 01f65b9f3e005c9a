"""`stop`, `rm -f`: a running container is ended. Its monitor does it, which holds the pidfd and sees the end."""

from __future__ import annotations

from pycontainer.engine import monitors
from pycontainer.errors import Conflict
from pycontainer.kernel import cgroup, signals
from pycontainer.kernel.operation import Operation, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import sqlite3

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal
    from pycontainer.monitor.messages import Message


_RUNNING = ("starting", "running", "paused", "restarting")


def stop_container(
    settings: Settings, connection: sqlite3.Connection, container: Container, request: Message, journal: Journal
) -> None:
    """End a container and wait until it is down; nothing where it is. Raises Conflict, OSError."""
    if container.status not in _RUNNING:
        return
    try:
        channel = monitors.require(settings, container, "stop container")
    except Conflict:
        if container.status == "starting":
            raise
        # It has ended since it was looked at.
        return
    try:
        number, seconds = (0, 0.0) if journal.out is None else _asked(settings, connection, container, request)
        directory = _cgroup(settings, container)
        journal.perform(AskToEnd(directory, channel, request, number))
        journal.perform(AwaitEnd(directory, channel, seconds))
    finally:
        channel.close()


def _asked(
    settings: Settings, connection: sqlite3.Connection, container: Container, request: Message
) -> tuple[int, float]:
    """Signal and seconds as the monitor has them, for who wants to be told."""
    from pycontainer.engine import bundle, start
    from pycontainer.image.store import Store

    image = Store(settings.root, connection).get(container.image_id).config.get("config") or {}
    number = request.get("signal") or bundle.stop_signal(container.config, image) or signals.SIGTERM
    asked = container.config.process.stop_timeout
    return number, request.get("timeout", start.STOP_TIMEOUT if asked is None else asked)


def _cgroup(settings: Settings, container: Container) -> str:
    """ "" where the host has no hierarchy for it."""
    hierarchy = cgroup.find_hierarchy()
    return "" if hierarchy is None else f"{hierarchy.mountpoint}{settings.cgroup(container.id)}"


def _first_process(directory: str) -> str:
    """A shell's words for the pid of the first process in a cgroup."""
    return f'"$(head -n1 {word(f"{directory}/cgroup.procs")})"'


class AskToEnd(Operation):
    """Have the monitor ask the container to end."""

    group = "exec"
    step = "ask the container to end"
    reason = "its monitor sends the signal through the pidfd: no other process can have got its number meanwhile"
    bare = True

    def __init__(self, directory: str, channel: _socket.socket, request: Message, number: int) -> None:
        self.path = signals.name(number) if number else ""
        self._directory = directory
        self._channel = channel
        self._request = request

    def shell(self) -> str:
        return f"kill -{self.path[3:]} {_first_process(self._directory)}" if self._directory else ""

    def execute(self) -> None:
        monitors.ask(self._channel, self._request)


class AwaitEnd(Operation):
    """Wait until the monitor has put the container away."""

    group = "exec"
    step = "wait for its end"
    reason = "the monitor kills what does not end in time, and returns cgroup, mounts and network"
    bare = True

    def __init__(self, directory: str, channel: _socket.socket, seconds: float) -> None:
        self.path = f"{seconds:g} seconds" if seconds >= 0 else "for ever"
        self._directory = directory
        self._channel = channel
        self._seconds = seconds

    def shell(self) -> str:
        if not self._directory or self._seconds < 0:
            return ""
        waiting = f"timeout {self._seconds:g} tail --follow --pid={_first_process(self._directory)} /dev/null"
        return f"{waiting} || echo 1 > {word(f'{self._directory}/cgroup.kill')}"

    def execute(self) -> None:
        monitors.wait_for_end(self._channel)


class KillContainer(Operation):
    """Have the monitor kill the container, and wait until it has put it away."""

    group = "exec"
    step = "kill the container"
    reason = "its monitor sends SIGKILL through the pidfd, and then returns what the container held"
    bare = True

    def __init__(self, settings: Settings, container: Container, channel: _socket.socket) -> None:
        self.path = container.id
        self._channel = channel
        self._directory = _cgroup(settings, container)

    def shell(self) -> str:
        return f"kill -KILL {_first_process(self._directory)}" if self._directory else ""

    def execute(self) -> None:
        monitors.ask(self._channel, {"do": "kill", "number": signals.SIGKILL})
        monitors.wait_for_end(self._channel)
