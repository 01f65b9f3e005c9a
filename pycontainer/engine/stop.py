"""`stop`, `rm -f`: a running container is ended. Its monitor does it, which holds the pidfd and sees the end."""

from __future__ import annotations

from pycontainer.engine import monitors
from pycontainer.kernel import cgroup, signals
from pycontainer.kernel.operation import Operation, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings


def first_process(settings: Settings, container: Container) -> str:
    """A shell's words for the pid of the container's first process; "" where no cgroup says it."""
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        return ""
    path = f"{hierarchy.mountpoint}{settings.cgroup(container.id)}/cgroup.procs"
    return f'"$(head -n1 {word(path)})"'


class KillContainer(Operation):
    """Have the monitor kill the container, and wait until it has put it away."""

    group = "files"
    step = "kill the container"
    reason = "its monitor sends SIGKILL through the pidfd, and then returns what the container held"
    bare = True

    def __init__(self, settings: Settings, container: Container, channel: _socket.socket) -> None:
        self.path = container.id
        self._channel = channel
        self._settings = settings
        self._container = container

    def shell(self) -> str:
        process = first_process(self._settings, self._container)
        return f"kill -KILL {process}" if process else ""

    def execute(self) -> None:
        monitors.ask(self._channel, {"do": "kill", "number": signals.SIGKILL})
        monitors.wait_for_end(self._channel)
